"""The batched augmentation engine: uint8 images and drawn parameters in, a normalised view out.

On an accelerator the whole batch goes through at once. On a CPU it goes through in chunks that stay in the cache:
the work is dozens of light passes over the pixels, so it is bound by where the pixels lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cassle.data import blur, colour, crop
from cassle.data.parameters import CONTRAST, HUE, SATURATION, ViewParameters
from cassle.data.recipe import Recipe

# Of float32 view. On a core with 2 MiB of L2 cache, 1 to 8 MiB are equal within 20 % (32 px views); with 512 KiB the
# calls themselves cost half as much again, and without chunks the memory does.
CHUNK_BYTES = 2 * 2**20


@dataclass(frozen=True)
class _Plan:
    """What one chunk needs, its samples sorted by the place of the hue in their order."""

    edges: tuple[int, ...]  # ends of the slices with the hue first, second, third, fourth
    sample: Tensor  # position in the batch, int64 (n,)
    restore: Tensor  # position in the sorted chunk of the first, second, … sample, int64 (n,)
    boxes: Tensor  # top, left, height, width (n, 4)
    flip: Tensor  # bool (n,)
    blends: Tensor  # coefficients of the first, second, third blend (3, 3, n)
    turns: Tensor  # hue shift (n,)
    gray: Tensor  # positions in the sorted chunk, int64
    blurred: Tensor  # positions in the sorted chunk, int64
    sigma: Tensor  # of the blurred samples, in pixels
    solarized: Tensor  # positions in the sorted chunk, int64


Cut = Callable[[Tensor, _Plan, Recipe], Tensor]


def make_view(images: Tensor, params: ViewParameters, recipe: Recipe) -> Tensor:
    """Return one augmented view per image, float32 ``(B, 3, size, size)``, on the device of ``images``.

    Nothing waits for the device: every decision is taken from the CPU copy of the parameters, and one copy moves
    what the kernels need.

    Args:
        images: uint8 ``(B, 3, H, W)`` on any device.
        params: what happens to each sample, from :func:`cassle.data.parameters.draw`.
        recipe: the view's recipe; the probabilities in it are not looked at, their outcome is in ``params``.

    Raises:
        ValueError: the images are not uint8 ``(B, 3, H, W)``, or ``params`` is for another number of images.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"images: {images.dtype} {tuple(images.shape)}; give uint8 (batch, 3, height, width).")
    if len(params) != len(images):
        raise ValueError(f"params: drawn for {len(params)} images, given {len(images)}; draw them for this batch.")
    return _in_chunks(images, params, recipe, _cut)


def finish(crops: Tensor, params: ViewParameters, recipe: Recipe) -> Tensor:
    """Return :func:`make_view` of images that are cropped, resized and flipped already: what is left of the recipe.

    Args:
        crops: uint8 ``(B, 3, size, size)`` on any device.
        params: what happens to each; box and flip are not looked at.
        recipe: the view's recipe.
    """
    return _in_chunks(crops, params, recipe, lambda chosen, plan, recipe: chosen.float())


def _in_chunks(images: Tensor, params: ViewParameters, recipe: Recipe, cut: Cut) -> Tensor:
    views = torch.empty(len(images), 3, recipe.size, recipe.size, device=images.device)
    chunk = max(1, len(images))
    if images.device.type == "cpu":
        chunk = max(1, CHUNK_BYTES // (4 * 3 * recipe.size**2))
    # Mixed precision must not reach the products: bfloat16 holds 8 bits, pixels times weights need more. The views
    # are an ordinary tensor, so they can be trained on; what is between costs a tenth less without autograd's notes.
    with torch.autocast(images.device.type, enabled=False), torch.inference_mode():
        for start in range(0, len(images), chunk):
            plan = _moved(_plan(params, slice(start, start + chunk)), images.device)
            chosen = cut(images.index_select(0, plan.sample), plan, recipe)
            torch.index_select(_coloured(chosen, plan, recipe), 0, plan.restore, out=views[start : start + chunk])
    return views


def _cut(images: Tensor, plan: _Plan, recipe: Recipe) -> Tensor:
    return crop.crop_resize_flip(images, plan.boxes, plan.flip, recipe.size)  # the flip is part of the crop


def _plan(params: ViewParameters, chunk: slice) -> _Plan:
    """Collect, on the CPU, what the samples of this chunk need."""
    place = (params.order[chunk] == HUE).int().argmax(dim=1)
    place, order = torch.where(params.jitter[chunk], place, 4).sort(stable=True)
    sample = order + chunk.start
    sigma = params.sigma[sample]
    blurred = sigma.nonzero().squeeze(1)
    return _Plan(
        edges=(0, *torch.bincount(place, minlength=5).cumsum(0)[:4].tolist()),
        sample=sample,
        restore=order.argsort(),
        boxes=torch.stack([params.top, params.left, params.height, params.width], dim=1)[sample],
        flip=params.flip[sample],
        blends=_blend_coefficients(params.order[sample], params.factors[sample]),
        turns=params.factors[sample, HUE],
        gray=params.gray[sample].nonzero().squeeze(1),
        blurred=blurred,
        sigma=sigma[blurred],
        solarized=params.solarize[sample].nonzero().squeeze(1),
    )


def _blend_coefficients(order: Tensor, factors: Tensor) -> Tensor:
    """Return the coefficients of each sample's first, second and third blend, ``(3, 3, n)``, see ``colour.blend``."""
    kinds = order[order != HUE].view(-1, 3)
    factor = factors.gather(1, kinds)
    rest = 1 - factor
    return torch.stack([factor, rest * (kinds == CONTRAST), rest * (kinds == SATURATION)]).permute(2, 0, 1)


def _moved(plan: _Plan, device: torch.device) -> _Plan:
    """Return the plan on ``device``: all tensors travel as one float32 vector (exact: the integers are small)."""
    tensors = {name: value for name, value in vars(plan).items() if isinstance(value, Tensor)}
    packed = torch.cat([tensor.flatten().float() for tensor in tensors.values()])
    packed = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
    parts = packed.split([tensor.numel() for tensor in tensors.values()])
    moved = {
        name: part.view(tensor.shape).to(tensor.dtype)
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    }
    return _Plan(edges=plan.edges, **moved)


def _coloured(views: Tensor, plan: _Plan, recipe: Recipe) -> Tensor:
    """Return the views of one chunk after all that follows the crop, in the order of the recipe; in place."""
    if recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue:
        colour.jitter(views, plan.blends, plan.turns if recipe.hue else None, plan.edges)
    if len(plan.gray):
        views[plan.gray] = colour.grayscale(views.index_select(0, plan.gray))
    if len(plan.blurred):
        chosen = views.index_select(0, plan.blurred)
        views[plan.blurred] = blur.gaussian_blur(chosen, plan.sigma, recipe.blur_sigma[1])
    if len(plan.solarized):
        views[plan.solarized] = colour.solarize(views.index_select(0, plan.solarized), recipe.solarize_threshold)
    return colour.normalise(views, recipe.mean, recipe.std)
