"""Which labels a run may see: labels are dear, and may come late."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cassle.checks import Part, Whole
from cassle.data.batch import Batch
from cassle.errors import ConfigError
from cassle.losses.labelled import NO_LABEL
from cassle.randomness import generator
from cassle.strategies.base import Strategy


def labelled_share(targets: Tensor, fraction: float, draws: torch.Generator) -> Tensor:
    """Return which images keep their label: of every class the same share, at least one image.

    Args:
        targets: classes (n,), -1 for images that have no label to begin with.
        fraction: share of the labelled images of each class, above 0.
        draws: CPU generator.

    Returns:
        (n,), bool.
    """
    order = torch.randperm(len(targets), generator=draws)
    order = order[targets[order].argsort(stable=True)]  # class by class, shuffled inside
    classes, count = targets[order].unique_consecutive(return_counts=True)
    wanted = (count * fraction).round().long().clamp(min=1).masked_fill(classes == NO_LABEL, 0)
    rank = torch.arange(len(order)) - (count.cumsum(0) - count).repeat_interleave(count)
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    chosen[order[rank < wanted.repeat_interleave(count)]] = True
    return chosen


class ScarceLabels(Strategy):
    """Base of the strategies that learn from labels: some images, or some tasks, come without.

    Hidden labels are -1 in every batch, for every loss. Evaluation keeps its own labels.
    """

    def __init__(self, *args, label_fraction: Part = 1.0, label_tasks: list[Whole] | None = None, **kwargs) -> None:
        """Build the policy.

        Args:
            args: arguments of the method.
            label_fraction: share of the images of each class whose label is seen; at least one image of each.
            label_tasks: tasks (from 0) whose labels are seen; default: all.
            kwargs: arguments of the method.

        Raises:
            ConfigError: no task is named.
        """
        super().__init__(*args, **kwargs)
        if label_tasks is not None and not label_tasks:
            raise ConfigError("--label_tasks: names no task; give some, e.g. 0 2, or leave the flag out.")
        self.label_fraction, self.label_tasks = label_fraction, label_tasks

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Draw the images of the task whose labels are seen: a function of seed and task, so no state."""
        super().begin_task(task, handoff)
        targets = torch.full((self.num_train,), NO_LABEL)
        if self.images is not None and (self.label_tasks is None or task in self.label_tasks):
            members = self.images.members.cpu()
            own = self.images.targets.cpu()[members]
            members = members[labelled_share(own, self.label_fraction, generator(self.seed, "labels", task))]
            targets[members] = self.images.targets.cpu()[members]
        self.register_buffer("visible", targets, persistent=False)  # the label of every image, or -1

    @property
    def task_classes(self) -> Tensor:
        """The classes of the task that have a label which is seen, ascending; of the CPU."""
        classes = self.visible.cpu().unique()
        return classes[classes != NO_LABEL]

    def compose_batch(self, batch: Batch) -> Batch:
        """Hide the labels that are not to be seen."""
        batch = super().compose_batch(batch)
        return batch._replace(targets=self.labels(batch.index))

    def labels(self, index: Tensor) -> Tensor:
        """Return the labels of training images (batch,) that may be seen, -1 for the others."""
        return self.visible[index]
