"""BYOL."""

from __future__ import annotations

from torch import Tensor

from cassle.checks import Count
from cassle.data.batch import Batch
from cassle.losses import byol
from cassle.methods.base import Outputs
from cassle.methods.momentum import MomentumMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp


class BYOL(MomentumMethod):
    """BYOL (Grill et al. 2020): a predictor maps one view to the slow teacher's projection of the other."""

    auto_distiller = "predictive"

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 2048,
        pred_hidden_dim: Count = 512,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector.
            pred_hidden_dim: hidden width of the predictor.
            kwargs: arguments of ``MomentumMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim)
        self.predictor = mlp(output_dim, pred_hidden_dim, output_dim)
        self.follow("backbone", "projector")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """2 - 2 cos(p, teacher's z of another view): twice the mean over pairs, so the sum of both for two views."""
        return {"byol": 2 * crosswise(byol, [o["p"] for o in out], self.targets(batch))}
