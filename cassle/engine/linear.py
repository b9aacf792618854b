"""Evaluating an encoder offline: a checkpoint and a labelled data set in, accuracies per task out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cassle.data.centre import view_in_words
from cassle.data.module import TaskData
from cassle.data.recipe import Recipe
from cassle.engine import evaluated
from cassle.engine.checkpoint import finals_in
from cassle.engine.every_task import evaluate_tasks, rows_of
from cassle.engine.ledger import Rows
from cassle.engine.offline import Offline, backbone_problems
from cassle.engine.pretrained import Encoder, read_encoder
from cassle.engine.settings import Component, Schema, belonging, canonical_names
from cassle.errors import CassleError, ConfigError
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.protocol import Evaluation
from cassle.nn import BACKBONES

#: settings of who makes the views of a training; an evaluation has one view of each image, and takes what suits
UNSEEN = frozenset({"engine", "dali_device"})
IMAGES = Component("Data", TaskData, UNSEEN)
BROUGHT = frozenset({"image_mean", "image_std"})  # settings of the data that an encoder knows


def schema(values: Mapping[str, Any] | None = None) -> Schema:
    """Return the settings of an offline evaluation; with those of the backbone that ``values`` name, if they do."""
    backbone = canonical_names(values or {}).get("backbone")
    named = isinstance(backbone, str) and not backbone_problems(backbone)
    return Schema(
        [
            Component("Encoder", Offline),
            *([Component(f"Backbone {backbone}", BACKBONES[backbone])] if named else []),
            IMAGES,
            Component("Evaluation", Evaluation),
        ],
        elsewhere=lambda name: _of_a_training(name) or belonging({"backbone": (BACKBONES, backbone)})(name),
    )


def _of_a_training(name: str) -> str | None:
    return "is for training; an evaluation has one view of each image, leave it out." if name in UNSEEN else None


def missing_here(values: Mapping[str, Any]) -> list[str]:
    """Return what this machine lacks for an evaluation: the checkpoint, the GPU, the data. One sentence each.

    Args:
        values: settings by name, in which :func:`wrong_settings` finds nothing.
    """
    settings = schema(values)
    resolved = settings.resolve(values)
    problems = _problems(Offline, settings, resolved)
    if "dataset" in values:
        try:
            TaskData(**settings.arguments(TaskData, resolved)).split()
        except CassleError as error:
            problems.append(str(error))
    return problems


def wrong_settings(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings of an evaluation wherever it is done, one sentence each."""
    settings = schema(values)
    resolved, problems = settings.read(values)
    kinds = [TaskData, Evaluation] if "dataset" in values else [Evaluation]  # else the data is the checkpoint's
    return [*problems, *(problem for kind in kinds for problem in _problems(kind, settings, resolved))]


def problems_of(values: Mapping[str, Any]) -> list[str]:
    """Return everything that keeps :func:`evaluate_checkpoint` from starting, one sentence each."""
    settings = schema(values)
    return [*wrong_settings(values), *_problems(Offline, settings, settings.read(values)[0])]


def _problems(kind: type, settings: Schema, resolved: Mapping[str, Any]) -> list[str]:
    try:
        kind(**settings.arguments(kind, resolved))
    except ConfigError as error:
        return error.problems
    return []


def evaluate_checkpoint(values: Mapping[str, Any], say: Callable[[str], object] = print) -> dict[str, Any]:
    """Probe a checkpoint, or all of an experiment; the data is the one it was trained on, unless the settings say so.

    Args:
        values: settings of the command line by name.
        say: takes the lines that are printed.

    Raises:
        ConfigError: everything that is wrong with the settings, together; or weights from elsewhere without a data set.
        CheckpointError: damaged, unsafe, or another architecture.
    """
    given, settings = canonical_names(values), schema(values)
    if problems := problems_of(given):
        raise ConfigError(problems)
    offline = Offline(**settings.arguments(Offline, settings.resolve(given)))
    if offline.num_threads is not None:
        torch.set_num_threads(offline.num_threads)
    every = finals_in(offline.checkpoint) if offline.checkpoint.is_dir() else []
    path = every[0] if every else offline.checkpoint
    encoder, trained = _encoder(path, offline, given, settings)
    if "dataset" not in given:  # the same data, tasks and places as in training
        names = [name for name, owner in settings.owner.items() if owner is TaskData]
        given = {**{name: trained[name] for name in names if name in trained}, **given}
    if given.get("domain") and not {"split_strategy", "num_tasks"} & canonical_names(values).keys():
        given |= {"split_strategy": "domain", "num_tasks": 1}  # one domain is one task
    resolved = settings.resolve(given)
    data = TaskData(**settings.arguments(TaskData, resolved))
    if data.num_tasks < len(every):
        raise ConfigError(f"--num_tasks {data.num_tasks}: {offline.checkpoint} holds {len(every)} tasks; give as many.")
    evaluation = Evaluation(**settings.arguments(Evaluation, resolved))
    images = data.load(encoder.size, say=say)
    same = evaluated.is_trained_on(data, resolved, trained) or (bool(trained) and "dataset" not in values)
    how = {"device": offline.device, "same_classes": same, "network": offline.network}
    if every:
        results = evaluate_tasks(every, trained, images, evaluation, say=say, **how)
    else:
        results = _of_one(rows_of(path, encoder, images, evaluation, **how), evaluation, data, say)
    results["protocol"] |= {
        "dataset": data.dataset, "split_strategy": data.split_strategy, "network": offline.network,
        "view": view_in_words(encoder.size, data.benchmark.eval_border, images.train.pixels.shape[-1]),
    }  # fmt: skip
    if data.domain is not None:
        results["protocol"]["domain"] = f"{data.domain}: domain-aware, probes are fitted and tested on its images only"
    results["checkpoint"] = str(offline.checkpoint)
    results["evaluation"] = evaluated.identity(settings, resolved)
    evaluated.write(evaluated.output_of(offline, data, resolved, own=same or not trained), results, say)
    return results


def _of_one(rows: Rows, evaluation: Evaluation, data: TaskData, say: Callable[[str], object]) -> dict[str, Any]:
    for probe, row in rows.items():
        tasks = "  ".join(f"task {task} {100 * value:.1f}" for task, value in enumerate(row))
        say(f"{probe:19} mean {100 * sum(row) / len(row):.1f} %   {tasks}")
    return {
        "protocol": evaluation.describe("classifier" in rows, data.knows_domains, data.shares_val),
        "num_tasks": data.num_tasks,
        "probes": {probe: {"per_task": row, "mean": sum(row) / len(row)} for probe, row in rows.items()},
    }


def _encoder(
    path: Path, offline: Offline, given: Mapping[str, Any], settings: Schema
) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder, and the settings that it was trained with."""
    make = BACKBONES[offline.backbone] if offline.backbone else None
    resolved = settings.resolve(given)
    chosen = {n: resolved[n] for n, owner in settings.owner.items() if owner is make and n in given}
    network = "student" if offline.checkpoint.is_dir() else offline.network  # of a folder, each task tells
    statistics = {"size": resolved["size"], "mean": resolved["image_mean"], "std": resolved["image_std"]}
    encoder, trained = read_encoder(path, offline.backbone, network=network, **statistics, **chosen)
    if not trained and "dataset" not in given:
        raise ConfigError("--dataset: missing; weights from elsewhere do not say what to evaluate them on.")
    return encoder, trained


def _rows(encoder: Encoder, data: TaskData, evaluation: Evaluation) -> dict[str, list[float]]:
    recipe = Recipe(size=encoder.size, mean=encoder.mean, std=encoder.std)
    return accuracy_rows(encoder.backbone, data.load(encoder.size), recipe, evaluation)


def evaluate(encoder: Encoder | nn.Module, **settings: Any) -> dict[str, list[float]]:
    """Return for each probe the accuracies (fractions) of an encoder on every task of a data set.

    Args:
        encoder: what :func:`cassle.load_backbone` returns; or any module with ``size``, ``mean``, ``std`` and a
            ``backbone`` that maps normalised images to features.
        settings: settings of data and evaluation by name, e.g. ``dataset="digits", num_tasks=5, knn_k=10``.

    Raises:
        ConfigError: everything that is wrong with the settings, together.
        TypeError: the encoder lacks its preprocessing.
    """
    if not all(hasattr(encoder, name) for name in ("backbone", "size", "mean", "std")):
        raise TypeError(
            "evaluate() takes an encoder of cassle.load_backbone, or cassle.engine.pretrained.Encoder(...)."
        )
    images = Component("Data", TaskData, UNSEEN | BROUGHT)
    wanted = Schema(
        [images, Component("Evaluation", Evaluation)],
        elsewhere=lambda name: "the encoder brings its own; leave it out." if name in BROUGHT else _of_a_training(name),
    )
    values = wanted.resolve(settings)
    data, evaluation = (kind(**wanted.arguments(kind, values)) for kind in (TaskData, Evaluation))
    return _rows(encoder, data, evaluation)
