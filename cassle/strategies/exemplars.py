"""A few labelled images of each class, chosen when its task is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from cassle.memory.exemplars import herd

Choice = Literal["first_k", "random", "herding"]


class LabelledExemplars(nn.Module):
    """Images of past tasks by their positions, with their labels as they were seen; all of it in the checkpoint.

    Attributes:
        index: positions in the training set, (entries,), int64.
        targets: their labels, -1 without one.
        tasks: the tasks that they came with.
        ranks: their places in the choice of their class, from 0; the first are the last to go.
    """

    def __init__(self, state: Mapping[str, Tensor] | None = None, prefix: str = "") -> None:
        super().__init__()
        for name in ("index", "targets", "tasks", "ranks"):
            value = (state or {}).get(prefix + name, torch.empty(0, dtype=torch.int64))
            self.register_buffer(name, value.clone())

    def __len__(self) -> int:
        return len(self.index)

    def add(self, index: Tensor, target: int, task: int) -> None:
        """Append the chosen images of a class (entries,), the best first."""
        self._set(
            index=torch.cat([self.index, index.to(self.index.device)]),
            targets=torch.cat([self.targets, torch.full_like(index, target, device=self.index.device)]),
            tasks=torch.cat([self.tasks, torch.full_like(index, task, device=self.index.device)]),
            ranks=torch.cat([self.ranks, torch.arange(len(index), device=self.index.device)]),
        )

    def shrink(self, budget: int) -> None:
        """Keep at most ``budget``: every task gets the same part of it, and every class the same part of its task's."""
        tasks = self.tasks.unique().tolist()
        keep = torch.zeros_like(self.index, dtype=torch.bool)
        for task in tasks:
            own = self.tasks == task
            keep |= own & (self.ranks < budget // len(tasks) // len(self.targets[own].unique()))
        self._set(**{name: getattr(self, name)[keep] for name in ("index", "targets", "tasks", "ranks")})

    def _set(self, **values: Tensor) -> None:
        for name, value in values.items():
            setattr(self, name, value)


def choose(how: Choice, candidates: Tensor, number: int, features: Tensor | None, draws: torch.Generator) -> Tensor:
    """Return ``number`` of the candidates (fewer if there are fewer), the best first.

    Args:
        how: first_k = the first in the order of the data; random; herding = those
            whose mean feature stays closest to that of all (iCaRL).
        candidates: positions of the images of a class in the training set, (n,).
        number: images to choose.
        features: (n, dim), for herding.
        draws: CPU generator.
    """
    if how == "herding":
        return candidates[herd(features, number).to(candidates.device)]
    if how == "random":
        candidates = candidates[torch.randperm(len(candidates), generator=draws).to(candidates.device)]
    return candidates[:number]
