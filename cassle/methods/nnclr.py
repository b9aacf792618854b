"""NNCLR."""

from __future__ import annotations

from torch import Tensor

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import nnclr
from cassle.losses.nnclr import nearest_neighbours
from cassle.methods.base import Outputs, SSLMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp
from cassle.nn.queue import Queue


class NNCLR(SSLMethod):
    """NNCLR (Dwibedi et al. 2021): a view's nearest neighbour among past images attracts the other view."""

    auto_distiller = "contrastive"

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 2048,
        pred_hidden_dim: Count = 4096,
        temperature: Positive = 0.2,
        queue_size: Count = 65536,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            pred_hidden_dim: hidden width of the predictor.
            temperature: temperature of the contrastive loss.
            queue_size: past projections among which neighbours are looked for; of all processes.
            gather: use the predictions of all processes as negatives; upstream uses only its own.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature, self.gather = output_dim, temperature, gather
        features = self.backbone.num_features
        self.projector = mlp(features, proj_hidden_dim, output_dim, layers=3, last_norm="affine")
        self.predictor = mlp(output_dim, pred_hidden_dim, output_dim)
        self.queue = Queue(queue_size, output_dim)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """InfoNCE of each view's neighbour with another view's prediction; then the first view is queued."""
        neighbours = [nearest_neighbours(o["z"], self.queue.rows) for o in out]

        def loss(p: Tensor, neighbour: Tensor) -> Tensor:
            return nnclr(neighbour, p, temperature=self.temperature, gather=self.gather)

        value = crosswise(loss, [o["p"] for o in out], neighbours)
        self.queue.push(out[0]["z"])
        return {"nnclr": value}
