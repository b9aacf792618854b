"""Every method on the digits, fine-tuned and distilled: the tables of docs/methods.md, by commands that continue.

    python benchmarks/methods.py --out DIR [--seeds 5 6 7] [--methods byol mae] [--write docs/methods.md]

Runs that are finished are not run again; a run that was killed continues.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml
from runs import ROOT, over_seeds, read_results, run

sys.path.insert(0, str(ROOT))  # runs from a checkout, installed or not

from cassle import METHODS

STRATEGIES = ("finetune", "distilled")
PROBES = ("knn", "ridge")
SEEDS = (5, 6, 7)
MACHINE = "2 shared CPU cores"
BEGIN, END = "<!-- made by benchmarks/methods.py -->", "<!-- end -->"

#: settings of all runs, then those of each method: chosen by hand on these digits, not searched
BASE = {
    "dataset": "digits", "num_tasks": 5, "split_strategy": "class", "batch_size": 64, "max_epochs": 20,
    "optimizer": "adamw", "lr": 0.004, "weight_decay": 0.01, "warmup_epochs": 2, "min_scale": 0.5, "gaussian_prob": 0,
    "horizontal_flip_prob": 0, "disable_online_eval": True, "disable_linear_eval": True, "num_threads": 1,
}  # fmt: skip
CONVOLUTIONS = {"backbone": "tiny", "width": 16, "proj_hidden_dim": 256, "output_dim": 64}
DIGITS: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.2},
    "supcon": {"temperature": 0.2},
    "mocov2plus": {"temperature": 0.2, "queue_size": 128, "base_tau_momentum": 0.9},
    "mocov3": {"pred_hidden_dim": 256, "base_tau_momentum": 0.9},
    "byol": {"pred_hidden_dim": 256, "base_tau_momentum": 0.9},
    "simsiam": {"pred_hidden_dim": 64},
    "barlow_twins": {"output_dim": 256, "scale_loss": 0.1},
    "vicreg": {"output_dim": 256},
    "swav": {"num_prototypes": 30, "queue_size": 128, "epoch_queue_starts": 5},
    "deepclusterv2": {"num_prototypes": [30, 30, 30]},
    "dino": {"num_prototypes": 64, "warmup_teacher_temperature_epochs": 5, "base_tau_momentum": 0.9},
    "nnclr": {"pred_hidden_dim": 256, "queue_size": 256},
    "ressl": {"queue_size": 128, "base_tau_momentum": 0.9},
    "wmse": {"output_dim": 16, "whitening_size": 64},
    "emp_ssl": {"num_crops": 4, "min_scale": 0.25, "max_scale": 0.5},
    "lejepa": {"num_slices": 256},
    "mae": {
        "backbone": "vit_tiny", "depth": 2, "patch_size": 4, "avg_pooling": True, "decoder_depth": 1, "mask_ratio": 0.5
    },
}  # fmt: skip
DISTILLED = {
    "contrastive": {"distill_proj_hidden_dim": 256},
    "decorrelative": {"distill_proj_hidden_dim": 256},
    "predictive": {"distill_proj_hidden_dim": 256},
    "predictive_mse": {"distill_proj_hidden_dim": 256},
    "knowledge": {"distill_proj_hidden_dim": 256},
    "relational": {"distill_proj_hidden_dim": 256, "distill_queue_size": 128},
}

#: paper; what is minimised, in the symbols that docs/methods.md explains
PAPERS = {
    "simclr": ("Chen et al. 2020", "−log softmax of c(z₁, z₂) among all views of the batch"),
    "supcon": ("Khosla et al. 2020", "as SimCLR, averaged over all views of the same class"),
    "mocov2plus": ("He et al. 2020, Chen et al. 2020", "−log softmax of c(z₁, z′₂) among c(z₁, queue of old z′)"),
    "mocov3": ("Chen et al. 2021", "−2τ log softmax of c(p₁, z′₂) among the z′ of the batch, both ways"),
    "byol": ("Grill et al. 2020", "2 − 2 cos(p₁, z′₂), both ways"),
    "simsiam": ("Chen & He 2021", "−cos(p₁, stop-gradient z₂), both ways"),
    "barlow_twins": ("Zbontar et al. 2021", "Σᵢ (1 − Cᵢᵢ)² + λ Σᵢ≠ⱼ Cᵢⱼ², C = correlation of z₁ with z₂"),
    "vicreg": ("Bardes et al. 2022", "λ mean (z₁ − z₂)² + μ Σ max(0, 1 − std z) / d + ν Σᵢ≠ⱼ Covᵢⱼ² / d"),
    "swav": ("Caron et al. 2020", "cross-entropy of prototypes(z₁) with the balanced (Sinkhorn) assignment of z₂"),
    "deepclusterv2": ("Caron et al. 2018, 2020", "cross-entropy of centroids(z) with the image's k-means cluster"),
    "dino": ("Caron et al. 2021", "cross-entropy of prototypes(z₁) with the centred, sharper prototypes(z′₂)"),
    "nnclr": ("Dwibedi et al. 2021", "−log softmax of c(neighbour of z₁ in a queue, p₂) among the p of the batch"),
    "ressl": ("Zheng et al. 2021", "cross-entropy of softmax c(z₁, queue) with the sharper softmax c(z′₂, queue)"),
    "wmse": ("Ermolov et al. 2021", "2 − 2 cos(W₁z₁, W₂z₂), W whitens the batch"),
    "emp_ssl": ("Tong et al. 2023", "−200 cos(z, mean z of the patches) − ½ log det(I + d/(nε) ZᵀZ)"),
    "lejepa": ("Balestriero & LeCun 2025", "(1 − λ) mean (z − mean z of the views)² + λ SIGReg(z): z ~ N(0, I)"),
    "mae": ("He et al. 2022", "mean squared error of the hidden patches that a decoder paints"),
}


def settings(method: str, *, distilled: bool = False) -> dict[str, Any]:
    """Return the settings of a run on the digits, by name."""
    kind = METHODS[method]
    network = {} if method == "mae" else CONVOLUTIONS
    distiller = {"distiller": kind.auto_distiller, **DISTILLED[kind.auto_distiller]} if distilled else {}
    return {"method": method, **BASE, **network, **DIGITS[method], **distiller}


def flags(values: dict[str, Any]) -> list[str]:
    """Return settings as words of a command line."""
    words = []
    for name, value in values.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [] if value is True else [value])]
    return words


def folder(out: Path, method: str, strategy: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{method}-{strategy}-seed{seed}"


def finished(place: Path, values: dict[str, Any]) -> bool:
    """Return whether a folder holds a finished run of these settings; leave the program if it has others."""
    if not read_results([place]):
        return False
    config = yaml.safe_load((place / "config.yaml").read_text())
    if others := [name for name, value in values.items() if config.get(name) != value]:
        sys.exit(f"{place}: was made with another {', '.join(others)}; give another --out.")
    return True


def defaults(method: str) -> str:
    """Return a method's own settings with their defaults, from its signature."""
    kind = METHODS[method]
    words = []
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or isinstance(parameter.default, bool):
            continue
        value = parameter.default
        if value is None:  # then the documentation says what it becomes
            value = re.search(rf"{name}: .*default: ([^.]+)\.", kind.__init__.__doc__)[1]
        words.append(f"{name} {value}")
    return ", ".join(words + [f"{name} {value}" for name, value in kind.defaults.items()])


def takes(method: str) -> str:
    """Return what a method wants of data and network."""
    kind = METHODS[method]
    views = "1 view" if kind.max_views == 1 else f"{kind.defaults.get('num_crops', 2)} views"
    having = {
        "small crops": kind.multicrop, "labels": kind.needs_labels, "a momentum teacher": kind.has_momentum_teacher,
        "prototypes": kind.has_prototypes, "a transformer": str(kind.defaults.get("backbone")).startswith("vit"),
    }  # fmt: skip
    return ", ".join([views, *(name for name, true in having.items() if true)])


def numbers(out: Path, method: str, seeds: list[int]) -> list[str]:
    """Return the cells of a method: average accuracy by probe, fine-tuned and distilled; and the random encoder's."""
    cells, random = [], []
    for strategy in STRATEGIES:
        results = [result["probes"] for result in read_results([folder(out, method, strategy, s) for s in seeds])]
        enough = len(results) == len(seeds)
        cells += [over_seeds([r[probe]["average_accuracy"] for r in results]) if enough else "–" for probe in PROBES]
        random = random or [[statistics.fmean(r[probe]["random"]) for r in results] for probe in PROBES]
    return [*cells, *(over_seeds(values) if values else "–" for values in random)]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def page(out: Path, seeds: list[int]) -> str:
    """Return what stands between the markers."""
    what = ["method", "paper", "minimises", "takes", "auto distiller", "defaults"]
    rows = [[f"`{m}`", *PAPERS[m], takes(m), METHODS[m].auto_distiller, defaults(m)] for m in METHODS]
    cells = {method: numbers(out, method, seeds) for method in METHODS}
    head = ["method", *(f"{strategy} {probe}" for strategy in ("fine-tuned", "distilled") for probe in PROBES)]
    tiny, vit = cells["simclr"][-2:], cells["mae"][-2:]
    command = f"python benchmarks/methods.py --out experiments/methods --seeds {' '.join(map(str, seeds))}"
    return "\n\n".join(
        [
            table(what, rows),
            "## On the digits",
            f"```bash\n{command} --write docs/methods.md\n```",
            f"Percent, mean over {len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))}) ± half the "
            f"range, on {MACHINE}. scikit-learn's digits (8×8 pixels), {BASE['num_tasks']} tasks of two classes, "
            f"{BASE['max_epochs']} epochs a task, batches of {BASE['batch_size']}, {BASE['optimizer']} with lr "
            f"{BASE['lr']}; `tiny` of width {CONVOLUTIONS['width']}, for mae `vit_tiny` of depth "
            f"{DIGITS['mae']['depth']}. Average accuracy over the tasks after the last one, kNN and ridge probe over "
            "all ten classes ([metrics.md](metrics.md)).",
            f"The random encoder before any training: `tiny` kNN {tiny[0]}, ridge {tiny[1]}; `vit_tiny` kNN {vit[0]}, "
            f"ridge {vit[1]}.",
            table(head, [[f"`{method}`", *row[:-2]] for method, row in cells.items()]),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiments")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS], metavar="METHOD")
    parser.add_argument("--only_table", action="store_true", help="run nothing; the table of what is there")
    parser.add_argument("--write", type=Path, help="page that gets the tables, between its two markers")
    arguments = parser.parse_args()
    out, seeds = arguments.out.resolve(), [*arguments.seeds]
    runs = [] if arguments.only_table else itertools.product(seeds, arguments.methods, STRATEGIES)
    for seed, method, strategy in runs:
        place = folder(out, method, strategy, seed)
        values = {**settings(method, distilled=strategy == "distilled"), "seed": seed, "name": place.name}
        if finished(place, values):
            print(f"{place}: finished before", flush=True)
        elif code := run(flags({**values, "base_experiment_dir": out})):
            return code
    text = page(out, seeds)
    if arguments.write:
        before, rest = arguments.write.read_text().split(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
