"""How fast each engine makes views, and how long a training step waits for them: ``python benchmarks/engines.py``.

Views per second of the same recipe, two views an image, from the same JPEG files with the same cores: a plain
DataLoader of torchvision's transforms on PIL images (one decode, then the views), the resident, the worker and the DALI
engine. They take turns, each begins anew and works off what it makes ahead before the clock starts; the median of the
ratios of neighbouring turns counts. On a CPU the ratio is of views per CPU second, of the process and of those that
work for it: what else the machine does then matters less. The files are pieces of photographs: of 32 pixels, as
CIFAR's; and of ImageNet's typical 500 x 375, for views of 224.

With ``--parts waiting``: the share of a training step (SimCLR) that waits for the next batch: of ResNet-18 in bfloat16
and NHWC on a CUDA device, where ``--dali_device gpu`` decodes on the card; of the tiny network on a CPU.

Exits 1 when the resident engine is less than 6 times as fast as the plain loader, or another one slower than it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

import torch
from augmentation import torchvision_pipeline
from PIL import Image
from pillow_oracle import photographs
from table import interleaved, median_ratio, print_table, verdict
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cassle.data.engines import has_dali
from cassle.data.pixels import FilePixels
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.source import FileSource
from cassle.data.workers import BATCHES_AHEAD, WorkerLoader
from cassle.losses import nt_xent
from cassle.nn import BACKBONES

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
STRONG = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, **IMAGENET}
TARGETS = {"resident": 6.0, "workers": 1.0, "dali": 1.0}


class Setting(NamedTuple):
    """Side of the views, size of the files, how many there are and are in a batch, batches that are timed, recipe."""

    size: int
    image: tuple[int, int]
    files: int
    batch: int
    batches: int
    recipe: Recipe


SETTINGS = {
    32: Setting(32, (32, 32), 4096, 128, 12, Recipe(size=32, blur_prob=0.0, **STRONG)),
    224: Setting(224, (500, 375), 256, 32, 6, Recipe(size=224, blur_prob=0.5, **STRONG)),
}


class Plain(Dataset):
    """What upstream does: decode, then every view by torchvision's transforms."""

    def __init__(self, paths: Sequence[Path], recipe: Recipe) -> None:
        self.paths, self.pipeline = paths, torchvision_pipeline(recipe)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        return [self.pipeline(image) for _ in range(2)]


def write_files(folder: Path, setting: Setting, data_dir: str | None) -> list[Path]:
    """Write the JPEG files and return their paths."""
    distinct = photographs(min(setting.files, 128), max(setting.image), data_dir)
    paths = []
    for number in range(setting.files):
        pixels = distinct[number % len(distinct), :, : setting.image[1], : setting.image[0]]
        paths.append(folder / f"{setting.size}-{number:05}.jpg")
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(paths[-1], quality=90)
    return paths


def endless(loader: Any) -> Iterator[Any]:
    """Yield the batches of epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


class Contest:
    """The loaders of one setting, each made anew for every turn.

    Args:
        setting: what is measured.
        paths: the files.
        cores: processes or threads that each may use.
        device: of the training.
        dali_device: where DALI decodes.
    """

    def __init__(
        self, setting: Setting, paths: Sequence[Path], cores: int, device: torch.device, dali_device: str
    ) -> None:
        self.setting, self.paths, self.cores, self.device, self.dali_device = setting, paths, cores, device, dali_device
        self.targets = torch.zeros(len(paths), dtype=torch.int64)
        self.stored = FileSource(paths, self.targets, self.targets).load(self._side, cores).pixels.to(device)

    @property
    def _side(self) -> int:
        return FileSource(self.paths, self.targets, self.targets).side(self.setting.size)

    def loader(self, name: str) -> Any:
        """Return a loader of two views an image."""
        setting, members = self.setting, torch.arange(len(self.paths))
        if name == "plain":
            return DataLoader(
                Plain(self.paths, setting.recipe), setting.batch, shuffle=True, num_workers=self.cores, drop_last=True,
                persistent_workers=True, pin_memory=self.device.type == "cuda", worker_init_fn=_one_thread,
            )  # fmt: skip
        common = {"batch_size": setting.batch, "seed": random.randrange(1 << 30), "task": 0}
        parts = (self.targets.to(self.device), members, [setting.recipe] * 2)
        if name == "resident":
            return ResidentLoader(self.stored, *parts, **common)
        pixels = FilePixels(self.paths, self._side, self.cores, self.device)
        if name == "workers":
            return WorkerLoader(pixels, *parts, num_workers=self.cores, device=self.device, **common)
        from cassle.data.dali.loader import DaliLoader

        return DaliLoader(self.paths, *parts, pixels=pixels, num_threads=self.cores, device=self.dali_device, **common)

    def speed(self, name: str) -> tuple[float, float]:
        """Return the views per second, and per CPU second, of one turn."""
        loader = self.loader(name)
        batches = endless(loader)
        for _ in range(BATCHES_AHEAD * self.cores + 1):  # started, and what is made ahead is used up
            next(batches)
        self._wait()
        start, used = time.perf_counter(), cpu_seconds(os.getpid())
        for _ in range(self.setting.batches):
            next(batches)
        self._wait()
        seconds, used = time.perf_counter() - start, cpu_seconds(os.getpid()) - used
        _close(loader, batches)
        views = 2 * self.setting.batch * self.setting.batches
        return views / seconds, views / used

    def waiting(self, name: str, step: nn.Module) -> tuple[float, float]:
        """Return the images per second of a training, and the share of its time that waits for the next batch."""
        loader = self.loader(name)
        batches, waits = endless(loader), 0.0
        for _ in range(3):
            step(_views(next(batches), self.device))
        self._wait()
        start = time.perf_counter()
        for _ in range(self.setting.batches):
            asked = time.perf_counter()
            views = _views(next(batches), self.device)
            waits += time.perf_counter() - asked
            step(views)
            self._wait()  # else a card would work while the next batch is waited for, which is then no loss
        seconds = time.perf_counter() - start
        _close(loader, batches)
        return self.setting.batch * self.setting.batches / seconds, waits / seconds

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def cpu_seconds(number: int) -> float:
    """Return the CPU seconds of a process and of those below it that are alive."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        below = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    except OSError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(n)) for n in below)


def _views(batch: Any, device: torch.device) -> list[Tensor]:
    views = getattr(batch, "views", batch)
    return [view.to(device, non_blocking=True) for view in views]


def _close(loader: Any, batches: Iterator[Any]) -> None:
    if isinstance(loader, DataLoader):
        loader._iterator._shutdown_workers()
    else:
        loader.close()
    del batches


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


class Step(nn.Module):
    """A SimCLR step: of ResNet-18 in bfloat16 and NHWC on a card, of the tiny network on a CPU."""

    def __init__(self, size: int, device: torch.device) -> None:
        super().__init__()
        self.device, on_card = device, device.type == "cuda"
        self.name = "resnet18" if on_card else "tiny"
        network = BACKBONES[self.name](size)
        self.network = network.to(device, memory_format=torch.channels_last if on_card else torch.contiguous_format)
        self.head = nn.Sequential(nn.Linear(network.num_features, 2048), nn.ReLU(), nn.Linear(2048, 128)).to(device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.01)

    def forward(self, views: list[Tensor]) -> None:
        """Train on two views."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = nt_xent(*(self.head(self.network(view)) for view in views), temperature=0.2)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def main() -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["speed", "waiting"], default=["speed"])
    parser.add_argument("--sizes", type=int, nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--data_dir", help="an ImageFolder to take the photographs from (default: scikit-learn's)")
    parser.add_argument("--cores", type=int, default=1, help="processes or threads of each engine (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each engine (default 5)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dali_device", choices=["cpu", "gpu"], help="default: gpu on a CUDA device")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.cores)
    device = torch.device(arguments.device)
    where = arguments.dali_device or ("gpu" if device.type == "cuda" else "cpu")
    names = ["plain", "resident", "workers", *(["dali"] if has_dali() else [])]
    card = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    print(f"{arguments.cores} cores of {device}{card}, DALI on {where if has_dali() else 'no device: not installed'}\n")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            setting = SETTINGS[size]
            contest = Contest(
                setting, write_files(Path(folder), setting, arguments.data_dir), arguments.cores, device, where
            )
            if "speed" in arguments.parts:
                good &= speeds(contest, names, arguments.repeats)
            if "waiting" in arguments.parts:
                waits(contest, names)
    return 0 if good else 1


def speeds(contest: Contest, names: Sequence[str], repeats: int) -> bool:
    """Print views per second and ratios; return whether the targets are met."""
    found = interleaved({name: partial(contest.speed, name) for name in names}, repeats)
    counted = 0 if contest.device.type == "cuda" else 1
    ratios = {
        name: [median_ratio(*([turn[clock] for turn in found[n]] for n in (name, "plain"))) for clock in (0, 1)]
        for name in names
    }
    rows = [
        [name, *(f"{statistics.median(turn[clock] for turn in found[name]):,.0f}" for clock in (0, 1))]
        + [f"{ratio:.2f}" for ratio in ratios[name]]
        for name in names
    ]
    head = [f"{contest.setting.size} px", "views/s", "views/CPU s", "ratio", "ratio, CPU s"]
    print_table([head, *rows])
    ratios = {name: both[counted] for name, both in ratios.items()}
    met = [verdict(name, ratios[name], TARGETS[name], least=True) for name in names if name in TARGETS]
    print()
    return all(met)


def waits(contest: Contest, names: Sequence[str]) -> None:
    """Print the images per second of a training with each loader, and the share of a step that waits."""
    step = Step(contest.setting.size, contest.device)
    rows = [[name, *contest.waiting(name, step)] for name in names]
    rows = [[name, f"{rate:,.0f}", f"{100 * share:.1f} %"] for name, rate, share in rows]
    print_table([[f"{contest.setting.size} px, {step.name}", "images/s", "waiting"], *rows])
    print()


if __name__ == "__main__":
    sys.exit(main())
