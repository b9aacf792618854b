"""The pixels of a data set that does not fit in memory: decoded whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from cassle.data.source import decode
from cassle.errors import DataError


class FilePixels:
    """Image files that are read like a tensor (n, 3, side, side) of uint8: by a slice, positions or a mask.

    What comes back lies on ``device``. Slices that follow each other are read ahead, one of the same length.

    Args:
        paths: one file per image.
        side: side in pixels to which images are cut (the shorter side is resized, the centre is kept).
        workers: threads that decode.
        device: where what is read goes.
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[Path], side: int, workers: int, device: torch.device | str = "cpu") -> None:
        self.paths, self.side, self.workers, self.device = paths, side, max(workers, 1), torch.device(device)
        self._ahead: tuple[slice, Future[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """The shape of all of them."""
        return torch.Size((len(self.paths), 3, self.side, self.side))

    def dim(self) -> int:
        """Return 4."""
        return 4

    def to(self, device: torch.device | str) -> FilePixels:
        """Return the same images, for ``device``."""
        return FilePixels(self.paths, self.side, self.workers, device)

    def __getitem__(self, which: slice | Tensor) -> Tensor | FilePixels:
        """Return images; of a mask, the lazily read subset.

        Raises:
            DataError: a file does not decode.
        """
        if isinstance(which, Tensor) and which.dtype == torch.bool:
            kept = which.nonzero().flatten().tolist()
            return FilePixels([self.paths[i] for i in kept], self.side, self.workers, self.device)
        if isinstance(which, Tensor):
            return self._read([self.paths[i] for i in which.tolist()]).to(self.device, non_blocking=True)
        start, stop, _ = which.indices(len(self))
        if self._ahead is not None and self._ahead[0] == slice(start, stop):
            pixels = self._ahead[1].result()
        else:
            pixels = self._read(self.paths[start:stop])
        following = slice(stop, min(2 * stop - start, len(self)))
        self._ahead = (following, self._reader.submit(self._read, self.paths[following])) if stop < len(self) else None
        return pixels.to(self.device, non_blocking=True)

    def request(self, index: Tensor) -> Callable[[], Tensor]:
        """Begin to read the images at ``index`` (batch,), int64 on the CPU; what is returned waits for them."""
        coming = self._reader.submit(self._read, [self.paths[i] for i in index.tolist()])
        return lambda: coming.result().to(self.device, non_blocking=True)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers)

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _read(self, paths: Sequence[Path]) -> Tensor:
        pinned = self.device.type == "cuda"
        with torch.inference_mode(False):  # other threads write to it
            pixels = torch.empty((len(paths), 3, self.side, self.side), dtype=torch.uint8, pin_memory=pinned)
        reasons = list(self._pool.map(lambda i: decode(paths[i], pixels[i], self.side), range(len(paths))))
        refuse(paths, reasons)
        return pixels


def part_of(pixels: Tensor | FilePixels, start: int, stop: int) -> Tensor | FilePixels:
    """Return the images from ``start`` to before ``stop``; files are not read by that."""
    if isinstance(pixels, FilePixels):
        return FilePixels(pixels.paths[start:stop], pixels.side, pixels.workers, pixels.device)
    return pixels[start:stop]


def images_at(pixels: Tensor | FilePixels, index: Tensor) -> Tensor:
    """Return the images at ``index`` (batch,), int64 on their device: (batch, 3, side, side), uint8."""
    # pixels[index] of a tensor takes byte after byte; this takes whole images (several times faster on a CPU).
    return pixels.index_select(0, index) if isinstance(pixels, Tensor) else pixels[index]


def request(pixels: Tensor | FilePixels, index: Tensor) -> Callable[[], Tensor]:
    """Return what gives the images at ``index`` (batch,), int64 on the CPU; files are read from now on, in a thread."""
    if isinstance(pixels, FilePixels):
        return pixels.request(index)
    return lambda: images_at(pixels, index.to(pixels.device, non_blocking=True))


def content_of(pixels: Tensor | FilePixels) -> Iterator[bytes]:
    """Yield what a data set is recognised by: its pixels; of files their names and sizes."""
    if isinstance(pixels, Tensor):
        yield pixels.numpy()
        return
    for path in pixels.paths:
        yield f"{path.parent.name}/{path.name}:{path.stat().st_size}\n".encode(errors="surrogateescape")


def refuse(paths: Sequence[Path], reasons: Sequence[str]) -> None:
    """Raise what a run ends with that finds a damaged file while it trains or evaluates.

    Raises:
        DataError: one of the reasons is not empty.
    """
    bad = [f"{path}: {reason}" for path, reason in zip(paths, reasons, strict=True) if reason]
    if bad:
        listed = "\n  ".join(bad[:5])
        raise DataError(
            f"{len(bad)} images do not decode:\n  {listed}\nBring them back and the same command goes on. Or leave "
            "them out: python -m cassle verify DIR puts such files into quarantine; then start anew with --overwrite."
        )
