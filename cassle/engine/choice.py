"""The choice of a run: method, distiller, strategy, memory, backbone; and the settings that come with the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from cassle.data import BENCHMARKS
from cassle.data.module import TaskData
from cassle.data.recipe import Augmentation
from cassle.data.stream_settings import STREAMED, StreamData
from cassle.distill import DISTILLERS
from cassle.engine.run import Run
from cassle.engine.settings import Component, Schema, belonging, settings_of
from cassle.engine.trainer import Training
from cassle.engine.wandb_run import WandB
from cassle.errors import ConfigError
from cassle.evaluation.online import OnlineProbe
from cassle.evaluation.protocol import Evaluation
from cassle.memory import MEMORIES
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn import BACKBONES
from cassle.optim.build import Optimization
from cassle.registry import Registry
from cassle.strategies import STRATEGIES

NOTHING = (None, "", "none", "None", "null")


class Choice(NamedTuple):
    """The chosen components, by their listed names; None for none."""

    method: str = "barlow_twins"
    distiller: str | None = None
    strategy: str = "finetune"
    memory: str | None = None
    backbone: str = "resnet18"
    stream: bool = False

    @property
    def parts(self) -> dict[str, tuple[Registry, str | None]]:
        """By flag, the registry and the choice in it."""
        return {flag: (registry, getattr(self, flag)) for flag, registry in REGISTRIES.items()}


REGISTRIES = {
    "method": METHODS,
    "distiller": DISTILLERS,
    "strategy": STRATEGIES,
    "memory": MEMORIES,
    "backbone": BACKBONES,
}


def choose(values: Mapping[str, Any]) -> Choice:
    """Return the choice in unresolved values.

    Raises:
        ConfigError: an unknown name, or components that do not go together.
    """
    problems: list[str] = []

    def canonical(registry: Registry, name: Any) -> str:
        try:
            return registry.canonical(str(name))
        except ConfigError as error:
            problems.extend(error.problems)
            return next(iter(registry))

    method = canonical(METHODS, values.get("method", "barlow_twins"))
    kind = METHODS[method]
    backbone = canonical(BACKBONES, values.get("backbone", kind.defaults.get("backbone", "resnet18")))
    canonical(BENCHMARKS, values.get("dataset", "digits"))
    distiller = values.get("distiller")
    if distiller in NOTHING:
        distiller = None
    else:
        distiller = kind.auto_distiller if distiller == "auto" else canonical(DISTILLERS, distiller)
    strategy = values.get("strategy")
    strategy = "finetune" if strategy in NOTHING else canonical(STRATEGIES, strategy)
    memory = values.get("memory")
    usual = memory in (*NOTHING, "default")
    memory = STRATEGIES[strategy].default_memory if usual else canonical(MEMORIES, memory)
    stream = values.get("dataset") in STREAMED or values.get("stream") not in NOTHING
    choice = Choice(method, distiller, strategy, memory, backbone, stream)
    problems = problems or [problem for check in CHECKS if (problem := check(choice))]
    if problems:
        raise ConfigError(problems)
    return choice


def _needs_prototypes(choice: Choice) -> str | None:
    kind = METHODS[choice.method]
    if choice.distiller is None or not DISTILLERS[choice.distiller].needs_prototypes or kind.has_prototypes:
        return None
    having = [name for name in METHODS if METHODS[name].has_prototypes]
    return (
        f"--distiller {choice.distiller}: needs prototypes, which {', '.join(having)} have; with --method "
        f"{choice.method} use {kind.auto_distiller} (or auto)."
    )


def _memory_fits(choice: Choice) -> str | None:
    kind = STRATEGIES[choice.strategy]
    if choice.memory is None or choice.memory in kind.memories:
        return None
    takes = f"takes {' or '.join(kind.memories)}" if kind.memories else "keeps no memory; leave --memory out"
    return f"--memory {choice.memory}: --strategy {choice.strategy} {takes}."


def _strategy_fits(choice: Choice) -> str | None:
    reason = STRATEGIES[choice.strategy].refuses(METHODS[choice.method], choice.distiller)
    return reason and f"--strategy {choice.strategy}: {reason}"


CHECKS: tuple[Callable[[Choice], str | None], ...] = (_needs_prototypes, _memory_fits, _strategy_fits)


@cache
def model_class(method: str, distiller: str | None = None, strategy: str = "finetune") -> type[SSLMethod]:
    """Return the class that is trained."""
    ways = [DISTILLERS[distiller]] if distiller else []
    return compose(METHODS[method], *ways, *([STRATEGIES[strategy]] if strategy != "finetune" else []))


#: settings of a memory that count only where something reads the features in it
IDLE = {"feature_ema": "needs --strategy arp or --memory minred; nothing else reads the features that are averaged."}


def _idle(choice: Choice) -> frozenset[str]:
    read = STRATEGIES[choice.strategy].reads_features or MEMORIES[choice.memory].reads_features
    return frozenset() if read else frozenset(IDLE)


#: settings that count epochs: a stream, which comes once, has none (a warm-up may be a part of it)
COUNTED_IN_EPOCHS = (
    "warmup_epochs", "freeze_prototypes_epochs", "epoch_queue_starts", "freeze_last_layer",
    "warmup_teacher_temperature_epochs",
)  # fmt: skip
STREAM_DEFAULTS = {"max_epochs": 1, "disable_online_eval": True, **dict.fromkeys(COUNTED_IN_EPOCHS, 0)}


@cache
def schema_for(choice: Choice) -> Schema:
    """Return the settings of a run of these components."""
    words = [f"Method {choice.method}"]
    words += [f"distiller {choice.distiller}"] if choice.distiller else []
    words += [f"strategy {choice.strategy}"] if choice.strategy != "finetune" else []
    kind = model_class(choice.method, choice.distiller, choice.strategy)
    schema = Schema(
        [
            Component("Run", Run),
            Component("Data", TaskData),
            Component("Stream", StreamData),
            Component("Augmentation", Augmentation),
            Component(f"Backbone {choice.backbone}", BACKBONES[choice.backbone]),
            Component(", ".join(words), kind),
            *([Component(f"Memory {choice.memory}", MEMORIES[choice.memory], _idle(choice))] if choice.memory else []),
            Component("Optimization", Optimization),
            Component("Training", Training),
            Component("Online probe", OnlineProbe),
            Component("Evaluation", Evaluation),
            Component("Weights & Biases", WandB),
        ],
        elsewhere=lambda name: IDLE.get(name) or belonging(choice.parts)(name),
    )
    kind = METHODS[choice.method]
    fitting = kind.distill_defaults if choice.distiller == kind.auto_distiller else {}
    defaults = {**STRATEGIES[choice.strategy].defaults, **kind.defaults, **fitting}
    defaults |= STREAM_DEFAULTS if choice.stream else {}
    schema.set_defaults({name: value for name, value in defaults.items() if name in schema.owner})
    return schema


@cache
def known_settings() -> set[str]:
    """Return the settings of all components that can be chosen."""
    components = [part for registry in REGISTRIES.values() for part in registry.values()]
    return {*schema_for(Choice()).names, *(name for part in components for name in settings_of(part))}
