"""What a run would do, without doing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import yaml

from cassle.data.engines import Engine
from cassle.data.expected import Expected, expected
from cassle.data.splits import class_order
from cassle.engine.estimate import disk, duration
from cassle.engine.missing import batch_problems
from cassle.engine.plan import Plan
from cassle.engine.results import batch_line
from cassle.engine.timetable import Timetable
from cassle.engine.trainer import quiet
from cassle.errors import CassleError, ConfigError


def describe(plan: Plan, *, warnings: Sequence[str] = (), say: Callable[[str], object] = print) -> None:
    """Print configuration, tasks, steps, parameters, disk, what is missing here; and last, as it takes a while, time.

    Args:
        plan: the run.
        warnings: further lines for the closing list.
        say: takes the lines.

    Raises:
        ConfigError: nothing could be trained on any machine; everything else is printed before.
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
    for line in [batch_line(plan), *_notes(plan)]:
        say(line)
    say(disk(plan, model, counts))
    impossible = _impossible(plan, found, counts)
    problems = [*warnings, *plan.missing_here()]
    problems = [line for line in [*problems, *(found.problems if found else [])] if line not in impossible]
    if problems:
        say("\n# Not on this machine, or not possible")
        for line in dict.fromkeys(problems):
            say(f"warning: {line}")
    say("\n# Time")
    if impossible:
        say("time: 0; nothing can be trained")
        raise ConfigError(impossible)
    say(duration(plan, model, counts, engine.name if engine else None))


def _impossible(plan: Plan, found: Expected | None, counts: list[int] | None) -> list[str]:
    """Return why nothing can be trained, whatever machine has this data: it gives too little, or not these tasks."""
    try:
        plan.data.parts()
    except CassleError:  # it is not here; what is known of a published data set stands for it
        return batch_problems(plan.training, counts) if counts and not plan.is_stream else []
    try:
        if not plan.is_stream:
            split = found.split if found else plan.data.split()
            return batch_problems(plan.training, [len(part) for part in split.train])
        _timetable(plan, found)
    except ConfigError as error:
        return error.problems
    except CassleError:  # a file is damaged: another machine may have it whole
        pass
    return []


def _notes(plan: Plan) -> list[str]:
    """Return what the run would note at its start; nothing while something that it looks at is missing."""
    try:
        return plan.notes()
    except CassleError:  # a warning tells why
        return []


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
        table = _timetable(plan, found)
    except ConfigError:
        say("it is too short, or has no end")
        return None
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


def _timetable(plan: Plan, found: Expected | None) -> Timetable:
    """Return the course of a stream of the images that are read, or as far as that is known."""
    if found is None:
        return plan.timetable()
    return plan.timetable_of(plan.stream.order(found.train.targets, found.split.train, plan.run.seed))
