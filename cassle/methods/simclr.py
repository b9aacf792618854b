"""SimCLR."""

from __future__ import annotations

from torch import Tensor

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import nt_xent
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class SimCLR(SSLMethod):
    """SimCLR (Chen et al. 2020): views of one image attract, all other images of the batch repel."""

    auto_distiller = "contrastive"

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        temperature: Positive = 0.1,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build SimCLR.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector (Linear-ReLU-Linear, without batch norm).
            temperature: temperature of NT-Xent.
            gather: use the images of all processes as negatives; upstream uses only its own.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature, self.gather = output_dim, temperature, gather
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, batch_norm=False)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """NT-Xent between the two views."""
        z1, z2 = (o["z"] for o in out)
        return {"nt_xent": nt_xent(z1, z2, temperature=self.temperature, gather=self.gather)}
