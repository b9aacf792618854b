"""Colour operations on batches: integers 0..255 in float32, ``(B, 3, H, W)``, every sample with its own parameters.

Pillow works in 8 bits, so each operation ends on integers, rounded the way Pillow rounds (blends cut, the rest round).
All of them work in place and return their argument: a view is memory traffic, and every copy is a pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow's convert("L")
# Pillow cuts the fraction off. Where x equals the base, f x + (1 - f) x is x up to a rounding error that must not cost
# a whole grey level.
NUDGE = 1e-4


def luma(images: Tensor) -> Tensor:
    """Return the grey level of every pixel, ``(B, H, W)``, rounded to integers."""
    red, green, blue = images.unbind(1)
    gray = red * LUMA[0]
    return gray.add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).round_()


def blend(images: Tensor, coefficients: Tensor) -> Tensor:
    """Adjust brightness, contrast or saturation, each sample its own, in place: ``f x + (1 - f) base``.

    The base is black (brightness), the mean grey level (contrast) or the pixel's grey level (saturation).

    Args:
        images: ``(B, 3, H, W)``.
        coefficients: ``(3, B)``: f; 1 - f where the base is the mean, else 0; 1 - f where it is the grey level, else 0.
    """
    factor, of_mean, of_gray = coefficients[:, :, None, None]
    base = luma(images)
    mean = base.mean(dim=(1, 2), keepdim=True).add_(0.5).floor_()
    base.mul_(of_gray).add_(mean.mul_(of_mean).add_(NUDGE))
    torch.addcmul(base[:, None], images, factor[:, None], out=images)
    return images.clamp_(0, 255).floor_()


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of every pixel and keep its value and saturation, in place.

    The HSV hexagon without branches. With u = (x - min) / (max - min) per channel, the hue h in sixths of a turn,
    -3 to 3, is ``|h| = 1 + u_g + u_b - u_r`` with the sign of ``g - b``; back again,
    ``u = clamp(2 - d, 0, 1)``, where d is the distance on the circle between h and the channel's own hue (0, 2, -2).

    Args:
        images: ``(B, 3, H, W)``.
        turns: shift per sample in turns, -0.5 to 0.5, ``(B,)``.
    """
    red, green, blue = images.unbind(1)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = torch.maximum(red, green)
    torch.maximum(chroma, blue, out=chroma)
    chroma.sub_(low)
    hue = torch.add(green, blue).sub_(red).sub_(low)
    hue.div_(chroma.clamp(min=1e-6)).add_(1)  # a grey pixel has no chroma and any hue
    torch.copysign(hue, green - blue, out=hue)

    # Both terms are in -3..3, so their sum is in -6..6 and the distance to the nearest multiple of 6 is 3 - ||t| - 3|.
    own = 2 * torch.arange(3, device=turns.device)  # red 0, green 2, blue 4 = -2
    offset = torch.remainder(6 * turns[:, None] - own + 3, 6) - 3
    wave = hue[:, None] + offset[:, :, None, None]
    wave.abs_().sub_(3).abs_().clamp_(1, 2)
    torch.addcmul(low.sub_(chroma)[:, None], wave, chroma[:, None], out=images)
    return images.round_()


def jitter(images: Tensor, blends: Tensor, turns: Tensor | None, edges: Sequence[int]) -> Tensor:
    """Apply brightness, contrast, saturation and hue in each sample's own order, in place.

    The samples are sorted by the place of the hue in their order. Then three blends over all of them, with the hue of
    one slice before, between and after, is every sample's own order, and no sample is computed for nothing.

    Args:
        images: ``(B, 3, H, W)``, sorted: hue first, second, third, fourth, then those without jitter.
        blends: coefficients of the first, second and third blend, ``(3, 3, B)``, see :func:`blend`.
        turns: hue shifts, ``(B,)``; None leaves the hue alone.
        edges: the five ends 0 = e0 <= e1 <= … <= e4 of the four slices.
    """
    last = edges[4]
    for place in range(4):
        start, stop = edges[place], edges[place + 1]
        if turns is not None and stop > start:
            shift_hue(images[start:stop], turns[start:stop])
        if place < 3 and last:
            blend(images[:last], blends[place, :, :last])
    return images


def grayscale(images: Tensor) -> Tensor:
    """Replace the colours by the grey level, in place."""
    return images.copy_(luma(images)[:, None].expand_as(images))


def solarize(images: Tensor, threshold: int) -> Tensor:
    """Invert the pixels at or above ``threshold``, in place."""
    bright = (images - (threshold - 1)).clamp_(0, 1)  # 0 or 1, as pixels are integers; torch.where is ten times slower
    return torch.addcmul(images, bright, 255 - 2 * images, out=images)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return ``(x / 255 - mean) / std`` per channel, folded into one multiply-add, in place."""
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        images[:, channel].mul_(1 / (255 * spread)).sub_(centre / spread)
    return images
