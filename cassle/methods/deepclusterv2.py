"""DeepCluster v2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import deepcluster
from cassle.losses.distributed import gather_exact
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp
from cassle.nn.kmeans import spherical_kmeans
from cassle.nn.prototypes import Prototypes
from cassle.randomness import generator


class DeepClusterV2(SSLMethod):
    """DeepCluster v2 (Caron et al. 2018, 2020): views predict the cluster of their image, found anew every epoch."""

    auto_distiller = "knowledge"
    has_prototypes = True
    transient = ("bank", "seen", "assignments")

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
        self._make_bank()

    def _make_bank(self) -> None:
        """Make the memory of this task: by image the projection of two views, and its cluster in every head."""
        device = self.prototypes[0].weight.device
        self.register_buffer("bank", torch.zeros(2, self.num_train, self.output_dim, device=device))
        self.register_buffer("seen", torch.zeros(self.num_train, dtype=torch.bool, device=device))
        assignments = torch.full((len(self.prototypes), self.num_train), -1, device=device)
        self.register_buffer("assignments", assignments)

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Empty the bank; the clusters of the last task stay until the first epoch is through."""
        super().begin_task(task, handoff)
        self._make_bank()

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Cluster the projections of the last epoch; in a task's first epoch there are none, and no loss."""
        super().begin_epoch(epoch)
        seen = self.seen.nonzero().squeeze(1)
        if not len(seen):
            return
        for head, prototypes in enumerate(self.prototypes):
            draws = generator(self.seed, "kmeans", self.current_task, epoch, head)
            rows, num = self.bank[head % 2, seen], len(prototypes.weight)
            centroids, clusters = spherical_kmeans(rows, num, iterations=self.kmeans_iters, generator=draws)
            prototypes.weight.copy_(centroids)
            self.assignments[head, seen] = clusters

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Cross-entropy of every view and head with the image's cluster; then the bank remembers the projections."""
        z = [o["z"] for o in out]
        wanted = self.assignments[:, batch.index]
        terms = [
            deepcluster(prototypes(view), clusters, temperature=self.temperature)
            for view in z
            for prototypes, clusters in zip(self.prototypes, wanted, strict=True)
        ]
        self._remember(batch.index, torch.stack(z[:2]))
        return {"deepcluster": torch.stack(terms).mean()}

    @torch.no_grad()
    def _remember(self, index: Tensor, z: Tensor) -> None:
        rows = gather_exact(F.normalize(z, dim=2).float().transpose(0, 1))
        index = gather_exact(index)
        self.bank[:, index] = rows.transpose(0, 1)
        self.seen[index] = True
