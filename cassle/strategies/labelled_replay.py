"""Kaizen's replay: a small memory, balanced over the classes, that every loss sees with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cassle.checks import Count, Share, Whole
from cassle.data.batch import Batch
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.losses.labelled import NO_LABEL
from cassle.randomness import generator
from cassle.strategies.exemplars import LabelledExemplars, choose
from cassle.strategies.labels import ScarceLabels

CHUNK = 256  # images of a forward pass when features are compared
NEARLY = 1e-6  # 100 * 0.29 is a little below 29


class LabelledReplay(ScarceLabels):
    """Base: from task 1 on, every batch is followed by labelled images of past tasks."""

    transient: ClassVar[tuple[str, ...]] = ("exemplars.",)

    def __init__(
        self,
        *args,
        replay_proportion: Share = 0.01,
        replay_batch_size: Whole = 64,
        mem_size: Count | None = None,
        exemplar_choice: Literal["first_k", "random", "herding"] = "first_k",
        **kwargs,
    ) -> None:
        """Build the replay.

        Args:
            args: arguments of the method.
            replay_proportion: share of each class that is kept when its task is over.
            replay_batch_size: images of the past beside each batch, per process; 0 = no replay.
            mem_size: most images that are kept of all past tasks together; default: no limit.
            exemplar_choice: which images of a class are kept: first_k = the first in the order of the data (upstream),
                random, or herding = those whose mean feature is the class's.
            kwargs: arguments of ``ScarceLabels``.
        """
        super().__init__(*args, **kwargs)
        self.replay_proportion, self.replay_batch_size = replay_proportion, replay_batch_size
        self.mem_size, self.exemplar_choice = mem_size, exemplar_choice
        self.exemplars = LabelledExemplars()

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Take over the memory."""
        super().begin_task(task, handoff)
        self.exemplars = LabelledExemplars(handoff, "exemplars.")

    def compose_batch(self, batch: Batch) -> Batch:
        """Follow the batch by images of the memory, different ones; by fewer than asked for if it holds fewer."""
        batch = super().compose_batch(batch)
        number = min(self.replay_batch_size, len(self.exemplars) // number_of_processes())
        if not number:
            return batch
        drawn = torch.randperm(len(self.exemplars), generator=self.draws("replay"))
        drawn = drawn[process_rank() * number :][:number].to(batch.index.device, non_blocking=True)
        index = self.exemplars.index[drawn]
        return batch.with_replay(index, self.images.views_of(index, "replay"), self.exemplars.targets[drawn])

    def end_task(self) -> None:
        """Choose what is kept of the task: of each class the same share, or of all images if no label was seen."""
        super().end_task()
        if not self.replay_batch_size or self.images is None:
            return
        members = self.images.members.to(self.visible.device)
        seen = self.visible[members]
        classes = self.task_classes.tolist() or [NO_LABEL]
        # Of the size of a class only the part that is labelled is known; the policy is the same for all classes.
        known = float((seen != NO_LABEL).double().mean()) if classes != [NO_LABEL] else 1.0
        for target in classes:
            candidates = members[seen == target]
            number = int(self.replay_proportion * len(candidates) / known + NEARLY)
            draws = generator(self.seed, "exemplars", self.current_task, target + 1)
            features = self._features(candidates) if self.exemplar_choice == "herding" else None
            chosen = choose(self.exemplar_choice, candidates, number, features, draws)
            self.exemplars.add(chosen, target, self.current_task)
        if self.mem_size is not None:
            self.exemplars.shrink(self.mem_size)

    @torch.no_grad()
    def _features(self, index: Tensor) -> Tensor:
        """Return the features of the images themselves (n, dim), by a pass in which no statistics move."""
        training = [module for module in self.modules() if module.training]
        self.eval()
        features = [self.backbone(self.images.centre_of(part)).float() for part in index.split(CHUNK)]
        for module in training:
            module.training = True
        return torch.cat(features)
