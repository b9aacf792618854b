"""Where images come from: an index first (labels, paths, counts), pixels only when they are needed."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from cassle.data.inspection import too_deep
from cassle.data.paths import take
from cassle.errors import DataError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
MAX_DAMAGED = 0.01  # share of undecodable images above which a data set is refused
CHUNK = 256  # images that are moved at a time
BORDER = 8 / 7  # stored side over training side of large images: the usual 256 for 224
UNDECODABLE = (
    OSError,
    UnidentifiedImageError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
)  # what PIL raises


@dataclass(frozen=True)
class Images:
    """Pixels and labels of one part (train or val) of a data set.

    Attributes:
        pixels: (n, 3, side, side), uint8.
        targets: class ids (n,), int64; -1 without a label.
        domains: domain ids (n,), int64; zeros without domains.
        skipped: images that did not decode, as "path: reason".
        quarantined: images that ``python -m cassle verify`` has put into quarantine, likewise.
        left_out: images that decode, but are of a kind that the engine does not read.
    """

    pixels: Tensor
    targets: Tensor
    domains: Tensor
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ArraySource:
    """A part that is already in memory: pixels (n, 3, side, side) uint8, targets and domains (n,) int64."""

    pixels: Tensor
    targets: Tensor
    domains: Tensor

    def side(self, size: int) -> int:
        """Return the side (pixels) at which images are stored."""
        return self.pixels.shape[-1]

    def load(self, side: int, workers: int) -> Images:
        """Return the pixels; ``side`` is the arrays' own."""
        return Images(self.pixels, self.targets, self.domains)


@dataclass(frozen=True)
class FileSource:
    """A part that lies in image files: one path, class id (-1 without a label) and domain id per image."""

    paths: Sequence[Path]
    targets: Tensor
    domains: Tensor

    def side(self, size: int) -> int:
        """Return the side at which to store images trained at ``size``: 8/7 of it, or the typical shorter side.

        It is the smaller of the two, for all images. The typical shorter side is the median over up to 64 files, evenly
        spread; a file below it is magnified to it when it is stored.
        """
        step = max(len(self.paths) // 64, 1)
        shorter = []
        for path in self.paths[::step]:
            try:
                with Image.open(path) as image:
                    shorter.append(min(image.size))
            except UNDECODABLE:
                continue  # counted and reported when the pixels are loaded
        return min(round(size * BORDER), round(statistics.median(shorter))) if shorter else size

    def only(self, positions: Sequence[int]) -> FileSource:
        """Return the part that has these files only."""
        index = torch.as_tensor(positions, dtype=torch.int64)
        return FileSource(take(self.paths, positions), self.targets[index], self.domains[index])

    def without(self, positions: Collection[int]) -> FileSource:
        """Return the part that lacks these files."""
        return self.only([i for i in range(len(self.paths)) if i not in positions]) if positions else self

    def load(self, side: int, workers: int) -> Images:
        """Decode every file once to ``side`` × ``side``: the shorter side is resized, the centre is kept.

        Raises:
            DataError: more than 1 % of the files do not decode.
        """
        pixels = torch.empty((len(self.paths), 3, side, side), dtype=torch.uint8)
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            reasons = list(pool.map(lambda i: decode(self.paths[i], pixels[i], side), range(len(self.paths))))
        skipped = [f"{path}: {reason}" for path, reason in zip(self.paths, reasons, strict=True) if reason]
        refuse_damage(skipped, len(self.paths))
        if not skipped:
            return Images(pixels, self.targets, self.domains)
        good = torch.tensor([not reason for reason in reasons]).nonzero().flatten()
        return Images(moved_up(pixels, good), self.targets[good], self.domains[good], skipped)


Source = ArraySource | FileSource


def refuse_damage(skipped: Sequence[str], number: int) -> None:
    """Refuse a data set of ``number`` images of which too many do not decode, named as "path: reason".

    Raises:
        DataError: more than 1 % of them, or there is none.
    """
    if not number:
        raise DataError("No image is left: all of them are in quarantine (python -m cassle verify). Check --data_dir.")
    if len(skipped) > MAX_DAMAGED * number:
        first = "\n  ".join(skipped[:5])
        raise DataError(
            f"{len(skipped)} of {number} images do not decode, more than {MAX_DAMAGED:.0%}:\n  {first}\n"
            "Repair or remove them, or check --data_dir. To go without them: python -m cassle verify DIR puts them "
            "into quarantine, and runs leave out what is there."
        )


def moved_up(pixels: Tensor, good: Tensor) -> Tensor:
    """Return the rows at ``good`` (ascending), moved to the front of ``pixels`` itself: a copy might not fit."""
    for start in range(0, len(good), CHUNK):
        rows = good[start : start + CHUNK]  # none lies before its new place, nor do any later ones
        if rows[-1] != start + len(rows) - 1:
            pixels[start : start + len(rows)] = pixels[rows]
    return pixels[: len(good)]


def decode(path: str | Path, out: Tensor, side: int) -> str:
    """Decode a file into ``out`` (3, side, side), uint8; return why not, or an empty text."""
    try:
        with Image.open(path) as image:
            stored = _stored(image.size, side)
            image.draft("RGB", stored)  # JPEG: decode at the smallest sufficient scale; it changes image.size
            out.copy_(_cut(image, stored, side))
    except UNDECODABLE as error:
        return str(error) or type(error).__name__
    return ""


def squared(image: Image.Image, side: int) -> Tensor:
    """Return an image as (3, side, side), uint8: the shorter side is resized to ``side``, the centre is kept.

    Raises:
        OSError: or another of ``UNDECODABLE``: a file that was opened but not read, and does not decode.
    """
    return _cut(image, _stored(image.size, side), side)


def _stored(size: tuple[int, int], side: int) -> tuple[int, int]:
    shorter = min(size)
    return side * size[0] // shorter, side * size[1] // shorter  # rounded down, as torchvision's Resize does


def rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB; one with more than 8 bits of gray would become white, and is refused.

    Raises:
        ValueError: it has them.
        OSError: or another of ``UNDECODABLE``: a file that was opened but not read, and does not decode.
    """
    if reason := too_deep(image):
        raise ValueError(reason)
    return image.convert("RGB")


def _cut(image: Image.Image, stored: tuple[int, int], side: int) -> Tensor:
    image = rgb(image).resize(stored, Image.Resampling.BICUBIC)
    left, top = round((stored[0] - side) / 2), round((stored[1] - side) / 2)  # as its CenterCrop
    image = image.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
