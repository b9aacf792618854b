"""SI and EWC: what is important, where it is held, and how strongly."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.evaluation import report
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.strategies.regularisation import EWC, SI
from tests.engine import Killed, assert_equal, kill_at_batch, outcome, run
from tests.methods import batch, losses, num_views, small, small_backbone

RECIPES = [Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4)] * 2
PIXELS = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Weights(nn.Module):
    """A backbone that is nothing but its weights; one of them rests, one is not used."""

    num_features = 1

    def __init__(self):
        super().__init__()
        self.matrix, self.bias = (
            nn.Parameter(torch.tensor([[1.0, -1.0], [0.5, 2.0]])),
            nn.Parameter(torch.tensor([3.0])),
        )
        self.resting = nn.Parameter(torch.ones(3), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))


class Quadratic(SSLMethod):
    """The loss 1/2 sum a (theta - b)^2, whose integral is known."""

    output_dim = 1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.a = torch.tensor([1.0, 2.0, 0.0, 4.0, 0.5])
        self.b = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])

    @property
    def theta(self):
        return torch.cat([self.backbone.matrix.flatten(), self.backbone.bias])

    def per_weight(self):
        return (self.a * (self.theta - self.b).square() / 2).detach()

    def losses(self, batch, out):
        return {"quadratic": (self.a * (self.theta - self.b).square()).sum() / 2}


def quadratic(strategy, task=0, handoff=None, **settings):
    torch.manual_seed(0)
    model = compose(Quadratic, strategy)(Weights(), **settings)
    model._trainer = SimpleNamespace(current_epoch=0)  # the guard names the epoch
    model.begin_task(task, handoff)
    return model


def descend(model, steps, lr=0.01, clip=None):
    """Descend as Lightning does: the hook comes after the backward pass and before the clipping."""
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=lr, momentum=0.5)
    for number in range(steps):
        optimizer.zero_grad()
        torch.stack(list(model.losses(None, []).values())).sum().backward()
        model.on_before_optimizer_step(optimizer)
        if clip:
            nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        model.after_step(number + 1, steps)


# SI ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_path_integral_is_what_each_weight_has_lowered_the_loss(clip):
    model = quadratic(SI, si_xi=0.1)
    start, before = model.theta.detach().clone(), model.per_weight()
    descend(model, 120, clip=clip)
    omega = before - model.per_weight()
    assert omega[0] > 0.2 and omega[2] == 0
    torch.testing.assert_close(model.path_integral[:5], omega, rtol=0.05, atol=1e-4)
    assert torch.equal(model.path_integral[5:], torch.zeros(2))  # not used
    way = model.theta.detach() - start
    model.end_task()
    torch.testing.assert_close(model.importance[:5], omega / (way**2 + 0.1), rtol=0.05, atol=1e-4)


def test_the_penalty_is_no_part_of_the_next_path_integral():
    first = quadratic(SI, si_lambda=3.0)
    descend(first, 100)
    first.end_task()
    second = quadratic(SI, 1, first.state_dict(), si_lambda=3.0)
    torch.testing.assert_close(second.importance, first.importance)
    assert torch.equal(second.path_integral, torch.zeros(7))
    torch.testing.assert_close(second.anchor_weights[:5], first.theta.detach())
    second.b = torch.tensor([2.0, -1.0, 1.0, 0.0, 3.0])
    before = second.per_weight()
    descend(second, 300)
    omega = before - second.per_weight()
    torch.testing.assert_close(second.path_integral[:5], omega, rtol=0.03, atol=2e-3)
    # It came to rest where the two pull alike, not at b.
    pull = second.a * (second.theta - second.b) + 6 * second.importance[:5] * (second.theta - second.anchor_weights[:5])
    torch.testing.assert_close(pull.detach(), torch.zeros(5), atol=2e-2, rtol=0)
    assert (second.theta - second.b).abs().max() > 0.5
    kept = second.importance.clone()
    second.end_task()
    assert (second.importance >= kept).all() and (second.importance > kept).any()  # they add up


def test_importance_never_falls_below_nothing():
    model = quadratic(SI)
    model.path_integral.fill_(-1.0)
    model.end_task()
    assert torch.equal(model.importance, torch.zeros(7))


def test_a_step_that_was_left_out_adds_nothing():
    """The scaler of 16-bit floats leaves out steps whose gradients are infinite."""
    model = quadratic(SI)
    descend(model, 2)
    before = model.path_integral.clone()
    for weight in model.backbone.parameters():
        weight.grad = torch.full_like(weight, torch.inf)
    model.on_before_optimizer_step(None)
    model.after_step(3, 3)
    assert torch.equal(model.path_integral, before) and before.abs().sum() > 0


# The penalty ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy, settings, factor", [(SI, {"si_lambda": 0.7}, 0.7), (EWC, {"ewc_lambda": 6.0}, 3.0)])
def test_the_penalty_and_its_gradient(strategy, settings, factor):
    state = quadratic(strategy, **settings).state_dict()
    importance = torch.tensor([0.5, 0.0, 2.0, 1.0, 3.0, 0.1, 0.2])
    model = quadratic(strategy, 1, {**state, "importance": importance}, **settings)
    anchors = [weight.detach().clone() for weight in model.held]
    assert len(anchors) == 3  # what rests is not held
    with torch.no_grad():
        for number, weight in enumerate(model.held):
            weight.add_(0.1 * (number + 1))
    terms = model.losses(None, [])
    name = model.term
    assert list(terms) == ["quadratic", name]
    terms[name].backward()
    expected, position = 0.0, 0
    for weight, anchor in zip(model.held, anchors, strict=True):
        for w, a, g in zip(weight.flatten(), anchor.flatten(), weight.grad.flatten(), strict=True):
            expected += factor * float(importance[position]) * float((w - a).detach()) ** 2
            assert float(g) == pytest.approx(
                2 * factor * float(importance[position]) * float((w - a).detach()), abs=1e-6
            )
            position += 1
    assert position == 7 and float(terms[name].detach()) == pytest.approx(expected, rel=1e-5)
    assert model.backbone.resting.grad is None


@pytest.mark.parametrize("strategy", [SI, EWC])
@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_task_0_has_no_penalty(strategy, method):
    model, plain = make(method, strategy), make(method)
    ours, theirs = losses(model, batch(2)), losses(plain, batch(2))
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


# EWC -----------------------------------------------------------------------------------------------------------------


def make(method, *strategies, backbone=None, source=None, **settings):
    kind = compose(METHODS[method], *strategies)
    torch.manual_seed(5)
    model = kind(backbone or small_backbone(method), **{**small(kind), **settings})
    views = RECIPES[: num_views(method)]
    source = source or ResidentLoader(
        PIXELS,
        torch.arange(60) % 4,
        torch.arange(0, 60, 2),
        views,
        batch_size=16 if method == "wmse" else 7,
        seed=3,
        task=0,
    )
    model.settle(seed=3, num_train=60, num_classes=4, images=source)
    model.begin_task(0, None)
    return model


def test_the_information_is_the_mean_squared_gradient_of_batches():
    model = make("barlow_twins", EWC, ewc_batches=3)
    batches = model._batches()
    members = torch.cat(batches).tolist()
    assert [len(index) for index in batches] == [7] * 3 and len(set(members)) == 21
    assert all(position % 2 == 0 for position in members)
    assert len(make("barlow_twins", EWC, ewc_batches=99)._batches()) == 4  # of 30 images
    objective = make("barlow_twins")
    objective.load_state_dict({k: v for k, v in model.state_dict().items() if k in objective.state_dict()})
    total = [torch.zeros_like(weight) for weight in objective.backbone.parameters()]
    for number, index in enumerate(batches):
        objective.zero_grad()
        views = model.images.views_of(index, f"ewc.{number}")
        data = batch()._replace(index=index, views=views, targets=index % 4)
        sum(objective.losses(data, objective.forward_views(views)).values()).backward()
        for mine, weight in zip(total, objective.backbone.parameters(), strict=True):
            mine += weight.grad**2
    model.end_task()
    expected = torch.cat([mine.flatten() for mine in total]) / 3
    assert (expected > 0).any()
    torch.testing.assert_close(model.importance, expected)


@pytest.mark.parametrize("method", METHODS)
def test_looking_back_changes_nothing_but_the_importance(method):
    model = make(method, EWC, ewc_batches=2)
    model.projector.eval()
    if method == "deepclusterv2":
        model.assignments.zero_()  # without clusters there is no loss
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.random.get_rng_state()
    model.end_task()
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert [module.training for module in model.modules()] == modes
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"importance"} and all(weight.grad is None for weight in model.parameters())
    assert model.importance.isfinite().all()
    again = make(method, EWC, ewc_batches=2)
    again.load_state_dict(before)
    torch.manual_seed(77)
    again.end_task()
    assert torch.equal(again.importance, model.importance)


def test_the_information_of_tasks_adds_up():
    model = make("simclr", EWC, ewc_batches=1, ewc_gamma=0.5)
    model.end_task()
    once = model.importance.clone()
    model.end_task()
    torch.testing.assert_close(model.importance, 1.5 * once)
    second = make("simclr", EWC, ewc_batches=1)
    second.begin_task(1, model.state_dict())
    torch.testing.assert_close(second.importance, 1.5 * once)
    first = second._information()
    with torch.no_grad():
        for weight in second.held:
            weight.add_(0.0)
        second.anchor_weights.add_(1.0)  # a large penalty, which is no part of the information
    torch.testing.assert_close(second._information(), first)


# A run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["si", "ewc"])
def test_killed_and_continued(strategy, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")
    settings = {"method": "simclr", "strategy": strategy, "batch_size": 256, "lr": 0.1, "warmup_epochs": 0}
    settings |= {"ewc_batches": 2} if strategy == "ewc" else {}
    run(tmp_path / "reference", **settings)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 3)  # in the second epoch
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **settings)
    run(tmp_path, checkpoint_minutes=0, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(tmp_path / "reference" / "job"))
    header, *rows = (tmp_path / "job" / "task1" / "metrics.csv").read_text().splitlines()
    values = [float(row.split(",")[header.split(",").index(strategy)]) for row in rows]
    assert all(value > 0 for value in values)
