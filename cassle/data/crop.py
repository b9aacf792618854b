"""Crop, resize and flip a batch: Pillow's antialiased bicubic resize, as two small matrix products per image.

A resize is separable and linear: every output row (and column) is a weighted sum of input rows (columns). Crop and flip
only choose other weights, so all three cost the same two products. Pillow rounds to 8 bits between its two passes;
without that clamp the overshoots of the first pass survive and the result is off by up to 21 grey levels.

The products are made for a device that works on a whole batch. Most of the weights are zero, the more the larger the
images, so a CPU resizes large ones one by one, by torch's own function for bytes.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

TABLE_BYTES = 16 * 2**20  # up to 50 px at 50 px; beyond, computing the weights of the batch costs less than a table
ONE_BY_ONE = 56  # side of views in pixels from which on a CPU is faster without the products
FAR = 1e4  # a distance, in filter widths, at which the bicubic filter is surely zero


def bicubic_weights(start: Tensor, length: Tensor, total: int, size: int, flip: Tensor | None = None) -> Tensor:
    """Return the weights that resize ``length`` pixels from ``start`` on to ``size`` pixels, ``(B, size, total)``.

    Keys' cubic filter with a = -0.5, widened by the scale when shrinking; the window is clipped to the crop and the
    weights are normalised, as in Pillow's ``Resample.c``.

    Args:
        start: first pixel of the crop per sample, ``(B,)``.
        length: pixels of the crop per sample, ``(B,)``, at least 1.
        total: pixels of the input along this axis.
        size: pixels of the output along this axis.
        flip: samples whose output is reversed, ``(B,)``; None reverses none.
    """
    start, length = start.float()[:, None], length.float()[:, None]
    target = torch.arange(size, device=start.device) + 0.5
    if flip is not None:
        target = torch.where(flip[:, None], size - target, target)
    source = torch.arange(total, device=start.device) + 0.5 - start
    scale = length / size
    widen = scale.clamp(min=1)
    inside = (source > 0) & (source < length)
    source = torch.where(inside, source / widen, FAR)

    # With p = max(2 - |x|, 0) and q = max(1 - |x|, 0) Keys' two polynomials become one expression without branches:
    # k(x) = p^2 (p - 1) / 2 + q^2 (1 - 2q).
    p = (target * (scale / widen))[:, :, None] - source[:, None, :]
    p.abs_().neg_().add_(2).clamp_(min=0)
    p_less_1 = p - 1
    q = p_less_1.clamp(min=0)
    weights = p.mul_(p).mul_(p_less_1).mul_(0.5)
    weights.addcmul_(q * q, q.mul_(-2).add_(1))
    return weights.div_(weights.sum(dim=2, keepdim=True))


@functools.lru_cache(maxsize=8)
def _weight_table(total: int, size: int, device: torch.device) -> Tensor:
    """Return the weights of every crop of a line, ordered by end, then by start, and all of them again, reversed."""
    stop, start = torch.tril_indices(total, total, device=device)
    plain = bicubic_weights(start, stop + 1 - start, total, size)
    return torch.cat([plain, plain.flip(1)])


def _weights(start: Tensor, length: Tensor, total: int, size: int, flip: Tensor | None = None) -> Tensor:
    """Return :func:`bicubic_weights`, looked up where all crops of a line fit into a small table (20 times faster)."""
    crops = total * (total + 1) // 2
    if 2 * crops * size * total * 4 > TABLE_BYTES:
        return bicubic_weights(start, length, total, size, flip)
    stop = start + length
    row = stop * (stop - 1) // 2 + start
    if flip is not None:
        row = row + crops * flip
    return _weight_table(total, size, start.device).index_select(0, row)


def crop_resize_flip(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Return the crops as ``size`` x ``size`` images: integers 0..255 in float32, ``(B, 3, size, size)``.

    Equal to ``image.crop(box).resize((size, size), BICUBIC)`` of Pillow within 2 grey levels, also on noise. Rows are
    resampled first, then columns; Pillow 13 goes the other way about where a crop shrinks more in height than in width,
    and differs there by what the rounding between the two passes makes of it.

    Args:
        images: uint8 ``(B, 3, H, W)``.
        boxes: top, left, height, width of each crop in pixels, inside the image, ``(B, 4)``.
        flip: samples that are mirrored left to right, bool ``(B,)``.
        size: side of the output in pixels.
    """
    if images.device.type == "cpu" and size >= ONE_BY_ONE:
        return _one_by_one(images, boxes, flip, size)
    batch, channels, height, width = images.shape
    top, left, rows, columns = boxes.unbind(1)
    across = _weights(left, columns, width, size, flip)
    down = _weights(top, rows, height, size)

    lines = images.reshape(batch, channels * height, width).float()
    lines = torch.bmm(lines, across.transpose(1, 2)).round_().clamp_(0, 255).view(batch, channels, height, size)
    views = lines.new_empty(batch, channels, size, size)
    for channel in range(channels):
        # One product per channel reads the weights in place; a product over (batch, channel) would copy them thrice.
        views[:, channel] = torch.bmm(down, lines[:, channel])
    return views.round_().clamp_(0, 255)


def _one_by_one(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    views = images.new_empty(len(images), images.shape[1], size, size)
    for row, ((top, left, height, width), mirrored) in enumerate(zip(boxes.tolist(), flip.tolist(), strict=True)):
        crop = images[row : row + 1, :, top : top + height, left : left + width]
        view = functional.interpolate(crop, size=(size, size), mode="bicubic", antialias=True)
        views[row] = view.flip(3) if mirrored else view
    return views.float()
