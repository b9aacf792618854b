"""How fast the batched augmentation engine is, and how close to Pillow: ``python benchmarks/augmentation.py``.

Speed: views per CPU second on one core, 32 px views of 32 px images, against torchvision's transforms on PIL images;
both are measured side by side, in turns, and the median is taken. Drawing the parameters counts on both sides.
Closeness: each operation, and the chain of all, against Pillow given the same parameters (hue: against torchvision's
tensor operation, because Pillow's own HSV has 8 bits), on photographs and on noise.

Exits 1 when a recipe is less than 6 times faster, or an operation is off by more than 2 grey levels of 255.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

import torch
from PIL import Image, ImageFilter
from pillow_oracle import PILLOW, differences, noise, photographs
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from cassle.data.augment import make_view
from cassle.data.parameters import draw
from cassle.data.recipe import Recipe
from cassle.randomness import generator

SIZE, TARGET_RATIO, TARGET_ERROR = 32, 6.0, 2.0
STATS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.243, 0.261)}
SIMCLR = {"size": SIZE, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, **STATS}
BARLOW = {"size": SIZE, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, **STATS}
RECIPES = {
    "SimCLR, CIFAR": Recipe(**SIMCLR, blur_prob=0.0),
    "Barlow Twins, CIFAR": Recipe(**BARLOW, blur_prob=0.0, solarize_prob=0.2),
    "SimCLR, blur 0.5": Recipe(**SIMCLR, blur_prob=0.5),
}


class _PillowBlur:
    # Pillow's blur as a transform: torchvision's own is another filter.
    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def torchvision_pipeline(recipe: Recipe) -> transforms.Compose:
    """Return the same recipe as torchvision transforms of one PIL image."""
    jitter = transforms.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(recipe.size, recipe.scale, recipe.ratio, InterpolationMode.BICUBIC),
            transforms.RandomApply([jitter], recipe.jitter_prob),
            transforms.RandomGrayscale(recipe.gray_prob),
            transforms.RandomApply([_PillowBlur(recipe.blur_sigma)], recipe.blur_prob),
            transforms.RandomSolarize(recipe.solarize_threshold, recipe.solarize_prob),
            transforms.RandomHorizontalFlip(recipe.flip_prob),
            transforms.ToTensor(),
            transforms.Normalize(recipe.mean, recipe.std),
        ]
    )


def speed(recipe: Recipe, images: Tensor, repeats: int) -> tuple[float, float, float]:
    """Return views per CPU second of torchvision and of the engine, and the median ratio of neighbouring runs."""
    pictures = [TF.to_pil_image(image) for image in images]
    pipeline = torchvision_pipeline(recipe)
    height, width = images.shape[2:]
    theirs, ours = [], []
    for repeat in range(-1, repeats):  # the first round warms up
        start = time.process_time()
        torch.stack([pipeline(picture) for picture in pictures])
        middle = time.process_time()
        for turn in range(8):
            params = draw(recipe, len(images), height, width, generator(0, "augment", repeat + 1, turn))
            make_view(images, params, recipe)
        if repeat >= 0:
            theirs.append(len(images) / (middle - start))
            ours.append(8 * len(images) / (time.process_time() - middle))
    ratios = [b / a for a, b in zip(theirs, ours, strict=True)]
    return statistics.median(theirs), statistics.median(ours), statistics.median(ratios)


def main() -> int:
    """Print the two tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="an ImageFolder to take the photographs from (default: scikit-learn's)")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds per recipe (default 7)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    photos = photographs(512, SIZE, args.data_dir)

    print(f"{'views per CPU second, one core':32}{'torchvision':>12}{'cassle':>12}{'ratio':>8}")
    ratios = []
    for name, recipe in RECIPES.items():
        theirs, ours, ratio = speed(recipe, photos, args.repeats)
        ratios.append(ratio)
        print(f"{name:32}{theirs:12,.0f}{ours:12,.0f}{ratio:7.1f}x")

    checked = {"photographs": photos, "noise": noise(512, SIZE)}
    print(f"\n{'largest (mean) error, of 255':32}" + "".join(f"{name:>20}" for name in checked))
    worst = 0.0
    recipe = Recipe(**SIMCLR, blur_prob=1.0, solarize_prob=0.2)
    params = draw(recipe, 512, SIZE, SIZE, generator(0, "errors"))
    for step in (*PILLOW, "chain"):
        errors = [differences(step, images, params, recipe) for images in checked.values()]
        print(f"{step:32}" + "".join(f"{float(e.max()):12.2f} ({float(e.mean()):.3f})" for e in errors))
        if step != "chain":
            worst = max(worst, *(float(e.max()) for e in errors))

    fast, close = min(ratios) >= TARGET_RATIO, worst <= TARGET_ERROR
    print(f"\nspeed {min(ratios):.1f}x, target {TARGET_RATIO:.0f}x: {'ok' if fast else 'MISSED'}")
    print(f"error per operation {worst:.2f}, target {TARGET_ERROR:.0f}: {'ok' if close else 'MISSED'}")
    return 0 if fast and close else 1


if __name__ == "__main__":
    sys.exit(main())
