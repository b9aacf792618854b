"""Drawing the parameters of a batch whose images differ in size."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from cassle.data.parameters import TRIES, ViewParameters, draw
from cassle.data.recipe import Recipe
from cassle.randomness import generator

Boxes = tuple[Tensor, Tensor, Tensor, Tensor]


def draw_sized(recipe: Recipe, sizes: Tensor, seed: int, purpose: str, *coordinates: int) -> ViewParameters:
    """Draw the parameters of one view; with images of one size exactly those of :func:`cassle.data.parameters.draw`.

    Args:
        recipe: the view.
        sizes: height and width of each image in pixels, int64 (batch, 2).
        seed: with the rest, the key of the generator, see :func:`cassle.randomness.generator`.
        purpose: what is drawn.
        coordinates: the place in the run.
    """
    top, left, height, width = _boxes(recipe, *sizes.unbind(1), generator(seed, purpose, *coordinates))
    # All that is not the box does not depend on the size, and is drawn after it.
    rest = draw(recipe, len(sizes), 1, 1, generator(seed, purpose, *coordinates))
    return dataclasses.replace(rest, top=top, left=left, height=height, width=width)


def _boxes(recipe: Recipe, height: Tensor, width: Tensor, draws: torch.Generator) -> Boxes:
    """Draw (top, left, rows, columns): the first of ten boxes of random area and ratio that fits, else the centre."""
    area, ratio = torch.rand(2, len(height), TRIES, generator=draws, dtype=torch.float64)
    down, across = torch.rand(2, len(height), generator=draws, dtype=torch.float64)
    smallest, largest = recipe.scale
    area = (area * (largest - smallest) + smallest) * (height * width)[:, None]
    low, high = (math.log(value) for value in recipe.ratio)
    ratio = torch.exp(ratio * (high - low) + low)
    columns = (area * ratio).sqrt_().round_().long()
    rows = (area / ratio).sqrt_().round_().long()
    fits = (columns > 0) & (columns <= width[:, None]) & (rows > 0) & (rows <= height[:, None])
    first = fits.int().argmax(dim=1, keepdim=True)

    found = fits.gather(1, first).squeeze(1)
    central_rows, central_columns = _central(recipe.ratio, height, width)
    rows = torch.where(found, rows.gather(1, first).squeeze(1), central_rows)
    columns = torch.where(found, columns.gather(1, first).squeeze(1), central_columns)
    spare_rows, spare_columns = height - rows, width - columns
    top = torch.where(found, (down * (spare_rows + 1)).long(), spare_rows // 2)
    left = torch.where(found, (across * (spare_columns + 1)).long(), spare_columns // 2)
    return top, left, rows, columns


def _central(ratio: tuple[float, float], height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows, columns) of each image's largest box of an allowed ratio."""
    narrowest, widest = ratio
    shape = width.double() / height
    rows = (width.double() / narrowest).round().long().clamp(min=1).minimum(height)
    columns = (height.double() * widest).round().long().clamp(min=1).minimum(width)
    return torch.where(shape < narrowest, rows, height), torch.where(shape > widest, columns, width)
