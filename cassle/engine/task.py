"""Training one task: model, loader and callbacks from the plan, then one Lightning fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from cassle import processes
from cassle.data.module import TaskImages
from cassle.data.resident import ResidentLoader
from cassle.data.stream_loader import StreamLoader
from cassle.data.workers import WorkerLoader
from cassle.engine.callbacks import Checkpointing, MetricsTable, ProgressBar, Seeding, on_a_terminal
from cassle.engine.handoff import Handoff, Weights
from cassle.engine.interruption import Interruption
from cassle.engine.plan import Plan
from cassle.engine.pretrained import start_from
from cassle.evaluation.online import OnlineProbeCallback
from cassle.losses.distributed import from_the_first
from cassle.methods.base import SSLMethod
from cassle.methods.progress import Progress
from cassle.randomness import key
from cassle.strategies import STRATEGIES


@dataclass(frozen=True)
class Trained:
    """A trained task: its model, the state dicts of its online probes by network, and the trainer that made them."""

    model: SSLMethod
    probes: dict[str, Weights]
    trainer: pl.Trainer


def train_task(
    plan: Plan,
    task: int,
    images: TaskImages,
    handoff: Handoff | None,
    *,
    folder: Path,
    interruption: Interruption,
    on_row: Callable[[dict[str, float]], None],
) -> Trained:
    """Train one task, from ``folder/last.ckpt`` if it is there.

    Args:
        plan: the run.
        task: index of the task.
        images: the loaded data set, on the device.
        handoff: the end of the previous task; None for task 0.
        folder: takes ``last.ckpt`` and ``metrics.csv``.
        interruption: tells whether SIGTERM or Ctrl-C has come.
        on_row: takes the numbers of each epoch.

    Raises:
        CheckpointError: the hand-off or ``last.ckpt`` does not fit.
        NonFiniteLossError: the loss became NaN or infinite.
        SystemExit: SIGTERM or Ctrl-C came; ``last.ckpt`` is saved (143, 130).
    """
    loader = _loader(plan, task, images)
    model = _begin(plan, task, fresh_model(plan, images, loader), handoff)
    first = processes.rank(plan.training.processes, plan.training.per_node) == 0
    table = MetricsTable(folder / "metrics.csv", task, on_row, first=first)
    probes = _online_probes(plan, task, images, handoff, table)
    last = folder / "last.ckpt"
    settings = plan.training
    checkpointing = Checkpointing(
        last, loader, settings.checkpoint_frequency, settings.checkpoint_minutes, interruption
    )
    bar = [ProgressBar(table, plan.data.num_tasks)] if on_a_terminal() else []
    # The probes put their numbers into the table, the table's row goes into the checkpoint: the order matters.
    callbacks = [Seeding(plan.run.seed, task), *probes, table, checkpointing, *bar]
    trainer = settings.make_trainer(folder, callbacks, progress_bar=bool(bar))
    loader.deal(trainer.global_rank, trainer.world_size)
    try:
        fit(trainer, model, loader, last, interruption)
    finally:
        loader.close()
    _end(plan, model, trainer)
    return Trained(model, {probe.network: probe.probe.state_dict() for probe in probes}, trainer)


def fit(
    trainer: pl.Trainer, model: SSLMethod, loader: ResidentLoader | StreamLoader, last: Path, interruption: Interruption
) -> None:
    """Train, from ``last`` if it is there; leave with its exit code if a signal came.

    Raises:
        CassleError: another process is gone.
        SystemExit: SIGTERM or Ctrl-C came.
    """
    interruption.training = True
    with processes.connected():
        trainer.fit(model, loader, ckpt_path=last if last.is_file() else None, weights_only=True)
    interruption.training = False
    if interruption.requested:
        interruption.exit()


def agree_on_statistics(model: SSLMethod) -> None:
    """Give every process the first one's batch statistics: each has seen other batches."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for buffer in module.buffers():
                buffer.copy_(from_the_first(buffer))


def _end(plan: Plan, model: SSLMethod, trainer: pl.Trainer) -> None:
    """Let the model finish the task: at the end of its training, and with the statistics that will be written."""
    model.to(plan.training.device)  # Lightning has put it on the CPU
    steps = int(trainer.estimated_stepping_batches)
    model.progress = Progress.of(steps, plan.training.max_epochs).at(steps)
    agree_on_statistics(model)
    model.end_task()


def fresh_model(
    plan: Plan, images: TaskImages, loader: ResidentLoader | StreamLoader | None = None, *, side: int | None = None
) -> SSLMethod:
    """Return the model of a run as it is before task 0, settled in its data; ``side``: of images kept in a memory."""
    model = plan.build_model(side)
    model.settle(
        seed=plan.run.seed,
        num_train=len(images.train.targets),
        num_classes=len(images.classes),
        num_tasks=plan.data.num_tasks,
        images=loader,
    )
    return model


def _begin(plan: Plan, task: int, model: SSLMethod, handoff: Handoff | None) -> SSLMethod:
    if task == 0 and plan.run.pretrained_model:
        start_from(model, plan.run.pretrained_model, plan.backbone)
    with torch.random.fork_rng(devices=[]):  # a distillation predictor is initialised here
        torch.manual_seed(key(plan.run.seed, "begin_task", task))
        model.begin_task(task, handoff.weights if handoff else None)
    return model


def _loader(plan: Plan, task: int, images: TaskImages) -> ResidentLoader:
    train, settings = images.train, plan.training
    parts = (train.pixels, train.targets, images.split.train[task], plan.recipes)
    common = {
        "batch_size": settings.batch_size, "seed": plan.run.seed, "task": task, "world_size": settings.processes,
        "views_later": not STRATEGIES[plan.strategy].trains_on_arrivals,
    }  # fmt: skip
    if images.engine.name == "workers":
        return WorkerLoader(*parts, num_workers=plan.data.num_workers, device=settings.device, **common)
    if images.engine.name == "dali":
        from cassle.data.dali.loader import DaliLoader  # only where it is used: it needs DALI

        pixels, threads = train.pixels, max(plan.data.num_workers, 1)
        device = plan.data.dali_device
        return DaliLoader(pixels.paths, *parts[1:], pixels=pixels, num_threads=threads, device=device, **common)
    return ResidentLoader(*parts, **common)


def _online_probes(
    plan: Plan, task: int, images: TaskImages, handoff: Handoff | None, table: MetricsTable
) -> list[OnlineProbeCallback]:
    if plan.online.disabled or not images.classes:
        return []
    probes = [
        OnlineProbeCallback(
            plan.online,
            network,
            images,
            plan.eval_recipe,
            batch_size=plan.training.batch_size,
            seed=plan.run.seed,
            task=task,
            report=table.extra,
        )
        for network in ("backbone", *(["momentum"] if plan.online.momentum else []))
    ]
    probes = [probe for probe in probes if len(probe.members)]  # a task may have no labelled image
    for probe in probes:
        if handoff and probe.network in handoff.probes:
            probe.start_from(handoff.probes[probe.network])
    return probes
