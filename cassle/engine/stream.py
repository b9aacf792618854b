"""The chain of a stream: one training in parts, with an evaluation after each; nothing starts anew between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from cassle.atomic import atomic_write_text
from cassle.data.module import TaskImages
from cassle.data.pixels import FilePixels
from cassle.data.source import Images
from cassle.data.stream_loader import StreamLoader
from cassle.engine import handoff
from cassle.engine.callbacks import Checkpointing, Seeding, on_a_terminal
from cassle.engine.chain import Chain
from cassle.engine.handoff import Handoff
from cassle.engine.identity import identity_of
from cassle.engine.interruption import Interruption
from cassle.engine.ledger import Ledger, TaskRecord
from cassle.engine.pretrained import start_from
from cassle.engine.results import protocol_of
from cassle.engine.stream_table import StreamTable, read_table, stream_line, write_uses
from cassle.engine.task import agree_on_statistics, fit, fresh_model
from cassle.engine.wandb_run import WandBRun
from cassle.evaluation import stream_report
from cassle.evaluation.stream_report import Course, Results
from cassle.memory.dealt import own_state, whole_state
from cassle.methods.base import SSLMethod
from cassle.nn.state import load_strictly
from cassle.randomness import key
from cassle.strategies import STRATEGIES

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 50  # of the table, over the whole stream


class StreamChain(Chain):
    """Training on samples that arrive once, evaluated along the way; continues where an earlier run stopped.

    The parts between evaluations are the records of the ledger. The optimizer, the schedule, the memory and the
    position go on from part to part, so that evaluating changes nothing.
    """

    loader: StreamLoader
    parts = "evaluations"

    def _load_images(self) -> TaskImages:
        plan, training = self.plan, self.plan.training
        images = self._of_evaluation() if plan.streamed else super()._load_images()
        stream = plan.open_stream(None if plan.streamed else images)
        for line in stream.skipped_at_start:
            self.say(f"Skipped a file: {line}")
        # Files that are read when they are needed arrive with their images: a look-up would decode them once more.
        unread = isinstance(images.train.pixels, FilePixels)
        index_mode = not (plan.streamed or plan.stream.payload or unread)
        self.timetable = plan.timetable_of(stream)
        self.loader = StreamLoader(
            stream, plan.recipes, batch_size=training.batch_size, seed=plan.run.seed,
            num_updates=plan.stream.num_updates, num_batches=self.timetable.num_batches, warm_up=self.timetable.warm_up,
            depth=plan.stream.prefetch, views_later=not STRATEGIES[plan.strategy].trains_on_arrivals,
            rank=training.rank, world_size=training.processes, device=training.device,
            pixels=images.train.pixels.to(training.device) if index_mode else None,
            targets=images.train.targets.to(training.device) if index_mode else None,
        )  # fmt: skip
        if plan.streamed and self.writes:
            found = {"length": stream.length, "origins": stream.num_origins, "content_sha256": stream.digest}
            where = f"{plan.data.location.flags}{f', --stream_file {plan.stream.file}' if plan.stream.file else ''}"
            self.folder.keep({"dataset": plan.data.dataset, **found}, where)
        self.ends = [batches * self.loader.num_updates for batches in self.timetable.evaluations]
        return images

    def _of_evaluation(self) -> TaskImages:
        """Return the labelled data set on which a stream without labels is evaluated; an empty one if there is none."""
        data = self.plan.evaluation_data
        return _no_images(self.plan.data.num_tasks) if data is None else data.load(self.plan.size, say=self.say)

    def _record(self, task: int, table: StreamTable) -> TaskRecord:
        """Return what is known of the stream after a part."""
        batches = self.timetable.evaluations[task]
        return TaskRecord(
            "trained", f"task{task}/final.ckpt", samples=self.loader.position, begun=self.timetable.begun(batches),
            ended=self.timetable.ended(batches), skipped=table.skipped,
        )  # fmt: skip

    def _records(self, ledger: Ledger) -> list[TaskRecord]:
        begun = ledger.path.is_file() and any(record.status != "pending" for record in ledger.tasks)
        return ledger.tasks if begun else [TaskRecord() for _ in self.ends]

    def _fresh(self, images: TaskImages) -> SSLMethod:
        return fresh_model(
            self.plan, images, self.loader, side=self.loader.stream.side if self.loader.payload else None
        )

    # One part -------------------------------------------------------------------------------------------------------

    def _train(
        self, task: int, ledger: Ledger, images: TaskImages, interruption: Interruption, run: WandBRun | None
    ) -> SSLMethod:
        """Train until the next evaluation and write the hand-off; returns the model."""
        plan, folder = self.plan, self.folder.task(task)
        before = self._handoff(task, ledger)
        self.loader.part(self.ends[task - 1] if task else 0, self.ends[task])
        model = self._begin(images, before)
        table = StreamTable(
            folder / "metrics.csv", task, lambda row: self._tell(row, run), self.loader, self.say,
            every=max(self.loader.total_steps // ROWS, 1), first=self.writes,
            skipped=ledger.tasks[task - 1].skipped if task else self.loader.stream.skipped_at_start,
        )  # fmt: skip
        last = folder / "last.ckpt"
        checkpointing = Checkpointing(last, self.loader, 1, plan.training.checkpoint_minutes, interruption)
        seeding = Seeding(plan.run.seed, 0, first=self.loader.start)
        trainer = plan.training.make_trainer(folder, [seeding, table, checkpointing], progress_bar=False)
        self.loader.deal(trainer.global_rank, trainer.world_size)
        if before is not None:  # the scale of 16-bit losses
            trainer.precision_plugin.load_state_dict(before.carried["precision"])
        fit(trainer, model, self.loader, last, interruption)
        model.to(plan.training.device)
        agree_on_statistics(model)
        record = self._record(task, table)
        carried = {
            "optimizer": trainer.optimizers[0].state_dict(),
            "loader": self.loader.state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
        }
        whole = whole_state(model)
        if self.writes:
            path = folder / "final.ckpt"
            record.digest = handoff.write(path, plan, task, model, {}, carried, whole)
            if getattr(model, "memory", None) is not None:
                write_uses(folder / "uses.csv", model.memory)
            atomic_write_text(self.folder.path / "last_checkpoint.txt", f"{path}\n{self.folder.config_file}\n")
        ledger.tasks[task] = record
        if self.loader.ended:
            self.say(f"The stream has ended after {self.loader.position} samples.")
            del ledger.tasks[task + 1 :]
        if self.writes:
            ledger.save()
        trainer.strategy.barrier("final checkpoint")
        return model

    def _finish_task(
        self, task: int, ledger: Ledger, model: SSLMethod, images: TaskImages, run: WandBRun | None
    ) -> None:
        super()._finish_task(task, ledger, model, images, run)
        if self.writes:
            self._trim(ledger)

    def _trim(self, ledger: Ledger) -> None:
        """Take memory and optimizer out of the checkpoints that nothing reads as a hand-off any more."""
        done = [record for record in ledger.tasks if record.status == "done"]
        for record in done[:-1]:
            if not record.trimmed:
                record.digest, record.trimmed = handoff.keep_the_network(self.folder.path / record.checkpoint), True
                ledger.save()

    def _close(self, ledger: Ledger, run: WandBRun | None) -> Results:
        if self.writes:
            self._trim(ledger)  # a kill may have come between the last evaluation and this
        return super()._close(ledger, run)

    def _begin(self, images: TaskImages, before: Handoff | None) -> SSLMethod:
        model = self._fresh(images)
        if before is None and self.plan.run.pretrained_model:
            start_from(model, self.plan.run.pretrained_model, self.plan.backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(self.plan.run.seed, "begin_task", 0))
            model.begin_task(0, None)
        if before is not None:
            load_strictly(model, own_state(model, before.weights))
            self.loader.load_state_dict(before.carried["loader"])
        optimizer = None if before is None else before.carried["optimizer"]
        model.go_on(self.loader.start, self.loader.total_steps, optimizer)
        return model

    def _tell(self, row: dict[str, float], run: WandBRun | None) -> None:
        if not on_a_terminal():
            self.say(stream_line(row, self.loader))
        if run is not None:
            run.stream(row)

    # Results --------------------------------------------------------------------------------------------------------

    def _after(self, task: int) -> str:
        done = 1 if self.loader.ended else self.ends[task] / self.loader.total_steps
        return f"After {100 * done:.0f} % of the training, mean over all splits"

    def _report(self, ledger: Ledger) -> Results:
        done = [record for record in ledger.tasks if record.status == "done"]
        rows = {probe: [record.rows[probe] for record in done] for probe in ledger.random or ()}
        along = [row for part in range(len(done)) for row in read_table(self.folder.task(part) / "metrics.csv")]
        skipped = list(dict.fromkeys(name for record in done for name in record.skipped))
        results = stream_report.assemble(
            rows, ledger.random or {}, _course(done, ledger), along, skipped, self._protocol(ledger),
            identity_of(self.plan, self.folder.manifest()),
        )  # fmt: skip
        stream_report.write(self.folder.path, results, self.plan.name)
        return results

    def _protocol(self, ledger: Ledger) -> dict[str, Any]:
        return {
            **protocol_of(self.plan, ledger),
            "stream": self.plan.stream.stream,
            "num_updates": self.plan.stream.num_updates,
        }

    def _print(self, results: Results, console: Console) -> None:
        stream_report.print_tables(results, self.plan.name, console)


def _course(done: Sequence[TaskRecord], ledger: Ledger) -> Course:
    ended = {split: number for number, record in enumerate(done) for split in record.ended}
    return Course(
        samples=[record.samples for record in done],
        begun=[record.begun for record in done],
        ends=[ended.get(split) for split in range(max((record.begun for record in done), default=0))],
        total=len(ledger.tasks),
    )


def _no_images(num_tasks: int) -> TaskImages:
    """Return the data set of a run that has none in memory."""
    nothing = torch.empty(0, dtype=torch.int64)
    pixels = torch.empty((0, 3, 1, 1), dtype=torch.uint8)
    return TaskImages(Images(pixels, nothing, nothing), None, None, [], {})
