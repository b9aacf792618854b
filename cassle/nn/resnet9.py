"""ResNet-9 in three widths: a fast network for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cassle.errors import ConfigError

SMALLEST = 8  # pixels: three poolings halve the image


def _unit(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class Residual(nn.Module):
    """Two units beside a shortcut; nothing follows the sum.

    Args:
        channels: of the input, and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units = nn.Sequential(_unit(channels, channels), _unit(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        return x + self.units(x)


class ResNet9(nn.Module):
    """Eight convolutions with bias, batch norm and ReLU, two residual sums, and a global max-pool.

    Shapes: images (batch, 3, h, w) of at least 8 pixels in, features (batch, 8 * width) out.

    Args:
        image_size: side of the images in pixels.
        width: channels of the first convolution.

    Raises:
        ConfigError: the images are smaller than 8 pixels.
    """

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        if image_size < SMALLEST:
            raise ConfigError(f"--size {image_size}: a ResNet-9 takes images from {SMALLEST} pixels on.")
        self.num_features = 8 * width
        self.layers = nn.Sequential(
            _unit(3, width),
            _unit(width, 2 * width, pool=True),
            Residual(2 * width),
            _unit(2 * width, 4 * width, pool=True),
            _unit(4 * width, 8 * width, pool=True),
            Residual(8 * width),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to features (batch, 8 * width)."""
        return torch.amax(self.layers(images), dim=(2, 3))


def resnet9(image_size: int) -> nn.Module:
    """ResNet-9: 512 features, no stride in the stem.

    Args:
        image_size: side of the images in pixels; any from 8 on.
    """
    return ResNet9(image_size, 64)


def wide_resnet9(image_size: int) -> nn.Module:
    """ResNet-9 of twice the width: 1024 features.

    Args:
        image_size: side of the images in pixels; any from 8 on.
    """
    return ResNet9(image_size, 128)


def slim_resnet9(image_size: int) -> nn.Module:
    """ResNet-9 of 20 to 160 channels: 160 features.

    Args:
        image_size: side of the images in pixels; any from 8 on.
    """
    return ResNet9(image_size, 20)
