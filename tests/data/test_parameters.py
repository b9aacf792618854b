"""The drawn parameters: torchvision's distributions, one draw per sample, boxes inside the image."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms

from cassle.data.parameters import BRIGHTNESS, HUE, central_box, draw
from cassle.data.recipe import Recipe
from cassle.randomness import generator

STATS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.243, 0.261)}
STRONG = Recipe(size=32, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, solarize_prob=0.3, **STATS)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 20), (10, 90)])
def test_boxes_are_distributed_as_torchvisions(height, width):
    recipe, count = Recipe(size=32, scale=(0.08, 1.0), **STATS), 2000
    torch.manual_seed(0)
    picture = Image.new("RGB", (width, height))
    theirs = torch.tensor(
        [transforms.RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    )
    params = draw(recipe, count, height, width, generator(13, "test"))
    ours = torch.stack([params.top, params.left, params.height, params.width], dim=1)
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3
    assert ks_2samp((ours[:, 2] * ours[:, 3]).numpy(), (theirs[:, 2] * theirs[:, 3]).numpy()).pvalue > 1e-3


def test_jitter_is_distributed_as_torchvisions():
    count = 2000
    recipe = dataclasses.replace(STRONG, brightness=1.3, blur_sigma=(0.1, 2.0), blur_prob=1.0)
    params = draw(recipe, count, 32, 32, generator(14, "test"))
    torch.manual_seed(0)
    limits = transforms.ColorJitter(1.3, 0.8, 0.8, 0.2)
    theirs = [
        transforms.ColorJitter.get_params(limits.brightness, limits.contrast, limits.saturation, limits.hue)
        for _ in range(count)
    ]
    for kind in range(4):
        assert ks_2samp(params.factors[:, kind].numpy(), [draws[1 + kind] for draws in theirs]).pvalue > 1e-3
    assert params.factors[:, BRIGHTNESS].min() >= 0
    assert params.factors[:, HUE].abs().max() <= 0.2
    assert torch.equal(params.order.sort(dim=1).values, torch.arange(4).expand(count, 4))
    permutations = torch.unique(params.order, dim=0, return_counts=True)[1]
    assert len(permutations) == 24
    assert permutations.min() > 40  # 83 expected
    assert params.sigma.min() >= 0.1 and params.sigma.max() <= 2.0


def test_chances_are_kept():
    params = draw(STRONG, 4000, 32, 32, generator(15, "test"))
    for drawn, chance in (
        (params.flip, 0.5),
        (params.jitter, 0.8),
        (params.gray, 0.2),
        (params.sigma > 0, 0.5),
        (params.solarize, 0.3),
    ):
        assert abs(drawn.float().mean() - chance) < 0.03


@settings(max_examples=60)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    scale=st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)).map(sorted).map(tuple),
    seed=st.integers(0, 2**32),
)
def test_boxes_are_inside_the_image(height, width, scale, ratio, seed):
    recipe = Recipe(size=8, scale=scale, ratio=ratio, **STATS)
    params = draw(recipe, 32, height, width, torch.Generator().manual_seed(seed))
    assert (params.height >= 1).all() and (params.width >= 1).all()
    assert (params.top >= 0).all() and (params.top + params.height <= height).all()
    assert (params.left >= 0).all() and (params.left + params.width <= width).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (100, 10), (10, 100), (3, 4)])
def test_central_box_is_torchvisions_fallback(height, width):
    recipe = Recipe(size=8, ratio=(0.9, 1.1), **STATS)
    impossible = transforms.RandomResizedCrop.get_params(Image.new("RGB", (width, height)), [5.0, 5.0], [0.9, 1.1])
    rows, columns = (int(side) for side in central_box(recipe.ratio, *torch.tensor([[height], [width]])))
    assert ((height - rows) // 2, (width - columns) // 2, rows, columns) == impossible


def test_the_generator_alone_decides():
    first, again, other = (draw(STRONG, 16, 32, 32, generator(seed, "augment", 1, 2)) for seed in (0, 0, 1))
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    assert not torch.equal(first.factors, other.factors)
