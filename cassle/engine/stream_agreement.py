"""What cannot be had together with a stream, or not without one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from cassle.data.iterators import source_problem
from cassle.data.stream_settings import StreamData
from cassle.engine.choice import COUNTED_IN_EPOCHS
from cassle.methods import METHODS
from cassle.strategies import STRATEGIES

if TYPE_CHECKING:
    from cassle.engine.plan import Plan

#: settings that only some streams have, and when
BELONGING: dict[str, tuple[tuple[str, ...], Callable[[Plan], bool]]] = {
    "--stream runs": (("n_cls_samples",), lambda plan: plan.stream.stream == "runs"),
    "--dataset list": (("stream_file",), lambda plan: plan.data.dataset == "list"),
    "--dataset list and --stream class": (
        ("subsample",),
        lambda plan: plan.data.dataset == "list" or plan.stream.stream == "class",
    ),
    "--dataset video": (("fps", "n_seq_samples", "seq_sampling"), lambda plan: plan.data.dataset == "video"),
}


def stream_problems(plan: Plan) -> list[str]:
    """Return what does not go together, one sentence each; a component that could not be built is None."""
    if any(part is None for part in (plan.data, plan.stream, plan.training, plan.run, plan.online)):
        return []
    if problems := _of_the_source(plan):
        return problems
    given = _given(plan)
    if not plan.is_stream:
        return [f"--{flag}: is for streams; give --stream class, iid or runs." for flag in given]
    misplaced = [
        f"--{flag} {plan.values[flag]}: is for {where}; leave it out."
        for where, (flags, holds) in BELONGING.items()
        for flag in flags
        if flag in given and not holds(plan)
    ]
    return [*plan.stream.problems_with(plan.data.dataset), *misplaced, *_of_the_run(plan), *_of_the_choice(plan)]


def _given(plan: Plan) -> list[str]:
    """Return the settings of streams that are not at their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(StreamData).parameters.items()}
    return [name for name, default in defaults.items() if name != "stream" and plan.values[name] != default]


def _of_the_source(plan: Plan) -> list[str]:
    if (plan.data.dataset == "iterator") == (plan.source is not None):
        if plan.source is not None and (problem := source_problem(plan.source)):
            return [problem]
        if plan.source is not None and plan.training.processes > 1 and not callable(plan.source):
            return ["images: an iterable has one reader, and there are several processes; hand in open(position)."]
        return []
    if plan.source is None:
        return ["--dataset iterator: the images come from Python; use cassle.Experiment(images=...) there."]
    return [f"dataset={plan.data.dataset!r}: images= are the data set; leave dataset out."]


def _of_the_run(plan: Plan) -> list[str]:
    problems, training = [], plan.training
    if training.max_epochs != 1:
        problems.append(
            f"--max_epochs {training.max_epochs}: a stream has no epochs; give --stream_epochs for more passes over "
            "it, or --num_updates for more steps."
        )
    if training.accumulate != 1:
        problems.append(
            f"--accumulate_grad_batches {training.accumulate}: not with a stream; give a larger --batch_size."
        )
    problems += _of_the_epochs(plan)
    if plan.run.task_idx:
        problems.append(f"--task_idx {plan.run.task_idx}: a stream has no tasks; leave the flag out.")
    if plan.data.engine == "dali":
        problems.append("--engine dali: is for tasks; a stream is read in its own order. Leave it out.")
    elif plan.data.engine == "auto" and plan.data.asked_dali_device:
        device = plan.data.asked_dali_device
        problems.append(f"--dali_device {device}: is for --engine dali, which no stream has; leave it out.")
    if not plan.online.disabled:
        problems.append("--disable_online_eval false: the online probe is for tasks; a stream is evaluated --eval_at.")
    return problems


def _of_the_epochs(plan: Plan) -> list[str]:
    problems, values = [], plan.values
    if values["warmup_epochs"] >= 1:
        problems.append(
            f"--warmup_epochs {values['warmup_epochs']:g}: a stream counts as one epoch, whatever its length; give a "
            "part of it, e.g. 0.05."
        )
    problems += [
        f"--{name} {values[name]:g}: a stream has no epochs; give 0."
        for name in COUNTED_IN_EPOCHS[1:]
        if values.get(name)
    ]
    if values["schedule_interval"] == "epoch":
        problems.append("--schedule_interval epoch: a stream has no epochs; give step.")
    if values["scheduler"] == "step":
        problems.append("--scheduler step: decays at epochs, which a stream has not; take cosine, triangle or none.")
    if values["checkpoint_frequency"] != 1:
        problems.append(
            f"--checkpoint_frequency {values['checkpoint_frequency']}: counts epochs; give --checkpoint_minutes."
        )
    if values.get("memory_insert") == "every_epoch" and "minred" not in plan.strategy.split("+"):
        problems.append("--memory_insert every_epoch: what arrives in a stream enters the memory once; leave it out.")
    return problems


def _of_the_choice(plan: Plan) -> list[str]:
    problems = []
    if STRATEGIES[plan.strategy].needs_tasks:
        able = [name for name in STRATEGIES if not STRATEGIES[name].needs_tasks and name != "finetune"]
        problems.append(
            f"--strategy {plan.strategy}: has to know where a task ends, which a stream does not say; take "
            f"{', '.join(able)}."
        )
    if plan.distiller:
        problems.append(f"--distiller {plan.distiller}: distils from the last task's network; a stream has no tasks.")
    if METHODS[plan.method].min_epochs > 1:
        problems.append(f"--method {plan.method}: looks at all images of a task before it learns; take another one.")
    if plan.stream.warm_up and "minred" not in plan.strategy.split("+"):
        problems.append(f"--memory_warm_up {plan.stream.warm_up}: is for --strategy minred, which trains on it alone.")
    size = plan.values.get("mem_size")
    if size is not None and plan.stream.warm_up > size:
        problems.append(
            f"--memory_warm_up {plan.stream.warm_up}: more than --mem_size {size} holds; give {size} or less."
        )
    return problems
