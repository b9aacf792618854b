"""What CaSSLe adds to a training step, for every method and its distiller: ``python benchmarks/distillation.py``.

Task 1 is trained by the library's own path, with and without distillation; everything else is equal and the two take
turns. Distillation adds one forward pass of the frozen network, without gradients, and a small predictor. A step of
two-network objectives costs about three forward passes (one forward, two backward), so the floor is 4/3 = 1.33; BYOL's
own step has a fourth (its momentum teacher), so its floor is 5/4. This holds where the backbone dominates, as in real
runs, so the default is a ResNet-18 (with CIFAR's stem, at 16 px to be quick) and the methods' default heads: behind a
tiny backbone the predictor alone would be as dear as the network. Small batches mislead too: the optimizer's update of
the predictor, and Barlow Twins' 2048 × 2048 correlations, cost the same for 16 images as for 256.

Exits 1 when a ratio is above 1.45.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from step import OPTIMIZATION, arguments, describe, library_seconds, prepare
from table import interleaved, median_ratio, print_table, verdict

from cassle.distill import DISTILLERS
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn import BACKBONES
from cassle.optim.build import Optimization

TARGET = 1.45


def second_task(args: argparse.Namespace, method: str, *, distilled: bool) -> SSLMethod:
    """Return a model at the start of task 1."""
    mixins = [DISTILLERS[METHODS[method].auto_distiller]] if distilled else []
    plan = Optimization(**OPTIMIZATION)
    plan.images_per_step = args.batch_size
    model = compose(METHODS[method], *mixins)(BACKBONES[args.backbone](args.size), plan)
    model.begin_task(0, None)
    model.begin_task(1, model.state_dict())
    return model


def main() -> int:
    """Print the table and return the exit code."""
    parser = arguments(__doc__.splitlines()[0], backbone="resnet18", size=16, batch_size=64, steps=3, repeats=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="default: all")
    args = parser.parse_args()
    prepare()
    ratios, rows = [], []
    for method in args.methods:
        times = interleaved(
            {
                kind: lambda method=method, kind=kind: library_seconds(
                    args, second_task(args, method, distilled=kind == "cassle")
                )
                for kind in ("plain", "cassle")
            },
            args.repeats,
        )
        ratios.append(median_ratio(times["cassle"], times["plain"]))
        plain, cassle = (1000 * statistics.median(times[kind]) for kind in ("plain", "cassle"))
        rows.append(
            (f"{method} + {METHODS[method].auto_distiller}", f"{plain:.1f}", f"{cassle:.1f}", f"{ratios[-1]:.3f}")
        )
    print_table([(describe(args), "plain, ms", "CaSSLe, ms", "ratio"), *rows])
    print()
    return 0 if verdict("largest ratio of CaSSLe's step to the plain one", max(ratios), TARGET, least=False) else 1


if __name__ == "__main__":
    sys.exit(main())
