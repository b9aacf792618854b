"""A whole experiment, evaluated offline: the checkpoints of all its tasks give one accuracy matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cassle.data.module import TaskImages
from cassle.data.recipe import Recipe
from cassle.engine import checkpoint
from cassle.engine.identity import identity_of
from cassle.engine.ledger import Rows
from cassle.engine.plan import Plan
from cassle.engine.pretrained import PREFIXES, Encoder, Network, read_encoder
from cassle.engine.task import fresh_model
from cassle.errors import CheckpointError
from cassle.evaluation import report
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.metrics import percent
from cassle.evaluation.protocol import Evaluation
from cassle.nn.classifier import classifier_of

SUFFIX = ".ckpt"  # only these hold more than an encoder


def folder_problems(folder: Path) -> list[str]:
    """Return why a folder cannot be evaluated as an experiment, one sentence or none."""
    found = checkpoint.finals_in(folder)
    if not found and (folder / "final.ckpt").is_file():  # of one task
        return [f"--pretrained_feature_extractor {folder}: {checkpoint.file_in(folder)}"]
    wanted = [folder / f"task{task}" / "final.ckpt" for task in range(max(len(found), 1))]
    missing = [path for path in wanted if path not in found]
    return [f"--pretrained_feature_extractor {folder}: {missing[0]} is missing; put it there."] if missing else []


def rows_of(
    path: Path,
    encoder: Encoder,
    images: TaskImages,
    evaluation: Evaluation,
    *,
    device: str,
    same_classes: bool,
    network: Network = "student",
) -> Rows:
    """Return the accuracies of an encoder, and of the classifier that its checkpoint may hold, on every task.

    Args:
        path: the checkpoint that the encoder was read from.
        encoder: of any checkpoint that :func:`cassle.load_backbone` reads.
        images: the loaded data set.
        evaluation: the probes.
        device: where to compute.
        same_classes: whether the data set is the one that the classifier was trained on.
        network: which network of the checkpoint the encoder is; the classifier is the student's.

    Raises:
        CheckpointError: the classifier's weights do not fit together.
    """
    whole = same_classes and network == "student" and path.suffix == SUFFIX
    head = classifier_of(checkpoint.load(path)["state_dict"]) if whole else None
    recipe = Recipe(size=encoder.size, mean=encoder.mean, std=encoder.std)
    encoder.to(device)
    return accuracy_rows(encoder.backbone, images, recipe, evaluation, head.to(device) if head else None)


def holds(path: Path, network: Network) -> bool:
    """Return whether a ``final.ckpt`` has this network."""
    return any(key.startswith(PREFIXES[network]) for key in checkpoint.load(path)["state_dict"])


def evaluate_tasks(
    paths: list[Path],
    trained: Mapping[str, Any],
    images: TaskImages,
    evaluation: Evaluation,
    *,
    device: str,
    same_classes: bool,
    network: Network = "student",
    say: Callable[[str], object],
) -> report.Results:
    """Return the results of all tasks, as the experiment itself would write them.

    Args:
        paths: one checkpoint per task.
        trained: the settings of the experiment.
        images: the loaded data set.
        evaluation: the probes.
        device: where to compute.
        same_classes: whether the data set is the one of the experiment.
        network: the student or its teacher.
        say: takes a line per task.

    Raises:
        CheckpointError: damaged, unsafe, or another architecture.
    """
    networks = [network if holds(path, network) else "student" for path in paths]
    if network not in networks:
        raise CheckpointError(f"--network {network}: none of the tasks in {paths[0].parents[1]} has one; leave it out.")
    encoder, _ = read_encoder(paths[0], network=networks[0])
    recipe = Recipe(size=encoder.size, mean=encoder.mean, std=encoder.std)
    plan = Plan(trained)
    model = fresh_model(plan, images).to(device)
    head = model.classifier if same_classes and network == "student" else None
    random = accuracy_rows(model.backbone, images, recipe, evaluation, head)
    matrix: dict[str, list[list[float]]] = {probe: [] for probe in random}
    for task, path in enumerate(paths):
        if networks[task] != network:  # CCL's teacher begins as the student that task 0 leaves
            say(f"Task {task} has no {network}: its {networks[task]} is evaluated.")
        encoder, _ = read_encoder(path, trained["backbone"], network=networks[task])
        rows = rows_of(path, encoder, images, evaluation, device=device, same_classes=same_classes, network=network)
        means = "  ".join(f"{probe} {100 * sum(row) / len(row):.1f} %" for probe, row in rows.items())
        say(f"After task {task}, mean over all tasks: {means}")
        for probe, row in rows.items():
            matrix[probe].append(row)
    split = images.split
    how = {"domain_aware": split.knows_domains, "shared_val": split.shares_val}
    protocol = {**evaluation.describe(classifier="classifier" in random, **how), "split_strategy": split.strategy}
    about = identity_of(plan, images.manifest)
    results = report.assemble(matrix, random, protocol, split.num_tasks, about)
    for probe, numbers in results["probes"].items():
        found = {words.split(":")[0]: numbers[name] for name, words in report.SUMMARY.items()}
        say(f"{probe:19} " + "  ".join(f"{n} {percent(v)} %" for n, v in found.items() if v is not None))
    return results
