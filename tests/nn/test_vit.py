"""Vision transformers: timm's numbers, any size, and tokens of the visible patches."""

import pytest
import torch
from torch import nn

from cassle.errors import ConfigError
from cassle.nn.vit import VisionTransformer, ViTTiny


class Small(VisionTransformer):
    dim, heads = 24, 3


@pytest.fixture
def net() -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small(16, patch_size=4, depth=2).eval()


IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_equal_to_timm(net):
    timm = pytest.importorskip("timm.models.vision_transformer")
    theirs = timm.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, num_heads=3, depth=2, num_classes=0, no_embed_class=True,
        qkv_bias=False,
    ).eval()  # fmt: skip
    assert [*net.state_dict()] == [*theirs.state_dict()]
    theirs.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(IMAGES), theirs(IMAGES))
    torch.testing.assert_close(net.tokens(IMAGES), theirs.forward_features(IMAGES))


def test_the_beginning(net):
    assert net.cls_token.std() < 0.04 and net.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert all(m.weight.std().item() == pytest.approx(0.02, rel=0.2) for m in linear)
    assert not any(m.bias.any() for m in linear if m.bias is not None)
    assert [m.bias is None for m in linear] == [True, False, False, False] * 2  # qkv, proj, fc1, fc2


@pytest.mark.parametrize("side, patch", [(8, 2), (32, 2), (64, 4), (224, 16)])
def test_default_patches(side, patch):
    with torch.device("meta"):
        net = ViTTiny(side, depth=1)
    assert (net.patch_size, net.grid, net.num_patches) == (patch, side // patch, (side // patch) ** 2)


def test_pooling(net):
    tokens = net.tokens(IMAGES)
    assert tokens.shape == (3, 17, 24)
    torch.testing.assert_close(net(IMAGES), tokens[:, 0])
    net.avg_pooling = True
    torch.testing.assert_close(net(IMAGES), tokens.mean(dim=1))  # the class token counts


def test_only_visible_patches_are_seen(net):
    keep = torch.tensor([[3, 0], [5, 9], [15, 1]])
    tokens = net.tokens(IMAGES, keep)
    assert tokens.shape == (3, 3, 24)
    hidden = IMAGES.clone()
    for image, visible in zip(hidden, keep.tolist(), strict=True):
        for patch in set(range(16)) - set(visible):
            row, column = divmod(patch, 4)
            image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 99.0
    torch.testing.assert_close(net.tokens(hidden, keep), tokens)
    assert not torch.allclose(net.tokens(hidden, keep.flip(0)), tokens)
    # the tokens follow the order of the indices, and each patch has its own position
    torch.testing.assert_close(net.tokens(IMAGES, keep.flip(1))[:, [0, 2, 1]], tokens)
    every = torch.arange(16).expand(3, -1)
    torch.testing.assert_close(net.tokens(IMAGES, every), net.tokens(IMAGES))


def test_other_sizes_interpolate_the_positions(net):
    assert net.positions(4, 4) is net.pos_embed
    with torch.no_grad():
        net.pos_embed.copy_(torch.arange(4.0).repeat(4)[None, :, None].expand(1, 16, 24))  # grows to the right
    assert net.positions(2, 3).shape == (1, 6, 24)
    wide = net.positions(4, 8).unflatten(1, (4, 8))[0, :, :, 0]
    torch.testing.assert_close(wide[0], wide[3])
    assert (wide[0].diff() > 0).all()
    assert net(torch.randn(2, 3, 8, 24)).shape == (2, 24)
    with pytest.raises(ValueError, match="images of 8 × 9 pixels: not divisible by the patch size 4"):
        net(torch.randn(2, 3, 8, 9))


@pytest.mark.parametrize("side, patch, fitting", [(12, 5, "1, 2, 3, 4, 6"), (17, None, "1"), (8, 16, "1, 2, 4")])
def test_patches_must_divide_the_image(side, patch, fitting):
    with pytest.raises(ConfigError) as caught:
        ViTTiny(side, patch_size=patch)
    assert str(caught.value) == (
        f"--patch_size {patch or 2}: does not divide images of {side} pixels; use one of {fitting}, or another --size."
    )


def test_gradients_reach_every_parameter(net):
    net(IMAGES).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
