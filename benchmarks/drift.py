"""How far an encoder moves: linear CKA between the features after the first and after the last task.

    python benchmarks/drift.py experiments/results/cifar10 --data_dir DIR

1 means the same features up to rotation and scale (Kornblith et al. 2019, eq. 3). Distillation should hold it up. One
row for each finished experiment in the folder, on 2,000 validation images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

import cassle
from cassle.data.module import TaskData

IMAGES = 2000


def centred_features(checkpoint: Path, images: Tensor) -> Tensor:
    """Return the features of uint8 images, float64, with the mean of each dimension at zero."""
    encoder = cassle.load_backbone(checkpoint)
    with torch.no_grad():
        features = torch.cat([encoder(part) for part in images.split(500)]).double()
    return features - features.mean(dim=0)


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Return the linear centred kernel alignment of centred features (n, d1) and (n, d2)."""
    return float((a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of experiments")
    parser.add_argument("--data_dir", type=Path, help="ImageFolder tree with train/ and val/; default: the digits")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    arguments = parser.parse_args()
    source = {"dataset": "custom", "data_dir": arguments.data_dir} if arguments.data_dir else {"dataset": "digits"}
    part = TaskData(**source).parts()[1].source
    pixels = part.load(part.side(arguments.size), workers=4).pixels
    images = pixels[:: max(len(pixels) // IMAGES, 1)]
    print("| experiment | CKA, first task to last |\n|---|---|")
    for folder in sorted(path.parent for path in arguments.folder.glob("*/results.json")):
        ends = sorted(folder.glob("task*/final.ckpt"), key=lambda path: int(path.parent.name[4:]))
        first, last = (centred_features(ends[i], images) for i in (0, -1))
        print(f"| {folder.name} | {linear_cka(first, last):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
