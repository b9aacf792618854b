"""What every strategy adds to a training step: ``python benchmarks/strategies.py``.

Task 1 is trained by the library's own path, with fine-tuning and with each strategy in turns; everything else is equal:
SimCLR, a ResNet-18 (CIFAR's stem, at 16 px to be quick), a full memory, and with replay half as many images of the past
as of the present. What a strategy does once a task (choosing exemplars, estimating information) is not in the step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from types import MappingProxyType

import torch
from step import OPTIMIZATION, arguments, describe, library_seconds, make_loader, prepare
from table import interleaved, median_ratio, print_table

from cassle.data.resident import ResidentLoader
from cassle.distill import DISTILLERS
from cassle.engine.settings import settings_of
from cassle.memory import MEMORIES
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn import BACKBONES
from cassle.optim.build import Optimization
from cassle.strategies import STRATEGIES

METHOD = "simclr"
CASSLE = "CaSSLe (--distiller)"
MEMORY = MappingProxyType({"minred": {"feature_on_arrival": True}})


def second_task(args: argparse.Namespace, name: str) -> tuple[SSLMethod, ResidentLoader]:
    """Return a model at the start of task 1, whose memory is full, and the loader of the task."""
    mixin = DISTILLERS[METHODS[METHOD].auto_distiller] if name == CASSLE else STRATEGIES[name]
    plan = Optimization(**OPTIMIZATION)
    plan.images_per_step = args.batch_size
    kind, loader = compose(METHODS[METHOD], mixin), make_loader(args)
    settings = {"replay_batch_size": args.batch_size // 2, "mem_size": args.mem_size, "n_save": 1}
    taken = {key: value for key, value in settings.items() if key in settings_of(kind)}
    if name == "minred":
        taken.pop("replay_batch_size")  # it trains on the memory alone, on as many images as arrive
    model = kind(BACKBONES[args.backbone](args.size), plan, **taken)
    memory = getattr(mixin, "default_memory", None)
    if memory:
        model.memory = MEMORIES[memory](args.mem_size, model.stored_dim, **MEMORY.get(memory, {}))
    model.settle(seed=0, num_train=len(loader.targets), num_classes=2, images=loader)
    model.begin_task(0, None)
    if memory:
        fill(model)
    model.begin_task(1, model.state_dict())
    return model, loader


def fill(model: SSLMethod) -> None:
    """Fill the memory, up to the room that the exemplars of the next task want."""
    draws = torch.Generator().manual_seed(0)
    number = len(model.images.targets)
    keys = torch.arange(model.memory.size - 1) % number
    targets = torch.zeros_like(keys)
    features = torch.randn(len(keys), model.stored_dim, generator=draws) if model.stored_dim else None
    if model.memory.online:
        model.memory.insert(keys, targets, features=features, generator=draws)
    else:
        model.memory.fill(keys, targets, features, draws)
    if hasattr(model, "seen_classes"):  # Kaizen's classifier follows what an earlier task has learnt
        model.seen_classes[0] = True


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], backbone="resnet18", size=16, batch_size=64, steps=3, repeats=3)
    parser.add_argument("--strategies", nargs="+", default=[CASSLE, *STRATEGIES], help="default: all")
    parser.add_argument("--mem_size", type=int, default=512, help="slots of the memory")
    args = parser.parse_args()
    prepare()
    rows = []
    for name in args.strategies:
        if name == "finetune":
            continue
        times = interleaved(
            {kind: lambda kind=kind: library_seconds(args, *second_task(args, kind)) for kind in ("finetune", name)},
            args.repeats,
        )
        plain, dear = (1000 * statistics.median(times[kind]) for kind in ("finetune", name))
        rows.append((name, f"{plain:.1f}", f"{dear:.1f}", f"{median_ratio(times[name], times['finetune']):.2f}"))
    print_table([(describe(args), "fine-tuning, ms", "strategy, ms", "ratio"), *rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
