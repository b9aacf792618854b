"""The worker engine: processes decode, cut and resize every image by itself; the rest of a view is made in batches."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from multiprocessing import forkserver

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from cassle.data.batch import Batch
from cassle.data.decoding import Crops, as_it_is, prepare
from cassle.data.pixels import FilePixels, refuse
from cassle.data.recipe import Recipe
from cassle.data.whole_files import FileLoader
from cassle.errors import CassleError

BATCHES_AHEAD = 4  # of each worker
#: Processes are forked out of one that has imported these modules and done nothing else. Out of this one, which has
#: threads, they would now and then begin with a lock that is never let go, and wait for ever.
CLEAN = multiprocessing.get_context("forkserver")
IMPORTED = ["cassle.data.decoding_server"]


class Epochs(Sampler):
    """The batches of the rest of an epoch, as the loader stands when it is asked: lists of (path, position, epoch)."""

    def __init__(self, loader: WorkerLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[tuple[str, int, int]]]:
        epoch = self.loader.step // len(self.loader)
        for index in self.loader.rest_of_epoch():
            yield [(self.loader.paths[position], position, epoch) for position in index.tolist()]


class WorkerLoader(FileLoader):
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
        super().__init__(pixels.paths, pixels, targets, members, recipes, threads=num_workers, **settings)
        self.num_workers, self.device = num_workers, torch.device(device)
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
                parcel = next(batches)
            except RuntimeError as error:
                raise CassleError(
                    f"--engine workers: a process that decodes images has ended ({error}). If the machine has run out "
                    "of memory, or a container of /dev/shm (docker: --shm-size), give fewer --num_workers. The same "
                    "command continues the run."
                ) from error
            self.step += 1
            yield self._finished(index, parcel.opened(self.maker.recipes))

    @cached_property
    def _crops(self) -> DataLoader:
        several = self.num_workers > 0
        return DataLoader(
            self.decoder, batch_sampler=Epochs(self), num_workers=self.num_workers, collate_fn=as_it_is,
            pin_memory=self.device.type == "cuda", persistent_workers=several,
            prefetch_factor=BATCHES_AHEAD if several else None, worker_init_fn=prepare if several else None,
            multiprocessing_context=CLEAN if several else None,
        )  # fmt: skip

    def close(self) -> None:
        """Stop the processes; the task is over."""
        crops = self.__dict__.pop("_crops", None)
        if crops is not None and crops._iterator is not None:
            crops._iterator._shutdown_workers()  # else they end when Python collects garbage, and hold what they have

    def _finished(self, index: Tensor, crops: Crops) -> Batch:
        refuse([self.paths[position] for position in index.tolist()], crops.reasons)
        index = index.to(self.device, non_blocking=True)
        return Batch(index, self._views(crops), self.targets[index], self.num_large)


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
