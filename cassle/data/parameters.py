"""The random numbers of a view: one row per sample, drawn on the CPU for a whole batch at once.

Drawing and applying are two steps, so that the same parameters can be given to any engine, and compared.
The distributions are torchvision's (``RandomResizedCrop``, ``ColorJitter``, ``RandomGrayscale``, ``RandomSolarize``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cassle.data.recipe import Recipe

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's numbering of the four jitters
TRIES = 10  # torchvision tries ten boxes before it falls back on the central one


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """What happens to each sample of a batch (CPU tensors, first axis = sample).

    Args:
        top: first row of the crop, int64 ``(B,)``.
        left: first column of the crop, int64 ``(B,)``.
        height: rows of the crop, int64 ``(B,)``.
        width: columns of the crop, int64 ``(B,)``.
        flip: left-right flip, bool ``(B,)``.
        jitter: colour jitter is applied, bool ``(B,)``.
        order: permutation of the four jitters, first one first, int64 ``(B, 4)``.
        factors: brightness, contrast, saturation factors and hue shift in turns, float32 ``(B, 4)``.
        gray: colour is removed, bool ``(B,)``.
        sigma: sigma of the blur in pixels, 0 = not blurred, float32 ``(B,)``.
        solarize: bright pixels are inverted, bool ``(B,)``.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    jitter: Tensor
    order: Tensor
    factors: Tensor
    gray: Tensor
    sigma: Tensor
    solarize: Tensor

    def __len__(self) -> int:
        return len(self.top)


Draws = torch.Generator | Sequence[torch.Generator]


def draw(recipe: Recipe, batch: int, height: int | Tensor, width: int | Tensor, draws: Draws) -> ViewParameters:
    """Draw the parameters of one view of ``batch`` images.

    Args:
        recipe: the view.
        batch: number of images; each gets its own parameters.
        height: rows of the images in pixels: of all of them, or of each, int64 ``(B,)``.
        width: columns likewise.
        draws: a CPU generator, see :func:`cassle.randomness.generator`; or one for each image, which then gets what it
            would get alone.
    """
    sides = (torch.as_tensor(side).expand(batch) for side in (height, width))
    top, left, rows, columns = _boxes(recipe, *sides, draws)
    chances = (recipe.flip_prob, recipe.jitter_prob, recipe.gray_prob, recipe.blur_prob, recipe.solarize_prob)
    happens = _uniform(draws, 5, batch) < torch.tensor(chances)[:, None]
    flip, jitter, gray, blur, solarize = happens.unbind()

    strengths = torch.tensor([recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue])
    low, high = 1 - strengths, 1 + strengths
    low.clamp_(min=0)
    low[HUE], high[HUE] = -recipe.hue, recipe.hue
    factors = _uniform(draws, batch, 4, axis=0) * (high - low) + low
    order = _uniform(draws, batch, 4, axis=0).argsort(dim=1)

    smallest, largest = recipe.blur_sigma
    sigma = _uniform(draws, batch, axis=0) * (largest - smallest) + smallest
    return ViewParameters(
        top=top,
        left=left,
        height=rows,
        width=columns,
        flip=flip,
        jitter=jitter,
        order=order,
        factors=factors,
        gray=gray,
        sigma=sigma * blur,
        solarize=solarize,
    )


def _uniform(draws: Draws, *shape: int, axis: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return numbers in [0, 1) of this shape, whose ``axis`` are the images."""
    if isinstance(draws, torch.Generator):
        return torch.rand(shape, generator=draws, dtype=dtype)
    alone = (*shape[:axis], 1, *shape[axis + 1 :])
    return torch.cat([torch.rand(alone, generator=own, dtype=dtype) for own in draws], dim=axis)


def _boxes(recipe: Recipe, height: Tensor, width: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw (top, left, rows, columns): the first of ten boxes of random area and ratio that fits, else the centre."""
    area, ratio = _uniform(draws, 2, len(height), TRIES, dtype=torch.float64)
    down, across = _uniform(draws, 2, len(height), dtype=torch.float64)
    smallest, largest = recipe.scale
    area = (area * (largest - smallest) + smallest) * (height * width)[:, None]
    low, high = (math.log(value) for value in recipe.ratio)
    ratio = torch.exp(ratio * (high - low) + low)
    columns = (area * ratio).sqrt_().round_().long()
    rows = (area / ratio).sqrt_().round_().long()
    fits = (columns > 0) & (columns <= width[:, None]) & (rows > 0) & (rows <= height[:, None])
    first = fits.int().argmax(dim=1, keepdim=True)

    found = fits.gather(1, first).squeeze(1)
    central_rows, central_columns = central_box(recipe.ratio, height, width)
    rows = torch.where(found, rows.gather(1, first).squeeze(1), central_rows)
    columns = torch.where(found, columns.gather(1, first).squeeze(1), central_columns)
    spare_rows, spare_columns = height - rows, width - columns
    top = torch.where(found, (down * (spare_rows + 1)).long(), spare_rows // 2)
    left = torch.where(found, (across * (spare_columns + 1)).long(), spare_columns // 2)
    return top, left, rows, columns


def central_box(ratio: tuple[float, float], height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows, columns) of each image's largest box of an allowed ratio: torchvision's choice if no try fits."""
    narrowest, widest = ratio
    shape = width.double() / height
    rows = (width.double() / narrowest).round().long().clamp(min=1).minimum(height)
    columns = (height.double() * widest).round().long().clamp(min=1).minimum(width)
    return torch.where(shape < narrowest, rows, height), torch.where(shape > widest, columns, width)
