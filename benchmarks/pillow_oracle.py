"""The oracle of the augmentation engine: the same operations and parameters, one Pillow call per image.

Used by ``benchmarks/augmentation.py`` and by ``tests/data/test_augment.py``, so that both mean the same by "equal".
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional as TF

from cassle.data import blur, colour, crop
from cassle.data.augment import make_view
from cassle.data.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParameters
from cassle.data.recipe import Recipe
from cassle.randomness import generator


def photographs(count: int, size: int, data_dir: str | None = None) -> Tensor:
    """Return ``count`` square pieces of photographs, uint8 ``(count, 3, size, size)``.

    Args:
        count: number of images.
        size: side in pixels.
        data_dir: an ImageFolder; without it scikit-learn's two sample photographs are cut up.
    """
    rng = random.Random(0)
    if data_dir:
        files = sorted(p for p in Path(data_dir).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
        if not files:
            sys.exit(f"--data_dir {data_dir}: no .jpg, .jpeg or .png in it; give an ImageFolder.")
        files = rng.sample(files, min(count, len(files)))
        sources = [Image.open(path).convert("RGB") for path in files]
    else:
        from sklearn.datasets import load_sample_images

        sources = [Image.fromarray(image) for image in load_sample_images().images]
    pieces = []
    for index in range(count):
        source = sources[index % len(sources)]
        side = rng.randint(min(source.size) // 4, min(source.size))
        left, top = rng.randint(0, source.width - side), rng.randint(0, source.height - side)
        pieces.append(TF.pil_to_tensor(source.crop((left, top, left + side, top + side)).resize((size, size))))
    return torch.stack(pieces)


def noise(count: int, size: int) -> Tensor:
    """Return images of independent pixels, uint8 ``(count, 3, size, size)``: the hardest case for every filter."""
    return torch.randint(256, (count, 3, size, size), generator=generator(0, "noise"), dtype=torch.uint8)


def _crop(image: Image.Image, top: int, left: int, height: int, width: int, size: int) -> Image.Image:
    # One resize call does the same for a view that is not smaller than its crop. From Pillow 13 on it may resample the
    # columns first when a crop is shrunk more in height than in width, which rounds at another place; two calls fix
    # the order that Pillow had until then, and that the engine has.
    image = image.crop((left, top, left + width, top + height))
    return image.resize((size, height), Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)


def _tensor_hue(image: Image.Image, turns: float) -> Image.Image:
    return TF.to_pil_image(TF.adjust_hue(TF.pil_to_tensor(image), turns))


# One operation on one PIL image: (image, parameters, sample, recipe) -> image.
PILLOW: dict[str, Callable[[Image.Image, ViewParameters, int, Recipe], Image.Image]] = {
    "crop": lambda image, p, i, r: _crop(image, *(int(x[i]) for x in (p.top, p.left, p.height, p.width)), r.size),
    "brightness": lambda image, p, i, r: TF.adjust_brightness(image, float(p.factors[i, BRIGHTNESS])),
    "contrast": lambda image, p, i, r: TF.adjust_contrast(image, float(p.factors[i, CONTRAST])),
    "saturation": lambda image, p, i, r: TF.adjust_saturation(image, float(p.factors[i, SATURATION])),
    "hue": lambda image, p, i, r: _tensor_hue(image, float(p.factors[i, HUE])),
    "grayscale": lambda image, p, i, r: image.convert("L").convert("RGB"),
    "blur": lambda image, p, i, r: image.filter(ImageFilter.GaussianBlur(float(p.sigma[i]))),
    "solarize": lambda image, p, i, r: ImageOps.solarize(image, r.solarize_threshold),
    "flip": lambda image, p, i, r: ImageOps.mirror(image),
}


def pillow_chain(image: Image.Image, p: ViewParameters, i: int, recipe: Recipe) -> Image.Image:
    """Apply to one image what the parameters say for sample ``i``, one Pillow operation after the other."""
    steps = ["crop"]
    if p.jitter[i]:
        steps += [("brightness", "contrast", "saturation", "hue")[kind] for kind in p.order[i].tolist()]
    steps += ["grayscale"] * bool(p.gray[i]) + ["blur"] * bool(p.sigma[i] > 0)
    steps += ["solarize"] * bool(p.solarize[i]) + ["flip"] * bool(p.flip[i])
    for step in steps:
        image = PILLOW[step](image, p, i, recipe)
    return image


def batched(step: str, images: Tensor, p: ViewParameters, recipe: Recipe) -> Tensor:
    """Apply one operation of the engine to every sample; returns grey levels, ``(B, 3, size, size)``."""
    pixels = images.float()
    boxes = torch.stack([p.top, p.left, p.height, p.width], dim=1)
    whole = torch.tensor([[0, 0, *images.shape[2:]]]).expand(len(images), 4)
    factor = dict(zip(("brightness", "contrast", "saturation", "hue"), p.factors.unbind(1), strict=True)).get(step)
    never, always = torch.zeros_like(p.flip), torch.ones_like(p.flip)
    steps: dict[str, Callable[[], Tensor]] = {
        "crop": lambda: crop.crop_resize_flip(images, boxes, never, recipe.size),
        "brightness": lambda: colour.blend(pixels, torch.stack([factor, 0 * factor, 0 * factor])),
        "contrast": lambda: colour.blend(pixels, torch.stack([factor, 1 - factor, 0 * factor])),
        "saturation": lambda: colour.blend(pixels, torch.stack([factor, 0 * factor, 1 - factor])),
        "hue": lambda: colour.shift_hue(pixels, factor),
        "grayscale": lambda: colour.grayscale(pixels),
        "blur": lambda: blur.gaussian_blur(pixels, p.sigma, recipe.blur_sigma[1]),
        "solarize": lambda: colour.solarize(pixels, recipe.solarize_threshold),
        "flip": lambda: crop.crop_resize_flip(images, whole, always, images.shape[3]),
    }
    return steps[step]()


def differences(step: str, images: Tensor, p: ViewParameters, recipe: Recipe) -> Tensor:
    """Return |engine - Pillow| in grey levels, ``(B, 3, size, size)``; ``step`` may be ``"chain"``, all in a row."""
    if step == "chain":
        mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.mean, recipe.std))
        ours, reference = (make_view(images, p, recipe) * std + mean) * 255, pillow_chain
    else:
        ours, reference = batched(step, images, p, recipe), PILLOW[step]
    expected = [
        np.asarray(reference(TF.to_pil_image(image), p, i, recipe)).transpose(2, 0, 1) for i, image in enumerate(images)
    ]
    return (ours - torch.from_numpy(np.stack(expected)).float()).abs()
