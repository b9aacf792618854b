"""Classes with equal shares: those that have more than their share give way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cassle.memory.base import Memory
from cassle.memory.entries import Entries


def balanced(classes: np.ndarray, numbers: np.ndarray, size: int) -> np.ndarray:
    """Return which rows stay, (rows,) bool: from every class as many, with the lowest numbers of the class.

    Each row has a rank within its class, by number; the ``size`` lowest ranks stay, among equal ranks the lowest
    numbers, among these the first rows. So no class has two rows more than another that lost some. A row that is left
    out would also be left out among more rows: applied again and again to what stayed and what came, the rule keeps
    what it would keep of all rows at once.

    Args:
        classes: (rows,) integers.
        numbers: (rows,) floats.
        size: rows that may stay.
    """
    best = np.lexsort((numbers, ranks(classes, numbers)))
    stays = np.zeros(len(classes), dtype=bool)
    stays[best[:size]] = True
    return stays


def ranks(classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the rank of every row within its class, from 0: lowest number first, of equal numbers the first row."""
    order = np.lexsort((numbers, classes))
    ordered = classes[order]
    rank = np.empty(len(classes), dtype=np.int64)
    rank[order] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return rank


class Ranked(Memory):
    """A memory whose entries carry a number: of every class the lowest numbers stay, as many as of any other class.

    Labels of -1 are a class like the others. Deciding needs the labels on the host: hand them in there, or it waits
    for the device.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("number", torch.zeros(self.size, dtype=torch.float64))
        self._labels: np.ndarray | None = None
        self._numbers: np.ndarray | None = None

    def _compete(self, targets: Tensor, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Let rows compete with the entries; return which rows enter, and their slots, after making room for them."""
        if self._labels is None or self._numbers is None:
            self._labels, self._numbers = self.targets.cpu().numpy().copy(), self.number.cpu().numpy().copy()
        filled = self._book.aged
        labels = targets.cpu().numpy()
        pool = np.concatenate([self._labels[filled], labels]), np.concatenate([self._numbers[filled], numbers])
        stays = balanced(*pool, self.size)
        self._empty(filled[~stays[: len(filled)]])
        chosen = np.flatnonzero(stays[len(filled) :])
        slots = self._book.free[: len(chosen)]
        self._labels[slots], self._numbers[slots] = labels[chosen], numbers[chosen]
        self.number.index_copy_(0, self._on_device(slots), self._on_device(numbers[chosen]))
        return chosen, slots

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._labels = self._numbers = None


class ClassBalanced(Ranked):
    """A reservoir with equal shares for all classes seen so far, whatever the order of the classes.

    The aim is that of class-balancing reservoir sampling (Chrysakis and Moens 2020): within a class every row of the
    past has the same probability, and a new class takes its room from those that have most. Here every row draws a
    number once, and the lowest numbers of each class stay; so what is kept does not depend on how the stream is cut
    into batches, and there are no counts per class to keep.
    """

    def _place(self, rows: Entries, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        numbers = torch.rand(len(rows.keys), dtype=torch.float64, generator=generator).numpy()
        return self._compete(rows.targets, numbers)
