"""What a run would do, without doing it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
import yaml

from cassle.data.batch import Batch
from cassle.data.splits import class_order
from cassle.engine.plan import Plan
from cassle.engine.results import batch_line
from cassle.engine.trainer import quiet
from cassle.errors import CassleError
from cassle.methods.base import SSLMethod

PROBE_BATCH = 16  # images of the step that is timed: enough for batch statistics, cheap on a CPU


def describe(plan: Plan, *, warnings: Sequence[str] = (), say: Callable[[str], object] = print) -> None:
    """Print configuration, tasks, steps, parameters, and an estimate of time and disk; then what is missing here.

    Args:
        plan: the run.
        warnings: further lines for the closing list.
        say: takes the lines.
    """
    quiet()
    plan.data.look_only()
    say("# Configuration")
    say(yaml.safe_dump(plan.config(), sort_keys=False).rstrip())
    counts = _stream(plan, say) if plan.is_stream else _tasks(plan, say)
    model = plan.build_model()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    backbone = sum(p.numel() for p in model.backbone.parameters())
    say("\n# Model")
    say(f"{plan.backbone}: {backbone / 1e6:.2f} M parameters; {plan.method}: {parameters / 1e6:.2f} M to train")
    say(batch_line(plan))
    _estimate(plan, model, counts, say)
    found = [*warnings, *plan.missing_here()]
    if found:
        say("\n# Not on this machine, or not possible")
        for line in found:
            say(f"warning: {line}")


def _tasks(plan: Plan, say: Callable[[str], object]) -> list[int] | None:
    """Print the tasks; return their numbers of images, None when they are not known."""
    data, training = plan.data, plan.training
    say(f"\n# Tasks ({data.dataset}, split by {data.split_strategy})")
    try:
        split = data.split()
        counts, contents = [len(part) for part in split.train], split.contents
    except CassleError:
        known = data.benchmark
        if not known.num_train or data.split_strategy == "domain":
            say(f"{data.num_tasks} tasks; the data is not on this machine, so the numbers of images are unknown")
            return None
        counts = [known.num_train // data.num_tasks] * data.num_tasks
        contents = [""] * data.num_tasks
        if data.split_strategy == "class":
            contents = class_order(known.num_classes, data.num_tasks, data.class_seed)
    size = training.batch_size * training.processes
    for task, count in enumerate(counts):
        steps = math.ceil(count // size / training.accumulate) * training.max_epochs
        say(f"task {task}: {count} images, {steps} steps of {training.images_per_step}; {contents[task]}")
    if not training.machine_problems():
        with suppress(CassleError):  # a warning tells why there is none
            say(plan.choose_engine().line)
    return counts


def _stream(plan: Plan, say: Callable[[str], object]) -> list[int] | None:
    """Print the course of a stream; return the images of all its steps, None when they are not known."""
    data, training, stream = plan.data, plan.training, plan.stream
    say(f"\n# Stream ({data.dataset}, order {'as it comes' if stream.stream == 'none' else stream.stream})")
    if data.dataset == "iterator":
        say("the images come from Python, so nothing is known of them")
        return None
    try:
        table = plan.timetable()
    except CassleError:
        say("the data is not on this machine, so its length is unknown")
        return None
    whole = training.images_per_step
    say(f"{table.num_samples} samples arrive, {whole} at a time; {table.num_updates} steps for each batch")
    if table.warm_up:
        say(f"{table.warm_up * whole} samples arrive before the first step")
    places = ", ".join(f"{batches * table.num_updates}" for batches in table.evaluations)
    say(f"{table.total_steps} steps; evaluated after steps {places}")
    return [table.total_steps * whole]


def _estimate(plan: Plan, model: SSLMethod, counts: list[int] | None, say: Callable[[str], object]) -> None:
    state = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    optimizer = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    factor = 2 if plan.distiller else 1  # from task 1 on the teacher lies in the checkpoint too
    kept = len(plan.timetable().evaluations) if plan.is_stream and counts else plan.data.num_tasks
    disk = kept * factor * state + factor * state + optimizer
    say(f"\n# Estimate\ndisk: {disk / 1e6:.0f} MB")
    if counts is None:
        say("time: unknown without the data")
        return
    rate = _views_per_second(plan, model)
    views = sum(counts[plan.run.task_idx :]) * plan.training.max_epochs * len(plan.recipes)
    extra = 1 + (1 / 3 if plan.distiller else 0)  # the teacher's forward pass: one of (forward, backward = 2 forward)
    seconds = views * extra / rate / plan.training.processes
    without = "evaluation" if plan.strategy == "finetune" else f"evaluation, and replay of --strategy {plan.strategy},"
    say(f"time: {_duration(seconds)} of training at {rate:.0f} views/s ({_where(plan)}), {without} not counted")


def _where(plan: Plan) -> str:
    here = "measured here on the CPU"
    return here + ", not on the GPU that the run asks for" if plan.training.on_gpu else here


def _views_per_second(plan: Plan, model: SSLMethod) -> float:
    """Time a training step (forward and backward) of a few images."""
    draws, images = torch.Generator().manual_seed(0), max(PROBE_BATCH, model.smallest_batch)
    views = [torch.randn(images, 3, r.size, r.size, generator=draws) for r in plan.recipes]
    large = sum(not recipe.local for recipe in plan.recipes)
    batch = Batch(torch.arange(images), views, torch.zeros(images, dtype=torch.int64), large)
    classes, tasks = plan.data.benchmark.num_classes or 1, plan.data.num_tasks
    model.settle(num_train=images, num_classes=classes, num_tasks=tasks)
    model.begin_task(0, None)
    seconds = []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        terms = model.losses(batch, model.forward_views(batch.views))
        torch.stack(list(terms.values())).sum().backward()
        seconds.append(time.perf_counter() - start)
    return images * len(views) / min(seconds)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
