"""What a loader yields."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One training batch, on the device.

    Attributes:
        index: positions in the training set, (batch,), int64.
        views: augmented and normalised images, one tensor (batch, 3, size, size) per view.
        targets: class ids, (batch,), int64; -1 without a label. Objectives do not read them unless they say so.
        num_large: number of full-size views; they come first, the small crops of multi-crop follow.
        num_replay: the last so many images come from a memory, the others are the task's.
        pixels: of a stream that passes once, the images of the stream themselves, (num_stream, 3, side, side), uint8;
            None where images can be read again by their position.
        origins: of a stream, the video, class or folder of each of its images, (num_stream,), int64; -1 where unknown.
        num_lost: how many images of the stream did not decode; others, with index -1, are the last of its images.
        first_pass: whether the images of the stream are seen for the first time.
        last_pass: whether they are trained on for the last time.
    """

    index: Tensor
    views: list[Tensor]
    targets: Tensor
    num_large: int = 2
    num_replay: int = 0
    pixels: Tensor | None = None
    origins: Tensor | None = None
    num_lost: int = 0
    first_pass: bool = True
    last_pass: bool = True

    def with_replay(self, index: Tensor, views: list[Tensor], targets: Tensor) -> Batch:
        """Return this batch followed by images from a memory (arguments as the attributes)."""
        return self._replace(
            index=torch.cat([self.index, index]),
            views=[torch.cat(pair) for pair in zip(self.views, views, strict=True)],
            targets=torch.cat([self.targets, targets]),
            num_replay=self.num_replay + len(index),
        )

    @property
    def num_stream(self) -> int:
        """Number of images that are the task's; they come first."""
        return len(self.index) - self.num_replay

    @property
    def large(self) -> list[Tensor]:
        """The full-size views."""
        return self.views[: self.num_large]
