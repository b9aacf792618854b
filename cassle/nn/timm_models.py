"""Any image model of timm as a backbone: ``--backbone timm/NAME``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from cassle.errors import ConfigError
from cassle.registry import did_you_mean


@cache
def timm_model(name: str) -> Callable[..., nn.Module]:
    """Return the function that builds a model of timm without its classifier; the same one for the same name.

    Raises:
        ConfigError: timm is not installed, or has no such model.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(f"--backbone timm/{name}: timm is not installed; pip install cassle[timm].") from None
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()).replace("'", "'timm/", 1)
        raise ConfigError(f"--backbone timm/{name}: timm {timm.__version__} has no such model.{hint}")

    def build(image_size: int, *, timm_pretrained: bool = False) -> nn.Module:
        with_size = {"img_size": image_size}
        try:
            net = _created(name, timm_pretrained, with_size)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            net = _created(name, timm_pretrained, {})  # convolutions take any size, and no such argument
        return _measured(net, name, image_size)

    build.__name__ = build.__qualname__ = "timm_model"
    build.__doc__ = f"""timm's {name} without its classifier.

    Args:
        image_size: side of the images in pixels; given to models that are made for one size.
        timm_pretrained: start from timm's weights, fetched from the Hugging Face Hub or its cache.

    Raises:
        ConfigError: the weights cannot be fetched, or the model does not take images of this size.
    """
    return build


def _created(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    import timm

    fetches = pretrained and torch.get_default_device().type != "meta"  # a model without storage takes no weights
    if not fetches:
        return timm.create_model(name, num_classes=0, **arguments)
    try:
        return timm.create_model(name, num_classes=0, pretrained=True, **arguments)
    except TypeError:
        raise
    except Exception as error:  # no network, no such file on the Hub, no client of it: each has its own errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"--timm_pretrained: the weights of timm/{name} cannot be fetched ({reason}). Leave the flag out, or give "
            "a file with --pretrained_model."
        ) from error


def _measured(net: nn.Module, name: str, image_size: int) -> nn.Module:
    """Set ``num_features`` to the width that comes out: some models add layers behind what timm calls so."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
    if isinstance(patch, tuple) and image_size % patch[0]:
        raise ConfigError(
            f"--backbone timm/{name}: its patches of {patch[0]} pixels do not divide images of {image_size}; use a "
            f"multiple of {patch[0]} for --size."
        )
    device = next(net.parameters()).device
    try:
        with torch.no_grad():
            features = net.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    except Exception as error:  # each architecture fails in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"--backbone timm/{name}: does not take images of {image_size} pixels ({reason}); use another --size."
        ) from error
    if not isinstance(features, torch.Tensor) or features.dim() != 2:
        raise ConfigError(f"--backbone timm/{name}: does not end in one vector per image; take another model.")
    net.num_features = features.shape[1]
    return net.train()
