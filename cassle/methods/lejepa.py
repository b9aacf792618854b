"""LeJEPA."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cassle.checks import Count, Share
from cassle.data.batch import Batch
from cassle.losses.lejepa import lejepa_terms, random_directions
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class LeJEPA(SSLMethod):
    """LeJEPA (Balestriero & LeCun 2025): views agree with their mean and are distributed as an isotropic Gaussian."""

    auto_distiller = "predictive_mse"
    distill_defaults: ClassVar[dict[str, Any]] = {"distill_lamb": 1.0}
    multicrop = True

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        lamb: Share = 0.05,
        num_slices: Count = 1024,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            lamb: share of the Gaussian regularisation in the loss, the method's only trade-off.
            num_slices: random directions along which the distribution is compared, new ones every step.
            gather: compare the distribution of the images of all processes.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.lamb, self.num_slices, self.gather = output_dim, lamb, num_slices, gather
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, layers=3)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Prediction of the mean of the full-size views, and SIGReg."""
        z = torch.stack([o["z"] for o in out])
        directions = random_directions(self.num_slices, self.output_dim, self.draws("directions"))
        directions = directions.to(z.device, non_blocking=True)
        return lejepa_terms(z, directions, lamb=self.lamb, num_global=batch.num_large, gather=self.gather)
