"""The memory of minimum redundancy: of the two that are most alike, the older one goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cassle.checks import Count
from cassle.errors import ConfigError
from cassle.memory.base import Memory
from cassle.memory.entries import Entries, draw
from cassle.memory.redundancy import Redundancy

#: what decides about a removal, slot by slot (``bound`` and ``neighbour`` as in Redundancy), and what an empty slot has
EMPTY = {"bound": -np.inf, "neighbour": -1, "touched": False, "seen": False}


class MinRed(Memory):
    """MinRed: an arrival takes the place of the older of the two entries that are most alike.

    Purushwalkam, Morgado and Gupta, "The Challenges of Continuous Self-Supervised Learning", ECCV 2022. The feature of
    an entry is the direction of the sum of its views' projections, z1 + z2 of the training pass, averaged over its
    uses (``feature_ema``) and normalised after each. Only entries whose feature was evaluated can be removed. If they
    are fewer than twice as many as have to go, the oldest entries go instead, whatever they look like.

    The closest pairs go one by one: after the removal of one of a pair its partner is not redundant any more. This is
    done exactly, without a matrix of all pairs (:mod:`cassle.memory.redundancy`). The bounds are in the checkpoint, so
    a continued run decides ties of rounding as an uninterrupted one. An insert that makes entries leave waits for the
    device: it copies a few numbers per slot to the host.

    Args:
        size: slots.
        feature_dim: width of the projections.
        payload_shape: as in :class:`Memory`.
        feature_on_arrival: rows come with their features and may be removed at once; without it they are safe until
            they were drawn and updated. Needed with one update per batch of the stream.
        limit_num_seen: an entry that was drawn so often leaves at the next insert; a limit to what outliers, which
            are never redundant, are repeated.
        virtual_ranks: independent parts of the memory, each with its share of the slots and, in consecutive chunks, of
            every batch: what as many processes with a memory of their own would keep.

    Raises:
        ValueError: no ``feature_dim``.
        ConfigError: a setting out of its range, or fewer slots than parts.
    """

    reads_features: ClassVar[bool] = True

    def __init__(
        self,
        size: int,
        feature_dim: int = 0,
        payload_shape: Sequence[int] | None = None,
        *,
        feature_on_arrival: bool = False,
        limit_num_seen: Count | None = None,
        virtual_ranks: Count = 1,
        **kwargs,
    ) -> None:
        super().__init__(size, feature_dim, payload_shape, **kwargs)
        self._check(limit_num_seen=limit_num_seen, virtual_ranks=virtual_ranks)
        if not feature_dim:
            raise ValueError(f"feature_dim={feature_dim}: must be at least 1.")
        if virtual_ranks > size:
            raise ConfigError(f"--virtual_ranks {virtual_ranks}: every part needs a slot, and there are only {size}.")
        self.feature_on_arrival, self.limit_num_seen = feature_on_arrival, limit_num_seen
        self.shard_of_slot = np.repeat(np.arange(virtual_ranks), list(map(len, _chunks(size, virtual_ranks))))
        self.virtual_ranks = virtual_ranks
        self.register_buffer("bound", torch.full((size,), -torch.inf))
        self.register_buffer("neighbour", torch.full((size,), -1))
        self.register_buffer("touched", torch.zeros(size, dtype=torch.bool))  # features changed since the last removal

    def _stored(self, features: Tensor) -> Tensor:
        # What has no direction becomes zero, and is like nothing else, instead of making all cosines undefined.
        return F.normalize(features.float(), dim=1).nan_to_num(nan=0.0)

    def _checked(self, rows: Entries) -> Entries:
        if (rows.features is not None) != self.feature_on_arrival:
            word = "needs" if self.feature_on_arrival else "takes no"
            raise ValueError(f"a MinRed memory with feature_on_arrival={self.feature_on_arrival} {word} features here.")
        return super()._checked(rows)

    def update(self, slots: Tensor, features: Tensor) -> None:
        """Move the features of entries (as :meth:`Memory.update`), by the un-normalised sum of their views' z."""
        super().update(slots, features)
        self.touched.index_copy_(0, slots, self.inserted[slots] >= 0)

    def _draw(self, number: int, generator: torch.Generator) -> np.ndarray:
        # Every part that is not empty gives its share of the batch.
        filled = self._book.filled
        shard = self.shard_of_slot[filled]
        parts = [filled[shard == rank] for rank in np.unique(shard)]
        shares = map(len, _chunks(number, len(parts)))
        return np.concatenate(
            [part[draw(share, len(part), generator)] for part, share in zip(parts, shares, strict=True)]
        )

    def _place(self, rows: Entries, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.limit_num_seen is not None:
            self._empty(np.flatnonzero(self.uses.cpu().numpy() >= self.limit_num_seen))
        number, aged = len(rows.keys), self._book.aged
        shard = self.shard_of_slot[aged]
        # An arrival has a number behind those of the slots until it has a slot of its own.
        arrivals = [self.size + chunk for chunk in _chunks(number, self.virtual_ranks)]
        members = [np.concatenate([aged[shard == rank], new]) for rank, new in enumerate(arrivals)]
        excess = [len(all_) - np.count_nonzero(self.shard_of_slot == rank) for rank, all_ in enumerate(members)]
        gone, state = np.zeros(self.size + number, dtype=bool), {}
        if max(excess) > 0:
            state, features = self._pull(number), self.features
            if self.feature_on_arrival:
                features = torch.cat([features, self._stored(self._here(rows.features))])
            for among, count in zip(members, excess, strict=True):
                if count > 0:
                    gone[self._leaving(among, count, features, state)] = True
            self._empty(np.flatnonzero(gone[: self.size]))
        free = self._book.free
        entering = [new[~gone[new]] for new in arrivals]
        slots = [free[self.shard_of_slot[free] == rank][: len(new)] for rank, new in enumerate(entering)]
        entering, slots = np.concatenate(entering), np.concatenate(slots)
        if state:
            self._push(state, gone, entering, slots)
        elif self.feature_on_arrival:
            self.touched.index_fill_(0, self._on_device(slots), True)
        return entering - self.size, slots

    def _leaving(self, members: np.ndarray, number: int, features: Tensor, state: dict[str, np.ndarray]) -> np.ndarray:
        """Return who of a part, given oldest first, has to go; bring the bounds of the candidates up to date."""
        candidates = members[state["seen"][members]]
        if len(candidates) < 2 * number:
            return members[:number]
        position = np.full(len(state["seen"]) + 1, -1)  # the last place is for -1, a neighbour that is not known
        position[candidates] = np.arange(len(candidates))
        bound, neighbour = state["bound"][candidates], position[state["neighbour"][candidates]]
        pairs = Redundancy(features, candidates, bound, neighbour)
        pairs.change(np.flatnonzero(state["touched"][candidates]))
        removed = candidates[pairs.evict(number)]
        state["bound"][candidates], state["touched"][candidates] = bound, False
        state["neighbour"][candidates] = np.where(neighbour < 0, -1, candidates[neighbour])
        return removed

    def _pull(self, number: int) -> dict[str, np.ndarray]:
        """Copy the state to the host, in one go, and append that of so many arrivals."""
        packed = torch.stack([getattr(self, name).double() for name in EMPTY]).cpu().numpy()
        new = EMPTY | {"touched": self.feature_on_arrival, "seen": self.feature_on_arrival}
        kinds = {"bound": np.float32, "neighbour": np.int64, "touched": bool, "seen": bool}
        return {
            name: np.concatenate([values, np.full(number, new[name])]).astype(kinds[name])
            for name, values in zip(EMPTY, packed, strict=True)
        }

    def _push(self, state: dict[str, np.ndarray], gone: np.ndarray, arrivals: np.ndarray, slots: np.ndarray) -> None:
        """Copy the state back: without what is gone, and with the arrivals in their slots."""
        slot_of = np.append(np.arange(len(gone)), -1)
        slot_of[arrivals] = slots
        slot_of[:-1][gone] = -1
        state["neighbour"] = slot_of[state["neighbour"]]
        for name in ("bound", "neighbour", "touched"):
            values = state[name]
            values[gone] = EMPTY[name]
            values[slots] = values[arrivals]
            getattr(self, name).copy_(torch.from_numpy(values[: self.size]), non_blocking=True)

    def _empty(self, slots: np.ndarray) -> None:
        super()._empty(slots)
        where = self._on_device(slots)
        for name in ("bound", "neighbour", "touched"):
            getattr(self, name).index_fill_(0, where, EMPTY[name])
        # Whoever had one of these for neighbour has a bound without a neighbour now.
        gone = torch.zeros_like(self.seen).index_fill_(0, where, True)
        lost = gone[self.neighbour.clamp(min=0)] & (self.neighbour >= 0)
        self.neighbour.masked_fill_(lost, -1)


def degenerates(updates_per_batch: int, feature_on_arrival: bool) -> str | None:
    """Return a warning if a MinRed memory would be starved of candidates and become a FIFO, None if not.

    With one update per batch of the stream as many entries are evaluated as have to leave: the evaluated ones, the only
    candidates, run out, and the oldest go.

    Args:
        updates_per_batch: K, batches drawn from the memory per batch of the stream.
        feature_on_arrival: whether arrivals come with their features.
    """
    if updates_per_batch > 1 or feature_on_arrival:
        return None
    return (
        "--feature_on_arrival false: with one update per batch of the stream, MinRed runs out of evaluated entries and "
        "becomes a FIFO; leave the flag out, or take at least 2 updates."
    )


def _chunks(number: int, parts: int) -> list[np.ndarray]:
    """Return 0, 1, …, number - 1 in consecutive parts that differ by at most one in length."""
    return np.array_split(np.arange(number), parts)
