"""Training from a memory alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cassle.checks import Count
from cassle.data.batch import Batch
from cassle.losses.distributed import gather_exact, number_of_processes
from cassle.methods.base import Outputs
from cassle.nn.modes import in_mode
from cassle.strategies.replay import Memorising


class MinRedReplay(Memorising):
    """MinRed (Purushwalkam et al. 2022): what arrives goes into a memory without redundancy; training draws from it."""

    trains_on_arrivals = False
    memories = ("minred", "fifo", "reservoir", "class_balanced")
    default_memory = "minred"
    # With arrivals in the first epoch only, all others would train on a memory that does not change any more.
    defaults: ClassVar[dict[str, Any]] = {**Memorising.defaults, "memory_insert": "every_epoch"}

    def __init__(self, *args, replay_batch_size: Count | None = None, **kwargs) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            replay_batch_size: images of a training batch, per process; default: as many as arrive.
            kwargs: arguments of ``Memorising``.
        """
        super().__init__(*args, **kwargs)
        self.replay_batch_size = replay_batch_size

    def drawn_of(self, batch_size: int) -> int:
        """Return the size of a training batch."""
        return self.replay_batch_size or batch_size

    def views_of_step(self, batch_size: int, views: int, task: int) -> int:
        """What is drawn stands in the place of what arrives."""
        return super().views_of_step(self.drawn_of(batch_size), views, task)

    def trained_at_once(self, batch_size: int) -> dict[str, int]:
        """Add what is drawn; what arrives is trained on until enough can be drawn."""
        drawn = {} if self.replay_batch_size is None else {"--replay_batch_size": self.replay_batch_size}
        return {**super().trained_at_once(batch_size), **drawn}

    def stored(self, out: Outputs) -> Tensor:
        """Return the sum of the projections of the views; the memory compares its direction."""
        return torch.stack([o["z"].detach().float() for o in out]).sum(dim=0)

    def compose_batch(self, batch: Batch) -> Batch:
        """Let the batch arrive; return a batch drawn from the memory instead."""
        batch = super().compose_batch(batch)
        if self.progress.step == 0 and self.progress.part == 0:
            for turn, early in enumerate(self.images.ahead(), start=1):
                self._let_in(early, turn)
        if self.memorises and batch.first_pass and batch.num_stream:
            self._let_in(batch)
        processes = number_of_processes()
        wanted = self.drawn_of(self.images.batch_size)
        number = min(wanted, len(self.memory) // processes)
        # One image alone has no batch statistics, those of all processes but where one was asked for: until there are
        # two, what arrives is trained on.
        enough = number >= min(wanted, 2) and number * processes >= max(self.smallest_batch, 2)
        past = self.draw(number) if enough else None
        if past is None:
            return batch if batch.views else self.images.with_views(batch)
        views = self.views_of(past)
        return Batch(past.keys, views, past.targets, batch.num_large, num_replay=number)

    def _let_in(self, batch: Batch, turn: int = 0) -> None:
        self.arrive(batch, self._on_arrival(batch) if self.memory.feature_on_arrival else batch.targets, turn)

    @torch.no_grad()
    def _on_arrival(self, batch: Batch) -> Tensor:
        """Return the projections of the images themselves, by an extra pass in which no statistics move."""
        with in_mode(self, training=False):
            return self(self.images.centre_of(batch.index, batch.pixels))["z"].float()

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The objective on what was drawn; then what is kept of it is refreshed."""
        terms = super(Memorising, self).losses(batch, out)
        if batch.num_replay:
            self.memory.update(self.drawn, gather_exact(self.stored(out)))
        return terms
