"""MoCo v3."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import info_nce
from cassle.methods.base import Outputs
from cassle.methods.momentum import MomentumMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp


class MoCoV3(MomentumMethod):
    """MoCo v3 (Chen et al. 2021): a predicted view finds the teacher's key of another among those of the batch."""

    auto_distiller = "contrastive"

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 4096,
        pred_hidden_dim: Count = 4096,
        temperature: Positive = 0.2,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            pred_hidden_dim: hidden width of the predictor.
            temperature: temperature of InfoNCE; the paper's 0.2 is for transformers, 1.0 for ResNets.
            gather: use the keys of all processes as negatives.
            kwargs: arguments of ``MomentumMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature, self.gather = output_dim, temperature, gather
        features = self.backbone.num_features
        self.projector = mlp(features, proj_hidden_dim, output_dim, layers=3, bias=False, last_norm="plain")
        self.predictor = mlp(output_dim, pred_hidden_dim, output_dim, bias=False, last_norm="plain")
        self.follow("backbone", "projector")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """InfoNCE over the ordered pairs of views, times 2 tau and summed over both directions (algorithm 1)."""
        loss = partial(info_nce, temperature=self.temperature, gather=self.gather)
        return {"moco": 2 * 2 * self.temperature * crosswise(loss, [o["p"] for o in out], self.targets(batch))}
