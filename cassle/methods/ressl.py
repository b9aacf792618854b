"""ReSSL."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import ressl
from cassle.methods.base import Outputs
from cassle.methods.momentum import MomentumMethod
from cassle.nn.heads import mlp
from cassle.nn.queue import Queue


class ReSSL(MomentumMethod):
    """ReSSL (Zheng et al. 2021): a view's relations to past images become the sharper ones that the teacher sees."""

    auto_distiller = "relational"

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 2048,
        temperature_q: Positive = 0.1,
        temperature_k: Positive = 0.04,
        queue_size: Count = 65536,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector (Linear-ReLU-Linear, without batch norm).
            temperature_q: temperature of the student's relations.
            temperature_k: temperature of the teacher's relations.
            queue_size: past keys to which relations are taken; of all processes.
            kwargs: arguments of ``MomentumMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        self.temperatures = {"temperature_q": temperature_q, "temperature_k": temperature_k}
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, batch_norm=False)
        self.queue = Queue(queue_size, output_dim)
        self.follow("backbone", "projector")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Cross-entropy between the relations of the last view (teacher; give it weak augmentation) and the others."""
        key = self.momentum_teacher(batch.large[-1])
        queries = [o["z"] for o in out[: batch.num_large - 1]]
        value = torch.stack([ressl(q, key, self.queue.rows, **self.temperatures) for q in queries]).mean()
        self.queue.push(key)
        return {"ressl": value}
