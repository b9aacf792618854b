"""What a loader yields."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One training batch, on the device.

    Attributes:
        index: positions in the training set, (batch,), int64.
        views: augmented and normalised images, one tensor (batch, 3, size, size) per view.
        targets: class ids, (batch,), int64; -1 without a label. Objectives do not read them unless they say so.
        num_large: number of full-size views; they come first, the small crops of multi-crop follow.
    """

    index: Tensor
    views: list[Tensor]
    targets: Tensor
    num_large: int = 2

    @property
    def large(self) -> list[Tensor]:
        """The full-size views."""
        return self.views[: self.num_large]
