"""torchvision's residual networks without the classifier, with a stem for small images."""

from __future__ import annotations

from collections.abc import Callable

import torchvision
from torch import nn

from cassle.checks import Whole

SMALL_IMAGE = 64  # up to this side (pixels) the ImageNet stem would leave almost no resolution


def stem(image_size: int, width: int, padding: int) -> tuple[nn.Module, nn.Module]:
    """Return ``conv1`` and ``maxpool``: ImageNet's, or up to 64 pixels a 3×3 convolution that keeps the resolution."""
    if image_size > SMALL_IMAGE:
        conv, pool = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, stride=2, padding=1)
    else:
        conv, pool = nn.Conv2d(3, width, 3, stride=1, padding=padding, bias=False), nn.Identity()
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, pool


def _resnet(build: Callable[..., nn.Module], image_size: int, stem_padding: int, zero_init_residual: bool) -> nn.Module:
    net = build(weights=None, zero_init_residual=zero_init_residual)
    net.num_features = net.fc.in_features
    net.fc = nn.Identity()
    if image_size <= SMALL_IMAGE:
        net.conv1, net.maxpool = stem(image_size, 64, stem_padding)
    return net


def resnet18(image_size: int, *, stem_padding: Whole = 1, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-18 (He et al. 2016): 512 features; up to 64 pixels with the 3×3 CIFAR stem and without max-pooling.

    Args:
        image_size: side of the images in pixels; decides the stem.
        stem_padding: padding of the CIFAR stem; 2 is CaSSLe's (34×34 maps from 32×32 images, +27 % FLOPs).
        zero_init_residual: start every residual branch at zero.
    """
    return _resnet(torchvision.models.resnet18, image_size, stem_padding, zero_init_residual)


def resnet34(image_size: int, *, stem_padding: Whole = 1, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-34 (He et al. 2016): 512 features; up to 64 pixels with the 3×3 CIFAR stem and without max-pooling.

    Args:
        image_size: side of the images in pixels; decides the stem.
        stem_padding: padding of the CIFAR stem; 2 is CaSSLe's (34×34 maps from 32×32 images, +27 % FLOPs).
        zero_init_residual: start every residual branch at zero.
    """
    return _resnet(torchvision.models.resnet34, image_size, stem_padding, zero_init_residual)


def resnet50(image_size: int, *, stem_padding: Whole = 1, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-50 (He et al. 2016): 2048 features; up to 64 pixels with the 3×3 CIFAR stem and without max-pooling.

    Args:
        image_size: side of the images in pixels; decides the stem.
        stem_padding: padding of the CIFAR stem; 2 is CaSSLe's (34×34 maps from 32×32 images, +27 % FLOPs).
        zero_init_residual: start every residual branch at zero.
    """
    return _resnet(torchvision.models.resnet50, image_size, stem_padding, zero_init_residual)
