"""DeepCluster v2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import deepcluster
from cassle.losses.deepcluster import UNASSIGNED
from cassle.losses.distributed import from_the_first
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.bank import MemoryBank
from cassle.nn.heads import mlp
from cassle.nn.kmeans import spherical_kmeans
from cassle.nn.prototypes import Prototypes


class DeepClusterV2(SSLMethod):
    """DeepCluster v2 (Caron et al. 2018, 2020): views predict the cluster of their image, found anew every epoch."""

    auto_distiller = "knowledge"
    has_prototypes = True
    min_epochs = 2
    transient = ("bank.", "assignments")

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        num_prototypes: list[Count] | None = None,
        temperature: Positive = 0.1,
        kmeans_iters: Count = 10,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector.
            num_prototypes: clusters of each head; default: 3000 3000 3000.
            temperature: temperature of the predicted cluster.
            kmeans_iters: iterations of spherical k-means at the start of each epoch.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature, self.kmeans_iters = output_dim, temperature, kmeans_iters
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim)
        heads = num_prototypes or [3000, 3000, 3000]
        # The clusters are found, not trained.
        self.prototypes = nn.ModuleList(Prototypes(output_dim, num) for num in heads).requires_grad_(False)
        self._forget()

    def _forget(self) -> None:
        """Make an empty memory: what the network made of each image, and its cluster in every head."""
        self.bank = MemoryBank(self.num_train, self.output_dim)
        self.register_buffer("assignments", torch.full((len(self.prototypes), self.num_train), UNASSIGNED))

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Empty the memory; the last task's clusters stay until the first epoch is through."""
        super().begin_task(task, handoff)
        self._forget()

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Cluster the projections of the last epoch; in a task's first epoch there are none, and no loss."""
        super().begin_epoch(epoch)
        seen = self.bank.seen.nonzero().squeeze(1)
        for head, prototypes in enumerate(self.prototypes if len(seen) else []):
            rows, num = self.bank.rows[head % 2, seen], len(prototypes.weight)
            draws = self.draws("kmeans", head)
            centroids, clusters = spherical_kmeans(rows, num, iterations=self.kmeans_iters, generator=draws)
            # One process's clusters for all: on a GPU the last digits of k-means may differ.
            prototypes.weight.copy_(from_the_first(centroids))
            self.assignments[head, seen] = from_the_first(clusters)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Cross-entropy of every view and head with the image's cluster; then the projections are remembered."""
        z = [o["z"] for o in out]
        heads = list(zip(self.prototypes, self.assignments[:, batch.index], strict=True))
        terms = [deepcluster(head(view), own, temperature=self.temperature) for view in z for head, own in heads]
        self.bank.remember(batch.index, z)
        return {"deepcluster": torch.stack(terms).mean()}
