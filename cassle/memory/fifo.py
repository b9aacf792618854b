"""First in, first out."""

from __future__ import annotations

import numpy as np
import torch

from cassle.memory.base import Entries, Memory


class FIFO(Memory):
    """The last rows that arrived: a ring; after a removal first of all the empty slots are filled again.

    With K updates per batch of the stream, a row is drawn K times on average (Purushwalkam et al. 2022).
    """

    def _place(self, rows: Entries, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        number = len(rows.keys)
        entering = min(number, self.size)
        leaving = max(0, len(self) + entering - self.size)
        slots = np.concatenate([self._book.free[: entering - leaving], self._book.aged[:leaving]])
        return np.arange(number - entering, number), slots


class FIFOLast(FIFO):
    """A FIFO from which the newest entries are taken, newest first, instead of random ones.

    ``sample`` draws nothing from its generator; if there are too few entries, it begins again with the newest.
    """

    def _draw(self, number: int, generator: torch.Generator) -> np.ndarray:
        return self._book.aged[::-1][np.arange(number) % len(self)]
