"""What cannot be had together with a stream, or not without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cassle.methods import METHODS
from cassle.strategies import STRATEGIES

if TYPE_CHECKING:
    from cassle.engine.plan import Plan


def stream_problems(plan: Plan) -> list[str]:
    """Return what does not go together, one sentence each; a component that could not be built is None."""
    if any(part is None for part in (plan.data, plan.stream, plan.training, plan.run, plan.online)):
        return []
    if not plan.is_stream:
        stream = plan.stream
        given = {"num_updates": stream.num_updates > 1, "payload": stream.payload, "memory_warm_up": stream.warm_up}
        return [f"--{flag}: is for streams; give --stream class, iid or runs." for flag in given if given[flag]]
    return [
        *plan.stream.problems_with(plan.data.dataset),
        *_of_the_source(plan),
        *_of_the_run(plan),
        *_of_the_choice(plan),
    ]


def _of_the_source(plan: Plan) -> list[str]:
    if (plan.data.dataset == "iterator") == (plan.source is not None):
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
    if plan.run.task_idx:
        problems.append(f"--task_idx {plan.run.task_idx}: a stream has no tasks; leave the flag out.")
    if not plan.online.disabled:
        problems.append("--disable_online_eval false: the online probe is for tasks; a stream is evaluated --eval_at.")
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
    return problems
