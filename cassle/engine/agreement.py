"""What the components of a run cannot know of each other: whether they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from cassle.engine.stream_agreement import stream_problems
from cassle.errors import ConfigError
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.strategies import STRATEGIES
from cassle.strategies.base import Strategy

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
    batch, processes = plan.training.batch_size, plan.training.processes
    problems = _batch_problems(plan, model)
    if plan.training.max_epochs < model.min_epochs:
        problems.append(
            f"--max_epochs {plan.training.max_epochs}: {plan.method} learns nothing in the first epoch of a task; give "
            f"{model.min_epochs} or more."
        )
    return [*problems, *model.problems_with(batch, processes)]


def _batch_problems(plan: Plan, model: SSLMethod) -> list[str]:
    """Return which batches are too small: for the objective, and for batch norm, which sees those of one process."""
    training, problems = plan.training, []
    gathered = training.processes if getattr(model, "gather", True) else 1
    seen = training.processes if training.sync_batchnorm else 1
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    batch = training.batch_size
    at_once = model.trained_at_once(batch) if isinstance(model, Strategy) else {"--batch_size": batch}
    for flag, images in at_once.items():
        if images * gathered < model.smallest_batch:
            needed = f"{plan.method} with these settings needs at least {model.smallest_batch} images"
            problems.append(f"{flag} {images}: {needed} (of all processes).")
        elif normed and images * seen < 2:
            problems.append(
                f"{flag} {images}: batch norm has the images of one process, and one has no variance; give 2 or more, "
                "or --sync_batchnorm."
            )
    if batch < 2 and not problems and not plan.online.disabled and plan.online.batch_size is None:
        problems.append(
            f"--batch_size {batch}: the online probe takes as many labelled images, and normalises its features over "
            "them; give --online_eval_batch_size 2 or more, or --disable_online_eval."
        )
    return problems


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
