"""The batched engine against Pillow and torchvision: same parameters, same pixels."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import functional as TF

from cassle.data import augment, blur, colour, crop
from cassle.data.parameters import draw
from cassle.data.recipe import Recipe
from cassle.randomness import generator

# The oracle, one Pillow call per operation, is the benchmark's: there is one of it.
_SPEC = importlib.util.spec_from_file_location(
    "pillow_oracle", Path(__file__).parents[2] / "benchmarks" / "pillow_oracle.py"
)
oracle = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(oracle)

STATS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.243, 0.261)}
STRONG = Recipe(
    size=32, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_prob=0.5, solarize_prob=0.3, **STATS
)


@pytest.fixture(scope="module", params=["photographs", "noise"])
def images(request):
    return getattr(oracle, request.param)(96, 32)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def grey_levels(views, recipe):
    """Undo the normalisation: 0..255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.mean, recipe.std))
    return (views * std + mean) * 255


@pytest.mark.parametrize("step", list(oracle.PILLOW))
def test_each_operation_equals_pillow(step, images):
    recipe = dataclasses.replace(STRONG, blur_prob=1.0)
    params = draw(recipe, len(images), 32, 32, generator(1, "test"))
    assert oracle.differences(step, images, params, recipe).max() <= 2


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 48), (40, 25, 16), (17, 33, 32), (96, 80, 24), (110, 96, 64)]
)
def test_crop_equals_pillow_up_and_down(height, width, size):
    pictures = torch.randint(256, (48, 3, height, width), generator=generator(2, "test"), dtype=torch.uint8)
    recipe = dataclasses.replace(STRONG, size=size, scale=(0.001, 1.0), ratio=(0.2, 5.0))
    params = draw(recipe, 48, height, width, generator(3, "test"))
    assert oracle.differences("crop", pictures, params, recipe).max() <= 2


def test_one_by_one_is_what_the_products_are(monkeypatch):
    """Large views on a CPU, mirrored ones among them."""
    pictures = torch.randint(256, (24, 3, 70, 90), generator=generator(2, "test"), dtype=torch.uint8)
    params = draw(dataclasses.replace(STRONG, size=64), 24, 70, 90, generator(3, "test"))
    boxes = torch.stack([params.top, params.left, params.height, params.width], dim=1)
    assert params.flip.any() and not params.flip.all()
    ours = crop.crop_resize_flip(pictures, boxes, params.flip, 64)
    monkeypatch.setattr(crop, "ONE_BY_ONE", 65)
    assert (ours - crop.crop_resize_flip(pictures, boxes, params.flip, 64)).abs().max() <= 2


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (31, 31, 1, 1), (0, 5, 32, 1), (7, 0, 1, 32), (0, 0, 32, 32)])
def test_crop_of_odd_boxes(box, images):
    boxes = torch.tensor([box]).expand(len(images), 4)
    flip = torch.zeros(len(images), dtype=torch.bool)
    ours = crop.crop_resize_flip(images, boxes, flip, 32)
    for image, view in zip(images[:16], ours, strict=False):
        picture = TF.resized_crop(TF.to_pil_image(image), *box, [32, 32], TF.InterpolationMode.BICUBIC)
        assert (TF.pil_to_tensor(picture) - view).abs().max() <= 1


def test_a_table_of_weights_changes_nothing(monkeypatch):
    params = draw(STRONG, 64, 32, 32, generator(4, "test"))
    arguments = (params.left, params.width, 32, 24, params.flip)
    looked_up = crop._weights(*arguments)
    monkeypatch.setattr(crop, "TABLE_BYTES", 0)
    torch.testing.assert_close(crop._weights(*arguments), looked_up, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.57, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [8, 33, 100])
def test_blur_equals_pillow_at_any_sigma(sigma, size):
    pictures = oracle.noise(8, size)
    params = draw(STRONG, 8, size, size, generator(5, "test"))
    params = dataclasses.replace(params, sigma=torch.full((8,), sigma))
    recipe = dataclasses.replace(STRONG, size=size, blur_sigma=(0.1, sigma))
    assert oracle.differences("blur", pictures, params, recipe).max() <= 2


@pytest.mark.parametrize("size", [9, 120])
def test_blur_keeps_a_flat_image(size):
    images = torch.full((2, 3, size, size), 77.0)
    assert torch.equal(blur.gaussian_blur(images.clone(), torch.tensor([1.0, 2.0]), 2.0), images)


@pytest.mark.parametrize("size", [83, 96, 97, 130])
def test_a_long_line_blurred_in_parts_is_what_one_product_makes_of_it(size, monkeypatch):
    images, sigma = oracle.noise(3, size).float(), torch.tensor([0.1, 1.3, 2.0])
    parts, _ = blur._parts(size, sigma, 2.0)
    assert len(parts) > 1
    ours = blur.gaussian_blur(images.clone(), sigma, 2.0)
    monkeypatch.setattr(blur, "PART", size)
    assert torch.equal(ours, blur.gaussian_blur(images.clone(), sigma, 2.0))


def test_solarize_at_any_threshold():
    ramp = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for threshold in (0, 1, 100, 128, 255, 256):
        expected = torch.where(ramp < threshold, ramp, 255 - ramp)
        assert torch.equal(colour.solarize(ramp.clone(), threshold), expected)


def test_hue_of_every_primary_and_grey():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (9, 9, 9), (0, 0, 0)]
    images = torch.tensor(colours).float().view(-1, 3, 1, 1)
    for turns in (-0.5, -1 / 3, 0.0, 0.1, 1 / 3, 0.5):
        ours = colour.shift_hue(images.clone(), torch.full((len(colours),), turns))
        theirs = TF.adjust_hue(images / 255, turns) * 255
        assert (ours - theirs).abs().max() <= 0.51


def test_whole_chain_stays_close_to_pillow(images):
    """Every operation is within 2, but a contrast of 1.8 or a hue of a dark pixel magnifies what came before."""
    params = draw(STRONG, len(images), 32, 32, generator(6, "test"))
    errors = oracle.differences("chain", images, params, STRONG)
    assert errors.mean() < 0.5
    assert errors.flatten().kthvalue(int(0.995 * errors.numel())).values <= 2.01  # float32 normalised and back
    assert errors.max() <= 12


def test_chain_without_colour_amplification_is_within_three(images):
    recipe = Recipe(size=32, jitter_prob=0.0, blur_prob=0.5, solarize_prob=0.5, **STATS)
    params = draw(recipe, len(images), 32, 32, generator(7, "test"))
    assert oracle.differences("chain", images, params, recipe).max() <= 3.01


def test_normalisation_is_totensor_then_normalize(images):
    recipe = Recipe(size=32, scale=(1, 1), ratio=(1, 1), jitter_prob=0, gray_prob=0, blur_prob=0, flip_prob=0, **STATS)
    params = draw(recipe, len(images), 32, 32, generator(8, "test"))
    expected = transforms.Normalize(recipe.mean, recipe.std)(images.float() / 255)
    torch.testing.assert_close(augment.make_view(images, params, recipe), expected, rtol=0, atol=1e-5)


def test_chunks_do_not_change_the_views(images, monkeypatch):
    params = draw(STRONG, len(images), 32, 32, generator(9, "test"))
    whole = augment.make_view(images, params, STRONG)
    monkeypatch.setattr(augment, "CHUNK_BYTES", 7 * 3 * 32 * 32 * 4)
    torch.testing.assert_close(augment.make_view(images, params, STRONG), whole, rtol=0, atol=0.02)


def test_same_key_same_views_and_per_sample_parameters():
    image = oracle.photographs(1, 32).expand(64, 3, 32, 32)
    views = [
        augment.make_view(image, draw(STRONG, 64, 32, 32, generator(seed, "augment", 0, 5)), STRONG)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert len(torch.unique(views[0].flatten(1), dim=0)) == 64


def test_mixed_precision_does_not_reach_the_products(images):
    params = draw(STRONG, len(images), 32, 32, generator(10, "test"))
    plain = augment.make_view(images, params, STRONG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.make_view(images, params, STRONG), plain)


def test_images_are_left_alone_and_odd_batches_work(images):
    before = images.clone()
    for count in (0, 1, 3):
        params = draw(STRONG, count, 32, 32, generator(11, "test"))
        assert augment.make_view(images[:count], params, STRONG).shape == (count, 3, 32, 32)
    assert torch.equal(images, before)


def test_wrong_input_is_refused(images):
    params = draw(STRONG, 4, 32, 32, generator(12, "test"))
    with pytest.raises(ValueError, match="uint8"):
        augment.make_view(images[:4].float(), params, STRONG)
    with pytest.raises(ValueError, match="drawn for 4 images, given 5"):
        augment.make_view(images[:5], params, STRONG)


def test_the_kernels_never_wait_for_the_device(images):
    """A meta tensor has no values: reading one (``item``, a boolean index, ``nonzero``) raises."""
    params = draw(STRONG, len(images), 32, 32, generator(17, "test"))
    plan = augment._moved(augment._plan(params, slice(0, len(images))), torch.device("meta"))
    chosen = images.to("meta").index_select(0, plan.sample)
    assert augment._coloured(augment._cut(chosen, plan, STRONG), plan, STRONG).device.type == "meta"


def test_the_plan_survives_its_packing(images):
    params = draw(STRONG, len(images), 32, 32, generator(18, "test"))
    plan = augment._plan(params, slice(0, len(images)))
    for name, value in vars(augment._moved(plan, torch.device("cpu"))).items():
        expected = getattr(plan, name)
        if isinstance(expected, torch.Tensor):
            assert value.dtype == expected.dtype
            assert torch.equal(value, expected)
    assert torch.equal(plan.sample[plan.restore], torch.arange(len(images)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(images):
    params = draw(STRONG, len(images), 32, 32, generator(16, "test"))
    theirs = augment.make_view(images.cuda(), params, STRONG).cpu()
    errors = (grey_levels(theirs, STRONG) - grey_levels(augment.make_view(images, params, STRONG), STRONG)).abs()
    assert errors.mean() < 0.05
