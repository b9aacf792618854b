"""What tells a run from others in its results: its settings and its tasks, the same wherever it was computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cassle.engine.folder import FREE, SUMS
from cassle.engine.plan import Plan
from cassle.strategies import STRATEGIES

#: settings that say where and how fast a run computes, or where its files lie; the engine stands in the protocol
MACHINES = {
    "gpus", "accelerator", "devices", "num_nodes", "trainer_strategy", "engine", "dali_device",
    "train_dir", "val_dir", "eval_data_dir",
}  # fmt: skip
WEIGHTS = "pretrained_model"


def identity_of(plan: Plan, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``{"settings", "not_default", "tasks"}``, which have no paths, machines or dates in them.

    ``settings`` are all that determine the results; of ``pretrained_model`` they only tell that it was given.
    ``not_default`` are the names of those that somebody has chosen, ``tasks`` the classes of each task, or its content
    in words; None where there are none.

    Args:
        plan: the run.
        manifest: what its data is recognised by; None without one.
    """
    defaults, _ = plan.schema.read({})
    defaults["memory"] = STRATEGIES[plan.strategy].default_memory  # a strategy brings one
    settings = {name: value for name, value in plan.config().items() if name not in FREE | SUMS | MACHINES}
    chosen = [name for name, value in settings.items() if value != defaults[name]]
    if plan.run.pretrained_model is not None:
        settings[WEIGHTS], chosen = "given", [*chosen, WEIGHTS]
    return {"settings": settings, "not_default": chosen, "tasks": _tasks(manifest or {})}


def _tasks(manifest: Mapping[str, Any]) -> list[Any] | None:
    names = manifest.get("classes", [])
    contents = [task["contents"] for task in manifest.get("tasks", [])]
    return [[names[i] for i in own] if isinstance(own, list) else own for own in contents] or None
