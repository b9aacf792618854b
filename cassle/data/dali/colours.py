"""What is left to do to a view that is cut already: colours, blur, solarize, normalise, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.data import blur, colour
from cassle.data.augment import CHUNK_BYTES, _moved, _Plan, _plan
from cassle.data.parameters import ViewParameters
from cassle.data.recipe import Recipe


@torch.no_grad()
def finish(crops: Tensor, params: ViewParameters, recipe: Recipe) -> Tensor:
    """Return :func:`cassle.data.augment.make_view` of images that are cropped, resized and flipped already.

    A box over the whole image would do the same there, but costs two matrix products: at 224 px as much as the rest.

    Args:
        crops: uint8 (batch, 3, size, size), on any device.
        params: what happens to each; box and flip are not looked at.
        recipe: the view's recipe.
    """
    views = torch.empty(crops.shape, device=crops.device)
    chunk = len(crops)
    if crops.device.type == "cpu":  # chunks that stay in the cache
        chunk = max(1, CHUNK_BYTES // (4 * 3 * recipe.size**2))
    with torch.autocast(crops.device.type, enabled=False):  # bfloat16 holds 8 bits, the blur's products need more
        for start in range(0, len(crops), chunk):
            plan = _moved(_plan(params, slice(start, start + chunk)), crops.device)
            chosen = crops.index_select(0, plan.sample).float()
            torch.index_select(_coloured(chosen, plan, recipe), 0, plan.restore, out=views[start : start + chunk])
    return views


def _coloured(views: Tensor, plan: _Plan, recipe: Recipe) -> Tensor:
    if recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue:
        colour.jitter(views, plan.blends, plan.turns if recipe.hue else None, plan.edges)
    if len(plan.gray):
        colour.grayscale(views, plan.gray)
    if len(plan.blurred):
        blur.gaussian_blur(views, plan.blurred, plan.sigma, recipe.blur_sigma[1])
    if len(plan.solarized):
        colour.solarize(views, plan.solarized, recipe.solarize_threshold)
    return colour.normalise(views, recipe.mean, recipe.std)
