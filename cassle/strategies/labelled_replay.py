"""Kaizen's replay: a small memory, balanced over the classes, that every loss sees with its labels."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.checks import Count, Share, Whole
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.losses.labelled import NO_LABEL
from cassle.memory.exemplars import Exemplars
from cassle.nn.modes import in_mode
from cassle.processes import summed
from cassle.randomness import generator
from cassle.strategies.labels import ScarceLabels
from cassle.strategies.replay import ExemplarReplay

CHUNK = 256  # images of a forward pass when features are compared


class LabelledReplay(ExemplarReplay, ScarceLabels):
    """Base: from task 1 on, every batch is followed by labelled images of past tasks.

    The memory is the same in every process, and of a draw each process takes its part.
    """

    memories = ("first_k", "random", "herding")
    default_memory = "first_k"
    #: made by the house
    memory: Exemplars
    #: width of what is kept of an image beside its position and its label: nothing
    stored_dim = 0

    def __init__(
        self,
        *args,
        replay_proportion: Share = 0.01,
        replay_batch_size: Whole = 64,
        mem_size: Count = 2000,
        **kwargs,
    ) -> None:
        """Build the replay.

        Args:
            args: arguments of the method.
            replay_proportion: share of each class that is kept when its task is over, unless mem_size allows less.
            replay_batch_size: images of the past beside each batch, per process; 0 = no replay.
            mem_size: most images kept of all past tasks together, the same number of each class, unless
                replay_proportion allows less.
            kwargs: arguments of ``ScarceLabels``.
        """
        super().__init__(*args, **kwargs)
        self.replay_proportion, self.replay_batch_size = replay_proportion, replay_batch_size
        self.mem_size = mem_size

    def end_task(self) -> None:
        """Choose what is kept of the task: of each class the same share, or of all images if no label was seen."""
        super().end_task()
        if not self.replay_batch_size or self.images is None:
            return
        members = self.images.members.to(self.visible.device)
        seen = self.visible[members] != NO_LABEL
        candidates = members[seen] if seen.any() else members
        # Of the size of a class only the part that is labelled is known; the policy is the same for all classes.
        known = len(candidates) / len(members)
        features = self._features(candidates) if self.memory.needs_features else None
        draws = generator(self.seed, "exemplars", self.current_task)
        proportion = self.replay_proportion / known
        self.memory.fill(candidates, self.visible[candidates], features, draws, proportion=proportion)

    @torch.no_grad()
    def _features(self, index: Tensor) -> Tensor:
        """Return the features of the images themselves (n, dim), by a pass in which no statistics move.

        Each process takes its share of the images, so all of them get the same features to the last bit.
        """
        features = torch.zeros(len(index), self.backbone.num_features, device=index.device)
        rows = torch.arange(len(index), device=index.device).split(CHUNK)
        with in_mode(self, training=False):
            for part in rows[process_rank() :: number_of_processes()]:
                features[part] = self.backbone(self.images.centre_of(index[part])).float()
        return summed(features)
