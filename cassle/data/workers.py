"""The worker engine: processes decode, cut and resize every image by itself; the rest of a view is made in batches."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from multiprocessing import forkserver
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cassle.data.augment import finish
from cassle.data.batch import Batch
from cassle.data.parameters import ViewParameters, draw
from cassle.data.paths import texts_of
from cassle.data.pixels import FilePixels, refuse
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.source import UNDECODABLE, rgb
from cassle.errors import CassleError
from cassle.randomness import generator

BATCHES_AHEAD = 4  # of each worker
AT_ONCE, A_THREAD = 16, 4  # images that are decoded before they are cut: by a worker, and by a thread of this process
#: Processes are forked out of one that has imported these modules and done nothing else. Out of this one, which has
#: threads, they would now and then begin with a lock that is never let go, and wait for ever.
CLEAN = multiprocessing.get_context("forkserver")
IMPORTED = [__name__]


class Crops(NamedTuple):
    """The views of a batch, before they are coloured; nothing but the reasons if a file does not decode.

    Attributes:
        pixels: per view (batch, 3, size, size), uint8.
        rest: per view what is still to be done, the columns of ``ViewParameters``.
        reasons: per sample why its file does not decode; mostly empty.
    """

    pixels: list[Tensor]
    rest: list[dict[str, Tensor]]
    reasons: list[str]

    @classmethod
    def joined(cls, parts: Sequence[Crops]) -> Crops:
        """Return the samples of all parts."""
        reasons = [reason for part in parts for reason in part.reasons]
        if any(reasons):
            return cls([], [], reasons)
        views = list(zip(*(part.rest for part in parts), strict=True))
        rest = [{name: torch.cat([one[name] for one in view]) for name in view[0]} for view in views]
        pixels = [torch.cat(view) for view in zip(*(part.pixels for part in parts), strict=True)]
        return cls(pixels, rest, reasons)


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

    def __getitems__(self, samples: Sequence[tuple[str, int, int]]) -> Crops:
        """Return the views of a batch of (path, position, epoch)."""
        paths, drawn_by = [path for path, _, _ in samples], [(epoch, position) for _, position, epoch in samples]
        parts = [slice(start, start + AT_ONCE) for start in range(0, len(samples), AT_ONCE)]
        return Crops.joined([self.views(paths[part], "augment", drawn_by[part]) for part in parts])

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
            rest.append(vars(drawn))
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


def _as_it_is(crops: Crops) -> Crops:
    return crops


class Epochs(Sampler):
    """The batches of the rest of an epoch, as the loader stands when it is asked: lists of (path, position, epoch)."""

    def __init__(self, loader: WorkerLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[tuple[str, int, int]]]:
        epoch = self.loader.step // len(self.loader)
        for index in self.loader.rest_of_epoch():
            yield [(self.loader.paths[position], position, epoch) for position in index.tolist()]


class WorkerLoader(ResidentLoader):
    """Batches of one task from image files, as :class:`ResidentLoader` makes them from memory.

    Which images a batch has is the same as there. Their crops are drawn by (seed, task, epoch, position, view), so they
    do not depend on the number of workers, and the state is the position alone: what workers had made when a run was
    killed is made again.

    Args:
        pixels: the training set; what replays is decoded by threads of this process.
        targets: its class ids, (n,), int64.
        members: positions of the task's samples, (m,), int64.
        recipes: one recipe per view.
        num_workers: processes; 0: this one.
        device: where batches go.
        settings: of :class:`ResidentLoader`.
    """

    pixels: FilePixels

    def __init__(
        self,
        pixels: FilePixels,
        targets: Tensor,
        members: Tensor,
        recipes: Sequence[Recipe],
        *,
        num_workers: int,
        device: torch.device | str = "cpu",
        **settings,
    ) -> None:
        super().__init__(pixels, targets, members, recipes, **settings)
        self.num_workers, self.device, self.paths = num_workers, torch.device(device), texts_of(pixels.paths)
        self.decoder = Decoder(recipes, seed=self.seed, task=self.task)
        if num_workers:
            CLEAN.set_forkserver_preload(IMPORTED)
            forkserver.ensure_running()  # it imports torch meanwhile

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, or the next epoch when the current one is through."""
        indices = list(self.rest_of_epoch())
        with _no_main_script():
            batches = iter(self._crops)
        for index in indices:
            try:
                made = next(batches)
            except RuntimeError as error:
                raise CassleError(
                    f"--engine workers: a process that decodes images has ended ({error}). If the machine has run out "
                    "of memory, give fewer --num_workers. The same command continues the run."
                ) from error
            self.step += 1
            yield self._finished(index, *made)

    @cached_property
    def _crops(self) -> DataLoader:
        several = self.num_workers > 0
        return DataLoader(
            self.decoder, batch_sampler=Epochs(self), num_workers=self.num_workers, collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda", persistent_workers=several,
            prefetch_factor=BATCHES_AHEAD if several else None, worker_init_fn=_one_thread if several else None,
            multiprocessing_context=CLEAN if several else None,
        )  # fmt: skip

    def close(self) -> None:
        """Stop the processes; the task is over."""
        crops = self.__dict__.pop("_crops", None)
        if crops is not None and crops._iterator is not None:
            crops._iterator._shutdown_workers()  # else they end when Python collects garbage, and hold what they have

    def _finished(self, index: Tensor, crops: list[Tensor], rest: list[dict[str, Tensor]], reasons: list[str]) -> Batch:
        refuse([self.paths[position] for position in index.tolist()], reasons)
        index = index.to(self.device, non_blocking=True)
        return Batch(index, self._views(crops, rest), self.targets[index], self.num_large)

    def _views(self, crops: list[Tensor], rest: list[dict[str, Tensor]]) -> list[Tensor]:
        return [
            finish(pixels.to(self.device, non_blocking=True), ViewParameters(**drawn), recipe)
            for pixels, drawn, recipe in zip(crops, rest, self.maker.recipes, strict=True)
        ]

    def views_of(self, index: Tensor, purpose: str, pixels: Tensor | None = None) -> list[Tensor]:
        """Return freshly drawn views of any training images, for the batch that is being trained on."""
        if pixels is not None:
            return super().views_of(index, purpose, pixels)
        step, paths = self.step - 1, [self.paths[position] for position in index.tolist()]

        def of(start: int) -> Crops:
            rows = range(start, min(start + A_THREAD, len(paths)))
            return self.decoder.views([paths[row] for row in rows], purpose, [(step, row, self.rank) for row in rows])

        crops, rest, reasons = Crops.joined(list(self._threads.map(of, range(0, len(paths), A_THREAD))))
        refuse(paths, reasons)
        return self._views(crops, rest)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(self.num_workers, 1))


@contextmanager
def _no_main_script() -> Iterator[None]:
    """Let processes that are started not read the main script: it may be one that begins a run when it is read."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)  # the processes are the parallelism
