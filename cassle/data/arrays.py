"""Benchmarks that come as arrays: scikit-learn's digits, and torchvision's CIFAR and STL-10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cassle.data import renderings
from cassle.data.location import LayoutError, Location, Part
from cassle.data.source import ArraySource
from cassle.errors import DataError


def read_digits(location: Location, part: str) -> Part:
    """Read the digits, three quarters of every class for training; with ``--split_strategy domain`` in five looks."""
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


def read_cifar(kind: str) -> Callable[[Location, str], Part]:
    """Return a reader of torchvision's data set ``CIFAR10`` or ``CIFAR100``."""

    def read(location: Location, part: str) -> Part:
        data = _torchvision(location, kind, train=part == "train")
        pixels = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        targets = torch.tensor(data.targets)
        return Part(ArraySource(pixels, targets, torch.zeros_like(targets)), list(data.classes))

    return read


def read_stl10(location: Location, part: str) -> Part:
    """Read STL-10: 5,000 labelled and 100,000 unlabelled (label -1) images to train on, 8,000 to evaluate."""
    data = _torchvision(location, "STL10", split="train+unlabeled" if part == "train" else "test")
    pixels = torch.from_numpy(np.ascontiguousarray(data.data))
    targets = torch.from_numpy(np.asarray(data.labels)).long()
    return Part(ArraySource(pixels, targets, torch.zeros_like(targets)), list(data.classes))


def _torchvision(location: Location, kind: str, **which: Any) -> Any:
    """Return a data set of torchvision.

    Raises:
        DataError: it is not there, and cannot or may not be fetched.
    """
    import torchvision

    dataset = getattr(torchvision.datasets, kind)
    where = f"--data_dir {location.data_dir}: no {kind} in torchvision's format there ({dataset.base_folder}/)"
    there = location.data_dir / dataset.base_folder
    try:
        return dataset(str(location.data_dir), download=location.download and location.fetch, **which)
    except RuntimeError as error:  # torchvision: "Dataset not found or corrupted."
        if there.is_dir():  # it is there: torchvision has compared checksums
            where = f"{there}: files are missing, or are not those that were published"
        fix = "--download fetches it" if location.download else "Give the folder that holds it, or add --download"
        raise LayoutError(f"{where}.", f"{fix}.") from error
    except OSError as error:  # no network, or a folder that cannot be made
        raise DataError(f"{where}, and it cannot be fetched ({error}).") from error
