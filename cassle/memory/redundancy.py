"""Who is most alike: nearest neighbours by cosine that are kept up to date, and the removal of the closest pairs.

The rule is greedy: as often as wanted, find the closest pair among those that are left and remove its older member.
It needs no N x N matrix. Of every candidate two things are known: an upper bound of its largest cosine, and, where the
bound is exact, who attains it. A feature that changes can only lift a bound, which one product of the changed rows with
all rows finds out; a neighbour that moves or goes can only lower the maximum: the bound stays a bound, but is *stale*.
A stale bound is measured anew when it comes to the top.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

#: entries of the largest block of cosines, by kind of device: what the caches of a CPU hold, 256 MiB on a GPU
MAX_ENTRIES = {"cpu": 2**22, "cuda": 2**26}
#: stale bounds that are measured together: the features are read once for all of them
GROUP = 32
#: candidates with the highest bounds, per one to be removed, whose cosines among themselves are held on the host
SPARE = 4


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return a b^T in full float32, whatever autocast and TF32 say: near ties decide who stays."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(a.device.type, enabled=False):
            return a @ b.T
    finally:
        torch.set_float32_matmul_precision(precision)


class Redundancy:
    """The candidates for removal, by their position in order of age, oldest first; all on the host but the features.

    Args:
        features: (rows, dim) float32, normalised, on any device.
        candidates: the row of each candidate, (n,).
        bound: upper bounds of the largest cosine with another candidate, (n,) float32, -inf for none.
        neighbour: the position of who attains it, (n,); -1 for a stale bound.

    Both arrays are changed in place.
    """

    def __init__(self, features: Tensor, candidates: np.ndarray, bound: np.ndarray, neighbour: np.ndarray) -> None:
        self.features, self.bound, self.neighbour = features, bound, neighbour
        self.rows = torch.tensor(candidates).to(features.device, non_blocking=True)
        self.alive = np.ones(len(candidates), dtype=bool)

    def change(self, positions: np.ndarray) -> None:
        """Take note that these candidates are new, or have new features."""
        changed = np.zeros(len(self.alive), dtype=bool)
        changed[positions] = True
        self.neighbour[changed[self.neighbour]] = -1
        for some in self._split(positions):
            self._measure(some, changed)

    def evict(self, number: int) -> np.ndarray:
        """Remove the older member of the closest pair, ``number`` times; of equal pairs the one with the oldest member.

        Returns:
            The positions of those removed, in order. There must be more candidates than that.
        """
        near, removed = _Near(self, SPARE * number), []
        while len(removed) < number:
            top = int(self.bound.argmax())  # of equal ones the first, so the oldest
            if self.neighbour[top] < 0:
                if not near.tighten(top):
                    self._measure(self._stalest(number - len(removed)))
                continue
            older = min(top, int(self.neighbour[top]))
            self.alive[older], self.bound[older] = False, -np.inf
            self.neighbour[self.neighbour == older] = -1
            near.remove(older)
            removed.append(older)
        return np.array(removed, dtype=np.int64)

    def _stalest(self, wanted: int) -> np.ndarray:
        """Return the stale candidates that come to the top soonest, in order."""
        likely = np.argpartition(-self.bound, min(2 * wanted, len(self.bound) - 1))[: 2 * wanted + 1]
        stale = np.flatnonzero((self.neighbour < 0) & self.alive & (self.bound >= self.bound[likely].min()))
        return stale[np.argsort(-self.bound[stale], kind="stable")[:GROUP]]

    def _measure(self, positions: np.ndarray, changed: np.ndarray | None = None) -> None:
        """Find the exact neighbours of these; with ``changed``, lift the bounds of all others that are not in it."""
        best = np.full(len(positions), -np.inf, dtype=np.float32)
        who = np.zeros(len(positions), dtype=np.int64)
        for start, block in self._blocks(positions):
            value, at = (part.cpu().numpy() for part in block.max(dim=1))
            better = value > best
            best[better], who[better] = value[better], at[better] + start
            if changed is not None:
                self._lift(positions, changed, start, block)
        self.bound[positions], self.neighbour[positions] = best, who

    def _lift(self, positions: np.ndarray, changed: np.ndarray, start: int, block: Tensor) -> None:
        here = slice(start, start + block.shape[1])
        top = block.amax(dim=0).cpu().numpy()
        risen = np.flatnonzero((top >= self.bound[here]) & ~changed[here])
        if len(risen):
            who = block[:, torch.tensor(risen).to(block.device)].argmax(dim=0).cpu().numpy()
            self.bound[start + risen], self.neighbour[start + risen] = top[risen], positions[who]

    def _blocks(self, positions: np.ndarray) -> Iterator[tuple[int, Tensor]]:
        """Yield the cosines with all candidates, some columns at a time, -inf with oneself and with those removed."""
        mine = self.features[self.rows[torch.tensor(positions).to(self.rows.device)]]
        width = max(1, MAX_ENTRIES.get(self.features.device.type, 2**22) // len(positions))
        for start in range(0, len(self.rows), width):
            rows = self.rows[start : start + width]
            block = cosines(mine, self.features[rows])
            dead = np.flatnonzero(~self.alive[start : start + width])
            if len(dead):
                block.index_fill_(1, torch.tensor(dead).to(block.device), -torch.inf)
            inside = np.flatnonzero((positions >= start) & (positions < start + len(rows)))
            own = torch.tensor(np.stack([inside, positions[inside] - start])).to(block.device)
            block[own[0], own[1]] = -torch.inf
            yield start, block

    def _split(self, positions: np.ndarray) -> list[np.ndarray]:
        parts = -(-len(positions) // 2048)
        return np.array_split(positions, parts) if parts else []


class _Near:
    # The candidates with the highest bounds. Nobody else has a cosine above the highest bound outside, so a maximum
    # among these that reaches that bound is a maximum of all. It spares nearly all measurements: of a close pair one
    # member goes, and the other, stale and on top, would have to be compared with everybody.

    def __init__(self, pairs: Redundancy, size: int) -> None:
        self.pairs = pairs
        size = min(size, len(pairs.bound))
        order = np.argpartition(-pairs.bound, size - 1)
        self.inside, outside = order[:size], order[size:]
        self.outside = pairs.bound[outside].max() if len(outside) else -np.inf
        self.place = np.full(len(order), -1)
        self.place[self.inside] = np.arange(size)
        rows = pairs.features[pairs.rows[torch.tensor(self.inside).to(pairs.rows.device)]]
        self.cosines = cosines(rows, rows).fill_diagonal_(-torch.inf).cpu().numpy()

    def tighten(self, position: int) -> bool:
        """Lower the bound of a stale candidate, if that can be done here."""
        pairs, place = self.pairs, self.place[position]
        if place < 0 or pairs.bound[position] <= self.outside:
            return False
        row = self.cosines[place]
        best = int(row.argmax())
        if row[best] >= self.outside:
            pairs.bound[position], pairs.neighbour[position] = row[best], self.inside[best]
        else:
            pairs.bound[position] = self.outside
        return True

    def remove(self, position: int) -> None:
        """Leave a candidate out from now on."""
        if self.place[position] >= 0:
            self.cosines[:, self.place[position]] = -np.inf
