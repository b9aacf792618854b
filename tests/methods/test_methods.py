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
from cassle.nn.tiny import TinyConvNet
from cassle.optim.build import Optimization


def build(kind, **settings) -> SSLMethod:
    torch.manual_seed(0)
    return kind(
        TinyConvNet(8, width=2), Optimization(lr=8.0, scheduler="none"), output_dim=6, proj_hidden_dim=5, **settings
    )


def batch(n: int = 8) -> Batch:
    draws = torch.Generator().manual_seed(1)
    return Batch(
        torch.arange(n) + 100, [torch.randn(n, 3, 8, 8, generator=draws) for _ in range(2)], torch.zeros(n).long()
    )


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
    model, data = build(METHODS[name]), batch()
    out = model.forward_views(data.views)
    assert len(out) == 2 and {"feats", "z"} <= set(out[0]) <= {"feats", "z", "p"}
    assert out[0]["feats"].shape == (8, 8) and all(out[1][k].shape == (8, 6) for k in out[1] if k != "feats")
    terms = model.losses(data, out)
    assert terms and all(term.shape == () and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained
    assert any(n.startswith("backbone.") for n in trained)
    grouped = [p for group in model.parameter_groups() for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(trained)
    assert METHODS[name].auto_distiller in DISTILLERS and name in DISTILLERS[METHODS[name].auto_distiller].fits


@pytest.mark.parametrize("name", METHODS)
def test_batch_norm_sees_one_view_or_all(name):
    views = batch().views
    single, joint = build(METHODS[name]), build(METHODS[name], concat_views=True)
    expected = [single(view)["z"] for view in views]
    torch.testing.assert_close([o["z"] for o in build(METHODS[name]).forward_views(views)], expected)
    out = [o["z"] for o in joint.forward_views(views)]
    torch.testing.assert_close(torch.cat(out), build(METHODS[name])(torch.cat(views))["z"])
    assert not torch.allclose(out[0], expected[0], atol=1e-4)
    assert joint.backbone.layers.bn1.num_batches_tracked == 1 and single.backbone.layers.bn1.num_batches_tracked == 2
    uneven = joint.forward_views([views[0], views[1][..., :6, :6]])  # cannot be one batch
    assert [o["z"].shape for o in uneven] == [(8, 6), (8, 6)]


@pytest.mark.parametrize("name", METHODS)
def test_a_step_moves_the_weights(name):
    model = build(METHODS[name])
    before = {n: p.clone() for n, p in model.backbone.named_parameters()}
    trainer = fit(model, 2)
    assert trainer.global_step == 2
    assert all(
        not torch.equal(p, before[n]) for n, p in model.backbone.named_parameters() if n.endswith("conv1.weight")
    )


def test_handing_over_is_strict():
    model = build(BarlowTwins)
    source = {k: torch.full_like(v, 2) for k, v in model.state_dict().items()}
    model.begin_task(1, source)
    assert model.current_task == 1 and all((v == 2).all() for v in model.state_dict().values())
    with pytest.raises(CheckpointError, match=r"missing: projector.0.bias"):
        model.begin_task(2, {k: v for k, v in source.items() if k != "projector.0.bias"})


# BYOL ----------------------------------------------------------------------------------------------------------------


def test_byols_teacher_follows_the_paper():
    model, steps = build(BYOL, base_tau_momentum=0.5), 4
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
    model = build(BYOL, base_tau_momentum=0.6)
    model.begin_task(0, None)
    model.after_step(9, 10)
    assert model.momentum_teacher.tau.item() > 0.9
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.begin_task(1, state)
    assert model.momentum_teacher.tau.item() == pytest.approx(0.6)
    key = "momentum_teacher.stages.backbone.layers.conv1.weight"
    assert torch.equal(model.state_dict()[key], state[key])  # the teacher itself is handed over


def test_byols_teacher_gets_no_gradient():
    model, data = build(BYOL), batch()
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
    model = build(Exploding)
    before = {n: p.clone() for n, p in model.named_parameters()}
    with pytest.raises(NonFiniteLossError) as caught:
        fit(model, 1, batch(20))
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
    data, model = batch(), build(kind)
    assert list(model.losses(data, model.forward_views(data.views))) == ["barlow_twins", "logged"]
    assert compose(BarlowTwins) is BarlowTwins


@pytest.mark.parametrize("classes", [(), (Predictive,), (BYOL, BarlowTwins), (BYOL, BarlowTwins, Predictive)])
def test_a_composition_has_one_method(classes):
    with pytest.raises(TypeError, match="exactly one method"):
        compose(*classes)


def test_the_learning_rate_is_set_by_the_step():
    model = build(BarlowTwins)
    model.optimization = Optimization(lr=256.0, scheduler="cosine", optimizer="sgd")
    trainer = fit(model, 4)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(model.optimization.lr_at(3, 4, 4))
