"""The view on which an encoder is evaluated: the centre of the image, without chance."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.data import colour, crop
from cassle.data.source import BORDER


def view_in_words(size: int, border: float, side: int) -> str:
    """Return what is evaluated of an image, for the protocol.

    Args:
        size: as in :func:`centre_view`.
        border: likewise.
        side: at which all images are stored, in pixels.
    """
    inner = _inner(size, border, side)
    scaled = "" if inner == size else f", resized to {size}×{size}"
    if inner == side:
        return f"stored at {side}×{side} (shorter side to {side}, centre), all of it{scaled}"
    return f"shorter side to {side} (smaller images are magnified), centre {inner}×{inner}{scaled}"


def _inner(size: int, border: float, side: int) -> int:
    """Return the side of the centre that is evaluated of images stored at ``side``."""
    return round(side / border) if side >= round(size * border) else side


def centre_view(
    images: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...], border: float = BORDER
) -> Tensor:
    """Return the normalised centre of stored images, float32 (batch, 3, size, size).

    Images stored with a border (side at least ``border`` times ``size``, as 256 for 224) lose it; of those stored at a
    smaller side all is kept. The rest is resized to ``size``. All images of a data set are stored at one side, see
    ``FileSource.side``: a small one among large ones was magnified, and loses its border like them.

    Args:
        images: (batch, 3, side, side), uint8.
        size: side of the view in pixels.
        mean: per channel, of [0, 1] images.
        std: per channel, of [0, 1] images.
        border: side of an image over that of its centre; 1 = all of it.
    """
    side = images.shape[-1]
    inner = _inner(size, border, side)
    edge = (side - inner) // 2
    boxes = torch.full((len(images), 4), edge, device=images.device)  # filled there: a copy would wait for the device
    boxes[:, 2:] = inner
    flip = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        views = crop.crop_resize_flip(images, boxes, flip, size)
        return colour.normalise(views, mean, std)
