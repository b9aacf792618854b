"""What a run would do, without doing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import yaml

from cassle.data.engines import Engine
from cassle.data.expected import Expected, expected
from cassle.data.splits import class_order
from cassle.engine.estimate import estimate
from cassle.engine.missing import batch_problems
from cassle.engine.plan import Plan
from cassle.engine.results import batch_line
from cassle.engine.timetable import Timetable
from cassle.engine.trainer import quiet
from cassle.errors import CassleError


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
    engine = _engine(plan)
    found = None if plan.streamed else _expected(plan, engine)
    counts = _stream(plan, found, say) if plan.is_stream else _tasks(plan, found, say)
    for line in [*(found.lines if found else []), *([engine.line] if engine else [])]:
        say(line)
    model = plan.build_model()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    backbone = sum(p.numel() for p in model.backbone.parameters())
    say("\n# Model")
    say(f"{plan.backbone}: {backbone / 1e6:.2f} M parameters; {plan.method}: {parameters / 1e6:.2f} M to train")
    say(batch_line(plan))
    estimate(plan, model, counts, engine.name if engine else None, say)
    problems = [*warnings, *plan.missing_here()]
    problems += [line for line in _of_what_is_left(plan, found) if line not in problems]
    if problems:
        say("\n# Not on this machine, or not possible")
        for line in problems:
            say(f"warning: {line}")


def _engine(plan: Plan) -> Engine | None:
    """Return who will make the views; None where that is not known, or there is no such choice."""
    if plan.streamed or plan.training.machine_problems():
        return None
    try:
        return plan.choose_engine()
    except CassleError:  # a warning tells why
        return None


def _expected(plan: Plan, engine: Engine | None) -> Expected | None:
    """Return which images the run will read; None without the data."""
    try:
        return expected(plan.data, engine.name if engine else None)
    except CassleError:  # a warning tells why
        return None


def _of_what_is_left(plan: Plan, found: Expected | None) -> list[str]:
    """Return why what is read is too little, where all there is would not be."""
    if found is None:
        return []
    whole, left = ([] if plan.is_stream else [len(part) for part in s.train] for s in (plan.data.split(), found.split))
    return [*found.problems, *([] if batch_problems(plan.training, whole) else batch_problems(plan.training, left))]


def _tasks(plan: Plan, found: Expected | None, say: Callable[[str], object]) -> list[int] | None:
    """Print the tasks; return their numbers of images, None when they are not known."""
    data, training = plan.data, plan.training
    say(f"\n# Tasks ({data.dataset}, split by {data.split_strategy})")
    if found is not None:
        counts, contents = [len(part) for part in found.split.train], found.split.contents
    else:
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
    return counts


def _stream(plan: Plan, found: Expected | None, say: Callable[[str], object]) -> list[int] | None:
    """Print the course of a stream; return the images of all its steps, None when they are not known."""
    data, training, stream = plan.data, plan.training, plan.stream
    say(f"\n# Stream ({data.dataset}, order {'as it comes' if stream.stream == 'none' else stream.stream})")
    if data.dataset == "iterator":
        say("the images come from Python, so nothing is known of them")
        return None
    try:
        table = plan.timetable() if found is None else _timetable(plan, found)
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


def _timetable(plan: Plan, found: Expected) -> Timetable:
    """Return the course of a stream of the images that are read."""
    return plan.timetable_of(plan.stream.order(found.train.targets, found.split.train, plan.run.seed))
