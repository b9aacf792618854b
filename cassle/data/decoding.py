"""What a process of the worker engine does: decode files, cut and resize every view of them, and send it home."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cassle.data.parameters import ViewParameters, draw
from cassle.data.recipe import Recipe
from cassle.data.source import UNDECODABLE, rgb
from cassle.randomness import generator

AT_ONCE = 16  # images that are decoded before they are cut


class Crops(NamedTuple):
    """The views of a batch, before they are coloured; nothing but the reasons if a file does not decode.

    Attributes:
        pixels: per view (batch, 3, size, size), uint8.
        rest: per view what is still to be done.
        reasons: per sample why its file does not decode; mostly empty.
    """

    pixels: list[Tensor]
    rest: list[ViewParameters]
    reasons: list[str]

    @classmethod
    def joined(cls, parts: Sequence[Crops]) -> Crops:
        """Return the samples of all parts."""
        reasons = [reason for part in parts for reason in part.reasons]
        if any(reasons):
            return cls([], [], reasons)
        pixels = [torch.cat(view) for view in zip(*(part.pixels for part in parts), strict=True)]
        rest = []
        for view in zip(*(part.rest for part in parts), strict=True):
            rest.append(
                ViewParameters(**{name: torch.cat([vars(one)[name] for one in view]) for name in vars(view[0])})
            )
        return cls(pixels, rest, reasons)


class Parcel(NamedTuple):
    """Crops on their way between processes: every tensor would take a file descriptor, so there is one.

    Attributes:
        pixels: of all views, one after the other, flat, uint8.
        rest: per view the columns of ``ViewParameters``.
        reasons: as in :class:`Crops`.
    """

    pixels: Tensor
    rest: list[dict[str, np.ndarray]]
    reasons: list[str]

    @classmethod
    def of(cls, crops: Crops) -> Parcel:
        """Return what is sent."""
        flat = torch.cat([view.flatten() for view in crops.pixels] or [torch.empty(0, dtype=torch.uint8)])
        rest = [{name: column.numpy() for name, column in vars(view).items()} for view in crops.rest]
        return cls(flat, rest, crops.reasons)

    def opened(self, recipes: Sequence[Recipe]) -> Crops:
        """Return the crops; views of the pixels that came."""
        if not self.rest:
            return Crops([], [], self.reasons)
        shapes = [(len(self.reasons), 3, recipe.size, recipe.size) for recipe in recipes]
        parts = self.pixels.split([torch.Size(shape).numel() for shape in shapes])
        rest = [
            ViewParameters(**{name: torch.from_numpy(column) for name, column in view.items()}) for view in self.rest
        ]
        return Crops([part.view(shape) for part, shape in zip(parts, shapes, strict=True)], rest, self.reasons)


class Decoder(Dataset):
    """Files to crops: the boxes and all that is done later are drawn by (seed, purpose, coordinates, view).

    It knows no files: a path comes with each sample, so that a process which is started gets nothing large.

    Args:
        recipes: one per view.
        seed: seed of the run.
        task: index of the task.
    """

    def __init__(self, recipes: Sequence[Recipe], *, seed: int, task: int) -> None:
        self.recipes, self.seed, self.task = tuple(recipes), seed, task

    def __getitems__(self, samples: Sequence[tuple[str, int, int]]) -> Parcel:
        """Return the views of a batch of (path, position, epoch)."""
        paths, drawn_by = [path for path, _, _ in samples], [(epoch, position) for _, position, epoch in samples]
        parts = [slice(start, start + AT_ONCE) for start in range(0, len(samples), AT_ONCE)]
        return Parcel.of(Crops.joined([self.views(paths[part], "augment", drawn_by[part]) for part in parts]))

    def views(self, paths: Sequence[str], purpose: str, coordinates: Sequence[tuple[int, ...]]) -> Crops:
        """Return one crop per recipe of a few images, or why files do not decode."""
        images, reasons = zip(*map(_opened, paths), strict=True)
        if any(reasons):
            return Crops([], [], list(reasons))
        heights, widths = torch.tensor([[image.height, image.width] for image in images]).unbind(1)
        pixels, rest = [], []
        for view, recipe in enumerate(self.recipes):
            draws = [generator(self.seed, purpose, self.task, *place, view) for place in coordinates]
            drawn = draw(recipe, len(images), heights, widths, draws)
            boxes = torch.stack([drawn.left, drawn.top, drawn.width, drawn.height, drawn.flip], dim=1).tolist()
            pixels.append(torch.stack([cut(*of, recipe.size) for of in zip(images, boxes, strict=True)]))
            rest.append(drawn)
        return Crops(pixels, rest, list(reasons))


def _opened(path: str) -> tuple[Image.Image | None, str]:
    try:
        with Image.open(path) as file:
            return rgb(file), ""
    except UNDECODABLE as error:
        return None, str(error) or type(error).__name__


def cut(image: Image.Image, box: Sequence[int], size: int) -> Tensor:
    """Return a box (left, top, width, height, flip) of an image, resized to (3, size, size), maybe flipped, uint8."""
    left, top, width, height, flip = box
    # Two calls fix the order of the two passes, which depends on the version of Pillow (benchmarks/pillow_oracle.py).
    cropped = image.crop((left, top, left + width, top + height)).resize((size, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(cropped.resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy((pixels[:, ::-1] if flip else pixels).transpose(2, 0, 1).copy())


def as_it_is(parcel: Parcel) -> Parcel:
    """Return what the decoder has made: it makes whole batches."""
    return parcel


def prepare(worker: int) -> None:
    """Make a process one that only works for others: it ends with them, and not by signals that are meant for them."""
    torch.set_num_threads(1)  # the processes are the parallelism
    for number in (signal.SIGTERM, signal.SIGINT):  # a job's end is sent to all; the run saves first, and stops these
        signal.signal(number, signal.SIG_IGN)
    # Its parent is the server, which lives as long as any process does; so it watches the run itself.
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
