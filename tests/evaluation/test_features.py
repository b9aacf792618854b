"""Feature extraction gives the right numbers and leaves no trace in the encoder."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from cassle.errors import CassleError
from cassle.evaluation.features import extract_features


class Encoder(nn.Module):
    """Batch norm, dropout, and a frozen part that stays in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm2d(6).eval()

    def forward(self, x):
        return self.frozen(self.conv(x)).mean((2, 3))


def flags(module):
    return [part.training for part in module.modules()]


@pytest.fixture
def images():
    return torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_features_are_those_of_eval_mode_whatever_the_batch_size(images):
    encoder = Encoder()
    features = extract_features(encoder, images, batch_size=7)
    assert features.shape == (23, 6)
    assert features.dtype == torch.float32
    assert features.device.type == "cpu"
    with torch.no_grad():
        expected = Encoder().eval()(images.float() / 255)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(extract_features(encoder, images, batch_size=100), expected)
    assert torch.equal(extract_features(encoder, images, batch_size=7), features)


def test_flags_buffers_and_gradients_stay(images):
    encoder = Encoder().train()
    encoder.frozen.eval()
    before = flags(encoder)
    assert True in before and False in before
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    features = extract_features(encoder, images, batch_size=5)
    assert flags(encoder) == before
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert not features.requires_grad
    (features @ torch.ones(6, 1, requires_grad=True)).sum().backward()  # a normal tensor: a probe can train on it


def test_flags_are_restored_after_an_exception(images):
    encoder = Encoder().train()
    encoder.frozen.eval()
    before = flags(encoder)

    def broken(batch):
        raise RuntimeError("no such view")

    with pytest.raises(RuntimeError, match="no such view"):
        extract_features(encoder, images, batch_size=5, transform=broken)
    assert flags(encoder) == before


def test_a_method_of_a_module_is_run_in_eval_mode_too(images):
    encoder = Encoder().train()
    features = extract_features(encoder.forward, images, batch_size=5)
    torch.testing.assert_close(features, extract_features(encoder, images, batch_size=5))
    assert encoder.training


def test_a_plain_function_and_a_transform(images):
    features = extract_features(lambda x: x.mean((2, 3)), images, batch_size=4, transform=lambda x: x.double() / 255)
    torch.testing.assert_close(features, (images.float() / 255).mean((2, 3)))
    assert features.dtype == torch.float32


def test_works_inside_inference_mode(images):
    with torch.inference_mode():
        features = extract_features(Encoder(), images, batch_size=5)
    assert not features.is_inference()


@pytest.mark.parametrize("change", [lambda x: x.float(), lambda x: x[0], lambda x: x[:, :1], lambda x: x[:0]])
def test_wrong_images_are_named(images, change):
    with pytest.raises((ValueError, TypeCheckError), match=r"give uint8|Type-check"):
        extract_features(Encoder(), change(images), batch_size=5)


def test_wrong_batch_size_and_wrong_output_are_named(images):
    with pytest.raises(ValueError, match="batch_size: 0"):
        extract_features(Encoder(), images, batch_size=0)
    with pytest.raises(ValueError, match=r"output of shape \(5, 3, 8, 8\)"):
        extract_features(nn.Identity(), images, batch_size=5)


def test_a_diverged_encoder_is_an_error(images):
    with pytest.raises(CassleError, match="23 of 23 images"):
        extract_features(lambda x: x.mean((2, 3)) / 0 * 0, images, batch_size=5)
