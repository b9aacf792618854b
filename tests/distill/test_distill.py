"""CaSSLe's distillation: the teacher is the previous task's network, and stays it."""

import copy

import pytest
import torch

from cassle.data.batch import Batch
from cassle.distill import DISTILLERS
from cassle.losses import barlow_twins, byol, contrastive_distillation
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.nn.state import load_strictly
from cassle.nn.tiny import TinyConvNet

PAIRS = [(method, METHODS[method].auto_distiller) for method in METHODS]
every_pair = pytest.mark.parametrize("method, distiller", PAIRS)


def build(method: str, distiller: str, seed: int = 0, **settings) -> SSLMethod:
    torch.manual_seed(seed)
    kind = compose(METHODS[method], DISTILLERS[distiller])
    return kind(TinyConvNet(8, width=2), output_dim=6, proj_hidden_dim=5, distill_proj_hidden_dim=4, **settings)


def batch(seed: int = 1) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    return Batch(torch.arange(8), [torch.randn(8, 3, 8, 8, generator=draws) for _ in range(2)], torch.zeros(8).long())


def losses(model: SSLMethod, data: Batch) -> dict:
    return model.losses(data, model.forward_views(data.views))


def handoff(method: str, distiller: str, seed: int = 7) -> dict:
    """A state dict of a task 0, with batch statistics that are not a fresh model's."""
    model = build(method, distiller, seed)
    losses(model, batch(3))
    return {k: v.clone() for k, v in model.state_dict().items()}


def parts(state: dict) -> dict:
    return {k: v for k, v in state.items() if k.startswith(("backbone.", "projector."))}


@every_pair
def test_task_0_is_not_distilled(method, distiller):
    model = build(method, distiller)
    model.begin_task(0, None)
    torch.manual_seed(0)
    plain = METHODS[method](TinyConvNet(8, width=2), output_dim=6, proj_hidden_dim=5)
    plain.begin_task(0, None)
    assert set(model.state_dict()) == set(plain.state_dict())
    data = batch()
    ours, theirs = losses(model, data), losses(plain, data)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@every_pair
def test_the_teacher_is_the_handoff_and_stays_it(method, distiller):
    before = handoff(method, distiller)
    model = build(method, distiller)
    model.begin_task(1, before)
    data = batch()
    optimizer = model.configure_optimizers()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.distill_predictor.parameters()} <= trained
    assert not {id(p) for p in model.teacher.parameters()} & trained
    for _ in range(2):
        terms = losses(model, data)
        assert len(terms) == 2 and "distill" in terms
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in model.teacher.parameters())
        optimizer.step()
    frozen = model.teacher.state_dict()
    assert set(frozen) == set(parts(before)) and all(torch.equal(frozen[k], v) for k, v in parts(before).items())
    assert not torch.equal(model.backbone.layers.conv1.weight, before["backbone.layers.conv1.weight"])


@every_pair
def test_terms_have_names_and_weights(method, distiller):
    before = handoff(method, distiller)
    values = []
    for lamb in (1.0, 3.0):
        model = build(method, distiller, distill_lamb=lamb)
        torch.manual_seed(5)
        model.begin_task(1, before)
        terms = losses(model, batch())
        values.append(terms.pop("distill"))
        assert len(terms) == 1 and values[-1].shape == () and values[-1] != 0
    torch.testing.assert_close(values[1], 3 * values[0])


def test_the_distillation_loss_is_of_the_objectives_family():
    p, z = (
        [torch.randn(8, 6, generator=torch.Generator().manual_seed(s)) for s in seeds] for seeds in ((0, 1), (2, 3))
    )
    model = build("simclr", "contrastive", distill_temperature=0.3, distill_negatives="all")
    torch.testing.assert_close(
        model.distill_loss(p, z), contrastive_distillation(*p, *z, temperature=0.3, negatives="all", gather=False)
    )
    model = build("barlow_twins", "decorrelative", distill_barlow_lamb=0.1, distill_scale_loss=0.2)
    expected = sum(barlow_twins(a, b, lamb=0.1, scale_loss=0.2, gather=False) for a, b in zip(p, z, strict=True)) / 2
    torch.testing.assert_close(model.distill_loss(p, z), expected)
    expected = (byol(p[0], z[0]) + byol(p[1], z[1])) / 2
    torch.testing.assert_close(build("byol", "predictive").distill_loss(p, z), expected)


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_batch_norm_of_the_teacher(bn):
    before = handoff("barlow_twins", "decorrelative")
    model = build("barlow_twins", "decorrelative", teacher_bn=bn)
    model.begin_task(1, before)
    oracle = METHODS["barlow_twins"](TinyConvNet(8, width=2), output_dim=6, proj_hidden_dim=5)
    load_strictly(oracle, before)
    x = batch().views[0]
    for mode in (True, False, True):
        model.train(mode)
        oracle.train(mode and bn == "train")
        assert model.teacher.backbone.training == (mode and bn == "train")
        frozen = model.teacher(x)  # once: in training mode its running statistics move
        torch.testing.assert_close(frozen, oracle(x)["z"].detach())
        assert not frozen.requires_grad
    unchanged = torch.equal(model.teacher.backbone.layers.bn1.running_mean, before["backbone.layers.bn1.running_mean"])
    assert unchanged == (bn == "eval")


def test_the_predictor_is_fresh_or_warm():
    first = build("byol", "predictive")
    first.begin_task(1, handoff("byol", "predictive"))
    end = {k: v.clone() for k, v in first.state_dict().items()}
    key = "distill_predictor.0.weight"
    for init, kept in (("fresh", False), ("warm", True)):
        model = build("byol", "predictive", seed=3, predictor_init=init)
        model.begin_task(2, end)
        assert torch.equal(model.state_dict()[key], end[key]) == kept
        # and the teacher is the network at the end of task 1, not the teacher that task 1 had
        assert all(torch.equal(model.teacher.state_dict()[k], v) for k, v in parts(end).items())


def test_a_warm_predictor_at_task_1_is_fresh():
    model = build("byol", "predictive", predictor_init="warm")
    model.begin_task(1, handoff("byol", "predictive"))
    assert model.distill_predictor[0].weight.shape == (4, 6)


@every_pair
def test_a_resumed_task_keeps_its_teacher(method, distiller):
    """Mid-task: the house calls begin_task with the hand-off, then loads the checkpoint of the middle."""
    before = handoff(method, distiller)
    model = build(method, distiller)
    model.begin_task(1, before)
    with torch.no_grad():
        for p in model.backbone.parameters():
            p += 0.1  # training has moved on
    middle = copy.deepcopy(model.state_dict())
    resumed = build(method, distiller, seed=4)
    resumed.begin_task(1, before)
    resumed.load_state_dict(middle, strict=True)
    assert all(torch.equal(resumed.teacher.state_dict()[k], v) for k, v in parts(before).items())
    assert not torch.equal(resumed.teacher.backbone.layers.conv1.weight, resumed.backbone.layers.conv1.weight)
    data = batch()
    ours, theirs = losses(resumed, data), losses(model, data)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
