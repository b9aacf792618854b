"""What the components of a run cannot know of each other: whether they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cassle.engine.stream_agreement import stream_problems
from cassle.errors import ConfigError
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.strategies import STRATEGIES

if TYPE_CHECKING:
    from cassle.engine.plan import Plan


def settings_problems(plan: Plan) -> list[str]:
    """Return where the settings of a plan disagree, one sentence each; a component that could not be built is None."""
    problems = [*_view_problems(plan), *_label_problems(plan), *stream_problems(plan)]
    if plan.run and plan.data and plan.run.task_idx >= plan.data.num_tasks:
        problems.append(f"--task_idx {plan.run.task_idx}: there are only {plan.data.num_tasks} tasks (from 0).")
    if plan.online and plan.online.momentum and not METHODS[plan.method].has_momentum_teacher:
        problems.append(f"--momentum_classifier: {plan.method} has no momentum teacher; leave the flag out.")
    if plan.optimization and plan.training:
        plan.optimization.images_per_step = plan.training.images_per_step
        problems += plan.optimization.warm_up_problems()
    if plan.augmentation and plan.data:
        try:
            plan.recipes  # noqa: B018 - building the recipes checks their values
        except ConfigError as error:
            problems += error.problems
    return problems


def model_problems(plan: Plan, model: SSLMethod) -> list[str]:
    """Return what is too small for the model of a plan, one sentence each: batch, number of epochs, memory."""
    batch, processes, problems = plan.training.batch_size, plan.training.processes, []
    images = batch * (processes if getattr(model, "gather", True) else 1)
    if images < model.smallest_batch:
        problems.append(
            f"--batch_size {batch}: {plan.method} with these settings needs at least {model.smallest_batch} images (of "
            "all processes)."
        )
    if plan.training.max_epochs < model.min_epochs:
        problems.append(
            f"--max_epochs {plan.training.max_epochs}: {plan.method} learns nothing in the first epoch of a task; give "
            f"{model.min_epochs} or more."
        )
    return [*problems, *model.problems_with(batch, processes)]


def _label_problems(plan: Plan) -> list[str]:
    """Return what a method or a strategy that learns from labels cannot do with the data."""
    if plan.data is None:
        return []
    problems, without, streamed = [], plan.data.location.no_labels, plan.data.dataset in ("video", "frames")
    if (without or streamed) and METHODS[plan.method].needs_labels:
        which = f"--dataset {plan.data.dataset}" if streamed else "--no_labels"
        problems.append(f"{which}: {plan.method} needs labels; give them, or use another --method.")
    if not STRATEGIES[plan.strategy].wants_labels:
        return problems
    if without:
        problems.append(f"--no_labels: --strategy {plan.strategy} learns from labels; take another one.")
    if late := [task for task in plan.values["label_tasks"] or [] if task >= plan.data.num_tasks]:
        tasks = " ".join(map(str, late))
        problems.append(f"--label_tasks {tasks}: there are only {plan.data.num_tasks} tasks (from 0).")
    return problems


def _view_problems(plan: Plan) -> list[str]:
    """Return what the method cannot do with the views."""
    kind, views, problems = METHODS[plan.method], plan.augmentation, []
    if views is None:
        return []
    if views.num_crops < kind.min_views or (kind.max_views and views.num_crops > kind.max_views):
        limits = f"{kind.min_views} or more" if kind.max_views is None else str(kind.max_views)
        problems.append(f"--num_crops {views.num_crops}: {plan.method} takes {limits} full-size views.")
    if views.num_small_crops and not kind.multicrop:
        able = [name for name in METHODS if METHODS[name].multicrop]
        problems.append(
            f"--num_small_crops {views.num_small_crops}: {plan.method} takes no small crops; {', '.join(able)} do."
        )
    return problems
