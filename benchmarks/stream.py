"""Streams at scale: ``python benchmarks/stream.py [--parts scale prefetch videos]``.

scale: a million samples through a whole run (plan, loader, strategy, memory, optimizer, table, checkpoints) with a tiny
network, a process each. Resident memory at 5 % and the highest after it; CPU time of a step in the first tenth (without
its first half, while memories fill) and in the last. Then the run is continued from its checkpoints of 5 and of 90 %,
in turns: CPU time until the first step is done, and of a step; and the lowest position that was read.

prefetch: a read takes r (it sleeps), a step s: the share of the time in which steps wait for their batch. A depth d
covers a slow read of up to d steps. videos: the same with real videos and steps; decoding shares the CPU with training.

Exits 1 when memory grows by 50 MB, a late step costs more than 1.1 times an early one, continuing late more than 1.2
times continuing early, or steps wait for more than 2 % of the time though the depth covers the reading.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import resource
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

import pytorch_lightning as pl
import torch
from table import interleaved, median_ratio, print_table

from cassle.data.read_ahead import ReadAhead
from cassle.data.recipe import Recipe
from cassle.data.stream_loader import StreamLoader
from cassle.data.streams import Chunk, Stream
from cassle.data.videos import VideoStream
from cassle.engine.experiment import Experiment
from cassle.methods.simsiam import SimSiam
from cassle.nn import BACKBONES

SIDE, EARLY, LATE, CONTINUED = 4, 0.05, 0.9, 20  # pixels, shares of the stream, steps
DEPTHS = (0, 1, 4)
GROWTH_MB, STEP_RATIO, LATE_RATIO, WAITING = 50.0, 1.1, 1.2, 0.02  # wanted, at most
RUN = {
    "method": "simsiam", "backbone": "tiny", "width": 4, "size": SIDE, "proj_hidden_dim": 16, "output_dim": 16,
    "pred_hidden_dim": 8, "batch_size": 500, "lr": 0.01, "eval_at": [100], "few_labels": 0, "linear_max_iter": 3,
    "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "gaussian_prob": 0, "solarization_prob": 0,
    "disable_linear_eval": True, "num_threads": 1, "accelerator": "cpu",
}  # fmt: skip
ER = {"strategy": "er", "mem_size": 2048, "replay_batch_size": 512, "batch_size": 2000}
ROWS = {
    "images, reservoir with ER": {"dataset": "frames", "stream": "order", **ER},
    "images, MinRed": {"dataset": "frames", "stream": "order", "strategy": "minred", "mem_size": 1024},
    "positions, reservoir with ER": {"dataset": "digits", "stream": "runs", **ER},
}


class Synthetic(Stream):
    """Images of noise, a function of the position; reading batch number i takes ``delay(i)`` seconds."""

    def __init__(self, length: int, delay: Callable[[int], float] = lambda number: 0.0) -> None:
        self.length, self.side, self.delay, self.lowest = length, SIDE, delay, length

    def read(self, start: int, count: int) -> Chunk:
        """Return samples; note the lowest position that was read."""
        time.sleep(self.delay(start // count))
        self.lowest = min(self.lowest, start)
        positions = torch.arange(start, min(start + count, self.length))
        numbers = positions[:, None] * 2654435761 + torch.arange(3 * SIDE**2) * 40503
        pixels = ((numbers ^ (numbers >> 13)) * 1274126177 >> 16).to(torch.uint8).view(-1, 3, SIDE, SIDE)
        return Chunk(positions, pixels, torch.full_like(positions, -1), positions // 64 % 1000, [])


class Watch(pl.Callback):
    """CPU seconds and resident memory after every step; copies of the run's folder at some steps; maybe an end."""

    def __init__(self, run: Path, copies: dict[int, Path] | None = None, limit: int = 0) -> None:
        self.run, self.copies, self.limit, self.seconds, self.megabytes = run, copies or {}, limit, [], []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx) -> None:
        """Look at the clock and at the memory."""
        self.seconds.append(time.process_time())
        self.megabytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
        if copy := self.copies.get(batch_idx + 1):
            trainer.save_checkpoint(self.run / "task0" / "last.ckpt")
            shutil.copytree(self.run, copy)
        if len(self.seconds) == self.limit:
            raise SystemExit  # as a signal would

    def per_step(self, start: float = 0.0, stop: float = 1.0) -> float:
        """Return the median of the CPU seconds of a step in a part of the run."""
        steps = [b - a for a, b in zip(self.seconds, self.seconds[1:], strict=False)]
        return statistics.median(steps[round(start * len(steps)) : round(stop * len(steps))])


def run(folder: Path, settings: dict[str, Any], items: int, **watch: Any) -> tuple[Watch, Synthetic | None]:
    """Run, or continue, the experiment in ``folder/run``; return what was seen, and the source of images."""
    source, stream = {"stream_length": items, "stream_epochs": items // 1000 + 1}, None
    if settings["dataset"] == "frames":
        source, stream = {"data_dir": folder / "frames"}, Synthetic(items)
        source["data_dir"].mkdir(exist_ok=True)  # is looked for; what is read is the synthetic source
    experiment = Experiment(experiment_dir=folder / "run", **{**RUN, **settings, **source})
    if stream is not None:
        experiment.plan.open_stream = lambda images: stream
    watcher, make = Watch(folder / "run", **watch), experiment.plan.training.make_trainer
    experiment.plan.training.make_trainer = lambda path, callbacks, **rest: make(path, [*callbacks, watcher], **rest)
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        experiment.run()
    return watcher, stream


def scale(settings: dict[str, Any], items: int, repeats: int) -> dict[str, Any]:
    """Go through a whole stream, then continue it from 5 and from 90 %; return the numbers of its rows."""
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, number = Path(name), items // (RUN | settings)["batch_size"]
        steps = {share: round(share * number) for share in (EARLY, LATE)}
        watch, _ = run(folder, settings, items, copies={step: folder / str(share) for share, step in steps.items()})
        memory = watch.megabytes[steps[EARLY] :]
        found = {"MB": memory[0], "growth": max(memory) - memory[0], "first": [], "step": [], "read": []}
        found["ms"] = " / ".join(f"{1000 * watch.per_step(*tenth):.1f}" for tenth in ((EARLY, 0.1), (0.9, 1)))
        files = (folder / str(share) / "task0" / "last.ckpt" for share in steps)
        found["kB"] = " / ".join(f"{file.stat().st_size / 1000:.0f}" for file in files)
        for share in (*steps,) * (repeats + 1):
            shutil.rmtree(folder / "run")
            shutil.copytree(folder / str(share), folder / "run")
            start = time.process_time()
            watch, stream = run(folder, settings, items, limit=CONTINUED)
            found["first"].append(watch.seconds[0] - start)
            found["step"].append(watch.per_step())
            found["read"].append(stream.lowest if stream else -1)
        return found


def scale_part(args: argparse.Namespace) -> bool:
    """Print what a million samples cost, and what continuing late costs."""
    good, what = True, f"{args.items:,} samples"
    rows = [(what, "MB at 5 %", "growth, MB", "a step in the first / last tenth, ms", "checkpoint at 5 / 90 %, kB")]
    later = [("continued at 5 / 90 %", "first step done, s", "ratio", "a step, ms", "ratio", "read from")]
    for name, settings in ROWS.items():  # a process each: what one leaves behind is not the next one's
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(scale, settings, args.items, args.repeats).result()
        rows.append((name, f"{found['MB']:.0f}", f"{found['growth']:.1f}", found["ms"], found["kB"]))
        good, cells = good and found["growth"] < GROWTH_MB, []
        for kind, unit, most in (("first", 1, LATE_RATIO), ("step", 1000, STEP_RATIO)):
            early, late = found[kind][2::2], found[kind][3::2]  # the first round warms up
            ratio = median_ratio(late, early)
            cells += [" / ".join(f"{unit * statistics.median(part):.2f}" for part in (early, late)), f"{ratio:.2f}"]
            good &= ratio <= most
        later.append((name, *cells, "{:,} / {:,}".format(*found["read"]) if found["read"][0] >= 0 else ""))
    print_table(rows)
    print()
    print_table(later)
    return good


class Waiting(ReadAhead):
    """Knows how long steps waited for the stream, and when the last batch of it came."""

    waited = came = 0.0

    def batch(self, number: int) -> Any:
        """Return the batch, and note how long that took."""
        asked, read, self.came = time.perf_counter(), super().batch(number), time.perf_counter()
        self.waited += self.came - asked
        return read


def waiting(stream: Stream, depth: int, train: Callable, **settings: Any) -> float:
    """Return the share of the time in which steps wait, from the second on; ``train(batch, when it came)``."""
    views = [Recipe(size=stream.side, mean=(0.5,) * 3, std=(0.25,) * 3)] * 2
    loader = StreamLoader(stream, views, seed=0, depth=depth, **settings)
    reader = loader.reader = Waiting(loader)
    for number, batch in enumerate(loader):
        if number == 0:
            start, reader.waited = time.perf_counter(), 0.0
        train(batch, reader.came)
    return reader.waited / (time.perf_counter() - start)


def shares(repeats: int, stream: Callable[[], Stream], train: Callable, **settings: Any) -> dict[int, float]:
    """Return the median share of waiting for every depth, measured in turns."""
    measures = {depth: lambda d=depth: waiting(stream(), d, train, **settings) for depth in DEPTHS}
    return {depth: statistics.median(turns) for depth, turns in interleaved(measures, repeats).items()}


def prefetch_part(args: argparse.Namespace) -> bool:
    """Print how long steps wait for reads that sleep."""
    s, good, rows = 0.1, True, [("reading takes", *(f"--prefetch {depth}" for depth in DEPTHS))]
    patterns = {  # with the depth that covers it
        "half a step": (lambda number: 0.5 * s, 1),
        "0.2 steps, every 8th time 3.5": (lambda number: s * (3.5 if number % 8 == 7 else 0.2), 4),
        "two steps": (lambda number: 2 * s, None),  # none: at best half of the time is waiting
    }

    def step(batch: Any, came: float) -> None:  # the making of its views is a part of it
        time.sleep(max(came + s - time.perf_counter(), 0))

    for name, (delay, depth) in patterns.items():
        made = shares(args.repeats, lambda r=delay: Synthetic(99, r), step, batch_size=3, num_batches=33)
        rows.append((name, *(f"{100 * share:.1f} %" for share in made.values())))
        good &= depth is None or made[depth] <= WAITING
    print_table(rows)
    return good


def videos_part(args: argparse.Namespace) -> bool:
    """Print how long real steps wait for real videos."""
    if args.videos is None:
        print("videos: skipped, --videos names no folder")
        return True
    model = SimSiam(BACKBONES["tiny"](64, width=8), proj_hidden_dim=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(batch: Any, came: float) -> None:
        loss = sum(model.losses(batch, model.forward_views(batch.views)).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    rows = [("waiting, 64 px, batch 32", *(f"--prefetch {depth}" for depth in DEPTHS))]
    for K in (1, 4):
        about = {"batch_size": 32, "num_batches": 8, "num_updates": K}
        made = shares(args.repeats, lambda: VideoStream(args.videos, side=64), train, **about)
        rows.append((f"--num_updates {K}", *(f"{100 * share:.1f} %" for share in made.values())))
    print_table(rows)
    return True


def main() -> int:
    """Print the tables; return how many of the parts are not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"scale": scale_part, "prefetch": prefetch_part, "videos": videos_part}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--videos", type=Path, help="folder of videos, for the part of that name")
    parser.add_argument("--items", type=int, default=1_000_000, help="samples of the long streams")
    parser.add_argument("--repeats", type=int, default=3, help="counted rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    missed = [part for part in args.parts if not parts[part](args)]
    print(f"more than wanted: {', '.join(missed) or 'nothing'}")
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
