"""Fine-tuning against CaSSLe on real images: the table of docs/results.md, made by one command that can be continued.

CIFAR-10 as an ImageFolder tree, five class-incremental tasks, a small backbone, for every method and seed:

    python benchmarks/results.py --data_dir DIR/cifar10

Runs that are finished are not run again; a run that was killed continues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHODS = ("simclr", "barlow_twins", "byol")
SETTINGS = """
    --dataset custom --size 32 --num_tasks 5 --split_strategy class --backbone tiny --width 32 --stem_stride 2
    --channels_last --batch_size 128 --max_epochs 5 --optimizer adamw --lr 0.003 --weight_decay 1e-4 --warmup_epochs 1
    --warmup_start_lr 0.0001 --min_scale 0.2 --gaussian_prob 0 --proj_hidden_dim 512 --distill_proj_hidden_dim 512
    --disable_online_eval --linear_max_iter 100
"""
OWN = {
    "simclr": "--temperature 0.2 --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2",
    "barlow_twins": "--output_dim 512 --scale_loss 0.1 --solarization_prob 0 0.2",
    "byol": "--pred_hidden_dim 512 --solarization_prob 0 0.2",
}
PROBES = ("knn", "ridge", "linear")


def command(method: str, distiller: str | None, seed: int, data_dir: str, out: Path) -> list[str]:
    """Return the command of one run."""
    name = f"{method}-{'cassle' if distiller else 'finetune'}-seed{seed}"
    words = shlex.split(SETTINGS)
    if not distiller:  # flags of the distiller are unknown without one
        at = words.index("--distill_proj_hidden_dim")
        del words[at : at + 2]
    words += shlex.split(OWN[method]) + (["--distiller", distiller] if distiller else [])
    words += ["--method", method, "--seed", str(seed), "--name", name, "--base_experiment_dir", str(out)]
    return [sys.executable, "main_continual.py", *words, "--data_dir", data_dir]


def rows(out: Path, seeds: list[int]) -> list[list[str]]:
    """Return the table: one row a method and strategy, per probe A, F, FT as mean ± half the range over the seeds."""
    table = []
    for method, strategy in itertools.product(METHODS, ("finetune", "cassle")):
        files = [out / f"{method}-{strategy}-seed{seed}" / "results.json" for seed in seeds]
        results = [json.loads(file.read_text())["probes"] for file in files if file.is_file()]
        if len(results) < len(seeds):
            continue
        cells = [method, strategy]
        for probe, number in itertools.product(PROBES, ("average_accuracy", "forgetting", "forward_transfer")):
            values = [100 * result[probe][number] for result in results]
            cells.append(f"{statistics.fmean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        random = [100 * statistics.fmean(result[p]["random"]) for p in PROBES for result in results[:1]]
        table.append([*cells, " / ".join(f"{value:.1f}" for value in random)])
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="ImageFolder tree with train/ and val/")
    parser.add_argument("--out", type=Path, default=Path("experiments/results"), help="folder of the experiments")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6])
    arguments = parser.parse_args()
    for seed, method, distiller in itertools.product(arguments.seeds, METHODS, (None, "auto")):
        words = command(method, distiller, seed, arguments.data_dir, arguments.out.resolve())
        print(shlex.join(["python", *words[1:]]), flush=True)
        start = time.time()
        code = subprocess.run(words, cwd=ROOT, check=False).returncode
        if code:
            return code
        print(f"took {time.time() - start:.0f} s", flush=True)
    names = [f"{probe} {number}" for probe, number in itertools.product(PROBES, ("A", "F", "FT"))]
    print("| method | strategy | " + " | ".join(names) + " | random encoder, knn / ridge / linear |")
    print("|---" * (len(names) + 3) + "|")
    for row in rows(arguments.out.resolve(), arguments.seeds):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
