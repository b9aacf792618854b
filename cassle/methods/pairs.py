"""Two-view losses over any number of views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import TypeVar

import torch
from torch import Tensor

Target = TypeVar("Target")


def over_pairs(loss: Callable[[Tensor, Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Return the mean of a symmetric ``loss(a, b)`` over the unordered pairs of different views."""
    return torch.stack([loss(a, b) for a, b in combinations(views, 2)]).mean()


def crosswise(loss: Callable[[Tensor, Target], Tensor], sources: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
    """Return the mean of ``loss(source of one view, target of another)`` over the ordered pairs of different views.

    Args:
        loss: what comes from one view and what another view offers as target, to a scalar.
        sources: one per view; there may be more than targets (small crops, which are nobody's target).
        targets: one per view, of the first views.
    """
    pairs = [(i, j) for i, j in permutations(range(len(sources)), 2) if j < len(targets)]
    return torch.stack([loss(sources[i], targets[j]) for i, j in pairs]).mean()
