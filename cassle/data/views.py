"""Making the views of images: drawn by position, so that there is no state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cassle.data.augment import make_view
from cassle.data.centre import centre_view
from cassle.data.parameters import draw
from cassle.data.recipe import Recipe
from cassle.randomness import generator


class ViewMaker:
    """Random and evaluation views of images, by the recipes of a run.

    Args:
        recipes: one per view.
        seed: seed of the run.
        task: index of the task.
    """

    def __init__(self, recipes: Sequence[Recipe], *, seed: int, task: int) -> None:
        self.recipes, self.seed, self.task = tuple(recipes), seed, task
        self.num_large = sum(not recipe.local for recipe in self.recipes)

    def views(self, images: Tensor, purpose: str, step: int, rank: int) -> list[Tensor]:
        """Return one view per recipe, (batch, 3, size, size), of images (batch, 3, h, w), uint8.

        The draws are a function of (seed, purpose, task, step, view, rank).
        """
        height, width = images.shape[-2:]
        views = []
        for view, recipe in enumerate(self.recipes):
            draws = self.draws(purpose, step, view, rank)
            views.append(make_view(images, draw(recipe, len(images), height, width, draws), recipe))
        return views

    def draws(self, purpose: str, *coordinates: int) -> torch.Generator:
        """Return the generator of one view: a function of (seed, purpose, task, coordinates)."""
        return generator(self.seed, purpose, self.task, *coordinates)

    def centre(self, images: Tensor) -> Tensor:
        """Return the evaluation view (batch, 3, size, size) of images (batch, 3, h, w), uint8."""
        largest = max(self.recipes, key=lambda recipe: recipe.size)
        return centre_view(images, largest.size, largest.mean, largest.std)
