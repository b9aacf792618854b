"""Backbones and heads."""

import pytest
import torch
import torchvision
from torch import nn

from cassle.engine.settings import Component, Schema
from cassle.errors import ConfigError
from cassle.nn import BACKBONES
from cassle.nn.heads import mlp
from cassle.nn.momentum import MomentumTeacher, tau_at
from cassle.nn.resnet import resnet18, resnet34, resnet50
from cassle.nn.resnet9 import Residual, slim_resnet9
from cassle.nn.tiny import TinyConvNet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


#: parameters of the networks as they are published, by (name, side of the images)
PARAMETERS = {
    ("resnet18", 32): 11_168_832, ("resnet18", 224): 11_176_512, ("wide_resnet18", 32): 44_652_672,
    ("slim_resnet18", 32): 1_093_140, ("resnet9", 32): 6_570_240, ("wide_resnet9", 32): 26_264_064,
    ("slim_resnet9", 32): 643_440, ("vit_tiny", 32): 5_383_680, ("vit_tiny", 224): 5_517_312,
    ("vit_small", 224): 21_651_456, ("vit_base", 224): 85_770_240,
}  # fmt: skip
FEATURES = {
    "tiny": 128, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "wide_resnet18": 1024, "slim_resnet18": 160,
    "resnet9": 512, "wide_resnet9": 1024, "slim_resnet9": 160, "vit_tiny": 192, "vit_small": 384, "vit_base": 768,
}  # fmt: skip


@pytest.mark.parametrize("name, side", PARAMETERS)
def test_parameters(name, side):
    with torch.device("meta"):
        assert count(BACKBONES[name](side)) == PARAMETERS[name, side]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("side", [32, 96])
def test_every_backbone_maps_images_to_features(name, side):
    with torch.device("meta"):
        net = BACKBONES[name](side)
        assert net.num_features == FEATURES[name] and net(torch.zeros(2, 3, side, side)).shape == (2, FEATURES[name])


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_described_for_the_command_line(name):
    make = BACKBONES[name]
    text = Schema([Component(f"Backbone {name}", make)]).parser.format_help()
    settings = Schema([Component("", make)]).names
    assert "image_size" not in settings and "null" not in make.__doc__.splitlines()[0] and make.__doc__.strip()
    assert all(f"--{setting}" in text for setting in settings)


def test_slim_resnet18_begins_with_branches_at_zero():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, plain = (BACKBONES["slim_resnet18"](16, zero_init_residual=zero) for zero in (True, False))
    images = torch.randn(4, 3, 16, 16)
    stem = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    torch.testing.assert_close(net.layer1(stem), stem)  # only the shortcuts are left
    assert not torch.allclose(plain.layer1(stem), stem)
    assert set(BACKBONES["resnet18"](16).state_dict()) == set(net.state_dict())  # torchvision's names
    assert BACKBONES["slim_resnet18"](16, stem_padding=2).conv1(images).shape[-1] == 18


def test_resnet9_is_units_sums_and_a_global_maximum():
    net = slim_resnet9(16).eval()
    assert [m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d)] == [True] * 8
    assert not any(m.stride != (1, 1) for m in net.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(2, 3, 16, 16)
    maps = net.layers(images)
    assert maps.shape == (2, 160, 2, 2)
    torch.testing.assert_close(net(images), nn.functional.adaptive_max_pool2d(maps, 1).flatten(1))
    residual = Residual(3).eval()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(residual(x) - x, residual.units(x))
    assert (residual(x) < 0).any()  # no ReLU after the sum
    assert net(torch.randn(1, 3, 8, 8)).shape == (1, 160)
    with pytest.raises(ConfigError, match="--size 7: a ResNet-9 takes images from 8 pixels on"):
        slim_resnet9(7)


@pytest.mark.parametrize(
    "build, name, features",
    [(resnet18, "resnet18", 512), (resnet34, "resnet34", 512), (resnet50, "resnet50", 2048)],
)
def test_resnets_are_torchvisions_without_the_classifier(build, name, features):
    with torch.device("meta"):
        original, small, large = getattr(torchvision.models, name)(), build(32), build(224)
    body = count(original) - count(original.fc)
    assert count(large) == body and large.num_features == features
    assert count(small) == body - 64 * 3 * 7 * 7 + 64 * 3 * 3 * 3  # the CIFAR stem is 3x3
    assert isinstance(small.maxpool, nn.Identity) and isinstance(large.maxpool, nn.MaxPool2d)


@pytest.mark.parametrize("padding, side", [(1, 32), (2, 34)])
def test_the_stem_keeps_the_resolution(padding, side):
    net = resnet18(32, stem_padding=padding)
    assert net.conv1(torch.zeros(1, 3, 32, 32)).shape == (1, 64, side, side)
    if padding == 1:
        assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 512)


def test_zero_init_residual():
    net = resnet18(32, zero_init_residual=True)
    assert (net.layer1[0].bn2.weight == 0).all() and (resnet18(32).layer1[0].bn2.weight == 1).all()


@pytest.mark.parametrize("side", [8, 9, 17])
def test_tiny(side):
    net = TinyConvNet(side, width=4, stem_stride=2 if side == 17 else 1)
    assert net.num_features == 16 and net(torch.randn(3, 3, side, side)).shape == (3, 16)
    assert count(net) == 9 * (3 * 4 + 4 * 8 + 8 * 16) + 2 * (4 + 8 + 16)


def test_mlp():
    assert [type(m).__name__ for m in mlp(2, 3, 4, layers=3)] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
    ]
    assert [type(m).__name__ for m in mlp(2, 3, 4, batch_norm=False)] == ["Linear", "ReLU", "Linear"]
    assert mlp(2, 3, 4)(torch.randn(5, 2)).shape == (5, 4)


def test_tau():
    assert tau_at(0, total_steps=100, base_tau=0.9, final_tau=1.0) == pytest.approx(0.9)
    assert tau_at(50, total_steps=100, base_tau=0.9, final_tau=1.0) == pytest.approx(0.95)
    assert (
        tau_at(100, total_steps=100, base_tau=0.9, final_tau=1.0)
        == pytest.approx(1.0)
        == tau_at(200, total_steps=100, base_tau=0.9, final_tau=1.0)
    )


def test_momentum_teacher():
    student = nn.Linear(2, 2)
    teacher = MomentumTeacher(0.9, net=student)
    old = teacher.stages["net"].weight.clone()
    with torch.no_grad():
        student.weight += 1
    teacher.update(0.75, net=student)
    torch.testing.assert_close(teacher.stages["net"].weight, 0.75 * old + 0.25 * student.weight.detach())
    assert teacher.tau.item() == 0.75 and "tau" in teacher.state_dict()
    assert teacher.tau.dtype == torch.float32  # MPS has no float64
    assert not teacher(torch.ones(1, 2, requires_grad=True)).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
