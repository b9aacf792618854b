"""How long a training will take, and how much disk: from one step that is timed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from cassle.data.batch import Batch
from cassle.engine.plan import Plan
from cassle.methods.base import SSLMethod
from cassle.strategies.base import Strategy

PROBE_BATCH = 16  # images of the step that is timed: enough for batch statistics, cheap on a CPU
TEACHER = 1 / 3  # what a frozen teacher adds: one forward pass, beside a forward and a backward one, which takes two


def estimate(
    plan: Plan, model: SSLMethod, counts: Sequence[int] | None, engine: str | None, say: Callable[[str], object]
) -> None:
    """Print how much disk and how much time the run will take, and what is not counted.

    Args:
        plan: the run.
        model: as it begins.
        counts: images of every task, of a stream those of all its steps; None if they are not known.
        engine: who makes the views; None if that is not known.
        say: takes the lines.
    """
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
    own = plan.training.batch_size * len(plan.recipes)
    tasks = range(plan.run.task_idx, len(counts))
    passed = {task: _views_of_step(plan, model, task) for task in tasks}
    seconds = sum(
        counts[task] * plan.training.max_epochs / (plan.training.batch_size * plan.training.processes)
        * passed[task] * (1 + TEACHER * bool(plan.distiller and task)) / rate
        for task in tasks
    )  # fmt: skip
    most = max(passed.values())
    replay = f"; with --strategy {plan.strategy} up to {most} views a step, without {own}" if most != own else ""
    say(
        f"time: {_duration(seconds)} of training at {rate:.0f} views/s ({_where(plan)}){replay}. "
        f"Not counted: {'; '.join(_not_counted(plan, engine))}."
    )


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
    """Time a training step (forward and backward) of a few images, without a replay."""
    draws, images = torch.Generator().manual_seed(0), max(PROBE_BATCH, model.smallest_batch)
    views = [torch.randn(images, 3, r.size, r.size, generator=draws) for r in plan.recipes]
    large = sum(not recipe.local for recipe in plan.recipes)
    # Not the last pass: nothing arrives in a memory, so that there is nothing to draw from it.
    batch = Batch(torch.arange(images), views, torch.zeros(images, dtype=torch.int64), large, last_pass=False)
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
