"""ResNet-18 with other widths, as CCL and the continual-SSL library use it; state-dict names are torchvision's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from cassle.checks import Whole
from cassle.nn.resnet import stem


class ScaledResNet18(nn.Module):
    """Four stages of two basic blocks; the widths are ``width`` times 1, 2, 4 and 8.

    Shapes: images (batch, 3, h, w) in, features (batch, 8 * width) out.

    Args:
        image_size: side of the images in pixels; decides the stem.
        width: channels of the stem and the first stage; 64 is ResNet-18.
        stem_padding: padding of the stem for small images.
        zero_init_residual: start every residual branch at zero.
    """

    def __init__(self, image_size: int, width: int, stem_padding: int, zero_init_residual: bool) -> None:
        super().__init__()
        self.num_features = 8 * width
        self.conv1, self.maxpool = stem(image_size, width, stem_padding)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock) and zero_init_residual:
                nn.init.zeros_(module.bn2.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to features (batch, 8 * width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.mean(x, dim=(2, 3))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


def wide_resnet18(image_size: int, *, stem_padding: Whole = 1, zero_init_residual: bool = True) -> nn.Module:
    """ResNet-18 of twice the width: 1024 features; up to 64 pixels with the 3×3 stem and without max-pooling.

    Args:
        image_size: side of the images in pixels; decides the stem.
        stem_padding: padding of the 3×3 stem.
        zero_init_residual: start every residual branch at zero.
    """
    return ScaledResNet18(image_size, 128, stem_padding, zero_init_residual)


def slim_resnet18(image_size: int, *, stem_padding: Whole = 1, zero_init_residual: bool = True) -> nn.Module:
    """ResNet-18 of 20 to 160 channels: 160 features; up to 64 pixels with the 3×3 stem and without max-pooling.

    Args:
        image_size: side of the images in pixels; decides the stem.
        stem_padding: padding of the 3×3 stem.
        zero_init_residual: start every residual branch at zero.
    """
    return ScaledResNet18(image_size, 20, stem_padding, zero_init_residual)
