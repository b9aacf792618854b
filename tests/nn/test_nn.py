"""Backbones and heads."""

import pytest
import torch
import torchvision
from torch import nn

from cassle.nn.heads import mlp
from cassle.nn.momentum import MomentumTeacher, tau_at
from cassle.nn.resnet import resnet18, resnet50
from cassle.nn.tiny import TinyConvNet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("build, name, features", [(resnet18, "resnet18", 512), (resnet50, "resnet50", 2048)])
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
