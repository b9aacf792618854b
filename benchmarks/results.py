"""Fine-tuning against CaSSLe for every method and seed: the tables of docs/results.md, by commands that continue.

    python benchmarks/results.py cifar10 --data_dir DIR     CIFAR-10 as an ImageFolder tree, five tasks of two classes
    python benchmarks/results.py digits                     the embedded digits, a setting in which networks forget

Runs that are finished are not run again; a run that was killed continues.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import statistics
import sys
from pathlib import Path

from runs import over_seeds, read_results, run

METHODS = ("simclr", "barlow_twins", "byol")
STRATEGIES = ("finetune", "cassle")
#: settings of all runs, then those of each method
SUITES = {
    "cifar10": {
        "all": """
            --dataset custom --size 32 --num_tasks 5 --split_strategy class --backbone tiny --width 32 --stem_stride 2
            --channels_last --batch_size 128 --max_epochs 5 --optimizer adamw --lr 0.003 --weight_decay 1e-4
            --warmup_epochs 1 --warmup_start_lr 0.0001 --min_scale 0.2 --gaussian_prob 0 --proj_hidden_dim 512
            --disable_online_eval --linear_max_iter 100 --num_threads 1
        """,
        "simclr": "--temperature 0.2 --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2",
        "barlow_twins": "--output_dim 512 --scale_loss 0.1 --solarization_prob 0 0.2",
        "byol": "--pred_hidden_dim 512 --solarization_prob 0 0.2",
        "distilled": "--distill_proj_hidden_dim 512",
    },
    "digits": {
        "all": """
            --dataset digits --num_tasks 5 --split_strategy class --backbone tiny --width 32 --batch_size 64
            --max_epochs 20 --lr 1.0 --warmup_epochs 2 --min_scale 0.5 --gaussian_prob 0 --horizontal_flip_prob 0
            --proj_hidden_dim 256 --disable_online_eval --num_threads 1
        """,
        "simclr": "--output_dim 64 --temperature 0.2",
        "barlow_twins": "--output_dim 256 --scale_loss 0.1",
        "byol": "--output_dim 64 --pred_hidden_dim 256",
        "distilled": "--distill_proj_hidden_dim 256",
    },
}
PROBES = ("knn", "ridge", "linear")
NUMBERS = {"A": "average_accuracy", "F": "forgetting", "FT": "forward_transfer"}


def flags(suite: dict[str, str], method: str, strategy: str, seed: int, out: Path) -> list[str]:
    """Return the flags of one run."""
    words = [*shlex.split(suite["all"]), "--method", method, *shlex.split(suite[method]), "--seed", str(seed)]
    if strategy == "cassle":
        words += ["--distiller", "auto", *shlex.split(suite["distilled"])]
    return [*words, "--name", f"{method}-{strategy}-seed{seed}", "--base_experiment_dir", str(out)]


def rows(out: Path, seeds: list[int]) -> list[list[str]]:
    """Return the table: one row a method and strategy, per probe A, F, FT as mean ± half the range over the seeds."""
    table = []
    for method, strategy in itertools.product(METHODS, STRATEGIES):
        folders = [out / f"{method}-{strategy}-seed{seed}" for seed in seeds]
        results = [result["probes"] for result in read_results(folders)]
        if len(results) < len(seeds):
            continue
        cells = [method, strategy]
        for probe, number in itertools.product(PROBES, NUMBERS.values()):
            cells.append(over_seeds([result[probe][number] for result in results]))
        random = [100 * statistics.fmean(result[p]["random"]) for p in PROBES for result in results[:1]]
        table.append([*cells, " / ".join(f"{value:.1f}" for value in random)])
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--data_dir", help="folder with train/ and val/, for cifar10")
    parser.add_argument("--out", type=Path, help="folder of the experiments; default: experiments/results/SUITE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6])
    arguments = parser.parse_args()
    out = (arguments.out or Path("experiments/results") / arguments.suite).resolve()
    for seed, method, strategy in itertools.product(arguments.seeds, METHODS, STRATEGIES):
        words = flags(SUITES[arguments.suite], method, strategy, seed, out)
        if code := run([*words, *(["--data_dir", arguments.data_dir] if arguments.data_dir else [])]):
            return code
    names = [f"{probe} {number}" for probe, number in itertools.product(PROBES, NUMBERS)]
    print("| method | strategy | " + " | ".join(names) + " | random encoder, knn / ridge / linear |")
    print("|---" * (len(names) + 3) + "|")
    for row in rows(out, arguments.seeds):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
