"""Simple replay: every task leaves some images, which come back in all later ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cassle.checks import Count
from cassle.errors import ConfigError
from cassle.randomness import generator
from cassle.strategies.replay import ExemplarReplay


class SimpleReplay(ExemplarReplay):
    """Simple replay: every task leaves random exemplars, which follow the batches of all later tasks.

    CCL's code concatenates all exemplars with the task's images to one training set, of which they are 1.5 to 12 %;
    here each batch is followed by a fixed number of them. Exemplars accumulate; none is ever dropped.
    """

    memories = ("fifo",)
    default_memory = "fifo"
    #: width of what is kept of an image beside its position: nothing
    stored_dim = 0

    def __init__(
        self,
        *args,
        mem_size: Count = 2000,
        n_save: Count = 20,
        exemplar_clusters: Count | None = None,
        replay_batch_size: Count = 32,
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            mem_size: room for the exemplars of all tasks.
            n_save: exemplars that a task leaves per cluster.
            exemplar_clusters: clusters of a task; default: its classes, which takes labels to count them.
            replay_batch_size: exemplars that follow each batch, per process; fewer while there are fewer.
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.mem_size, self.n_save, self.exemplar_clusters = mem_size, n_save, exemplar_clusters
        self.replay_batch_size = replay_batch_size

    def clusters(self) -> int:
        """Return the number of clusters of this task.

        Raises:
            ConfigError: it is not given, and there are no labels.
        """
        if self.exemplar_clusters is not None:
            return self.exemplar_clusters
        labels = self.images.targets[self.images.members.to(self.images.targets.device)]
        count = len(labels[labels >= 0].unique())
        if not count:
            raise ConfigError(
                f"--exemplar_clusters: give a number; the images of task {self.current_task} have no labels to count."
            )
        return count

    def settle(self, *, num_classes: int = 0, num_tasks: int = 1, **about) -> None:
        """Look whether there is room for the exemplars of all tasks, as far as their number is known.

        Raises:
            ConfigError: there is not.
        """
        super().settle(num_classes=num_classes, num_tasks=num_tasks, **about)
        if self.num_train:  # not the call of the constructor; each class belongs to some task
            clusters = num_classes if self.exemplar_clusters is None else self.exemplar_clusters * num_tasks
            self._check_room(self.n_save * clusters, "of all tasks")

    def _check_room(self, needed: int, whose: str) -> None:
        if needed > self.mem_size:
            raise ConfigError(
                f"--mem_size {self.mem_size}: --n_save {self.n_save} exemplars of each cluster {whose} need room for "
                f"{needed}; give more room, or less --n_save."
            )

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Look whether there is room for this task's exemplars: before it is trained, and not after.

        Raises:
            ConfigError: there is not.
        """
        super().begin_task(task, handoff)
        if self.images is not None:
            self._check_room(len(self.memory) + self.n_save * self.clusters(), f"up to task {task}")

    def end_task(self) -> None:
        """Choose this task's exemplars and keep them."""
        super().end_task()
        draws = generator(self.seed, "exemplars", self.current_task)
        keys = self.images.members[self.choose(self.images.members, draws)].to(self.images.targets.device)
        self.memory.insert(keys, self.images.targets[keys], generator=draws)

    def choose(self, members: Tensor, draws: torch.Generator) -> Tensor:
        """Return which of the task's images, by their place in ``members`` (images,), become exemplars."""
        return torch.randperm(len(members), generator=draws)[: self.n_save * self.clusters()]
