"""SimSiam."""

from __future__ import annotations

from torch import Tensor

from cassle.checks import Count
from cassle.data.batch import Batch
from cassle.losses import simsiam
from cassle.methods.base import Outputs, SSLMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp


class SimSiam(SSLMethod):
    """SimSiam (Chen & He 2021): a predictor maps one view to the other, into which no gradient flows."""

    auto_distiller = "predictive"

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        pred_hidden_dim: Count = 512,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            pred_hidden_dim: hidden width of the predictor.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        features = self.backbone.num_features
        self.projector = mlp(features, proj_hidden_dim, output_dim, layers=3, bias=False, last_norm="plain")
        self.predictor = mlp(output_dim, pred_hidden_dim, output_dim, bias=False)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """-cos(p, z of another view), averaged over the ordered pairs of views."""
        return {"simsiam": crosswise(simsiam, [o["p"] for o in out], [o["z"] for o in out])}

    def parameter_groups(self) -> list[dict]:
        """The predictor's learning rate is constant (section 4.1: it should adapt to the latest representations)."""
        predictor = [*self.predictor.parameters()]
        own = {id(parameter) for parameter in predictor}
        groups = [
            {**group, "params": [p for p in group["params"] if id(p) not in own]}
            for group in super().parameter_groups()
        ]
        return [*groups, {"params": predictor, "constant_lr": True}]
