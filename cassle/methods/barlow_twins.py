"""Barlow Twins."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from cassle.checks import Count, NonNegative
from cassle.data.batch import Batch
from cassle.losses import barlow_twins
from cassle.methods.base import Outputs, SSLMethod
from cassle.methods.pairs import over_pairs
from cassle.nn.heads import mlp


class BarlowTwins(SSLMethod):
    """Barlow Twins (Zbontar et al. 2021): the cross-correlation of two views becomes the identity."""

    auto_distiller = "decorrelative"

    def __init__(
        self,
        *args,
        output_dim: Count = 2048,
        proj_hidden_dim: Count = 2048,
        lamb: NonNegative = 5e-3,
        scale_loss: NonNegative = 0.025,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            lamb: weight of the off-diagonal terms.
            scale_loss: factor on the whole loss.
            gather: correlate over the images of all processes, with correct gradients.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        self.loss = partial(barlow_twins, lamb=lamb, scale_loss=scale_loss, gather=gather)
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, layers=3)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The distance of the cross-correlation matrix from the identity, over the pairs of views."""
        return {"barlow_twins": over_pairs(self.loss, [o["z"] for o in out])}
