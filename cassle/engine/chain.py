"""A chain of trainings, each handed to the next, everything it learned written down after each."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from cassle.data.module import TaskImages
from cassle.engine import handoff
from cassle.engine.folder import ExperimentFolder
from cassle.engine.group import leaving_quietly
from cassle.engine.handoff import Handoff
from cassle.engine.interruption import Interruption
from cassle.engine.ledger import Ledger, Rows, TaskRecord
from cassle.engine.missing import batch_problems
from cassle.engine.plan import Plan
from cassle.engine.reshard import deal_anew
from cassle.engine.results import batch_line, batch_of
from cassle.engine.wandb_run import WandBRun
from cassle.errors import CheckpointError, ConfigError
from cassle.evaluation.encoder import accuracy_rows
from cassle.memory.dealt import own_state
from cassle.methods.base import SSLMethod
from cassle.nn.state import load_strictly
from cassle.processes import from_first, launched

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 5  # files that are named of each kind that is left out


class Chain(ABC):
    """What every chain does: claim the folder, go by the ledger, evaluate after each part, report.

    Args:
        plan: what the run is.
        folder: where everything is written.
        say: takes the lines that the run prints.
    """

    parts: ClassVar[str]  # what the records of the ledger are

    def __init__(self, plan: Plan, folder: ExperimentFolder, say: Callable[[str], object]) -> None:
        self.plan, self.folder = plan, folder
        self.writes = plan.training.rank == 0  # one process writes; the others train
        self.say = say if self.writes else (lambda line: None)

    def run(self) -> dict[str, Any]:
        """Train the parts that are not done, and return the results; empty where this process does not write."""
        if not self.writes:
            with leaving_quietly(), Interruption() as interruption:
                return self._chain(interruption, None)
        if self.plan.run.overwrite:
            with self.folder.locked():
                moved = self.folder.move_aside()
            if moved:
                self.say(f"The previous experiment is now in {moved}.")
        with self.folder.locked(), Interruption() as interruption:
            resharding = self.plan.run.reshard
            continues = self.folder.claim(self.plan.config(), resharding=resharding)
            ledger = Ledger(self.folder.path / "ledger.json", self.plan.data.num_tasks)
            done = sum(record.status == "done" for record in ledger.tasks)
            news = f": continues, {done} {self.parts} done" if continues else ""
            news = ": finished before; its results" if done == len(ledger.tasks) else news
            self.say(f"Experiment {self.folder.path}{news}")
            if continues and resharding and (line := deal_anew(self.folder, ledger, self.plan.config())):
                self.say(line)
            for line in (batch_line(self.plan), *self.plan.notes()):
                self.say(line)
            return self._chain(interruption, ledger)

    # What a kind of chain has of its own ----------------------------------------------------------------------------

    def _records(self, ledger: Ledger) -> list[TaskRecord]:
        """Return a record for every part of the training."""
        return ledger.tasks

    def _start_after(self, ledger: Ledger, model: SSLMethod, images: TaskImages) -> int:
        """Return the first part to train; what comes before it was trained elsewhere and is taken over."""
        return 0

    @abstractmethod
    def _fresh(self, images: TaskImages) -> SSLMethod:
        """Return the model of the first part, untrained."""

    @abstractmethod
    def _train(
        self, task: int, ledger: Ledger, images: TaskImages, interruption: Interruption, run: WandBRun | None
    ) -> SSLMethod:
        """Train one part, write its hand-off and its record; return the trained model."""

    @abstractmethod
    def _after(self, task: int) -> str:
        """Return what the accuracies after a part are introduced with."""

    @abstractmethod
    def _report(self, ledger: Ledger) -> dict[str, Any]:
        """Write the results so far and return them; empty without labels to evaluate with."""

    @abstractmethod
    def _print(self, results: dict[str, Any], console: Console) -> None:
        """Print the tables of a finished chain."""

    # From begin to end ----------------------------------------------------------------------------------------------

    def _chain(self, interruption: Interruption, ledger: Ledger | None) -> dict[str, Any]:
        ledger = self._meet(ledger)
        if all(record.status == "done" for record in ledger.tasks):
            return self._close(ledger, None)
        images = self._load_images()
        ledger.tasks = self._records(ledger)
        model = self._fresh(images).to(self.plan.training.device)
        run = self._start_wandb(ledger)
        if self._evaluates(images) and ledger.random is None:
            self.say("Evaluating the random encoder.")
            ledger.random = self._evaluate(model, images)
            self._save(ledger)
        task = self._start_after(ledger, model, images)
        images = images.to(self.plan.training.device)
        while task < len(ledger.tasks):  # a stream may end before all its parts
            record = ledger.tasks[task]
            if record.status == "pending":
                model = self._train(task, ledger, images, interruption, run)
            elif record.status == "trained":  # its evaluation was interrupted
                model = self._restored(record, images)
            if ledger.tasks[task].status != "done":
                self._finish_task(task, ledger, model, images, run)
            task += 1
        return self._close(ledger, run)

    def _meet(self, ledger: Ledger | None) -> Ledger:
        """Let all processes go by the first one's ledger; whoever reads the file finds it as it was or as it will be.

        Args:
            ledger: None in the other processes.
        """
        done = ledger is not None and all(record.status == "done" for record in ledger.tasks)
        if done and launched() is None:
            return ledger  # there is nothing for other processes to do: do not start them
        self.plan.training.meet()
        return from_first(ledger)

    def _save(self, ledger: Ledger) -> None:
        if self.writes:
            ledger.save()

    def _load_images(self) -> TaskImages:
        engine = from_first(self.plan.choose_engine())  # they may differ in how much memory is free
        images = self.plan.data.load(self.plan.size, self.plan.training.device, engine=engine, say=self.say)
        self.say(images.engine.line)
        self._tell_of(images.quarantined, "are in quarantine (python -m cassle verify)")
        self._tell_of(images.skipped, "do not decode")
        self._tell_of(images.left_out, f"decode, but not with {images.engine.name}: other engines read them")
        counts = [] if self.plan.is_stream else [len(part) for part in images.split.train]
        problems = batch_problems(self.plan.training, counts, loaded=True)
        if problems:  # told now, not when the turn of the task comes
            raise ConfigError(problems)
        if self.writes:
            self.folder.keep(images.manifest, self.plan.data.location.flags)
        return images

    def _tell_of(self, files: list[str], why: str) -> None:
        if files:
            more = f"\n  … and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
            listed = "".join(f"\n  {file}" for file in files[:SHOWN])
            self.say(f"Left out: {len(files)} images that {why}.{listed}{more}")

    def _start_wandb(self, ledger: Ledger) -> WandBRun | None:
        if not self.writes:
            return None
        config = {**self.plan.config(), **batch_of(self.plan)}
        run = self.plan.wandb.start(self.plan.name, self.folder.path, config, ledger.wandb_id)
        if run is not None and ledger.wandb_id is None:
            ledger.wandb_id = run.id
            ledger.save()
        return run

    # Hand-off -------------------------------------------------------------------------------------------------------

    def _handoff(self, task: int, ledger: Ledger) -> Handoff | None:
        if task == 0:
            return None
        record = ledger.tasks[task - 1]
        if record.checkpoint is None:
            raise CheckpointError(
                f"{ledger.path}: names no checkpoint of task {task - 1}; start anew with --overwrite."
            )
        return handoff.read(self.folder.path / record.checkpoint, self.plan, record.digest)

    def _restored(self, record: TaskRecord, images: TaskImages) -> SSLMethod:
        """Return the trained model of a task whose evaluation was interrupted."""
        model = self._fresh(images)
        weights = handoff.read(self.folder.path / record.checkpoint, self.plan, record.digest).weights
        load_strictly(model, own_state(model, weights), ignore=model.transient, source=record.checkpoint)
        return model.to(self.plan.training.device)

    # Evaluation -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _evaluates(images: TaskImages) -> bool:
        return images.val is not None and bool(images.classes)

    def _evaluate(self, model: SSLMethod, images: TaskImages) -> Rows:
        """Return the rows in every process; all wait here for the first, which fits the probes."""
        return from_first(
            accuracy_rows(model.backbone, images, self.plan.eval_recipe, self.plan.evaluation, model.classifier)
        )

    def _finish_task(
        self, task: int, ledger: Ledger, model: SSLMethod, images: TaskImages, run: WandBRun | None
    ) -> None:
        record = ledger.tasks[task]
        if self.writes:
            (self.folder.task(task) / "last.ckpt").unlink(missing_ok=True)  # final.ckpt is there
        if self._evaluates(images):
            record.rows = self._evaluate(model.to(self.plan.training.device), images)
        record.status = "done"
        if not self.writes:
            return
        ledger.save()
        if record.rows:
            means = "  ".join(f"{probe} {100 * sum(row) / len(row):.1f} %" for probe, row in record.rows.items())
            self.say(f"{self._after(task)}: {means}")
            if run is not None:
                run.task(task, record.rows)
        self._report(ledger)

    def _say_tables(self, results: dict[str, Any]) -> None:
        """Print the tables, with colours where there is a terminal; or hand them to who takes the lines instead."""
        from rich.console import Console

        if self.say is print:
            self._print(results, Console())
            return
        text = io.StringIO()
        self._print(results, Console(file=text, width=80))
        self.say(text.getvalue().rstrip())

    def _close(self, ledger: Ledger, run: WandBRun | None) -> dict[str, Any]:
        if not self.writes:
            return {}
        results = self._report(ledger)
        if results:
            self._say_tables(results)
        if ledger.random is None:
            last = self.folder.path / ledger.tasks[-1].checkpoint
            self.say(f"Done. No labels to evaluate with; the encoder is in {last}.")
        else:
            self.say(f"Results, plots and checkpoints: {self.folder.path}")
        if run is not None:
            run.finish(results or {"probes": {}})
        return results
