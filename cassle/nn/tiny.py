"""A convolutional network small enough to train on a laptop's CPU: for demonstrations and tests."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cassle.checks import Count


class TinyConvNet(nn.Module):
    """Three 3×3 convolutions with batch norm and global average pooling; ``4 * width`` features.

    Shapes: images (batch, 3, h, w) in, features (batch, 4 * width) out.
    """

    def __init__(self, image_size: int, *, width: Count = 32, stem_stride: Count = 1) -> None:
        """Build the network.

        Args:
            image_size: side of the images in pixels; any size works.
            width: channels of the first convolution; the others have 2x and 4x as many.
            stem_stride: stride of the first convolution; 2 makes 32-pixel images about four times faster.
        """
        super().__init__()
        self.num_features = 4 * width
        layers: list[tuple[str, nn.Module]] = []
        for i, (inputs, outputs, stride) in enumerate(
            [(3, width, stem_stride), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        ):
            layers += [
                (f"conv{i + 1}", nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)),
                (f"bn{i + 1}", nn.BatchNorm2d(outputs)),
                (f"relu{i + 1}", nn.ReLU(inplace=True)),
            ]
        self.layers = nn.Sequential(OrderedDict(layers))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to features (batch, 4 * width)."""
        return torch.mean(self.layers(images), dim=(2, 3))
