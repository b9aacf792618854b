"""CaSSLe's distillation: the teacher is the previous task's network, and stays it."""

import copy
import math

import pytest
import torch

from cassle.data.batch import Batch
from cassle.distill import DISTILLERS
from cassle.losses import barlow_twins, byol, contrastive_distillation
from cassle.methods import METHODS
from cassle.nn.prototypes import Prototypes
from cassle.nn.state import load_strictly
from tests.methods import batch, build, losses, num_views
from tests.methods.golden import train

PAIRS = [(method, METHODS[method].auto_distiller) for method in METHODS]
PAIRS += [("simclr", "pfr"), ("byol", "less_forget"), ("swav", "pfr"), ("mae", "contrastive"), ("vicreg", "relational")]
every_pair = pytest.mark.parametrize("method, distiller", PAIRS)


def data_for(method: str, seed: int = 1) -> Batch:
    return batch(num_views(method), seed=seed)


def handoff(method: str, distiller: str, seed: int = 7) -> dict:
    """A state dict of a task 0, with batch statistics that are not a fresh model's."""
    model = build(method, distiller, seed)
    model.begin_task(0, None)
    losses(model, data_for(method, 3))
    return {k: v.clone() for k, v in model.state_dict().items()}


def taught(model) -> dict:
    """Return the teacher's state under the names that it had in the hand-off."""
    return {k.removeprefix("stages."): v for k, v in model.teacher.state_dict().items()}


def parts(state: dict, distiller: str) -> dict:
    names = ("backbone.",) if DISTILLERS[distiller].distilled == "feats" else ("backbone.", "projector.")
    return {k: v for k, v in state.items() if k.startswith(names)}


@every_pair
def test_task_0_is_not_distilled(method, distiller):
    model = build(method, distiller)
    model.begin_task(0, None)
    plain = build(method)
    plain.begin_task(0, None)
    assert set(model.state_dict()) == set(plain.state_dict())
    data = data_for(method)
    ours, theirs = losses(model, data), losses(plain, data)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@every_pair
def test_the_teacher_is_the_handoff_and_stays_it(method, distiller):
    before = handoff(method, distiller)
    model = build(method, distiller)
    model.begin_task(1, before)
    data = data_for(method)
    optimizer = model.configure_optimizers()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.distill_predictor.parameters()} <= trained
    first = next(p for p in model.backbone.parameters() if p.ndim > 3)
    start = first.detach().clone()
    assert not {id(p) for p in model.teacher.parameters()} & trained
    for _ in range(2):
        terms = losses(model, data)
        assert len(terms) > 1 and "distill" in terms
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in model.teacher.parameters())
        optimizer.step()
    frozen, expected = taught(model), parts(before, distiller)
    assert set(frozen) == set(expected) and all(torch.equal(frozen[k], v) for k, v in expected.items())
    assert not torch.equal(first, start)


@every_pair
def test_terms_have_names_and_weights(method, distiller):
    before = handoff(method, distiller)
    values = []
    for lamb in (1.0, 3.0):
        model = build(method, distiller, distill_lamb=lamb)
        torch.manual_seed(5)
        model.begin_task(1, before)
        terms = losses(model, data_for(method))
        values.append(terms.pop("distill"))
        assert values[-1].shape == () and values[-1] != 0
    torch.testing.assert_close(values[1], 3 * values[0])


def views(seed: int) -> torch.Tensor:
    return torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(seed))


def test_the_distillation_loss_is_of_the_objectives_family():
    p, z = views(0), views(1)
    model = build("simclr", "contrastive", distill_temperature=0.3, distill_negatives="all")
    torch.testing.assert_close(
        model.distill_loss(p, z), contrastive_distillation(p, z, temperature=0.3, negatives="all", gather=False)
    )
    model = build("barlow_twins", "decorrelative", distill_barlow_lamb=0.1, distill_scale_loss=0.2)
    expected = sum(barlow_twins(a, b, lamb=0.1, scale_loss=0.2, gather=False) for a, b in zip(p, z, strict=True)) / 2
    torch.testing.assert_close(model.distill_loss(p, z), expected)
    expected = (byol(p[0], z[0]) + byol(p[1], z[1])) / 2
    torch.testing.assert_close(build("byol", "predictive").distill_loss(p, z), expected)
    model = build("vicreg", "predictive_mse")
    torch.testing.assert_close(model.distill_loss(p, z), (p - z).square().mean())
    assert model.distill_lamb == 25
    cosine = torch.nn.functional.cosine_similarity(p, z, dim=2).mean()
    torch.testing.assert_close(build("simclr", "pfr").distill_loss(p, z), -cosine)
    torch.testing.assert_close(build("simclr", "less_forget").distill_loss(p, z), 1 - cosine)


def test_relations_are_taken_to_past_frozen_projections():
    p, z = views(0), views(1)
    model = build("ressl", "relational", distill_temperature_q=0.2, distill_temperature_k=0.1)
    model.begin_task(1, handoff("ressl", "relational"))
    rows = model.distill_queue.rows.clone()
    unit = torch.nn.functional.normalize
    relations = [(unit(x, dim=2) @ rows.T / t) for x, t in ((p, 0.2), (z, 0.1))]
    expected = -(relations[1].softmax(dim=2) * relations[0].log_softmax(dim=2)).sum(dim=2).mean()
    torch.testing.assert_close(model.distill_loss(p, z), expected)
    torch.testing.assert_close(model.distill_queue.rows[:8], unit(z[-1], dim=1))  # the queue has moved on


@pytest.mark.parametrize("method", ["swav", "dino", "deepclusterv2"])
def test_knowledge_is_the_assignment_to_the_old_prototypes(method):
    before = handoff(method, "knowledge")
    model = build(method, "knowledge", seed=3, distill_temperature=0.2)
    model.begin_task(1, before)
    p, z = views(0), views(1)
    expected = []
    for head, learnt in enumerate(model.distill_prototypes):
        old = Prototypes(6, len(learnt.weight))
        old.weight.data = before[f"prototypes.{head}.weight"]
        wanted = [(old(view) / 0.2).softmax(dim=1) for view in z]
        found = [(learnt(view) / 0.2).log_softmax(dim=1) for view in p]
        expected += [-(w * f).sum(dim=1).mean() for w, f in zip(wanted, found, strict=True)]
        assert learnt.weight.requires_grad and not torch.equal(learnt.weight, old.weight)
    torch.testing.assert_close(model.distill_loss(p, z), torch.stack(expected).mean().detach())
    assert not any(p.requires_grad for p in model.frozen_prototypes.parameters())


def test_only_full_size_views_are_distilled():
    before = handoff("simclr", "contrastive")
    values = []
    for small_crops in (0, 3):
        model = build("simclr", "contrastive")
        model.begin_task(1, before)
        model.eval()  # so that the small crops do not change the statistics of the large views
        torch.manual_seed(2)
        values.append(losses(model, batch(small_crops=small_crops))["distill"])
    assert values[0].shape == ()
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_batch_norm_of_the_teacher(bn):
    before = handoff("barlow_twins", "decorrelative")
    model = build("barlow_twins", "decorrelative", teacher_bn=bn)
    model.begin_task(1, before)
    oracle = build("barlow_twins")
    load_strictly(oracle, before)
    x = batch().views[0]
    for mode in (True, False, True):
        model.train(mode)
        oracle.train(mode and bn == "train")
        assert model.teacher.stages["backbone"].training == (mode and bn == "train")
        frozen = model.teacher(x)  # once: in training mode its running statistics move
        torch.testing.assert_close(frozen, oracle(x)["z"].detach())
        assert not frozen.requires_grad
    unchanged = torch.equal(
        model.teacher.stages["backbone"].layers.bn1.running_mean, before["backbone.layers.bn1.running_mean"]
    )
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
        assert all(torch.equal(taught(model)[k], v) for k, v in parts(end, "predictive").items())


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
    assert all(torch.equal(taught(resumed)[k], v) for k, v in parts(before, distiller).items())
    pairs = zip(resumed.teacher.stages["backbone"].parameters(), resumed.backbone.parameters(), strict=True)
    assert not any(torch.equal(teacher, student) for teacher, student in pairs)
    data = data_for(method)
    ours, theirs = losses(resumed, data), losses(model, data)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("method", METHODS)
def test_a_distilled_task_does_not_diverge(method):
    """Fifty steps at the rate of the golden losses, with the defaults of the distiller that fits."""
    distiller = METHODS[method].auto_distiller
    before = handoff(method, distiller)
    model = build(method, distiller, **METHODS[method].distill_defaults)
    model.begin_task(1, before)
    found = train(model, 50, name=method)
    assert all(math.isfinite(value) for value in found)
    assert max(found[-5:]) < 2 * max(abs(value) for value in found[:5])
