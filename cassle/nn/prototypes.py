"""Prototypes: unit vectors that stand for clusters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.losses.precision import in_full_precision


class Prototypes(nn.Module):
    """Scores a representation against K unit vectors by the cosine (SwAV, section 3.1; DINO's last layer).

    The stored weight is normalised whenever it is used, so no step can leave the sphere.

    Shapes: z (batch, dim) in, scores (batch, num) out, each in [-1, 1].

    Args:
        dim: width of z.
        num: number of prototypes.
    """

    def __init__(self, dim: int, num: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(num, dim), dim=1))

    @in_full_precision
    def forward(self, z: Tensor) -> Tensor:
        """Return the cosine of each z with each prototype; in half precision a temperature would blow up its error."""
        return F.linear(F.normalize(z, dim=1), F.normalize(self.weight, dim=1))
