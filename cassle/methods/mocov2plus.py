"""MoCo v2+."""

from __future__ import annotations

from torch import Tensor, nn

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import moco_info_nce
from cassle.methods.base import Outputs
from cassle.methods.momentum import MomentumMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp
from cassle.nn.queue import Queue


class MoCoV2Plus(MomentumMethod):
    """MoCo v2+ (He et al. 2020; Chen et al. 2020): each view finds the teacher's key among a queue of old keys."""

    auto_distiller = "contrastive"

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        temperature: Positive = 0.1,
        queue_size: Count = 65536,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector (Linear-ReLU-Linear, without batch norm).
            temperature: temperature of InfoNCE.
            queue_size: old keys that serve as negatives, for each of the two views; of all processes.
            kwargs: arguments of ``MomentumMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature = output_dim, temperature
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, batch_norm=False)
        self.queues = nn.ModuleList(Queue(queue_size, output_dim) for _ in range(2))
        self.follow("backbone", "projector")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """InfoNCE of each view with another view's key, against the queue of that view; then the keys are queued."""
        keys = self.targets(batch)
        queues = [self.queues[view % 2] for view in range(len(keys))]  # more views share the two queues
        targets = [(key, queue.rows) for key, queue in zip(keys, queues, strict=True)]

        def loss(q: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
            return moco_info_nce(q, *target, temperature=self.temperature)

        value = crosswise(loss, [o["z"] for o in out], targets)
        for key, queue in zip(keys, queues, strict=True):
            queue.push(key)
        return {"moco": value}
