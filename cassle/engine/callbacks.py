"""What happens around the training steps of a task: checkpoints, the table of metrics, progress."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor

from cassle.atomic import atomic_write_text
from cassle.data.batch import Batch
from cassle.data.resident import ResidentLoader
from cassle.engine.interruption import Interruption
from cassle.losses.distributed import number_of_processes
from cassle.processes import any_of_us, carried_on, summed
from cassle.randomness import key

ASK_EVERY = 20  #: steps between the moments at which several processes agree on saving


class Seeding(pl.Callback):
    """Keys the global generators by (seed, task, step, rank) before every step: no generator state to save.

    Args:
        seed: seed of the run.
        task: index of the task.
        first: batches of it that came before this training.
    """

    def __init__(self, seed: int, task: int, first: int = 0) -> None:
        self.seed, self.task, self.first = seed, task, first

    def on_train_batch_start(
        self, trainer: pl.Trainer, model: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed what dropout and the like draw from."""
        batch_number = self.first + trainer.current_epoch * trainer.num_training_batches + batch_idx
        torch.manual_seed(key(self.seed, "step", self.task, batch_number, trainer.global_rank))


class Checkpointing(pl.Callback):
    """Saves ``last.ckpt`` at the end of epochs, after some minutes, and when SIGTERM asks to stop.

    Args:
        path: the file.
        loader: its position is saved too; Lightning restores a loader only in mid-epoch, not at the end of an epoch.
        every_n_epochs: save at the end of every n-th epoch.
        minutes: save inside an epoch when the last save is that long ago; 0 saves after every step.
        interruption: tells whether SIGTERM or Ctrl-C has come.
    """

    def __init__(
        self, path: Path, loader: ResidentLoader, every_n_epochs: int, minutes: float, interruption: Interruption
    ) -> None:
        self.path, self.loader, self.every_n_epochs, self.minutes = path, loader, every_n_epochs, minutes
        self.interruption = interruption
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Take the signals back from Lightning."""
        self.interruption.install()

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save in mid-epoch; the last batch of an epoch is left to the end of the epoch."""
        last = batch_idx + 1 >= trainer.num_training_batches
        # An accumulated gradient is not in the checkpoint: save only where the optimizer has just stepped.
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # Several processes save together or not at all; asking each other costs a wait, so they do it now and then.
        asked = trainer.world_size == 1 or self.minutes == 0 or batch_idx % ASK_EVERY == 0
        if last or not stepped or not asked:
            return
        stop = any_of_us(self.interruption.requested, model.device)
        if stop or any_of_us(time.monotonic() - self._saved_at >= 60 * self.minutes, model.device):
            self._save(trainer, stop)

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Save at the end of an epoch."""
        stop = any_of_us(self.interruption.requested, model.device)
        if stop or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer, stop)

    def _save(self, trainer: pl.Trainer, stop: bool) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()
        if stop:
            self.interruption.exit()

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the loader."""
        return {"loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the loader where it was."""
        self.loader.load_state_dict(state["loader"])


class MetricsTable(pl.Callback):
    """Averages the named terms over each epoch and keeps one row an epoch, in the checkpoint and as a CSV file.

    The sums live on the device and are read once an epoch. Other callbacks put their numbers into ``extra`` before the
    end of the epoch. A resumed run continues the table where its checkpoint left it, so rows that a killed run wrote
    after its last checkpoint are written again, not twice.

    Args:
        path: the CSV file.
        task: index of the task.
        on_row: called with every new row, e.g. to print it or to send it to WandB.
        first: whether this is the first process.
    """

    def __init__(
        self, path: Path, task: int, on_row: Callable[[dict[str, float]], None], *, first: bool = True
    ) -> None:
        self.path, self.task, self.on_row, self.first = path, task, on_row, first
        self.rows: list[dict[str, float]] = []
        self.extra: dict[str, float] = {}
        self._names: list[str] = []
        self._sums: Tensor | None = None  # (2, names): of each term, and the number of batches that had it

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add the terms of the batch to the sums."""
        terms = outputs["terms"]
        total = torch.stack(list(terms.values())).sum()
        values = torch.stack([total, *terms.values()]).double()
        names = ["loss", *terms]
        batch_sums = torch.stack([values, torch.ones_like(values)])
        if self._sums is None:
            self._names, self._sums = names, torch.zeros_like(batch_sums)
        self._sums = self._sums.to(values.device)
        new = [name for name in names if name not in self._names]  # e.g. the first batch with replayed images
        if new:
            self._names = [*self._names, *new]
            self._sums = torch.cat([self._sums, self._sums.new_zeros(2, len(new))], dim=1)
        if names == self._names:
            self._sums = self._sums + batch_sums
        else:
            self._sums[:, [self._names.index(name) for name in names]] += batch_sums

    def latest(self) -> dict[str, float]:
        """Return this process's means of the running epoch; waits for the device."""
        return {} if self._sums is None else self._means(self._sums)

    def _means(self, sums: Tensor) -> dict[str, float]:
        totals, counts = sums.tolist()
        return {name: total / count for name, total, count in zip(self._names, totals, counts, strict=True)}

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Close the row of the epoch: means over all batches of all processes."""
        self.close_row(trainer, {"task": self.task, "epoch": trainer.current_epoch, "step": trainer.global_step})

    def close_row(self, trainer: pl.Trainer, about: dict[str, float]) -> None:
        """Add a row of the means since the last one."""
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {**about, "lr": lr, **self._means(summed(self._sums)), **self.extra}
        self.rows.append(row)
        self.extra.clear()
        self._sums = None
        if trainer.is_global_zero:
            self.write()
            self.on_row(row)

    def write(self) -> None:
        """Replace the CSV file by the rows so far."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the sums of the running epoch over all processes."""
        sums = None if self._sums is None else summed(self._sums)
        return {"rows": self.rows, "names": self._names, "sums": sums, "processes": number_of_processes()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a saved table; the sums of all processes are carried on by the first."""
        self.rows, self._names, self._sums = state["rows"], state["names"], state["sums"]
        if self._sums is not None:
            self._sums = carried_on(self._sums, state.get("processes"), first=self.first)


def epoch_line(row: dict[str, float], *, num_tasks: int, max_epochs: int) -> str:
    """Return one line about an epoch, for logs."""
    hidden = ("task", "epoch", "step", "val_acc_task")  # the accuracy of every task is in metrics.csv
    numbers = [f"{name} {value:.4g}" for name, value in row.items() if not name.startswith(hidden)]
    task = f"task {row['task']} ({row['task'] + 1}/{num_tasks})"
    return f"{task}  epoch {row['epoch'] + 1:.0f}/{max_epochs}  " + "  ".join(numbers)


class ProgressBar(RichProgressBar):
    """Lightning's rich bar, with the means of the running epoch.

    Args:
        table: where the means come from.
        num_tasks: number of tasks.
    """

    def __init__(self, table: MetricsTable, num_tasks: int) -> None:
        super().__init__(refresh_rate=5)
        self.table, self.num_tasks = table, num_tasks
        self._shown: dict[str, str] = {}
        self._shown_at = -math.inf

    def _get_train_description(self, current_epoch: int) -> str:
        """Name the task as its folder does, and count epochs from 1, as the lines of a log do."""
        task = self.table.task
        return f"Task {task} ({task + 1}/{self.num_tasks}) epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar; read from the device once in two seconds, not at every step."""
        if time.monotonic() - self._shown_at > 2:
            self._shown = {name: f"{value:.3f}" for name, value in self.table.latest().items()}
            self._shown_at = time.monotonic()
        return self._shown


def on_a_terminal() -> bool:
    """Tell whether somebody is watching."""
    return sys.stdout.isatty()
