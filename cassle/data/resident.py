"""The resident engine: the data set lies on the device as uint8 and views are made there, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cassle.data.augment import make_view
from cassle.data.batch import Batch
from cassle.data.centre import centre_view
from cassle.data.parameters import draw
from cassle.data.recipe import Recipe
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
    ) -> None:
        if len(members) < batch_size * world_size:
            total = f"{batch_size} x {world_size} processes" if world_size > 1 else str(batch_size)
            raise ConfigError(
                f"--batch_size {total}: task {task} has only {len(members)} images; use --batch_size "
                f"{len(members) // world_size} or less."
            )
        self.pixels, self.targets, self.members, self.recipes = pixels, targets, members, tuple(recipes)
        self.num_large = sum(not recipe.local for recipe in self.recipes)
        self.batch_size, self.seed, self.task = batch_size, seed, task
        self.rank, self.world_size = rank, world_size
        self.step = 0  # the batch that comes next, counted from the start of the task

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return len(self.members) // (self.batch_size * self.world_size)

    def deal(self, rank: int, world_size: int) -> None:
        """Take the part of process ``rank`` of each batch of ``world_size`` processes."""
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, or the next epoch when the current one is through."""
        epoch = self.step // len(self)
        order = torch.randperm(len(self.members), generator=generator(self.seed, "order", self.task, epoch))
        order = self.members[order]
        while self.step < (epoch + 1) * len(self):
            step = self.step
            self.step += 1  # before the yield: a state saved while the batch is being trained on continues after it
            start = (step % len(self) * self.world_size + self.rank) * self.batch_size
            yield self._make(step, order[start : start + self.batch_size])

    def _make(self, step: int, index: Tensor) -> Batch:
        index = index.to(self.pixels.device, non_blocking=True)
        return Batch(index, self._views(index, "augment", step), self.targets[index], self.num_large)

    def _views(self, index: Tensor, purpose: str, step: int) -> list[Tensor]:
        height, width = self.pixels.shape[-2:]
        images = self.pixels[index]
        views = []
        for view, recipe in enumerate(self.recipes):
            draws = generator(self.seed, purpose, self.task, step, view, self.rank)
            parameters = draw(recipe, len(index), height, width, draws)
            views.append(make_view(images, parameters, recipe))
        return views

    def views_of(self, index: Tensor, purpose: str) -> list[Tensor]:
        """Return freshly drawn views of any training images, for the batch that is being trained on.

        Args:
            index: positions in the training set, (batch,), int64, on the device of the pixels.
            purpose: what they are for; two purposes of one batch draw different views.
        """
        return self._views(index, purpose, self.step - 1)

    def centre_of(self, index: Tensor) -> Tensor:
        """Return the evaluation view of any training images, (batch, 3, size, size)."""
        largest = max(self.recipes, key=lambda recipe: recipe.size)
        return centre_view(self.pixels[index], largest.size, largest.mean, largest.std)

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a saved position."""
        self.step = state["step"]
