import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.mae import mae, patchify

torch.set_num_threads(1)


def case(seed: int, n: int = 2, height: int = 4, width: int = 6, patch: int = 2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, height, width, generator=g, dtype=dtype)
    patches = (height // patch) * (width // patch)
    prediction = torch.randn(n, patches, 3 * patch**2, generator=g, dtype=dtype)
    mask = torch.rand(n, patches, generator=g) < 0.75
    mask[0, 0] = True
    return prediction, images, mask


def oracle(prediction, images, mask, patch, normalise):
    """Pixel by pixel; the ones that nobody hid are passed over."""
    prediction, images = prediction.numpy(), images.numpy()
    n, channels, height, width = images.shape
    columns, errors = width // patch, []
    for b in range(n):
        for p in range((height // patch) * columns):
            top, left = patch * (p // columns), patch * (p % columns)
            target = images[b, :, top : top + patch, left : left + patch]
            if normalise:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            if mask[b, p]:
                for y in range(patch):
                    for x in range(patch):
                        for c in range(channels):
                            found = prediction[b, p, (y * patch + x) * channels + c]
                            errors.append((found - target[c, y, x]) ** 2)
    return np.mean(errors)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("height", "width", "patch"), [(4, 6, 2), (3, 3, 1), (8, 4, 4)])
def test_is_the_error_of_the_hidden_pixels(normalise, height, width, patch):
    prediction, images, mask = case(0, height=height, width=width, patch=patch)
    found = mae(prediction, images, mask, patch_size=patch, normalise_target=normalise).item()
    assert found == pytest.approx(oracle(prediction, images, mask, patch, normalise), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_knows_neither_order_nor_visible_patches_nor_units(seed, scale, shift):
    prediction, images, mask = case(seed)
    expected = mae(prediction, images, mask, patch_size=2)
    torch.testing.assert_close(mae(prediction.flip(0), images.flip(0), mask.flip(0), patch_size=2), expected)
    elsewhere = prediction + shift * ~mask.unsqueeze(2)
    torch.testing.assert_close(mae(elsewhere, images, mask, patch_size=2), expected)
    torch.testing.assert_close(
        mae(prediction, scale * images + shift, mask, patch_size=2, normalise_target=True),
        mae(prediction, images, mask, patch_size=2, normalise_target=True),
        rtol=1e-3,
        atol=1e-4,  # the eps beside the variance
    )


def test_a_perfect_prediction_costs_nothing_and_so_does_an_empty_mask():
    prediction, images, mask = case(1)
    assert mae(patchify(images, 2), images, mask, patch_size=2).item() == 0
    value = mae(prediction.requires_grad_(), images, torch.zeros_like(mask), patch_size=2)
    value.backward()
    assert value.item() == 0 and (prediction.grad == 0).all()


def test_patches_go_row_by_row_and_pixels_channel_by_channel():
    images = torch.arange(3 * 2 * 4, dtype=torch.float32).reshape(1, 3, 2, 4)
    assert patchify(images, 2).shape == (1, 2, 12)
    assert patchify(images, 2)[0, 1].tolist() == [2, 10, 18, 3, 11, 19, 6, 14, 22, 7, 15, 23]


def test_gradient_is_the_derivative_and_a_flat_patch_is_no_trap():
    prediction, images, mask = case(2)
    images[0, :, :2, :2] = 0.5
    assert torch.autograd.gradcheck(
        lambda p: mae(p, images, mask, patch_size=2, normalise_target=True), (prediction.requires_grad_(),)
    )


def test_half_inputs_keep_the_digits():
    prediction, images, mask = case(3, dtype=torch.float32)
    assert mae(prediction.bfloat16(), images, mask, patch_size=2).dtype == torch.float32


def test_wrong_shapes_and_settings():
    prediction, images, mask = case(0)
    with pytest.raises(TypeCheckError):
        mae(prediction, images, mask.double(), patch_size=2)
    with pytest.raises(TypeCheckError):
        mae(prediction, images, mask[:, :-1], patch_size=2)
    with pytest.raises(ValueError, match="patch_size=4: does not divide an image of 4 x 6"):
        mae(prediction, images, mask, patch_size=4)
    with pytest.raises(ValueError, match=r"prediction of shape \(2, 6, 12\)"):
        mae(prediction, images, mask, patch_size=1)
