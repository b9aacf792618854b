"""What the house costs per training step: ``python benchmarks/step.py``.

The same network (backbone and Barlow Twins projector), loss, LARS optimizer, schedule and batches, trained twice: by
the library's own path (Lightning, the contract of ``SSLMethod``, the guard against non-finite losses, the table of
metrics, the checkpoint callback; online probe off), and by the loop that one would write by hand. Both take their
batches from a ``ResidentLoader`` of their own with the same seed, so the making of the views is part of both. The step
is timed inside a fit, from the end of the third batch to the end of the last; the two take turns.

Exits 1 when the library does fewer than 0.9 times the steps per second of the bare loop.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

import pytorch_lightning as pl
import torch
from table import interleaved, median_ratio, print_table, verdict

from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.engine.callbacks import Checkpointing, MetricsTable, Seeding
from cassle.engine.interruption import Interruption
from cassle.engine.trainer import Training, quiet
from cassle.losses import barlow_twins
from cassle.methods.barlow_twins import BarlowTwins
from cassle.methods.base import SSLMethod
from cassle.nn import BACKBONES
from cassle.nn.heads import mlp
from cassle.optim.build import Optimization

TARGET, WARM_UP = 0.9, 3  # steps before the clock starts
OPTIMIZATION = {"lars": True, "lr": 0.3, "exclude_bias_n_norm": True, "warmup_epochs": 1}
HEADS = {"output_dim": 512, "proj_hidden_dim": 512}


def now(device: torch.device) -> float:
    """Return seconds: of this process's own work on a CPU, which others may share; of the clock once a GPU is idle."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class StepClock(pl.Callback):
    """Measures the time per step from the end of batch ``WARM_UP`` to the end of the last batch, of one epoch."""

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx) -> None:
        """Start or stop the clock."""
        if batch_idx + 1 == WARM_UP:
            self.start = now(model.device)
        elif batch_idx + 1 == trainer.num_training_batches:
            self.seconds = (now(model.device) - self.start) / (batch_idx + 1 - WARM_UP)


def make_loader(args: argparse.Namespace) -> ResidentLoader:
    """Return one epoch of random images; what they show does not matter to the clock."""
    draws = torch.Generator().manual_seed(0)
    total = args.batch_size * (args.steps + WARM_UP)
    pixels = torch.randint(0, 256, (total, 3, args.size, args.size), dtype=torch.uint8, generator=draws)
    recipe = Recipe(
        size=args.size, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur_prob=0.0,
        mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    members, targets = torch.arange(total), torch.zeros(total, dtype=torch.int64)
    device = torch.device(args.device)
    return ResidentLoader(
        pixels.to(device), targets.to(device), members, (recipe, recipe), batch_size=args.batch_size, seed=0, task=0
    )


def library_seconds(args: argparse.Namespace, model: SSLMethod, loader: ResidentLoader | None = None) -> float:
    """Return the seconds per step of ``model`` in the library's trainer, on random images without a ``loader``."""
    loader = loader or make_loader(args)
    training = Training(
        max_epochs=1, batch_size=args.batch_size, accelerator="gpu" if args.device == "cuda" else "cpu",
        precision=args.precision,
    )  # fmt: skip
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        table = MetricsTable(path / "metrics.csv", 0, lambda row: None)
        checkpointing = Checkpointing(path / "last.ckpt", loader, 1, 10.0, Interruption())
        # The clock comes last: what the house does after a step belongs to the step.
        trainer = training.make_trainer(path, [Seeding(0, 0), table, checkpointing, clock], progress_bar=False)
        trainer.fit(model, loader)
    return clock.seconds


def bare_seconds(args: argparse.Namespace) -> float:
    """Return the seconds per step of the loop that one would write by hand."""
    device = torch.device(args.device)
    backbone = BACKBONES[args.backbone](args.size).to(device)
    projector = mlp(backbone.num_features, HEADS["proj_hidden_dim"], HEADS["output_dim"], layers=3).to(device)
    plan = Optimization(**OPTIMIZATION)
    plan.images_per_step = args.batch_size
    optimizer = plan.build([{"params": [*backbone.parameters(), *projector.parameters()]}])
    scaler = torch.amp.GradScaler(args.device, enabled=args.precision == "16-mixed")
    kind = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(args.precision)
    loader = make_loader(args)
    for step, batch in enumerate(loader):
        plan.set_lr(optimizer, step, len(loader), len(loader))
        with torch.autocast(args.device, dtype=kind) if kind else contextlib.nullcontext():
            z1, z2 = (projector(backbone(view)) for view in batch.views)
            loss = barlow_twins(z1, z2, lamb=5e-3, scale_loss=0.025)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step + 1 == WARM_UP:
            start = now(device)
    return (now(device) - start) / (len(loader) - WARM_UP)


def arguments(description: str, **defaults: object) -> argparse.ArgumentParser:
    """Return the flags that the benchmarks of a step share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed", "16-mixed"], default="32-true")
    parser.add_argument("--backbone", default="tiny", help="tiny, resnet18 or resnet50")
    parser.add_argument("--batch_size", type=int, default=256, help="images per step")
    parser.add_argument("--size", type=int, default=16, help="side of the views in pixels")
    parser.add_argument("--steps", type=int, default=12, help="timed steps per round")
    parser.add_argument("--repeats", type=int, default=7, help="counted rounds")
    parser.set_defaults(**defaults)
    return parser


def prepare() -> None:
    """Make the process quiet, and predictable on a CPU that others use too."""
    quiet()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def describe(args: argparse.Namespace) -> str:
    """Return what is measured, for the head of the table."""
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, one thread"
    return f"{args.backbone}, {args.size} px, batch {args.batch_size}, {args.precision}, {where}"


def main() -> int:
    """Print the table and return the exit code."""
    args = arguments(__doc__.splitlines()[0]).parse_args()
    prepare()

    def library() -> float:
        plan = Optimization(**OPTIMIZATION)
        plan.images_per_step = args.batch_size
        return library_seconds(args, BarlowTwins(BACKBONES[args.backbone](args.size), plan, **HEADS))

    times = interleaved({"bare loop": lambda: bare_seconds(args), "cassle": library}, args.repeats)
    rows = [
        (name, f"{1000 * statistics.median(t):.2f}", f"{args.batch_size / statistics.median(t):,.0f}")
        for name, t in times.items()
    ]
    print_table([(describe(args), "ms per step", "images/s"), *rows])
    print()
    ratio = median_ratio(times["bare loop"], times["cassle"])
    return 0 if verdict("cassle's throughput over the bare loop's", ratio, TARGET, least=True) else 1


if __name__ == "__main__":
    sys.exit(main())
