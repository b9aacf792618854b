"""An experiment: settings in, a folder of results out; killed at any time, it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cassle.data.iterators import Source
from cassle.engine.folder import ExperimentFolder
<<<<<<< HEAD
=======
from cassle.engine.group import launch_problems, leaving_quietly
from cassle.engine.handoff import Handoff
from cassle.engine.interruption import Interruption
from cassle.engine.ledger import Ledger, Rows, TaskRecord
from cassle.engine.missing import batch_problems
>>>>>>> f7a
from cassle.engine.plan import Plan
from cassle.engine.stream import StreamChain
from cassle.engine.tasks import TaskChain
from cassle.engine.trainer import quiet
from cassle.errors import ConfigError


class Experiment:
    """Continual training over a sequence of tasks, evaluated after each; continues where an earlier run stopped.

    Args:
        say: takes the lines that the run prints.
        images: a stream from Python: an iterable of images, or ``open(position)``, which returns an iterator from that
            position on, so that a killed run can go on where it was; see ``cassle.data.iterators``.
        settings: any setting of the command line by its name, e.g. ``method="byol", max_epochs=20``.

    Raises:
        ConfigError: everything that is wrong with the settings, together.
    """

    def __init__(self, *, say: Callable[[str], object] = print, images: Source | None = None, **settings: Any) -> None:
        self.plan = Plan({**({} if images is None else {"dataset": "iterator"}), **settings}, images)
        self.folder = ExperimentFolder(self.plan.folder)
        self.say = say

    def run(self) -> dict[str, Any]:
        """Train what is not done, and return the results (the content of ``results.json``).

        Raises:
            ConfigError: this machine lacks something, or the folder holds another experiment.
            CassleError: the data, a checkpoint or the disk fails.
            SystemExit: SIGTERM or Ctrl-C came; the state is saved (143, 130).
        """
        quiet()
        if self.plan.training.num_threads is not None:
            torch.set_num_threads(self.plan.training.num_threads)
<<<<<<< HEAD
        if problems := self.plan.missing_here():
            raise ConfigError(problems)
        kind = StreamChain if self.plan.is_stream else TaskChain
        return kind(self.plan, self.folder, self.say).run()
=======
        problems = self.plan.missing_here()
        if problems:
            raise ConfigError(problems, everywhere=bool(launch_problems(self.plan.training)))
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

    # The chain of tasks ---------------------------------------------------------------------------------------------

    def _chain(self, interruption: Interruption, ledger: Ledger | None) -> dict[str, Any]:
        ledger = self._meet(ledger)
        if all(record.status == "done" for record in ledger.tasks):
            return self._close(ledger, None)
        images = self._load_images()
        self._divide(ledger)
        model = self._fresh(images).to(self.plan.training.device)
        run = self._start_wandb(ledger)
        if self._evaluates(images) and ledger.random is None:
            self.say("Evaluating the random encoder.")
            ledger.random = self._evaluate(model, images)
            self._save(ledger)
        if self.plan.run.task_idx > 0:
            self._take_over(ledger, model, images)
        images = images.to(self.plan.training.device)
        task = self.plan.run.task_idx
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

    def _divide(self, ledger: Ledger) -> None:
        """Let the ledger have a record for every part of the training; of tasks it has."""

    def _fresh(self, images: TaskImages) -> SSLMethod:
        return fresh_model(self.plan, images)

    def _load_images(self) -> TaskImages:
        engine = self._engine()
        images = self.plan.data.load(self.plan.size, self.plan.training.device, engine=engine, say=self.say)
        self.say(images.engine.line)
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

    def _engine(self) -> Engine:
        """Return who makes the views: as the experiment began (how much memory is free may change), or as it suits."""
        return from_first(self.plan.choose_engine())

    def _start_wandb(self, ledger: Ledger) -> WandBRun | None:
        if not self.writes:
            return None
        config = {**self.plan.config(), **batch_of(self.plan)}
        run = self.plan.wandb.start(self.plan.name, self.folder.path, config, ledger.wandb_id)
        if run is not None and ledger.wandb_id is None:
            ledger.wandb_id = run.id
            ledger.save()
        return run

    # One task -------------------------------------------------------------------------------------------------------

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

    def _after(self, task: int) -> str:
        return f"After task {task} ({task + 1}/{self.plan.data.num_tasks}), mean over all tasks"

    def _report(self, ledger: Ledger) -> dict[str, Any]:
        """Write the results so far and return them; empty without labels to evaluate with."""
        if ledger.random is None:
            return {}
        results = results_of(self.plan, ledger)
        report.write(self.folder.path, results, self.plan.name)
        return results

    def _print(self, results: dict[str, Any]) -> None:
        report.print_table(results, self.plan.name)

    def _close(self, ledger: Ledger, run: WandBRun | None) -> dict[str, Any]:
        if not self.writes:
            return {}
        results = self._report(ledger)
        if results:
            self._print(results)
        if ledger.random is None:
            last = self.folder.path / ledger.tasks[-1].checkpoint
            self.say(f"Done. No labels to evaluate with; the encoder is in {last}.")
        else:
            self.say(f"Results, plots and checkpoints: {self.folder.path}")
        if run is not None:
            run.finish(results or {"probes": {}})
        return results
>>>>>>> f7a
