"""SwAV."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from cassle.checks import Count, Positive, Whole
from cassle.data.batch import Batch
from cassle.losses import sinkhorn, swav
from cassle.methods.base import Outputs, SSLMethod
from cassle.methods.pairs import crosswise
from cassle.nn.heads import mlp
from cassle.nn.prototypes import Prototypes
from cassle.nn.queue import Queue


class SwAV(SSLMethod):
    """SwAV (Caron et al. 2020): a view predicts the balanced assignment of another view to prototypes."""

    auto_distiller = "knowledge"
    multicrop = True
    has_prototypes = True
    transient = ("queues.",)

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        num_prototypes: Count = 3000,
        temperature: Positive = 0.1,
        sk_epsilon: Positive = 0.05,
        sk_iters: Count = 3,
        freeze_prototypes_epochs: Whole = 1,
        queue_size: Whole = 3840,
        epoch_queue_starts: Whole = 15,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector.
            num_prototypes: number of prototypes.
            temperature: temperature of the predicted assignment.
            sk_epsilon: entropy of the Sinkhorn assignment; the smaller, the harder.
            sk_iters: iterations of Sinkhorn-Knopp.
            freeze_prototypes_epochs: epochs at the start of each task in which the prototypes do not move.
            queue_size: past projections that balance the assignment, for each of the two views; 0 = none.
            epoch_queue_starts: epoch of each task from which on the queue is kept and used.
            gather: balance the assignments over the images of all processes.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature = output_dim, temperature
        self.freeze_epochs, self.queue_epoch = freeze_prototypes_epochs, epoch_queue_starts
        self.assign = partial(sinkhorn, epsilon=sk_epsilon, iterations=sk_iters, gather=gather)
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim)
        self.prototypes = nn.ModuleList([Prototypes(output_dim, num_prototypes)])
        self.queues = nn.ModuleList(
            Queue(queue_size, output_dim, random_start=False) for _ in range(2 * (queue_size > 0))
        )

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Cross-entropy between the codes of each full-size view and the scores of the other views."""
        z = [o["z"] for o in out]
        scores = [self.prototypes[0](view) for view in z]
        codes = [self._codes(view, scores[view]) for view in range(batch.num_large)]
        if self._queues_are_on:
            for view in range(batch.num_large):
                self.queues[view % 2].push(z[view])
        return {"swav": crosswise(partial(swav, temperature=self.temperature), scores, codes)}

    @property
    def _queues_are_on(self) -> bool:
        return len(self.queues) > 0 and self.progress.epoch >= self.queue_epoch

    @torch.no_grad()
    def _codes(self, view: int, scores: Tensor) -> Tensor:
        """Return the balanced assignment of a view (batch, prototypes), with the queue's help."""
        if not self._queues_are_on:
            return self.assign(scores)
        queued = self.prototypes[0](self.queues[view % 2].own_rows)
        return self.assign(torch.cat([scores, queued]))[: len(scores)]

    def held_back(self) -> Iterable[nn.Parameter]:
        """The prototypes, in the first epochs of a task."""
        return self.prototypes.parameters() if self.progress.epoch < self.freeze_epochs else ()
