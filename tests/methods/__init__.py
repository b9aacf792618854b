"""Every method at a size at which a step takes milliseconds."""

from __future__ import annotations

from typing import Any

import torch

from cassle.data.batch import Batch
from cassle.distill import DISTILLERS
from cassle.engine.settings import Component, Schema
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn.tiny import TinyConvNet
from cassle.nn.vit import VisionTransformer
from cassle.optim.build import Optimization

#: settings of methods and distillers that make them small; each component takes those that it has
SMALL: dict[str, Any] = {
    "output_dim": 6, "proj_hidden_dim": 12, "pred_hidden_dim": 5, "queue_size": 20, "num_prototypes": 5,
    "whitening_size": 16, "num_slices": 8, "decoder_depth": 1, "epoch_queue_starts": 0, "freeze_prototypes_epochs": 0,
    "freeze_last_layer": 0, "distill_proj_hidden_dim": 4, "distill_queue_size": 12, "pfr_hidden_dim": 4,
}  # fmt: skip
IMAGES = 16


class SmallTransformer(VisionTransformer):
    """Twelve features."""

    dim, heads = 12, 3


def small(kind: type, sizes: dict[str, Any] = SMALL) -> dict[str, Any]:
    """Return the settings of ``sizes`` that a method (or a composition) takes."""
    names = Schema([Component("", kind)]).names
    found = {name: value for name, value in sizes.items() if name in names}
    if issubclass(kind, METHODS["deepclusterv2"]):
        found["num_prototypes"] = [found["num_prototypes"], found["num_prototypes"] - 1]
    return found


def small_backbone(method: str) -> torch.nn.Module:
    """Return a network of a few features that the method can train on 8×8 images."""
    if method == "mae":
        return SmallTransformer(8, patch_size=2, depth=1)
    return TinyConvNet(8, width=2)


def build(method: str, distiller: str | None = None, seed: int = 0, **settings: Any) -> SSLMethod:
    """Return a small model, initialised from ``seed``."""
    torch.manual_seed(seed)
    kind = compose(METHODS[method], *([DISTILLERS[distiller]] if distiller else []))
    optimization = Optimization(lr=8.0, scheduler="none")
    model = kind(small_backbone(method), optimization, **{**small(kind), **settings})
    model.settle(num_train=IMAGES, num_classes=2)
    return model


def num_views(method: str) -> int:
    """Return the number of views that a test gives the method."""
    return METHODS[method].max_views or 2


def batch(views: int = 2, *, seed: int = 1, small_crops: int = 0) -> Batch:
    """Return a batch of noise: sixteen images of two classes."""
    draws = torch.Generator().manual_seed(seed)
    sides = [8] * views + [4] * small_crops
    images = [torch.randn(IMAGES, 3, side, side, generator=draws) for side in sides]
    return Batch(torch.arange(IMAGES), images, torch.arange(IMAGES) % 2, views)


def losses(model: SSLMethod, data: Batch) -> dict[str, torch.Tensor]:
    """Return the terms of one step; the draws in it are the same every time."""
    torch.manual_seed(11)
    return model.losses(data, model.forward_views(data.views))
