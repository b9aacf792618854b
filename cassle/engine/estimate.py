"""How long a training will take, and how much disk: from one step that is timed here."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from cassle.data.batch import Batch
from cassle.engine.plan import Plan
from cassle.methods.base import SSLMethod
from cassle.strategies.base import Strategy

PROBE_BATCH = 16  # images of the step that is timed: enough for batch statistics, cheap on a CPU
SLOW = 5.0  # seconds that a timed step may take; where it would take longer, the few images of the first one must do
TEACHER = 1 / 3  # what a frozen teacher adds: one forward pass, beside a forward and a backward one, which takes two


def disk(plan: Plan, model: SSLMethod, counts: Sequence[int] | None) -> str:
    """Return how much disk the run will take, in a line; arguments as of :func:`duration`."""
    state = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    optimizer = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    factor = 2 if plan.distiller else 1  # from task 1 on the teacher lies in the checkpoint too
    kept = len(plan.timetable().evaluations) if plan.is_stream and counts else plan.data.num_tasks
    return f"disk: {(kept * factor * state + factor * state + optimizer) / 1e6:.0f} MB"


def duration(plan: Plan, model: SSLMethod, counts: Sequence[int] | None, engine: str | None) -> str:
    """Return how much time the run will take, and what is not counted, in a line; this takes some seconds.

    Args:
        plan: the run.
        model: as it begins.
        counts: images of every task, of a stream those of all its steps; None if they are not known.
        engine: who makes the views; None if that is not known.
    """
    if counts is None:
        return "time: unknown without the data"
    rate = _views_per_second(plan, model)
    own = plan.training.batch_size * len(plan.recipes)
    tasks = range(plan.run.task_idx, len(counts))
    passed = {task: _views_of_step(plan, model, task) for task in tasks}
    whole = plan.training.batch_size * plan.training.processes
    seconds = sum(
        counts[task] // whole * plan.training.max_epochs * passed[task] * _with_teacher(plan, task) / rate
        for task in tasks
    )
    most = max(passed.values())
    more = f"; with --strategy {plan.strategy} up to {most} views a step, without {own}" if most != own else ""
    if any(_with_teacher(plan, task) > 1 for task in tasks):
        more += f"; from task 1 on a third more for the teacher of --distiller {plan.distiller}"
    return (
        f"time: {in_words(seconds)} of training at {rate:.0f} views/s ({_where(plan)}){more}. "
        f"Not counted: {'; '.join(_not_counted(plan, engine))}."
    )


def _with_teacher(plan: Plan, task: int) -> float:
    """Return the time of a step over that of one without a teacher, of which task 0 has none."""
    return 1 + TEACHER if plan.distiller and task else 1.0


def _views_of_step(plan: Plan, model: SSLMethod, task: int) -> int:
    batch, views = plan.training.batch_size, len(plan.recipes)
    return model.views_of_step(batch, views, task) if isinstance(model, Strategy) else batch * views


def _not_counted(plan: Plan, engine: str | None) -> list[str]:
    threads, decoding = plan.data.num_workers, ""
    if plan.is_stream and (plan.streamed or engine == "workers"):
        decoding = f", for which {max(threads, 1)} thread(s) decode what arrives"
    elif engine in ("workers", "dali"):
        how = f"{threads} process(es)" if engine == "workers" else f"{max(threads, 1)} thread(s)"
        decoding = f", for which the engine {engine} decodes every image in every epoch ({how})"
    slower = "; the slower of the two, network or decoding, sets the time" if decoding else ""
    besides = [f"what --strategy {plan.strategy} does with its memory besides"] if plan.memory else []
    return ["evaluation", f"making the views{decoding}{slower}", *besides]


def _where(plan: Plan) -> str:
    here = "measured here on the CPU"
    return here + ", not on the GPU that the run asks for" if plan.training.on_gpu else here


def _views_per_second(plan: Plan, model: SSLMethod) -> float:
    """Time a training step (forward and backward) of a few images, without a replay; where it is slow, of very few."""
    few, enough = model.smallest_batch, max(PROBE_BATCH, model.smallest_batch)
    model.settle(
        num_train=enough, num_classes=plan.data.benchmark.num_classes or 1, num_tasks=plan.data.num_tasks
    )  # fmt: skip
    model.begin_task(0, None)
    first = _seconds_of_step(plan, model, few)  # which also warms up
    if first / few * enough > SLOW:
        seconds = min(first, _seconds_of_step(plan, model, few)) if first < SLOW else first
        return few * len(plan.recipes) / seconds
    return enough * len(plan.recipes) / min(_seconds_of_step(plan, model, enough) for _ in range(2))


def _seconds_of_step(plan: Plan, model: SSLMethod, images: int) -> float:
    draws = torch.Generator().manual_seed(0)
    views = [torch.randn(images, 3, r.size, r.size, generator=draws) for r in plan.recipes]
    large = sum(not recipe.local for recipe in plan.recipes)
    # Not the last pass: nothing arrives in a memory, so that there is nothing to draw from it.
    batch = Batch(torch.arange(images), views, torch.zeros(images, dtype=torch.int64), large, last_pass=False)
    start = time.perf_counter()
    terms = model.losses(batch, model.forward_views(batch.views))
    torch.stack(list(terms.values())).sum().backward()
    return time.perf_counter() - start


def in_words(seconds: float) -> str:
    """Return a time as people say it: seconds, minutes, from 90 of them on hours, and from 48 of those on days."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 90:
        return f"about {minutes:.0f} min"
    return f"about {hours:.1f} h" if hours < 48 else f"about {hours / 24:.1f} days"
