"""MinRed as it is defined: a list of entries, the matrix of all cosines, one removal after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def dense_greedy(features: Tensor, number: int) -> list[int]:
    """Return the rows to remove, in order; the rows are given oldest first."""
    cosines = (features @ features.T).fill_diagonal_(-10)
    removed = []
    for _ in range(number):
        worst = int(cosines.amax(dim=1).argmax())
        cosines[worst], cosines[:, worst] = -10, -10
        removed.append(worst)
    return removed


def pair_order(features: Tensor, number: int) -> list[int]:
    """The same by another rule: visit pairs from the closest on; while both live, the older one goes."""
    cosines = features @ features.T
    n = len(features)
    pairs = sorted((-cosines[i, j].item(), i, j) for i in range(n) for j in range(i + 1, n))
    gone: list[int] = []
    for _, i, j in pairs:
        if len(gone) < number and i not in gone and j not in gone:
            gone.append(i)
    return gone


class Oracle:
    """Entries as dictionaries, oldest first."""

    def __init__(self, size: int, alpha: float, on_arrival: bool) -> None:
        self.size, self.alpha, self.on_arrival = size, alpha, on_arrival
        self.entries: list[dict] = []

    def keys(self) -> list[int]:
        return [entry["key"] for entry in self.entries]

    def insert(self, keys: Tensor, features: Tensor | None) -> None:
        for row, key in enumerate(keys.tolist()):
            feature = None if features is None else F.normalize(features[row], dim=0)
            self.entries.append({"key": key, "feature": feature})
        leaving = len(self.entries) - self.size
        if leaving > 0:
            seen = [entry for entry in self.entries if entry["feature"] is not None]
            if len(seen) < 2 * leaving:
                gone = self.entries[:leaving]
            else:
                gone = [seen[row] for row in dense_greedy(torch.stack([e["feature"] for e in seen]), leaving)]
            ids = {id(entry) for entry in gone}
            self.entries = [entry for entry in self.entries if id(entry) not in ids]

    def update(self, keys: Tensor, features: Tensor) -> None:
        by_key = {entry["key"]: entry for entry in self.entries}
        for key, feature in zip(keys.tolist(), F.normalize(features, dim=1), strict=True):
            old = by_key[key]["feature"]
            mixed = feature if old is None else F.normalize(self.alpha * old + (1 - self.alpha) * feature, dim=0)
            by_key[key]["feature"] = mixed

    def remove(self, keys: list[int]) -> None:
        self.entries = [entry for entry in self.entries if entry["key"] not in keys]
