"""DER."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from cassle.checks import Count, NonNegative
from cassle.data.batch import Batch
from cassle.methods.base import Outputs
from cassle.strategies.replay import Memorising


class DER(Memorising):
    """DER (Buzzega et al. 2020; Madaan et al. 2022): features of past images stay what they were when they came."""

    memories = ("reservoir", "fifo", "fifo_last", "class_balanced")  # minred keeps directions only

    def __init__(self, *args, replay_batch_size: Count = 64, alpha_der: NonNegative = 0.1, **kwargs) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            replay_batch_size: images of the past whose features are compared, per process.
            alpha_der: weight of the comparison.
            kwargs: arguments of ``Memorising``.
        """
        super().__init__(*args, **kwargs)
        self.replay_batch_size, self.alpha_der = replay_batch_size, alpha_der

    def drawn_of(self, batch_size: int) -> int:
        """Return the size of a comparison."""
        return self.replay_batch_size

    def views_of_step(self, batch_size: int, views: int, task: int) -> int:
        """Add one view of each image that is compared."""
        return super().views_of_step(batch_size, views, task) + self.replay_batch_size

    @property
    def stored_dim(self) -> int:
        """Width of the backbone's features."""
        return self.backbone.num_features

    def stored(self, out: Outputs) -> Tensor:
        """Return the features of the first view."""
        return out[0]["feats"].detach().float()

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the mean squared distance of the features of past images from those that were stored."""
        past = self.draw(self.replay_batch_size)  # before this batch arrives
        terms = super().losses(batch, out)
        if past is not None:
            feats = self.backbone(self.views_of(past)[0])
            terms["der"] = self.alpha_der * functional.mse_loss(feats.float(), past.features)
        return terms
