"""Which slots are filled, and since when: known on the host, so that nobody has to ask the device."""

from __future__ import annotations

import numpy as np


class Book:
    """The host's copy of when every slot was filled, with the two orders that follow from it, made when asked for.

    Args:
        arrivals: for every slot the number of the arrival that lies in it, -1 if it is empty.
    """

    def __init__(self, arrivals: np.ndarray) -> None:
        self.arrivals = arrivals.copy()
        self._filled: np.ndarray | None = None
        self._aged: np.ndarray | None = None

    @property
    def filled(self) -> np.ndarray:
        """The filled slots, ascending."""
        if self._filled is None:
            self._filled = np.flatnonzero(self.arrivals >= 0)
        return self._filled

    @property
    def aged(self) -> np.ndarray:
        """The filled slots, oldest arrival first."""
        if self._aged is None:
            self._aged = self.filled[np.argsort(self.arrivals[self.filled])]
        return self._aged

    @property
    def free(self) -> np.ndarray:
        """The empty slots, ascending."""
        if len(self.filled) == len(self.arrivals):
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.arrivals < 0)

    def put(self, slots: np.ndarray, arrivals: np.ndarray) -> None:
        """Note arrivals, ascending and newer than all others, in slots that may have been filled or empty."""
        replaced = slots[self.arrivals[slots] >= 0]
        if len(replaced) < len(slots):
            self._filled = None
        if self._aged is not None:
            # The oldest leave in a FIFO: then the new order is the old one, moved on.
            moved_on = np.array_equal(self._aged[: len(replaced)], replaced)
            self._aged = np.concatenate([self._aged[len(replaced) :], slots]) if moved_on else None
        self.arrivals[slots] = arrivals

    def clear(self, slots: np.ndarray) -> None:
        """Note that these slots are empty."""
        self.arrivals[slots] = -1
        self._filled = None
        if self._aged is not None:
            self._aged = self._aged[self.arrivals[self._aged] >= 0]
