"""The chain of tasks: new classes, parts or domains one after the other, each a training of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cassle.atomic import atomic_write_text
from cassle.data.module import TaskImages
from cassle.engine import handoff
from cassle.engine.callbacks import epoch_line, on_a_terminal
from cassle.engine.chain import Chain
from cassle.engine.checkpoint import digest
from cassle.engine.interruption import Interruption
from cassle.engine.ledger import Ledger, TaskRecord
from cassle.engine.results import results_of
from cassle.engine.task import fresh_model, train_task
from cassle.engine.wandb_run import WandBRun
from cassle.errors import ConfigError
from cassle.evaluation import report
from cassle.methods.base import SSLMethod
from cassle.nn.state import load_strictly

if TYPE_CHECKING:
    from rich.console import Console


class TaskChain(Chain):
    """Trains task after task, one Lightning fit each."""

    parts = "tasks"

    def _fresh(self, images: TaskImages) -> SSLMethod:
        return fresh_model(self.plan, images)

    def _train(
        self, task: int, ledger: Ledger, images: TaskImages, interruption: Interruption, run: WandBRun | None
    ) -> SSLMethod:
        """Train one task and write its hand-off; returns the trained model."""
        previous = self._handoff(task, ledger)
        folder = self.folder.task(task)
        trained = train_task(
            self.plan, task, images, previous,
            folder=folder, interruption=interruption, on_row=lambda row: self._tell(row, run),
        )  # fmt: skip
        record = TaskRecord("trained", f"task{task}/final.ckpt")
        if self.writes:
            path = folder / "final.ckpt"
            record.digest = handoff.write(path, self.plan, task, trained.model, trained.probes)
            atomic_write_text(self.folder.path / "last_checkpoint.txt", f"{path}\n{self.folder.config_file}\n")
        ledger.tasks[task] = record
        self._save(ledger)
        trained.trainer.strategy.barrier("final checkpoint")
        return trained.model

    def _tell(self, row: dict[str, float], run: WandBRun | None) -> None:
        if not on_a_terminal():
            self.say(epoch_line(row, num_tasks=self.plan.data.num_tasks, max_epochs=self.plan.training.max_epochs))
        if run is not None:
            run.epoch(row, self.plan.training.max_epochs)

    def _start_after(self, ledger: Ledger, model: SSLMethod, images: TaskImages) -> int:
        if self.plan.run.task_idx > 0:
            self._take_over(ledger, model, images)
        return self.plan.run.task_idx

    def _take_over(self, ledger: Ledger, model: SSLMethod, images: TaskImages) -> None:
        """Start after a task 0 that was trained elsewhere: ``--pretrained_model`` is its hand-off."""
        record, path = ledger.tasks[0], self.plan.run.pretrained_model.resolve()
        found = digest(path)
        if record.status == "done":
            if found != record.digest:
                raise ConfigError(
                    f"--pretrained_model {path}: not the checkpoint that this experiment began with "
                    f"({record.checkpoint}); give that one, another --experiment_dir, or --overwrite."
                )
            return
        weights = handoff.read(path, self.plan).weights
        load_strictly(model, weights, ignore=model.transient, source=f"--pretrained_model {path}")
        record.checkpoint, record.digest = str(path), found
        if self._evaluates(images):
            self.say(f"Evaluating --pretrained_model {path}.")
            record.rows = self._evaluate(model, images)
        record.status = "done"
        self._save(ledger)

    def _after(self, task: int) -> str:
        return f"After task {task} ({task + 1}/{self.plan.data.num_tasks}), mean over all tasks"

    def _report(self, ledger: Ledger) -> dict[str, Any]:
        """Write the results so far and return them; empty without labels to evaluate with."""
        if ledger.random is None:
            return {}
        results = results_of(self.plan, ledger)
        report.write(self.folder.path, results, self.plan.name)
        return results

    def _print(self, results: dict[str, Any], console: Console) -> None:
        report.print_table(results, self.plan.name, console)
