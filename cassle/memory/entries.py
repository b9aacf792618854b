"""The rows that go into a memory and come out of it, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Entries(NamedTuple):
    """Rows of a memory, or rows on their way into one.

    Args:
        keys: indices in the data set, (rows,) int64.
        targets: labels, (rows,) int64, -1 for none.
        features: (rows, feature_dim) float32, None in a memory without features.
        payload: (rows, *payload_shape) uint8, None in a memory without payload.
    """

    keys: Tensor
    targets: Tensor
    features: Tensor | None
    payload: Tensor | None


def checked(rows: Entries, *, feature_dim: int, payload_shape: Sequence[int] | None) -> Entries:
    """Return the rows with targets (-1 where none were given), if they fit a memory.

    Raises:
        ValueError: the parts differ in length, or do not fit the memory.
    """
    number = len(rows.keys)
    if rows.targets is None:
        rows = rows._replace(targets=torch.full((number,), -1))
    if rows.features is not None and not feature_dim:
        raise ValueError("features for a memory without them: make it with feature_dim.")
    if (rows.payload is None) != (payload_shape is None):
        raise ValueError("payload: give it exactly when the memory was made with a payload_shape.")
    shapes = {"keys": (), "targets": (), "features": (feature_dim,), "payload": tuple(payload_shape or ())}
    for name, values in rows._asdict().items():
        if values is not None and tuple(values.shape) != (number, *shapes[name]):
            raise ValueError(f"{name} of shape {tuple(values.shape)}: must be {(number, *shapes[name])}.")
    return rows


def draw(number: int, among: int, generator: torch.Generator) -> np.ndarray:
    """Return ``number`` integers below ``among`` in random order: different ones, unless there are too few."""
    if number > among:
        return torch.randint(among, (number,), generator=generator).numpy()
    if 4 * number >= among:
        return torch.randperm(among, generator=generator)[:number].numpy()
    drawn = np.empty(0, dtype=np.int64)
    while True:  # few repeat, and the work does not grow with ``among``
        drawn = np.concatenate([drawn, torch.randint(among, (number,), generator=generator).numpy()])
        first = np.sort(np.unique(drawn, return_index=True)[1])
        if len(first) >= number:
            return drawn[first[:number]]
