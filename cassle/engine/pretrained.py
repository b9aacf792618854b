"""From a checkpoint to an encoder that maps images to features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cassle.data.centre import centre_view
from cassle.engine import checkpoint
from cassle.engine.plan import Plan
from cassle.errors import CheckpointError
from cassle.nn.state import load_strictly

PREFIX = "backbone."


class Encoder(nn.Module):
    """A backbone with its preprocessing: images to features.

    Args:
        backbone: normalised images (batch, 3, size, size) to features (batch, num_features).
        size: side in pixels of the images that the backbone was trained on.
        mean: statistics of its training images, per channel, of [0, 1] images.
        std: likewise.
    """

    def __init__(self, backbone: nn.Module, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features: int = backbone.num_features
        self.size, self.mean, self.std = size, tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> Tensor:
        """Map square images (batch, 3, h, w), uint8 or floats in [0, 1], to features (batch, num_features).

        Raises:
            ValueError: images of another shape or kind.
        """
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: give square colour images (batch, 3, side, side)."
            )
        if images.is_floating_point():
            if images.numel() and not 0 <= float(images.min()) <= float(images.max()) <= 1:
                raise ValueError(
                    "images: floats must lie in [0, 1], not normalised; the encoder normalises them itself."
                )
            images = (images * 255).round().to(torch.uint8)
        return self.backbone(centre_view(images, self.size, self.mean, self.std))


def read_encoder(path: str | Path, backbone: str | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder of a checkpoint of this library, and the settings that it was trained with.

    Args:
        path: a ``final.ckpt``.
        backbone: what the caller believes it is; checked if given.

    Raises:
        CheckpointError: missing, damaged, unsafe, not of this library, or of another architecture.
    """
    content = checkpoint.load(path)
    about = content.get("cassle")
    if not isinstance(about, dict) or "state_dict" not in content:
        raise CheckpointError(f"{path}: not a final.ckpt of cassle (it has the entries {sorted(content)[:6]}).")
    plan = Plan(about["config"])
    if backbone is not None and backbone != plan.backbone:
        raise CheckpointError(f"{path}: holds a {plan.backbone}, not a {backbone}; give --backbone {plan.backbone}.")
    net = plan.build_model().backbone
    weights = {k.removeprefix(PREFIX): v for k, v in content["state_dict"].items() if k.startswith(PREFIX)}
    load_strictly(net, weights, source=str(path))
    return Encoder(net, about["size"], about["mean"], about["std"]).eval(), about["config"]


def load_backbone(path: str | Path) -> Encoder:
    """Return the encoder of a checkpoint, in eval mode: square images (uint8, or floats in [0, 1]) to features.

    Args:
        path: a ``final.ckpt`` of an experiment.

    Raises:
        CheckpointError: missing, damaged, unsafe, or not of this library.
    """
    return read_encoder(path)[0]
