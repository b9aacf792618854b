"""The choice of a run: method, distiller, backbone; and the settings that come with the choice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cassle.checks import Whole
from cassle.data import BENCHMARKS
from cassle.data.module import TaskData
from cassle.data.recipe import Augmentation
from cassle.distill import DISTILLERS
from cassle.engine.settings import Component, Schema, belonging, settings_of
from cassle.engine.trainer import Training
from cassle.engine.wandb_run import WandB
from cassle.errors import ConfigError
from cassle.evaluation.online import OnlineProbe
from cassle.evaluation.protocol import Evaluation
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn import BACKBONES
from cassle.optim.build import Optimization


class Run:
    """What is trained, under which name, and where it is kept."""

    def __init__(
        self,
        *,
        method: str = "barlow_twins",
        distiller: str | None = None,
        backbone: str = "resnet18",
        seed: int = 5,
        name: str | None = None,
        experiment_dir: Path | None = None,
        base_experiment_dir: Path = Path("experiments"),
        overwrite: bool = False,
        task_idx: Whole = 0,
        pretrained_model: Path | None = None,
    ) -> None:
        """Describe the run.

        Args:
            method: self-supervised objective; python -m cassle list shows them all.
            distiller: distillation from task 1 on: auto = the one that fits the method, or one of python -m cassle
                list; default: none, plain fine-tuning.
            backbone: the encoder: one of python -m cassle list, or timm/NAME (--encoder is the same flag).
            seed: seed of weights, order and augmentation.
            name: name of the experiment, and of its folder; default: METHOD[-DISTILLER]-DATASET.
            experiment_dir: folder of the experiment: a name below base_experiment_dir, or a path; default: the name.
            base_experiment_dir: folder that holds the folders of experiments.
            overwrite: start anew; an existing folder is moved aside.
            task_idx: task to start with: 0, or 1 to take over a trained task 0 (then give pretrained_model).
            pretrained_model: with task_idx 0, weights that the encoder starts from (of this library, torchvision, timm,
                solo-learn, or CaSSLe); with task_idx 1, the checkpoint of the trained task 0.

        Raises:
            ConfigError: the name is not a plain one.
        """
        if name is not None and (Path(name).name != name or name in {"", ".", ".."}):
            raise ConfigError(f"--name {name}: must be a plain name without path separators; use --experiment_dir too.")
        self.seed, self.overwrite = seed, overwrite
        self.name, self.experiment_dir, self.base_experiment_dir = name, experiment_dir, base_experiment_dir
        self.task_idx, self.pretrained_model = task_idx, pretrained_model

    def start_problems(self) -> list[str]:
        """Return why the run cannot start where it is told to; one sentence each."""
        if self.task_idx > 1:  # the accuracy matrix would lack the rows of the tasks before
            return [
                f"--task_idx {self.task_idx}: must be 0, or 1 to take over a trained task 0; a run that was stopped "
                "continues by its own command."
            ]
        if self.task_idx == 1 and self.pretrained_model is None:
            return ["--task_idx 1: needs --pretrained_model CHECKPOINT, the trained task 0; or leave --task_idx out."]
        return []


def choose(values: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Return canonical method, distiller and backbone of unresolved values."""
    problems: list[str] = []

    def canonical(registry: Any, name: str) -> str:
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
    distiller = None if distiller in (None, "", "none", "None", "null") else distiller
    if distiller == "auto":
        distiller = kind.auto_distiller
    elif distiller is not None:
        distiller = canonical(DISTILLERS, distiller)
        if not problems and DISTILLERS[distiller].needs_prototypes and not kind.has_prototypes:
            having = [name for name in METHODS if METHODS[name].has_prototypes]
            problems.append(
                f"--distiller {distiller}: needs prototypes, which {', '.join(having)} have; with --method {method} "
                f"use {kind.auto_distiller} (or auto)."
            )
    if problems:
        raise ConfigError(problems)
    return method, distiller, backbone


@cache
def model_class(method: str, distiller: str | None) -> type[SSLMethod]:
    """Return the class that is trained."""
    return compose(METHODS[method], *([DISTILLERS[distiller]] if distiller else []))


@cache
def schema_for(method: str, distiller: str | None, backbone: str) -> Schema:
    """Return the settings of a run of these components."""
    title = f"Method {method}" + (f", distiller {distiller}" if distiller else "")
    schema = Schema(
        [
            Component("Run", Run),
            Component("Data", TaskData),
            Component("Augmentation", Augmentation),
            Component(f"Backbone {backbone}", BACKBONES[backbone]),
            Component(title, model_class(method, distiller)),
            Component("Optimization", Optimization),
            Component("Training", Training),
            Component("Online probe", OnlineProbe),
            Component("Evaluation", Evaluation),
            Component("Weights & Biases", WandB),
        ],
        elsewhere=belonging(
            {"method": (METHODS, method), "distiller": (DISTILLERS, distiller), "backbone": (BACKBONES, backbone)}
        ),
    )
    kind = METHODS[method]
    schema.set_defaults({**kind.defaults, **(kind.distill_defaults if distiller == kind.auto_distiller else {})})
    return schema


@cache
def known_settings() -> set[str]:
    """Return the settings of all methods, distillers and backbones."""
    components = [part for registry in (METHODS, DISTILLERS, BACKBONES) for part in registry.values()]
    common = schema_for(next(iter(METHODS)), None, next(iter(BACKBONES)))
    return {*common.names, *(name for part in components for name in settings_of(part))}
