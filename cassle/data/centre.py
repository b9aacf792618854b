"""The view on which an encoder is evaluated: the centre of the image, without chance."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.data import colour, crop
from cassle.data.source import BORDER


def view_in_words(size: int, border: float) -> str:
    """Return what is evaluated of an image, for the protocol; the arguments are those of :func:`centre_view`."""
    if border == 1:
        return f"the whole image at {size}×{size}"
    return f"shorter side to {round(size * border)}, centre {size}×{size}; smaller images whole"


def centre_view(
    images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...], border: float = BORDER
) -> Tensor:
    """Return the normalised centre of stored images, float32 (batch, 3, size, size).

    Images stored with a border (side at least ``border`` times ``size``, as 256 for 224) lose it; smaller ones are kept
    whole, because small images are not stored with one. The rest is resized to ``size``.

    Args:
        images: (batch, 3, side, side), uint8.
        size: side of the view in pixels.
        mean: per channel, of [0, 1] images.
        std: per channel, of [0, 1] images.
        border: side of an image over that of its centre; 1 = all of it.
    """
    side = images.shape[-1]
    inner = round(side / border) if side >= round(size * border) else side
    edge = (side - inner) // 2
    boxes = torch.full((len(images), 4), edge, device=images.device)  # filled there: a copy would wait for the device
    boxes[:, 2:] = inner
    flip = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        views = crop.crop_resize_flip(images, boxes, flip, size)
        return colour.normalise(views, mean, std)
