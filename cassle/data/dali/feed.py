"""What a DALI pipeline is fed with, batch after batch: file names, and where each view is cut."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cassle.data.parameters import ViewParameters, draw
from cassle.data.pixels import refuse
from cassle.data.resident import ResidentLoader
from cassle.data.source import UNDECODABLE


class Sizes:
    """Height and width of image files in pixels, read from their headers when they are needed for the first time.

    A box is drawn before its image is decoded, so that the pipeline needs no second pass; a header takes some 50 µs,
    once in a task.

    Args:
        paths: the files.
        threads: threads that read headers.
    """

    def __init__(self, paths: Sequence[Path], threads: int) -> None:
        self.paths, self.threads = paths, threads
        self._known = torch.zeros(len(paths), 2, dtype=torch.int32)  # 0 = not read yet

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return (batch, 2), int64: height and width of the files at ``index`` (batch,).

        Raises:
            DataError: a file is not an image; all of them are named.
        """
        sizes = self._known[index]
        new = (sizes[:, 0] == 0).nonzero().flatten()
        if len(new):
            positions = index[new].tolist()
            with ThreadPoolExecutor(self.threads) as pool:
                read = list(pool.map(_size, [self.paths[i] for i in positions]))
            refuse([self.paths[i] for i in positions], [size if isinstance(size, str) else "" for size in read])
            sizes[new] = torch.tensor(read, dtype=torch.int32)
            self._known[index] = sizes
        return sizes.long()


def _size(path: Path) -> tuple[int, int] | str:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UNDECODABLE as error:
        return str(error) or type(error).__name__


class Planned(NamedTuple):
    """A batch that the pipeline works on: its step, positions (batch,) and what happens to each of its views."""

    step: int
    index: Tensor
    views: list[ViewParameters]


class Feed:
    """The source of a pipeline: plans the batches from a position on, epoch after epoch.

    What it draws is a function of (seed, task, step, view, rank), as in the resident engine, so that a pipeline that
    begins in the middle makes what one from the start would have made, however far that had worked ahead.

    Args:
        order: a loader that stands at the first batch; it is used up.
        sizes: of all files.

    Attributes:
        planned: the batches that were given to the pipeline and not taken from it, the oldest first.
    """

    def __init__(self, order: ResidentLoader, sizes: Sizes) -> None:
        self.order, self.sizes = order, sizes
        self.planned: deque[Planned] = deque()
        self._batches = self._plans()

    def __call__(self) -> list:
        """Return the next batch as the pipeline takes it, see :func:`cassle.data.dali.pipeline.build`."""
        plan = next(self._batches)
        paths = [np.frombuffer(os.fsencode(self.sizes.paths[i]), np.uint8) for i in plan.index.tolist()]
        boxes = [box for params in plan.views for box in _crop(params)]
        self.planned.append(plan)
        return [paths, *boxes]

    def _plans(self) -> Iterator[Planned]:
        order, maker = self.order, self.order.maker
        while True:
            for index in order.rest_of_epoch():
                sizes = self.sizes[index]
                yield Planned(order.step, index, [
                    draw(recipe, len(index), *sizes.unbind(1), maker.draws("augment", order.step, view, order.rank))
                    for view, recipe in enumerate(maker.recipes)
                ])  # fmt: skip
                order.step += 1


def _crop(params: ViewParameters) -> list[np.ndarray]:
    """Return anchor and shape of the crops, and start and end of what is resized in them: reversed to flip."""
    anchor = torch.stack([params.top, params.left], dim=1)
    shape = torch.stack([params.height, params.width], dim=1)
    start = shape * torch.stack([torch.zeros_like(params.flip), params.flip], dim=1)
    return [tensor.float().numpy() for tensor in (anchor, shape, start, shape - start)]
