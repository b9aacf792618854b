"""A stream of images that Python code hands in, one after the other: a camera, a queue, a generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cassle.checks import Count, out_of_range
from cassle.data.source import UNDECODABLE, squared
from cassle.data.streams import Chunk, Stream
from cassle.errors import ConfigError, DataError

#: what an item may be, in words
ITEMS = "a PIL image, or a uint8 array or tensor (height, width, 3), (3, height, width) or (height, width)"
#: what images can be handed in as: ``open(position)``, which returns an iterator from there on, or an iterable
Source = Callable[[int], Iterable[Any]] | Iterable[Any]


def source_problem(source: Any) -> str | None:
    """Return why images cannot be read from ``source``, in one sentence; None if they can, as far as its looks tell."""
    if not _opens(source):
        if isinstance(source, Iterable):
            return None
        return f"images {type(source).__name__}: must be an iterable of images, or open(position)."
    try:
        inspect.signature(source).bind(0)
    except TypeError:
        name = getattr(source, "__name__", type(source).__name__)
        return (
            f"images {name}{inspect.signature(source)}: must take one argument, the position of the image to begin "
            f"with; or give what it returns, {name}(), which cannot go back."
        )
    except ValueError:  # written in C: it does not tell what it takes
        return None
    return None


def _opens(source: Any) -> bool:
    return callable(source) and not isinstance(source, Iterator)


class IteratorStream(Stream):
    """Images from an iterator; an item is an image or ``(image, label)``, an image one of ``ITEMS``.

    ``source`` is a function ``open(position)``, which returns an iterator whose first item is the one at that position:
    then every position can be read, at the cost of an ``open`` wherever the reading does not go on from the last one.
    Or it is an iterable, like a camera, that cannot go back: it must be read without gaps. Only the first read of a
    process may be at any position, that of a run which continues: it takes what comes next from the iterable. With
    several processes give ``open``, as the parts of the others lie between the chunks of one.

    A PIL image that was opened but not read, and does not decode, is skipped by its file name. An iterator that ends
    gives a chunk that is cut there, and from then on ``length`` is known. There are no origins.

    Args:
        source: ``open(position) -> iterator``, or an iterable of images.
        side: side in pixels to which images are cut (the shorter side is resized, the centre is kept).
        length: number of positions, if it is known; what the iterator has beyond is not read.

    Raises:
        ConfigError: a number out of its range, or a source that is neither; of a function, one that takes no position.
    """

    may_end = True

    def __init__(
        self,
        source: Source,
        *,
        side: Count,
        length: Count | None = None,
    ) -> None:
        problems = [*out_of_range(IteratorStream, locals()).values()]
        if problem := source_problem(source):
            problems.append(problem)
        if problems:
            raise ConfigError(problems)
        self._open = source if _opens(source) else None
        self._items: Iterator[Any] | None = None if self._open else iter(source)
        self._next: int | None = None  # the position of the iterator's next item; None before the first read
        self.side, self.length = side, length

    def read(self, start: int, count: int) -> Chunk:
        """Return the next ``count`` images, which have the stream positions from ``start`` on.

        Raises:
            ValueError: ``start`` or ``count`` is negative.
            DataError: an iterable is to be read at another position than its next, or an item is no image.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start={start}, count={count}: must be at least 0.")
        stop = start + count if self.length is None else min(start + count, self.length)
        rows, skipped = [], []
        if start < stop:
            self._go_to(start)
        for position in range(start, stop):
            try:
                item = next(self._items)
            except StopIteration:
                self.length = position
                break
            self._next = position + 1
            image, label = item if isinstance(item, tuple) else (item, -1)
            try:
                rows.append((position, self._pixels(image, position), int(label)))
            except UNDECODABLE as error:
                name = getattr(image, "filename", "") or f"item {position}"
                skipped.append(f"{name}: {str(error) or type(error).__name__}")
        positions, pixels, labels = zip(*rows, strict=True) if rows else ((), (), ())
        stacked = torch.stack(pixels) if rows else torch.empty((0, 3, self.side, self.side), dtype=torch.uint8)
        whole = [torch.tensor(numbers, dtype=torch.int64) for numbers in (positions, labels)]
        return Chunk(whole[0], stacked, whole[1], torch.full_like(whole[0], -1), skipped)

    def _go_to(self, start: int) -> None:
        if self._next == start:
            return
        if self._open is not None:
            self._items = iter(self._open(start))
        elif self._next is not None:
            raise DataError(
                f"position {start} of an image iterator that stands at {self._next}: it cannot go there. Hand in a "
                "function open(position) that returns an iterator from there on."
            )
        self._next = start

    def _pixels(self, image: Any, position: int) -> Tensor:
        """Return an item as (3, side, side), uint8.

        Raises:
            DataError: it is no image.
        """
        if isinstance(image, Image.Image):
            return squared(image, self.side)
        values = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
        if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or 0 in values.shape:
            raise DataError(f"item {position} of the iterator is {_described(image)}; must be {ITEMS}.")
        if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] == 3:
            values = values.transpose(1, 2, 0)
        if values.ndim != 2 and (values.ndim != 3 or values.shape[2] != 3):
            raise DataError(f"item {position} of the iterator is {_described(image)}; must be {ITEMS}.")
        return squared(Image.fromarray(np.ascontiguousarray(values)), self.side)


def _described(item: Any) -> str:
    kind = type(item).__name__
    return f"{kind} {tuple(item.shape)} {item.dtype}" if isinstance(item, Tensor | np.ndarray) else kind
