"""What forgets and what helps: the tables of docs/results.md, by commands that continue.

    python benchmarks/results.py cifar10 --data_dir DIR     fine-tuning against CaSSLe, three objectives
    python benchmarks/results.py digits                     the same on the embedded digits, where networks forget
    python benchmarks/results.py strategies --data_dir DIR  every way not to forget, one objective
    python benchmarks/results.py streams --data_dir DIR     classes one after the other, in a single pass
    python benchmarks/results.py engines                    one recipe through three engines, on digits as JPEG files

DIR: CIFAR-10 as an ImageFolder tree, train/CLASS/* and val/CLASS/*; five tasks of two classes. Runs that are finished
are not run again; a run that was killed continues.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from runs import over_seeds, read_results, run
from trees import digits_tree

NUMBERS = {"A": "average_accuracy", "F": "forgetting", "FT": "forward_transfer"}
ALONG = {"A": "final_accuracy", "along": "average_along_the_stream", "F": "forgetting", "F/best": "relative_forgetting"}


class Suite(NamedTuple):
    """The settings of all runs, the further settings of each by its name, and the numbers of the table."""

    settings: str
    runs: dict[str, str]
    numbers: dict[str, str] = NUMBERS


def distilled(methods: dict[str, str], settings: str) -> dict[str, str]:
    """Return each method fine-tuned and with the distiller that fits it."""
    runs = {}
    for method, own in methods.items():
        runs[f"{method}-finetune"] = f"--method {method} {own}"
        runs[f"{method}-cassle"] = f"--method {method} {own} --distiller auto {settings}"
    return runs


CIFAR = """
    --dataset custom --size 32 --num_tasks 5 --split_strategy class --backbone tiny --stem_stride 2 --channels_last
    --batch_size 128 --optimizer adamw --lr 0.003 --weight_decay 1e-4 --warmup_epochs 1 --warmup_start_lr 0.0001
    --min_scale 0.2 --gaussian_prob 0 --proj_hidden_dim 512 --disable_online_eval --linear_max_iter 100 --num_threads 1
"""
COLOUR = "--temperature 0.2 --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2"
DRAWN = "--stream class --stream_length 49920 --batch_size 64 --lr 0.006 --num_updates 2"  # 64 of 128 are drawn, or all
SUITES = {
    "cifar10": Suite(
        f"{CIFAR} --width 32 --max_epochs 5",
        distilled(
            {
                "simclr": COLOUR,
                "barlow_twins": "--output_dim 512 --scale_loss 0.1 --solarization_prob 0 0.2",
                "byol": "--pred_hidden_dim 512 --solarization_prob 0 0.2",
            },
            "--distill_proj_hidden_dim 512",
        ),
    ),
    "digits": Suite(
        """
        --dataset digits --num_tasks 5 --split_strategy class --backbone tiny --width 32 --batch_size 64
        --max_epochs 20 --lr 1.0 --warmup_epochs 2 --min_scale 0.5 --gaussian_prob 0 --horizontal_flip_prob 0
        --proj_hidden_dim 256 --disable_online_eval --num_threads 1
        """,
        distilled(
            {
                "simclr": "--output_dim 64 --temperature 0.2",
                "barlow_twins": "--output_dim 256 --scale_loss 0.1",
                "byol": "--output_dim 64 --pred_hidden_dim 256",
            },
            "--distill_proj_hidden_dim 256",
        ),
    ),
    "strategies": Suite(
        f"{CIFAR} --width 16 --max_epochs 3 --few_labels 0 --method simclr {COLOUR}",
        {
            "finetune": "",
            "er": "--strategy er",
            "lump": "--strategy lump",
            "der": "--strategy der",
            "minred": "--strategy minred",
            "cassle": "--distiller auto --distill_proj_hidden_dim 512",
            "apre": "--strategy apre",
            "arp": "--strategy arp",
            "ccl": "--strategy ccl --n_save 100 --replay_batch_size 64",
            "kaizen": "--strategy kaizen --distiller auto --distill_proj_hidden_dim 512 --head_lr 0.03",
        },
    ),
    # But for the first row all take 1560 steps of 128 images, and an image is used four times (on average).
    "streams": Suite(
        f"""
        {CIFAR} --width 16 --num_tasks 10 --few_labels 0 --method simclr {COLOUR} --scheduler cosine --warmup_epochs 0
        --eval_at 25 50 75 100
        """,
        {
            "once": "--stream class --stream_length 49920",
            "single": "--stream class --stream_length 49920 --num_updates 4",
            "fifo": f"{DRAWN} --strategy minred --memory fifo --replay_batch_size 128",
            "reservoir": f"{DRAWN} --strategy minred --memory reservoir --replay_batch_size 128",
            "minred": f"{DRAWN} --strategy minred --replay_batch_size 128",
            "er": f"{DRAWN} --strategy er --replay_batch_size 64",
            "arp": f"{DRAWN} --strategy arp --replay_batch_size 64",
            "lump": "--stream class --stream_length 49920 --num_updates 4 --strategy lump",
            "iid": "--stream iid --stream_epochs 4 --stream_length 199680",
        },
        ALONG,
    ),
    # One recipe, three engines: they draw and round differently, and must learn the same.
    "engines": Suite(
        """
        --dataset custom --size 16 --num_tasks 2 --split_strategy data --backbone tiny --width 32 --batch_size 64
        --max_epochs 20 --method simclr --output_dim 64 --temperature 0.2 --lr 0.4 --warmup_epochs 2 --min_scale 0.5
        --brightness 0.4 --contrast 0.4 --horizontal_flip_prob 0 --proj_hidden_dim 256 --disable_online_eval
        --few_labels 0 --linear_max_iter 100 --num_threads 1 --num_workers 1
        """,
        {name: f"--engine {name}" for name in ("resident", "workers")} | {"dali": "--engine dali --dali_device cpu"},
    ),
}
PROBES = ("knn", "ridge", "linear")


def rows(out: Path, suite: Suite, names: list[str], seeds: list[int]) -> list[list[str]]:
    """Return the table: one row a run, per probe its numbers as mean ± half the range over the seeds."""
    table = []
    for name in names:
        results = [result["probes"] for result in read_results([out / f"{name}-seed{seed}" for seed in seeds])]
        if len(results) < len(seeds):
            continue
        cells = [name]
        for probe, number in itertools.product(PROBES, suite.numbers.values()):
            cells.append(over_seeds([result[probe][number] for result in results]))
        random = [100 * statistics.fmean(result[p]["random"]) for p in PROBES for result in results[:1]]
        table.append([*cells, " / ".join(f"{value:.1f}" for value in random)])
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--data_dir", help="folder with train/ and val/ (not for digits and engines)")
    parser.add_argument("--out", type=Path, help="folder of the experiments; default: experiments/results/SUITE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6])
    parser.add_argument("--runs", nargs="+", help="only these rows; default: all")
    arguments = parser.parse_args()
    suite = SUITES[arguments.suite]
    if unknown := set(arguments.runs or ()) - set(suite.runs):
        parser.error(f"--runs {' '.join(unknown)}: unknown. Known: {', '.join(suite.runs)}.")
    runs = {name: suite.runs[name] for name in arguments.runs or suite.runs}
    out = (arguments.out or Path("experiments/results") / arguments.suite).resolve()
    if arguments.suite == "engines" and not arguments.data_dir:
        arguments.data_dir = str(digits_tree(out / "digits"))
    data = ["--data_dir", arguments.data_dir] if arguments.data_dir else []
    for seed, (name, own) in itertools.product(arguments.seeds, runs.items()):
        words = [*shlex.split(suite.settings), *shlex.split(own), *data, "--seed", str(seed)]
        if code := run([*words, "--name", f"{name}-seed{seed}", "--base_experiment_dir", str(out)]):
            return code
    names = [f"{probe} {number}" for probe, number in itertools.product(PROBES, suite.numbers)]
    print("| run | " + " | ".join(names) + " | random encoder, knn / ridge / linear |")
    print("|---" * (len(names) + 2) + "|")
    for row in rows(out, suite, list(runs), arguments.seeds):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
