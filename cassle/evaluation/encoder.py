"""Accuracies of an encoder on every task: features once, then the probes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cassle.data.centre import centre_view
from cassle.data.module import TaskImages
from cassle.data.recipe import Recipe
from cassle.errors import ConfigError
from cassle.evaluation.features import features_of_all
from cassle.evaluation.metrics import accuracy_per_task
from cassle.evaluation.protocol import Evaluation
from cassle.losses.distributed import process_rank


def accuracy_rows(
    backbone: nn.Module,
    images: TaskImages,
    recipe: Recipe,
    evaluation: Evaluation,
    classifier: nn.Module | None = None,
) -> dict[str, list[float]]:
    """Return for each probe, and for the model's own classifier as ``classifier``, the accuracy (fraction) per task.

    Of several processes, all of which must call this, each encodes a part of the images, and the first one has the
    rows; the others have none.

    Args:
        backbone: normalised images (batch, 3, size, size) to features (batch, dim); used on its own device.
        images: the loaded data set.
        recipe: size and statistics of the evaluation view.
        evaluation: the probes.
        classifier: features (batch, dim) to scores of all classes; None leaves its row out.

    Raises:
        ConfigError: there are no labels to evaluate with.
    """
    if images.val is None or not images.classes:
        raise ConfigError("--dataset: evaluation needs labels and a validation part; this data set has none.")

    def view(batch):
        return centre_view(batch, recipe.size, recipe.mean, recipe.std, images.eval_border)

    size = evaluation.eval_batch_size
    device = next(backbone.parameters()).device  # where the probes run too
    pixels, targets = images.train.pixels, images.train.targets
    labelled = targets >= 0  # STL-10's training part is mostly unlabelled
    if not labelled.all():
        pixels, targets = pixels[labelled], targets[labelled]
    train, val = (
        features_of_all(backbone, part, batch_size=size, transform=view) for part in (pixels, images.val.pixels)
    )
    if process_rank() > 0:  # its features are with the first process, which fits the probes
        return {}
    train, val = train.to(device), val.to(device)
    split, domains = images.split, None
    tasks, num_tasks = split.val_tasks(len(images.val.targets)), split.num_val_tasks
    if split.knows_domains:
        domains = images.train.domains[labelled.cpu()]
    rows = evaluation.row(train, targets, val, images.val.targets, tasks, len(images.classes), num_tasks, domains)
    if classifier is not None:
        rows["classifier"] = accuracy_per_task(_classified(classifier, val), images.val.targets, tasks, num_tasks)
    return {probe: split.per_task(row) for probe, row in rows.items()}


@torch.no_grad()
def _classified(classifier: nn.Module, features: Tensor) -> Tensor:
    """Return the most probable class (n,) of features (n, dim)."""
    training = classifier.training
    predictions = classifier.eval()(features).argmax(dim=1)
    classifier.train(training)
    return predictions
