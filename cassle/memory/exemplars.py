"""Exemplars: a few rows of every class, chosen at the end of a task, when all of its rows are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cassle.memory.balanced import Ranked, balanced, ranks
from cassle.memory.entries import Entries

NEARLY = 1e-6  # 100 * 0.29 is a little below 29


class Exemplars(Ranked):
    """Some rows of each class, within two limits of which the smaller wins: a share of the class, and all the slots.

    The classes seen so far share the slots equally (one more for some if they do not divide); those of earlier tasks
    give up what they chose last (iCaRL). A class that comes again in a later task shares its part between the two. The
    labels -1 are one class, so without labels the tasks share in the same way.

    Args:
        size: slots, the budget of all classes together.
        feature_dim: as in :class:`Memory`.
        payload_shape: as in :class:`Memory`.
    """

    online = False
    #: whether ``fill`` chooses by the features of the rows
    needs_features: ClassVar[bool] = False

    # No further settings: the features of exemplars need no moving average, nobody evaluates them again.
    def __init__(self, size: int, feature_dim: int = 0, payload_shape: Sequence[int] | None = None) -> None:
        super().__init__(size, feature_dim, payload_shape)

    def insert(self, keys: Tensor, targets: Tensor | None = None, **parts) -> None:
        """Refuse: exemplars are chosen among all rows of a task.

        Raises:
            TypeError: always.
        """
        name = type(self).__name__
        raise TypeError(f"{name} takes no rows as they come (online=False): call fill(...) at the end of the task.")

    @torch.no_grad()
    def fill(
        self,
        keys: Tensor,
        targets: Tensor | None,
        features: Tensor | None,
        generator: torch.Generator,
        *,
        payload: Tensor | None = None,
        proportion: float = 1.0,
    ) -> None:
        """Choose among all rows of a task; call it once, at its end.

        Args:
            keys: indices in the data set, (rows,).
            targets: labels, (rows,), None for none.
            features: (rows, dim), None unless the choice needs them; kept in a memory with a ``feature_dim``.
            generator: of the CPU.
            payload: (rows, *payload_shape) uint8; required in a memory with a payload.
            proportion: of the rows of a class, the share that may be kept, rounded down; above 1 where only a part of
                the class is handed in.

        Raises:
            ValueError: the parts differ in length or do not fit the memory, the choice needs features, or a proportion
                that is negative or not finite.
        """
        if not 0 <= proportion < math.inf:
            raise ValueError(f"proportion={proportion}: must be at least 0, and finite.")
        kept = features if self.features is not None else None
        rows = self._checked(Entries(keys, targets, kept, payload))
        if not len(keys):
            return
        labels = rows.targets.cpu().numpy()
        limits = _limits(labels, proportion)
        numbers = self._numbered(labels, features, limits, generator)
        wanted = np.flatnonzero(ranks(labels, numbers) < limits)
        chosen, slots = self._compete(rows.targets[torch.from_numpy(wanted).to(rows.targets.device)], numbers[wanted])
        self._write(rows, wanted[chosen], slots)

    def _numbered(
        self, labels: np.ndarray, features: Tensor | None, limits: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        """Return a number for every row: within a class, the lowest are kept."""
        raise NotImplementedError(f"{type(self).__name__} has no rule of what to choose.")


def _limits(labels: np.ndarray, proportion: float) -> np.ndarray:
    """Return for every row how many of its class may be kept at most."""
    _, which, count = np.unique(labels, return_inverse=True, return_counts=True)
    return np.floor(count * proportion + NEARLY).astype(np.int64)[which]


class FirstExemplars(Exemplars):
    """The first rows of each class, in the order in which they are handed in. It needs no features."""

    def _numbered(
        self, labels: np.ndarray, features: Tensor | None, limits: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        return ranks(labels, np.zeros(len(labels))).astype(np.float64)


class RandomExemplars(Exemplars):
    """Random rows of each class. It needs no features."""

    def _numbered(
        self, labels: np.ndarray, features: Tensor | None, limits: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        return torch.rand(len(labels), dtype=torch.float64, generator=generator).numpy()


class Herding(Exemplars):
    """The rows whose mean is nearest to that of their class: iCaRL (Rebuffi et al. 2017), algorithms 4 and 5."""

    needs_features = True

    def _numbered(
        self, labels: np.ndarray, features: Tensor | None, limits: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        if features is None or len(features) != len(labels):
            raise ValueError("herding chooses by features: give fill(...) one for every row.")
        # A row beyond what its class can get, one more than in any equal division, need not be ranked.
        held = self.targets[self.slots].cpu().numpy()
        pool = np.concatenate([held, labels[ranks(labels, np.zeros(len(labels))) < limits]])
        shared = pool[balanced(pool, np.zeros(len(pool)), self.size)]
        numbers = np.full(len(labels), np.inf)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            among = np.count_nonzero(shared == label) + 1
            order = herd(features[torch.from_numpy(rows).to(features.device)], min(among, limits[rows[0]]))
            numbers[rows[order.cpu().numpy()]] = np.arange(len(order))
        return numbers


def herd(features: Tensor, number: int) -> Tensor:
    """Return rows, one by one, so that the mean of those chosen stays as near to the mean of all as one more row can.

    Args:
        features: (rows, dim); they are normalised here, the means are not.
        number: rows to choose at most.

    Returns:
        (min(number, rows),) int64 on the device of the features, in the order of the choice.
    """
    x = F.normalize(features.detach().double(), dim=1)
    mean, total, chosen = x.mean(dim=0), torch.zeros_like(x[0]), []
    own = x.square().sum(dim=1)
    for k in range(1, min(number, len(x)) + 1):
        # |k mean - total - x|^2 without what all rows share
        distance = own - 2 * (x @ (k * mean - total))
        best = distance.argmin()
        total = total + x[best]
        own = own.index_fill(0, best[None], torch.inf)
        chosen.append(best)
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.int64, device=x.device)
