"""The contract that every objective keeps, and what each adds to it."""

import math

import pytest
import pytorch_lightning as pl
import torch

from cassle.data.batch import Batch
from cassle.distill import DISTILLERS
from cassle.distill.cassle import Decorrelative, Predictive
from cassle.errors import CheckpointError
from cassle.methods import METHODS
from cassle.methods.barlow_twins import BarlowTwins
from cassle.methods.base import SSLMethod
from cassle.methods.byol import BYOL
from cassle.methods.compose import compose
from cassle.methods.guard import FiniteGuard, NonFiniteLossError
from cassle.optim.build import Optimization
from tests.methods import IMAGES, batch, build, losses, num_views, small, small_backbone


def fit(model: SSLMethod, steps: int = 1, content: Batch | None = None) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader([content or batch()] * steps, batch_size=None))
    return trainer


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*eval mode at the start of training.*"),
]


@pytest.mark.parametrize("name", METHODS)
def test_the_contract(name):
    model, data = build(name), batch(num_views(name))
    model.begin_task(0, None)
    out = model.forward_views(data.views)
    assert len(out) == len(data.views) and {"feats", "z"} <= set(out[0])
    assert out[0]["feats"].shape == (IMAGES, model.backbone.num_features)
    assert all(o[k].shape == (IMAGES, model.output_dim) for o in out for k in ("z", "p") if k in o)
    terms = model.losses(data, out)
    assert terms and all(term.shape == () and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained
    assert any(n.startswith("backbone.") for n in trained)
    grouped = [p for group in model.parameter_groups() for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(trained)
    assert METHODS[name].auto_distiller in DISTILLERS
    assert hasattr(model, "prototypes") == METHODS[name].has_prototypes
    assert hasattr(model, "momentum_backbone") == METHODS[name].has_momentum_teacher


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mae"])
@pytest.mark.parametrize("views, small_crops", [(3, 0), (2, 3)])
def test_more_views(name, views, small_crops):
    kind = METHODS[name]
    if small_crops and not kind.multicrop:
        return  # refused by name: tests/engine/test_settings.py
    model, data = build(name), batch(views, small_crops=small_crops)
    model.begin_task(0, None)
    terms = losses(model, data)
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    gradient = model.backbone.layers.conv1.weight.grad
    assert gradient.abs().sum() > 0 or name == "deepclusterv2"  # it has nothing to learn in its first epoch


@pytest.mark.parametrize("name", ["simclr", "swav", "dino", "lejepa"])
def test_small_crops_are_learnt_from(name):
    """The gradient depends on the small crops, and not only on the large views."""
    gradients = []
    for seed in (1, 2):
        model, data, other = build(name), batch(small_crops=2), batch(small_crops=2, seed=seed)
        model.begin_task(0, None)
        data = data._replace(views=[*data.large, *other.views[2:]])
        sum(losses(model, data).values()).backward()
        gradients.append(model.backbone.layers.conv1.weight.grad)
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mae"])
def test_batch_norm_sees_one_view_or_all(name):
    views = batch().views
    single, joint = build(name, concat_views=False), build(name, concat_views=True)
    expected = [single(view)["z"] for view in views]
    torch.testing.assert_close([o["z"] for o in build(name, concat_views=False).forward_views(views)], expected)
    out = [o["z"] for o in joint.forward_views(views)]
    torch.testing.assert_close(torch.cat(out), build(name)(torch.cat(views))["z"])
    assert not torch.allclose(out[0], expected[0], atol=1e-4)
    assert joint.backbone.layers.bn1.num_batches_tracked == 1 and single.backbone.layers.bn1.num_batches_tracked == 2
    uneven = joint.forward_views(batch(2, small_crops=2).views)  # a batch per size
    assert [o["z"].shape for o in uneven] == [(IMAGES, 6)] * 4
    assert joint.backbone.layers.bn1.num_batches_tracked == 3


@pytest.mark.parametrize("name", METHODS)
def test_a_step_moves_the_weights(name):
    model = build(name)
    model.begin_task(0, None)
    first = "patch_embed.proj.weight" if name == "mae" else "layers.conv1.weight"
    before = model.backbone.get_parameter(first).clone()
    trainer = fit(model, 2, batch(num_views(name)))
    assert trainer.global_step == 2
    assert not torch.equal(model.backbone.get_parameter(first), before)


def test_handing_over_is_strict():
    model = build("barlow_twins")
    source = {k: torch.full_like(v, 2) for k, v in model.state_dict().items()}
    model.begin_task(1, source)
    assert model.current_task == 1 and all((v == 2).all() for v in model.state_dict().values())
    with pytest.raises(CheckpointError, match=r"missing: projector.0.bias"):
        model.begin_task(2, {k: v for k, v in source.items() if k != "projector.0.bias"})


# BYOL ----------------------------------------------------------------------------------------------------------------


def test_byols_teacher_follows_the_paper():
    model, steps = build("byol", base_tau_momentum=0.5), 4
    teacher = model.momentum_teacher.stages["backbone"].layers.conv1.weight
    expected = model.backbone.layers.conv1.weight.detach().clone()
    torch.testing.assert_close(teacher, expected)
    students = []
    model.guard.check = lambda **place: None
    original = model.after_step

    def after_step(step, total):
        students.append(model.backbone.layers.conv1.weight.detach().clone())
        original(step, total)

    model.after_step = after_step
    fit(model, steps)
    for step, student in enumerate(students):
        tau = 1 - (1 - 0.5) * (math.cos(math.pi * step / steps) + 1) / 2
        expected = tau * expected + (1 - tau) * student
    assert len(students) == steps
    torch.testing.assert_close(teacher, expected)
    assert model.momentum_teacher.tau.item() == pytest.approx(tau)


def test_byols_momentum_starts_anew_with_each_task():
    model = build("byol", base_tau_momentum=0.6)
    model.begin_task(0, None)
    model.after_step(9, 10)
    assert model.momentum_teacher.tau.item() > 0.9
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.begin_task(1, state)
    assert model.momentum_teacher.tau.item() == pytest.approx(0.6)
    key = "momentum_teacher.stages.backbone.layers.conv1.weight"
    assert torch.equal(model.state_dict()[key], state[key])  # the teacher itself is handed over


def test_byols_teacher_gets_no_gradient():
    model, data = build("byol"), batch()
    model.losses(data, model.forward_views(data.views))["byol"].backward()
    assert all(p.grad is None for p in model.momentum_teacher.parameters())
    optimizer = model.configure_optimizers()
    teacher = {id(p) for p in model.momentum_teacher.parameters()}
    assert not teacher & {id(p) for group in optimizer.param_groups for p in group["params"]}


# The guard -----------------------------------------------------------------------------------------------------------


class Exploding(BarlowTwins):
    def losses(self, batch, out):
        terms = super().losses(batch, out)
        return {**terms, "extra": terms["barlow_twins"] * float("inf")}


def test_a_non_finite_loss_stops_before_the_optimizer_moves():
    model = Exploding(small_backbone("barlow_twins"), Optimization(lr=8.0, scheduler="none"), **small(Exploding))
    before = {n: p.clone() for n, p in model.named_parameters()}
    with pytest.raises(NonFiniteLossError) as caught:
        fit(model, 1, batch()._replace(index=torch.arange(20) + 100))
    text = str(caught.value)
    assert "task 0, epoch 0: extra = inf." in text and "barlow_twins =" not in text
    assert "[100, 101," in text and "115] and 4 more" in text and "--lr" in text
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_the_guard_forgets_what_it_has_checked():
    guard = FiniteGuard()
    guard.watch({"a": torch.tensor(1.0)}, torch.tensor([1]))
    guard.watch({"a": torch.tensor(float("nan"))}, torch.tensor([7]))
    with pytest.raises(NonFiniteLossError, match=r"task 2, epoch 3: a = nan. .*samples \[7\]"):
        guard.check(task=2, epoch=3)
    guard.check(task=2, epoch=3)


# Composition ---------------------------------------------------------------------------------------------------------


class Logged:
    transient = ("log.",)

    def losses(self, batch, out):
        return {**super().losses(batch, out), "logged": torch.zeros(())}


def test_composition():
    kind = compose(BarlowTwins, Decorrelative, Logged)
    assert kind.__name__ == "LoggedDecorrelativeBarlowTwins" and kind.__mro__[1:4:1][0] is Logged
    assert [c for c in kind.__mro__ if c in (Logged, Decorrelative, BarlowTwins, SSLMethod)] == [
        Logged,
        Decorrelative,
        BarlowTwins,
        SSLMethod,
    ]
    assert set(kind.transient) == {"log.", "teacher.", "distill_predictor."} and kind.__doc__ == BarlowTwins.__doc__
    data, model = batch(), kind(small_backbone("barlow_twins"), **small(kind))
    assert list(model.losses(data, model.forward_views(data.views))) == ["barlow_twins", "logged"]
    assert compose(BarlowTwins) is BarlowTwins


@pytest.mark.parametrize("classes", [(), (Predictive,), (BYOL, BarlowTwins), (BYOL, BarlowTwins, Predictive)])
def test_a_composition_has_one_method(classes):
    with pytest.raises(TypeError, match="exactly one method"):
        compose(*classes)


def test_the_learning_rate_is_set_by_the_step():
    model = build("barlow_twins")
    model.optimization = Optimization(lr=256.0, scheduler="cosine", optimizer="sgd")
    trainer = fit(model, 4)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(model.optimization.lr_at(3, 4, 4))
