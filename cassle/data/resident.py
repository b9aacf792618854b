"""The resident engine: the data set lies on the device as uint8 and views are made there, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cassle.data.batch import Batch
from cassle.data.pixels import images_at
from cassle.data.recipe import Recipe
from cassle.data.views import ViewMaker
from cassle.errors import ConfigError
from cassle.randomness import generator


class ResidentLoader:
    """Batches of one task: shuffled every epoch, incomplete last batch dropped, resumable at any batch.

    The order of an epoch and the augmentation of a step are functions of (seed, task, epoch or step), so the state is
    the position alone. With several processes, each takes its consecutive part of every global batch.

    Args:
        pixels: the whole training set, (n, 3, h, w), uint8.
        targets: its class ids, (n,), int64.
        members: positions of the task's samples, (m,), int64.
        recipes: one recipe per view.
        batch_size: images per process.
        seed: seed of the run.
        task: index of the task.
        rank: this process.
        world_size: number of processes.
        views_later: leave the views out of the batches; :meth:`with_views` makes them.

    Raises:
        ConfigError: the task has fewer images than one global batch.
    """

    def __init__(
        self,
        pixels: Tensor,
        targets: Tensor,
        members: Tensor,
        recipes: Sequence[Recipe],
        *,
        batch_size: int,
        seed: int,
        task: int,
        rank: int = 0,
        world_size: int = 1,
        views_later: bool = False,
    ) -> None:
        if len(members) < batch_size * world_size:
            total = f"{batch_size} x {world_size} processes" if world_size > 1 else str(batch_size)
            raise ConfigError(
                f"--batch_size {total}: task {task} has only {len(members)} images; use --batch_size "
                f"{len(members) // world_size} or less."
            )
        self.pixels, self.targets, self.members = pixels, targets, members
        self.maker = ViewMaker(recipes, seed=seed, task=task)
        self.num_large = self.maker.num_large
        self.batch_size, self.seed, self.task = batch_size, seed, task
        self.rank, self.world_size, self.views_later = rank, world_size, views_later
        self.step = 0  # the batch that comes next, counted from the start of the task

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return len(self.members) // (self.batch_size * self.world_size)

    def deal(self, rank: int, world_size: int) -> None:
        """Take the part of process ``rank`` of each batch of ``world_size`` processes."""
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, or the next epoch when the current one is through."""
        for index in self.rest_of_epoch():
            step = self.step
            self.step += 1  # before the yield: a state saved while the batch is being trained on continues after it
            yield self._make(step, index)

    def rest_of_epoch(self) -> Iterator[Tensor]:
        """Yield the positions of the batches to come in the current epoch, or of the next when that is through."""
        epoch, first = divmod(self.step, len(self))
        order = torch.randperm(len(self.members), generator=generator(self.seed, "order", self.task, epoch))
        order = self.members[order]
        for batch in range(first, len(self)):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]

    def _make(self, step: int, index: Tensor) -> Batch:
        batch = self._bare(index)
        return batch if self.views_later else batch._replace(views=self._fresh(step, batch.index))

    def _bare(self, index: Tensor) -> Batch:
        index = index.to(self.targets.device, non_blocking=True)
        return Batch(index, [], self.targets[index], self.num_large)

    def with_views(self, batch: Batch) -> Batch:
        """Return the batch that is being trained on, as a loader that makes ``views_later`` yields it, with its views.

        They are those that it has without ``views_later``.
        """
        return batch._replace(views=self._fresh(self.step - 1, batch.index))

    def _fresh(self, step: int, index: Tensor) -> list[Tensor]:
        """Return the views of the batch of a step."""
        return self.maker.views(images_at(self.pixels, index), "augment", step, self.rank)

    def views_of(self, index: Tensor, purpose: str, pixels: Tensor | None = None) -> list[Tensor]:
        """Return freshly drawn views of any training images, for the batch that is being trained on.

        Args:
            index: positions in the training set, (batch,), int64, on the device of the pixels.
            purpose: what they are for; two purposes of one batch draw different views.
            pixels: the images themselves, where they are not those of the training set.
        """
        pixels = images_at(self.pixels, index) if pixels is None else pixels
        return self.maker.views(pixels, purpose, self.step - 1, self.rank)

    def centre_of(self, index: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Return the evaluation view of any training images, (batch, 3, size, size)."""
        return self.maker.centre(images_at(self.pixels, index) if pixels is None else pixels)

    def ahead(self) -> Iterator[Batch]:
        """Yield nothing: a task has no warm-up of a memory."""
        return iter(())

    def close(self) -> None:
        """Let go of what works ahead; the task is over."""

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a saved position."""
        self.step = state["step"]
