"""The data sets: where they lie, their classes, image size and statistics. One entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cassle.data import renderings
from cassle.data.source import EXTENSIONS, ArraySource, FileSource
from cassle.errors import DataError

Rgb = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Location:
    """Where a benchmark is looked for: the values of the flags of the same names.

    ``fetch`` tells whether ``--download`` may be followed now; a dry run only looks.
    """

    data_dir: Path | None = None
    train_dir: str = "train"
    val_dir: str = "val"
    download: bool = False
    no_labels: bool = False
    domains: bool = False
    fetch: bool = True


@dataclass(frozen=True)
class Part:
    """One part (train or val) of a benchmark: its source and the names of its classes and domains."""

    source: ArraySource | FileSource
    classes: list[str]
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A data set.

    Attributes:
        summary: one line for people.
        image_size: side of the views in pixels unless ``--size`` says otherwise.
        mean: mean of the [0, 1] images per channel.
        std: standard deviation per channel.
        read: (location, "train" or "val") to a part; None for a missing val part.
        num_classes: number of classes, if it is known without the data.
        num_train: number of training images, likewise; the same for every class.
        needs_data_dir: whether ``--data_dir`` must be given.
    """

    summary: str
    image_size: int
    mean: Rgb
    std: Rgb
    read: Callable[[Location, str], Part | None]
    num_classes: int | None = None
    num_train: int | None = None
    needs_data_dir: bool = True


def _read_digits(location: Location, part: str) -> Part:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    train, val = train_test_split(np.arange(len(data.target)), test_size=0.25, random_state=42, stratify=data.target)
    chosen = np.sort(train if part == "train" else val)
    gray = torch.from_numpy(data.images[chosen] * (255 / 16)).round().to(torch.uint8)
    targets = torch.from_numpy(data.target[chosen]).long()
    classes = [str(name) for name in data.target_names]
    if not location.domains:
        pixels = gray[:, None].expand(-1, 3, -1, -1).contiguous()
        return Part(ArraySource(pixels, targets, torch.zeros_like(targets)), classes)
    names = tuple(renderings.RENDERINGS)
    pixels = torch.cat([render(gray) for render in renderings.RENDERINGS.values()])
    domains = torch.arange(len(names)).repeat_interleave(len(targets))
    return Part(ArraySource(pixels, targets.repeat(len(names)), domains), classes, names)


def _read_cifar(kind: str) -> Callable[[Location, str], Part]:
    def read(location: Location, part: str) -> Part:
        import torchvision

        dataset = getattr(torchvision.datasets, kind)
        where = f"--data_dir {location.data_dir}: no {kind} in torchvision's format there ({dataset.base_folder}/)"
        try:
            data = dataset(str(location.data_dir), part == "train", download=location.download and location.fetch)
        except RuntimeError as error:  # torchvision: "Dataset not found or corrupted."
            fix = "--download fetches it" if location.download else "give the folder that holds it, or add --download"
            raise DataError(f"{where}; {fix}.") from error
        except OSError as error:  # no network, or a folder that cannot be made
            raise DataError(f"{where}, and it cannot be fetched ({error}).") from error
        pixels = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        targets = torch.tensor(data.targets)
        return Part(ArraySource(pixels, targets, torch.zeros_like(targets)), list(data.classes))

    return read


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())


def _files(paths: list[Path], targets: list[int], classes: list[str]) -> Part:
    labels = torch.tensor(targets, dtype=torch.int64)
    return Part(FileSource(paths, labels, torch.zeros_like(labels)), classes)


def _read_folder(location: Location, part: str) -> Part | None:
    """Read an ImageFolder tree ``train/CLASS/*.jpg``, ``val/CLASS/*.jpg``; or a flat folder without labels."""
    root = location.data_dir
    if not root.is_dir():
        raise DataError(f"--data_dir {root}: no such folder.")
    folder = root / (location.train_dir if part == "train" else location.val_dir)
    if location.no_labels:
        if part == "val":
            return None
        folder = folder if folder.is_dir() else root
        paths = _images_in(folder)
        if not paths:
            raise DataError(f"--data_dir {folder}: no images ({', '.join(sorted(EXTENSIONS))}) in this folder.")
        return _files(paths, [-1] * len(paths), [])
    if not folder.is_dir():
        flag = "--train_dir" if part == "train" else "--val_dir"
        found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{folder}: no such folder. Expected {root}/{folder.name}/CLASS/IMAGE; found: {found}. "
            f"Name the folder with {flag}, or use --no_labels for a flat folder of images."
        )
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    paths, targets, empty = [], [], []
    for label, name in enumerate(classes):
        members = _images_in(folder / name)
        paths += members
        targets += [label] * len(members)
        empty += [] if members else [name]
    if not classes:
        raise DataError(f"{folder}: no class folders in it; expected {folder}/CLASS/IMAGE (or use --no_labels).")
    if empty:
        raise DataError(f"{folder}: class folders without images: {', '.join(empty[:8])}. Fill or remove them.")
    return _files(paths, targets, classes)


DIGITS = Benchmark(
    "1,797 real handwritten digits, 8×8 gray, 10 classes (scikit-learn; no download)",
    image_size=8, mean=(0.305,) * 3, std=(0.376,) * 3, read=_read_digits, num_classes=10, needs_data_dir=False,
)  # fmt: skip
CIFAR10 = Benchmark(
    "CIFAR-10 in torchvision's format, 32×32, 10 classes",
    image_size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261), read=_read_cifar("CIFAR10"),
    num_classes=10, num_train=50_000,
)  # fmt: skip
CIFAR100 = Benchmark(
    "CIFAR-100 in torchvision's format, 32×32, 100 classes",
    image_size=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), read=_read_cifar("CIFAR100"),
    num_classes=100, num_train=50_000,
)  # fmt: skip
CUSTOM = Benchmark(
    "any ImageFolder tree train/CLASS/IMAGE and val/CLASS/IMAGE, or a flat folder with --no_labels",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=_read_folder,
)  # fmt: skip
