"""What a machine lacks for a run: data, a checkpoint, a GPU, enough images for a batch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cassle.data.engines import missing_for
from cassle.engine.checkpoint import file_in, load
from cassle.engine.foreign import is_upstream
from cassle.engine.pretrained import start_from
from cassle.engine.trainer import Training
from cassle.errors import CassleError, CheckpointError
from cassle.nn.resnet import SMALL_IMAGE

if TYPE_CHECKING:
    from cassle.engine.plan import Plan


def missing_here(plan: Plan) -> list[str]:
    """Return what this machine lacks: data, a checkpoint, a GPU. One sentence each."""
    data, lacks = plan.data, plan.training.machine_problems()
    continues = data.engine == plan.engine_begun()
    lacks += missing_for(data.engine, data.dali_device, plan.training.device, continues=continues)
    problems = [*lacks, *plan.run.start_problems()]
    checkpoint = plan.run.pretrained_model
    if checkpoint is not None and not checkpoint.is_file():
        problems.append(f"--pretrained_model {checkpoint}: {file_in(checkpoint) or 'no such file.'}")
    elif checkpoint is not None and plan.run.task_idx == 1:
        problems += _foreign_tasks(plan, checkpoint)
    elif checkpoint is not None:
        problems += _unfit_weights(plan, checkpoint)
    try:
        if plan.is_stream:
            plan.timetable()
        else:
            problems += batch_problems(plan.training, (len(part) for part in data.split().train))
        if plan.evaluation_data is not None:
            plan.evaluation_data.choose_engine(plan.size, torch.device("cpu"), plan.training.per_node)
        if not (plan.streamed or lacks):
            plan.choose_engine()
    except CassleError as error:
        problems.append(str(error))
    return problems


def _unfit_weights(plan: Plan, weights: Path) -> list[str]:
    """Return why the encoder cannot start from these weights."""
    try:
        start_from(plan.build_model(), weights, plan.backbone)
    except CheckpointError as error:
        stem = plan.values.get("stem_padding") is not None and plan.size <= SMALL_IMAGE
        hint = f" Up to {SMALL_IMAGE} pixels a ResNet has a 3×3 stem; --size changes it." if stem else ""
        return [f"{error}{hint}"]
    return []


def _foreign_tasks(plan: Plan, checkpoint: Path) -> list[str]:
    """Return why a checkpoint cannot be the hand-off of this run's task 0."""
    try:
        content = load(checkpoint)
    except CheckpointError as error:
        return [f"--pretrained_model {error}"]
    trained = content.get("cassle", {}).get("config", {})
    names = ("dataset", "num_tasks", "split_strategy", "split_seed", "method", "backbone")
    odd = [f"--{n} {trained.get(n)} there, {plan.values[n]} here" for n in names if trained.get(n) != plan.values[n]]
    if not trained and is_upstream(content):  # it does not say what it was trained on
        return []
    if not trained:
        return [f"--pretrained_model {checkpoint}: neither a final.ckpt of cassle nor one of CaSSLe's own code."]
    return [f"--pretrained_model {checkpoint}: was trained for other tasks ({'; '.join(odd)})."] if odd else []


def batch_problems(training: Training, counts: Iterable[int], *, loaded: bool = False) -> list[str]:
    """Return why a task cannot fill a batch of all processes, in one sentence; nothing if all can.

    Args:
        training: batch and processes.
        counts: of training images, of every task.
        loaded: whether these are the images that the engine reads, of an experiment whose folder is claimed.
    """
    size, processes = training.batch_size, training.processes
    for task, count in enumerate(counts):
        if count >= size * processes:
            continue
        fixes = [f"use --batch_size {count // processes} or less"] if count >= processes else ["use fewer tasks"]
        if loaded:
            fixes = ["bring back what was left out", f"{fixes[0]} and start anew with --overwrite"]
        has = f"task {task} has only {count} images{' that are read' if loaded else ''} for {processes} process(es)"
        return [f"--batch_size {size}: {has}; {', or '.join(fixes)}."]
    return []
