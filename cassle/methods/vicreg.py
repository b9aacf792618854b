"""VICReg."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from cassle.checks import Count, NonNegative
from cassle.data.batch import Batch
from cassle.losses.vicreg import vicreg_terms
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class VICReg(SSLMethod):
    """VICReg (Bardes et al. 2022): two views agree, every feature varies, no two features covary."""

    auto_distiller = "predictive_mse"

    def __init__(
        self,
        *args,
        output_dim: Count = 2048,
        proj_hidden_dim: Count = 2048,
        sim_loss_weight: NonNegative = 25.0,
        var_loss_weight: NonNegative = 25.0,
        cov_loss_weight: NonNegative = 1.0,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            sim_loss_weight: weight of the invariance term.
            var_loss_weight: weight of the variance term.
            cov_loss_weight: weight of the covariance term.
            gather: variances and covariances over the images of all processes; upstream takes only its own.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        weights = {"sim_loss_weight": sim_loss_weight, "var_loss_weight": var_loss_weight}
        self.terms = partial(vicreg_terms, **weights, cov_loss_weight=cov_loss_weight, gather=gather)
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, layers=3)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The three terms, each by its name, averaged over the pairs of views."""
        pairs = [self.terms(a["z"], b["z"]) for a, b in combinations(out, 2)]
        return {name: torch.stack([terms[name] for terms in pairs]).mean() for name in pairs[0]}
