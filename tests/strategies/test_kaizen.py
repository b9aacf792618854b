"""Kaizen: what its classifier, its soft labels and their teacher must be; one test an oracle."""

import pytest
import torch
import torch.nn.functional as F

from cassle.losses import contrastive_distillation
from cassle.methods import METHODS
from cassle.nn.classifier import classifier, classifier_of
from cassle.nn.resnet import resnet18
from tests.strategies.kaizen import IMAGES, begun, first_task, second_task, step

NOTHING = torch.full((IMAGES,), -1)


def gradient(model, term: torch.Tensor, part: torch.nn.Module) -> float:
    """Return the largest entry of the gradient of a term in a part of the model."""
    found = torch.autograd.grad(term, list(part.parameters()), retain_graph=True, allow_unused=True)
    return max(0.0 if g is None else g.abs().max().item() for g in found)


# The classifier and its two losses -----------------------------------------------------------------------------------


def test_the_terms_are_those_of_the_formula():
    model = second_task(classifier_loss_weight=3.0, soft_label_lamb=5.0, classifier_layers=[7])
    batch, terms = step(model)
    assert batch.num_replay == 6 and set(terms) == {"nt_xent", "classifier", "soft_label"}
    feats = [model.backbone(view) for view in batch.views]
    logits = [model.classifier(f) for f in feats]
    frozen = [model.classifier_teacher(view).softmax(1) for view in batch.views]
    hard = sum(F.cross_entropy(scores, batch.targets) for scores in logits)
    soft = sum(-(q * scores.log_softmax(1)).sum(1).mean() for q, scores in zip(frozen, logits, strict=True)) / 2
    torch.testing.assert_close(terms["classifier"], 3 * hard)
    torch.testing.assert_close(terms["soft_label"], 5 * soft)


def test_twice_the_mean_is_once_the_sum():
    handoff = first_task()
    mean, total = (
        step(begun(1, handoff, soft_label_reduction=how, soft_label_lamb=lamb))[1]["soft_label"]
        for how, lamb in (("mean", 2.0), ("sum", 1.0))
    )
    torch.testing.assert_close(mean, total)
    summed, averaged = (step(begun(1, handoff, classifier_reduction=how))[1]["classifier"] for how in ("sum", "mean"))
    torch.testing.assert_close(summed, 2 * averaged)


@pytest.mark.parametrize("detached", [True, False])
def test_labels_move_the_encoder_only_if_they_may(detached):
    model = second_task(classifier_stop_gradient=detached)
    terms = step(model)[1]
    for name in ("classifier", "soft_label"):
        assert gradient(model, terms[name], model.classifier) > 0
        assert (gradient(model, terms[name], model.backbone) == 0) is detached
        assert gradient(model, terms[name], model.projector) == 0
    assert gradient(model, terms["nt_xent"], model.backbone) > 0 == gradient(model, terms["nt_xent"], model.classifier)


def test_contrastive_distillation_is_a_symmetric_cross_entropy_on_the_diagonal():
    g = torch.Generator().manual_seed(0)
    p, z = (torch.randn(2, 5, 3, generator=g) for _ in range(2))
    a, b = (F.normalize(x.flatten(0, 1), dim=1) for x in (p, z))
    logits, diagonal = a @ b.T / 0.2, torch.arange(10)
    expected = (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
    torch.testing.assert_close(contrastive_distillation(p, z, temperature=0.2, negatives="all"), expected)


def test_a_batch_without_any_label_is_fine():
    model = begun(1, first_task(), NOTHING)
    model.memory.targets.fill_(-1)
    terms = step(model)[1]
    assert terms["classifier"] == 0 and gradient(model, terms["classifier"], model.classifier) == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in model.classifier.parameters())  # several processes wait for one each
    assert terms["soft_label"] > 0


def test_the_published_sizes():
    assert sum(p.numel() for p in classifier(512, [1000], 100).parameters()) == 613_100
    assert sum(p.numel() for p in classifier(512, [], 100).parameters()) == 51_300
    with torch.device("meta"):
        assert sum(p.numel() for p in resnet18(32).parameters()) == 11_168_832


@pytest.mark.parametrize("hidden", [[], [5], [5, 6]])
def test_a_classifier_is_rebuilt_from_its_weights(hidden):
    made = classifier(3, hidden, 4)
    x = torch.randn(2, 3)
    rebuilt = classifier_of({f"classifier.{k}": v for k, v in made.state_dict().items()} | {"backbone.weight": x})
    assert torch.equal(rebuilt(x), made(x)) and classifier_of({"backbone.weight": x}) is None


def test_its_rate_and_decay_are_its_own():
    model = second_task(head_lr=0.05, soft_label_predictor=True)
    optimizer = model.configure_optimizers()
    own = {id(p) for p in model.classifier.parameters()}
    (group,) = [g for g in optimizer.param_groups if {id(p) for p in g["params"]} == own]
    assert (
        group["weight_decay"] == 0 and sum(id(p) in own for g in optimizer.param_groups for p in g["params"]) == 4 - 2
    )
    for steps, share in ((0, 1.0), (5, 0.5)):
        model.optimization.scheduler = "cosine"
        model.optimization.set_lr(optimizer, steps, 10, 10)
        assert group["lr"] == pytest.approx(0.05 * share) and optimizer.param_groups[0]["lr"] == pytest.approx(
            0.01 * share
        )
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in model.logit_predictor.parameters()} <= trained


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_labels_among_the_old_classes(temperature):
    model = second_task(soft_label_classes="old", soft_label_temperature=temperature, soft_label_lamb=1.0)
    assert model.compared.tolist() == [0, 1]
    batch, terms = step(model)
    expected = 0.0
    for view in batch.views:
        logits, frozen = (net[:, :2] / temperature for net in (
            model.classifier(model.backbone(view)), model.classifier_teacher(view)))  # fmt: skip
        expected -= (frozen.softmax(1) * logits.log_softmax(1)).sum(1).mean() * temperature**2 / 2
    torch.testing.assert_close(terms["soft_label"], expected)


def test_lambda_may_follow_the_number_of_classes():
    handoff = first_task()
    constant, scheduled = (
        step(begun(1, handoff, lambda_schedule=schedule))[1]["soft_label"] for schedule in ("constant", "classes")
    )
    torch.testing.assert_close(scheduled, constant * 2 / 4)


# The teacher ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_with_every_objective_and_its_distiller(method):
    settings = {"method": method, "distiller": METHODS[method].auto_distiller}
    handoff = first_task(**settings)
    model = begun(1, handoff, **settings)
    optimizer = model.configure_optimizers()
    for number in range(2):
        model.begin_epoch(number)
        batch, terms = step(model)
        assert len(batch.index) == 22 and {"classifier", "soft_label", "distill"} <= terms.keys()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    state = model.state_dict()
    for name in (n for n in handoff if n.startswith(("classifier.", "backbone."))):
        owner = "teacher" if name.startswith("backbone.") else "classifier_teacher"
        assert torch.equal(state[f"{owner}.stages.{name}"], handoff[name])
    assert not torch.equal(state["classifier.0.weight"], handoff["classifier.0.weight"])


def test_one_frozen_pass_serves_the_distiller_and_the_soft_labels():
    settings = {"method": "byol", "distiller": "predictive"}
    handoff = first_task(**settings)
    shared = begun(1, handoff, **settings)
    apart = begun(1, handoff, **settings, classifier_teacher_bn="train")
    assert not any("classifier_teacher.stages.backbone" in name for name in shared.state_dict())
    assert any("classifier_teacher.stages.backbone" in name for name in apart.state_dict())
    passes = []
    shared.teacher.stages["backbone"].register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(0)
    terms = step(shared)[1]
    assert len(passes) == 2 and shared._shared == []
    apart.classifier_teacher.bn = "eval"
    apart.classifier_teacher.train()
    torch.manual_seed(0)
    again = step(apart)[1]
    torch.testing.assert_close(again["soft_label"], terms["soft_label"])


def test_who_has_learned_no_class_teaches_none():
    handoff = first_task(label_tasks=[1])
    model = begun(1, handoff, label_tasks=[1])
    assert "soft_label" not in step(model)[1] and not hasattr(model, "classifier_teacher")
    assert "soft_label" not in step(begun(1, first_task(), soft_label=False))[1]


def test_without_the_classifier_only_the_replay_is_left():
    model = second_task(classifier_training=False)
    batch, terms = step(model)
    assert model.classifier is None and set(terms) == {"nt_xent"} and batch.num_replay == 6
