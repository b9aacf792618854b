"""Gaussian blur of a batch as Pillow does it: three extended box blurs per axis, here one matrix per sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PASSES = 3


def box_radius(sigma: Tensor) -> Tensor:
    """Return the radius, whole and fractional part, of the box whose three-fold blur has this sigma (in pixels).

    Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering", 2011, as in Pillow's
    ``BoxBlur.c``.
    """
    variance = sigma * sigma / PASSES
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    return whole + part


def blur_matrices(sigma: Tensor, size: int, largest: float) -> Tensor:
    """Return one symmetric-window blur matrix per sample, ``(B, size, size)``; the border pixels are repeated.

    Args:
        sigma: ``(B,)`` in pixels, positive.
        size: pixels of the line that is blurred.
        largest: an upper bound of ``sigma``, known without asking the device.
    """
    radius = box_radius(sigma)[:, None, None]
    reach = math.ceil(largest) + 1  # the box of sigma reaches less than sigma + 1 pixels
    line = torch.arange(float(size), device=sigma.device)
    padded = torch.arange(-float(reach), size + reach, device=sigma.device)
    distance = (line[:, None] - padded[None, :]).abs()
    box = (radius + 1 - distance).clamp_(0, 1).div_(2 * radius + 1)
    once = box[:, :, reach:-reach].contiguous()
    once[:, :, 0] += box[:, :, :reach].sum(dim=2)
    once[:, :, -1] += box[:, :, -reach:].sum(dim=2)
    thrice = once
    for _ in range(PASSES - 1):
        thrice = torch.bmm(thrice, once)
    return thrice


def gaussian_blur(images: Tensor, index: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur the samples in ``index`` in place; equal to ``ImageFilter.GaussianBlur(sigma)`` within 2 grey levels.

    Args:
        images: integers 0..255 in float32, ``(B, 3, S, S)``.
        index: samples to blur, int64 ``(N,)``.
        sigma: their sigmas in pixels, ``(N,)``.
        largest: an upper bound of ``sigma`` in pixels.
    """
    chosen = images.index_select(0, index)
    count, channels, size, _ = chosen.shape
    matrices = blur_matrices(sigma, size, largest)
    lines = torch.bmm(chosen.view(count, channels * size, size), matrices.transpose(1, 2)).round_()
    lines = lines.view(count, channels, size, size)
    for channel in range(channels):
        chosen[:, channel] = torch.bmm(matrices, lines[:, channel])
    images[index] = chosen.round_()
    return images
