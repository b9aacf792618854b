"""Replay: images of the past come back beside those of the present."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cassle.checks import Count
from cassle.data.batch import Batch
from cassle.losses.distributed import gather_exact, number_of_processes
from cassle.memory.base import Entries, Memory
from cassle.memory.dealt import own_state, whole_state
from cassle.methods.base import Outputs
from cassle.strategies.base import Strategy


class ExemplarReplay(Strategy):
    """Base: every batch is followed by different exemplars of earlier tasks, by fewer while the memory holds fewer.

    A subclass fills the memory when a task is over.
    """

    needs_tasks: ClassVar[bool] = True
    #: made by the house
    memory: Memory
    #: wanted exemplars, per process
    replay_batch_size: int
    #: most images that are kept
    mem_size: int

    def views_of_step(self, batch_size: int, views: int, task: int) -> int:
        """Add the exemplars, of which there are some from task 1 on."""
        return super().views_of_step(
            batch_size + (min(self.replay_batch_size, self.mem_size) if task else 0), views, task
        )

    def compose_batch(self, batch: Batch) -> Batch:
        """Follow the batch by exemplars; each process takes its part of them."""
        batch = super().compose_batch(batch)
        number = min(self.replay_batch_size, len(self.memory) // number_of_processes())
        if not number:
            return batch
        past = self.memory.recall(number, self.draws("replay"))[1]
        return batch.with_replay(past.keys, self.images.views_of(past.keys, "replay"), past.targets)


class Memorising(Strategy):
    """Base of the strategies with a memory: the task's images arrive in it, and may be drawn from it.

    The memory holds positions in the training set and, for each image, what the network made of it. It is the same in
    every process: what arrives is gathered, and of a draw each process takes its part. Only the images themselves, of
    a stream that passes once, are dealt over the processes; in a checkpoint they are whole.
    """

    memories = ("reservoir", "fifo", "fifo_last", "minred", "class_balanced")
    default_memory = "reservoir"
    # One update per batch of the task: a memory that waits for the first evaluation would be starved.
    defaults: ClassVar[dict[str, Any]] = {"feature_on_arrival": True}
    #: made by the house
    memory: Memory

    def __init__(
        self,
        *args,
        mem_size: Count = 2000,
        memory_insert: Literal["first_epoch", "every_epoch"] = "first_epoch",
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            mem_size: images that are kept.
            memory_insert: when images arrive in the memory: in the first epoch of a task, so that each arrives once, or
                in every_epoch.
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.mem_size, self.memory_insert = mem_size, memory_insert
        self.drawn: Tensor | None = None  # slots of the images drawn for this batch, of all processes
        self.recalled: Entries | None = None  # this process's part of them

    @property
    def stored_dim(self) -> int:
        """Width of what is kept of an image beside its position."""
        return self.output_dim

    def stored(self, out: Outputs) -> Tensor:
        """Return what is kept of the images of a batch, (batch, stored_dim): the mean of z over the views."""
        return torch.stack([o["z"].detach().float() for o in out]).mean(dim=0)

    def drawn_of(self, batch_size: int) -> int:
        """Return how many images a step draws from the memory, per process."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it draws.")

    def problems_with(self, batch_size: int, processes: int) -> list[str]:
        """Add that the memory is smaller than what a step draws from it."""
        problems, number = super().problems_with(batch_size, processes), self.drawn_of(batch_size)
        if number * processes > self.mem_size:
            smaller = "--replay_batch_size" if getattr(self, "replay_batch_size", None) else "--batch_size"
            problems.append(
                f"--mem_size {self.mem_size}: every step draws {number} images for each of {processes} process(es); "
                f"give {number * processes} or more, or a smaller {smaller}."
            )
        return problems

    def draw(self, number: int) -> Entries | None:
        """Draw ``number`` images for this process; None while the memory holds fewer than all processes want."""
        total = number * number_of_processes()
        if not number or len(self.memory) < total:
            return None
        self.drawn, self.recalled = self.memory.recall(number, self.draws("replay"))
        return self.recalled

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring the images of the memory together; Lightning calls this in every process."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **whole_state(self)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this process's part of the images."""
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"] = own_state(self, checkpoint["state_dict"])

    def compose_batch(self, batch: Batch) -> Batch:
        """Forget the last draw."""
        self.drawn = self.recalled = None
        return super().compose_batch(batch)

    def views_of(self, past: Entries) -> list[Tensor]:
        """Return freshly drawn views of images of the past."""
        return self.images.views_of(past.keys, "replay", past.payload)

    @property
    def memorises(self) -> bool:
        """Whether images arrive in the memory in this epoch; those of a stream, which has one, always do."""
        return self.memory_insert == "every_epoch" or self.progress.epoch < 1

    def arrive(self, batch: Batch, features: Tensor, turn: int = 0) -> None:
        """Keep the task's images of this batch, of all processes, with their ``features`` (num_stream, stored_dim).

        Of several batches that arrive in one step each has its ``turn``.
        """
        index, targets = batch.index[: batch.num_stream], batch.targets[: batch.num_stream]
        known = gather_exact(features) if self.memory.feature_on_arrival else None
        parts = {"features": known, "payload": _gathered(batch.pixels), "origins": _gathered(batch.origins)}
        rows = {"keys": gather_exact(index), "targets": gather_exact(targets), **parts}
        if batch.pixels is not None:
            good = self._good(batch, rows["keys"])
            rows = {name: part if part is None else part[good] for name, part in rows.items()}
        self.memory.insert(**rows, generator=self.draws("memory", *([turn] if turn else [])))

    @staticmethod
    def _good(batch: Batch, keys: Tensor) -> slice | Tensor:
        """Return which rows are images of the stream: in the place of what did not decode lie others, at the end."""
        if number_of_processes() == 1:  # known without a wait for the device
            return slice(batch.num_stream - batch.num_lost)
        return (keys >= 0).nonzero().flatten()  # one wait for all columns

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """After the loss, refresh what is kept of replayed images, and let those of the task arrive."""
        terms = super().losses(batch, out)
        features = self.stored(out)
        if batch.num_replay:
            self.memory.update(self.drawn, gather_exact(features[batch.num_stream :]))
        if self.memorises and batch.last_pass:
            self.arrive(batch, features[: batch.num_stream])
        return terms


def _gathered(part: Tensor | None) -> Tensor | None:
    return None if part is None else gather_exact(part)


class ExperienceReplay(Memorising):
    """Experience replay (ER): every batch is followed by images of the past, and every loss sees both."""

    def __init__(self, *args, replay_batch_size: Count = 64, **kwargs) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            replay_batch_size: images of the past beside each batch, per process.
            kwargs: arguments of ``Memorising``.
        """
        super().__init__(*args, **kwargs)
        self.replay_batch_size = replay_batch_size

    def drawn_of(self, batch_size: int) -> int:
        """Return the size of a replay."""
        return self.replay_batch_size

    def views_of_step(self, batch_size: int, views: int, task: int) -> int:
        """Add the replay."""
        return super().views_of_step(batch_size + self.replay_batch_size, views, task)

    def compose_batch(self, batch: Batch) -> Batch:
        """Follow the batch by replayed images, once there are enough."""
        batch = super().compose_batch(batch)
        past = self.draw(self.replay_batch_size)
        if past is None:
            return batch
        return batch.with_replay(past.keys, self.views_of(past), past.targets)
