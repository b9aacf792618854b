"""The table of a stream: the loss, what the memory holds, and what a batch is made of, along the stream."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cassle.atomic import atomic_write_text
from cassle.data.batch import Batch
from cassle.data.stream_loader import StreamLoader
from cassle.engine.callbacks import MetricsTable
from cassle.losses.distributed import gather_exact
from cassle.memory.base import MOST_USES, Memory
from cassle.processes import of_all, summed


class StreamTable(MetricsTable):
    """One row every so many steps, and at the end of the part.

    Beside the terms: ``samples`` that have arrived, ``skipped`` ones; how many different videos (classes, folders) the
    training batch and the memory hold; how often the images in the memory were used, on average and at most.

    Args:
        path: the CSV file.
        part: number of the part.
        on_row: as in ``MetricsTable``.
        loader: of the stream.
        say: takes a line for every file that is skipped.
        every: steps between rows.
        skipped: what was skipped in earlier parts.
        first: whether this is the first process.
    """

    def __init__(
        self,
        path: Path,
        part: int,
        on_row: Callable[[dict[str, float]], None],
        loader: StreamLoader,
        say: Callable[[str], object],
        *,
        every: int,
        skipped: Sequence[str] = (),
        first: bool = True,
    ) -> None:
        super().__init__(path, part, on_row, first=first)
        self.loader, self.say, self.every = loader, say, every
        self.skipped = list(skipped)  # what did not decode, of all processes
        self._num_skipped = self.step = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the terms of the batch, and close the row if it is time."""
        super().on_train_batch_end(trainer, model, outputs, batch, batch_idx)
        self.step = self.loader.start + batch_idx + 1
        if self.step % self.every == 0 or self.step == self.loader.stop:
            self._close(trainer, model, batch)

    def _close(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Batch | None) -> None:
        self._look_for_skipped(model)
        self.extra |= {"skipped": self._num_skipped, **contents(model, batch)}
        self.close_row(trainer, {"part": self.task, "step": self.step, "samples": self.loader.position})

    def _look_for_skipped(self, model: pl.LightningModule) -> None:
        number = int(summed(torch.tensor(float(self.loader.num_skipped), device=model.device)))
        if number == self._num_skipped:
            return
        self._num_skipped = number
        for name in (name for names in of_all(self.loader.skipped) for name in names):
            if name not in self.skipped:
                self.say(f"Skipped what does not decode: {name}")
                self.skipped.append(name)

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Close the last row where the stream has ended early; else the last step of the part has closed it."""
        if self._sums is not None:
            self.step = self.loader.step  # a continued part may have taken none
            self._close(trainer, model, None)


def contents(model: pl.LightningModule, batch: Batch | None) -> dict[str, float]:
    """Return what the training batch and the memory hold; waits for the device. Every process must call this."""
    found, memory = {}, getattr(model, "memory", None)
    recalled = getattr(model, "recalled", None)
    parts = [] if batch is None or batch.origins is None or not model.num_stream else [batch.origins]
    parts += [] if recalled is None or recalled.origins is None else [recalled.origins]
    if parts and (number := _different(gather_exact(torch.cat(parts)))):
        found["origins_in_batch"] = number
    if memory is not None and len(memory):
        slots = memory.slots
        uses = memory.uses[slots].double()
        found |= {"in_memory": len(memory), "uses_mean": float(uses.mean()), "uses_max": float(uses.max())}
        if number := _different(memory.origins[slots]):
            found["origins_in_memory"] = number
    return found


def _different(origins: Tensor) -> int:
    return len(origins[origins >= 0].unique())


def write_uses(path: Path, memory: Memory) -> None:
    """Write how many of the samples that have arrived were drawn how often: columns uses, samples."""
    now = memory.uses[memory.slots].clamp(max=MOST_USES)
    counts = (memory.uses_of_the_gone + now.bincount(minlength=MOST_USES + 1)).tolist()
    counts[0] += memory.num_arrived - sum(counts)  # those that never entered
    lines = [f"{uses},{samples}\n" for uses, samples in enumerate(counts) if samples]
    atomic_write_text(path, "uses,samples\n" + "".join(lines))


def read_table(path: Path) -> list[dict[str, float]]:
    """Return the rows of a table as numbers, without the columns that a row leaves empty; none without the table."""
    if not path.is_file():  # the stream had ended before the part began
        return []
    with path.open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def stream_line(row: dict[str, float], loader: StreamLoader) -> str:
    """Return one line about a row, for logs."""
    total = loader.num_batches * loader.batch_size * loader.world_size
    numbers = [f"{name} {value:.4g}" for name, value in row.items() if name not in ("part", "step", "samples")]
    share = 100 * row["step"] / loader.total_steps
    return f"{share:5.1f} %  step {row['step']}  samples {row['samples']}/{total}  " + "  ".join(numbers)
