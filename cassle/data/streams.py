"""Streams: ordered, finite or endless sources of samples with a position, read a chunk at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from cassle.data.orders import Order
from cassle.data.pixels import images_at


class Chunk(NamedTuple):
    """Consecutive samples of a stream; what did not decode is absent, so n may be below the count asked for.

    Attributes:
        positions: in the stream, (n,), int64, ascending.
        pixels: (n, 3, side, side), uint8; on the device of the source for data sets in memory, else on the host.
        targets: class ids, (n,), int64; -1 without a label.
        origins: the video, class or folder that each comes from, (n,), int64; -1 where unknown.
        skipped: what did not decode, as "name: reason", each name once.
    """

    positions: Tensor
    pixels: Tensor
    targets: Tensor
    origins: Tensor
    skipped: list[str]


class Stream:
    """An ordered source of samples with a position.

    ``read`` is a function of the position and of the seed alone, so a stream has no state to save: a resumed run reads
    on from any position. What a subclass keeps to read on quickly does not change what it returns, and does not grow
    with the position. One thread reads a stream at a time.

    Attributes:
        side: side of the images in pixels.
        length: number of positions; None for a stream without (known) end.
        bounds: positions at which a split or an epoch is through, where there are such.
        num_origins: number of videos, classes or folders that samples come from; None where unknown.
        origin_names: their names, by number; empty where they have none.
        may_end: whether it may be over before ``length``, or before where it is to stop.
        digest: of what it is made of, to notice that this has changed; empty where nobody can tell.
        skipped_at_start: files that are left out of the stream altogether, as "name: reason".
    """

    side: int
    length: int | None = None
    bounds: tuple[int, ...] = ()
    num_origins: int | None = None
    origin_names: Sequence[str] = ()
    skipped_at_start: Sequence[str] = ()
    may_end: bool = False
    digest: str = ""

    def read(self, start: int, count: int) -> Chunk:
        """Return the samples at stream positions [start, start + count), cut at the stream's length.

        Raises:
            ValueError: ``start`` or ``count`` is negative.
        """
        raise NotImplementedError


class IndexedStream(Stream):
    """A stream over samples that can be read by number, in an order that is a function of the position.

    Args:
        order: which sample comes when.
    """

    def __init__(self, order: Order) -> None:
        self.order, self.length, self.bounds = order, order.length, order.bounds

    def index(self, start: int, count: int) -> Tensor:
        """Return the numbers of the samples, (n,) int64, at stream positions [start, start + count)."""
        return self.order.index(start, count)


class ArrayStream(IndexedStream):
    """A data set in memory, in an order; in index mode ``index`` is read and nothing is copied.

    Args:
        pixels: (n, 3, side, side), uint8, on any device.
        targets: class ids, (n,), int64; -1 without a label. They are the origins too.
        order: which sample comes when (``cassle.data.orders``).
        classes: names of the classes.

    Raises:
        ValueError: pixels or targets of another shape or type.
    """

    def __init__(self, pixels: Tensor, targets: Tensor, order: Order, classes: Sequence[str] = ()) -> None:
        square = pixels.dim() == 4 and pixels.shape[1] == 3 and pixels.shape[2] == pixels.shape[3]
        if not square or pixels.dtype != torch.uint8 or targets.shape != pixels.shape[:1]:
            raise ValueError(
                f"pixels {tuple(pixels.shape)} {pixels.dtype}, targets {tuple(targets.shape)}: must be "
                "(n, 3, side, side) uint8 and (n,)."
            )
        super().__init__(order)
        self.pixels, self.targets, self.side = pixels, targets.cpu(), pixels.shape[-1]
        self.origin_names = tuple(classes)
        self.num_origins = len(classes) or int(self.targets.max()) + 1 or None

    def read(self, start: int, count: int) -> Chunk:
        """Return copies of the samples at stream positions [start, start + count), cut at the length."""
        index = self.index(start, count)
        positions, targets = torch.arange(start, start + len(index)), self.targets[index]
        return Chunk(positions, images_at(self.pixels, index.to(self.pixels.device)), targets, targets, [])


def shard(position: int, rank: int, world: int, batch: int) -> tuple[int, int]:
    """Return what one process reads of the global batch that begins at a position, as ``(start, count)``.

    The processes take consecutive chunks, so that together they read [position, position + world * batch): with
    ``position = t * world * batch`` the t-th global batch. A stream stays a stream for every number of processes.

    Raises:
        ValueError: a rank outside the world, or numbers that cannot be.
    """
    if position < 0 or batch < 1 or not 0 <= rank < world:
        raise ValueError(f"position={position}, rank={rank}, world={world}, batch={batch}: cannot be.")
    return position + rank * batch, batch


def gather(
    start: int,
    index: Sequence[int],
    make: Callable[[int, Tensor], str],
    *,
    side: int,
    num_workers: int,
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Make the images of a chunk in threads.

    Args:
        start: stream position of the first.
        index: numbers of the samples.
        make: writes image ``index[i]`` into (3, side, side) uint8, and returns why not, or an empty text.
        side: of the images.
        num_workers: threads.

    Returns:
        Positions and pixels of those that were made, which they are (a mask), and the reasons of the others.
    """
    pixels = torch.empty((len(index), 3, side, side), dtype=torch.uint8)
    with ThreadPoolExecutor(max(num_workers, 1)) as pool:
        reasons = list(pool.map(make, index, pixels))
    good = torch.tensor([not reason for reason in reasons], dtype=torch.bool)
    positions = torch.arange(start, start + len(index))
    bad = [reason for reason in reasons if reason]
    return positions[good], pixels if not bad else pixels[good], good, once(bad)


def once(texts: Iterable[str]) -> list[str]:
    """Return every text once, in the order of their first appearance."""
    return list(dict.fromkeys(texts))


def digest_of(parts: Iterable[str]) -> str:
    """Return a SHA-256 of texts, e.g. of the names of files."""
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{part}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
