"""The scale on which the linear probes see the features, and the size of the chunks in which they read them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # elements of the largest temporary of a chunk: 64 MiB in float32, 128 MiB in float64


def rows_per_chunk(width: int) -> int:
    """Return how many rows of ``width`` elements fit into one chunk, at least one."""
    return max(1, CHUNK_ELEMENTS // max(1, width))


class Standardiser:
    """Per-dimension zero mean and unit variance, in float64; what is near-constant in the train set stays small.

    A dimension is divided by its standard deviation, but by no less than 1/1000 of the typical one and by no less than
    float32's rounding of its mean: a unit that is dead on the train set must not explode where it wakes up.
    """

    def __init__(self, features: Float[Tensor, "n dim"]) -> None:
        parts, n = features.split(rows_per_chunk(features.shape[1])), len(features)
        self.mean = sum(part.double().sum(dim=0) for part in parts) / n
        variance = sum((part.double() - self.mean).square().sum(dim=0) for part in parts) / n
        floor = torch.maximum(1e-3 * variance.mean().sqrt(), 1e-6 * self.mean.abs())
        scale = variance.sqrt().maximum(floor)
        self.scale = scale.where(scale > 0, 1.0)

    def __call__(self, features: Float[Tensor, "m dim"]) -> Float[Tensor, "m dim"]:
        """Return the standardised features, float64."""
        return (features - self.mean) / self.scale
