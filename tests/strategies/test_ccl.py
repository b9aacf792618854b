"""CCL and simple replay: who is kept, what is added to the loss, and when the teacher moves."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cassle.data.batch import Batch
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.engine.choice import choose
from cassle.errors import ConfigError
from cassle.evaluation import report
from cassle.memory.fifo import FIFO
from cassle.methods import METHODS
from cassle.methods.compose import compose
from cassle.nn.kmeans import spherical_kmeans
from cassle.randomness import generator
from cassle.strategies import STRATEGIES
from cassle.strategies.ccl import lowest_of_each, relation_kl, spread_of
from tests.engine import Killed, assert_equal, kill_at_batch, outcome, run
from tests.methods import small, small_backbone

RECIPES = [Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4)] * 2
PIXELS = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(60) % 4
MEMBERS = [
    torch.nonzero(TARGETS.div(2, rounding_mode="floor") == task)[:, 0] for task in range(2)
]  # classes 0, 1 and then 2, 3
N_SAVE = 3


def loader(task, targets=TARGETS, **place):
    return ResidentLoader(PIXELS, targets, MEMBERS[task], RECIPES, batch_size=8, seed=3, task=task, **place)


def make(method="mocov2plus", strategy="ccl", *, task=0, handoff=None, source=None, **settings):
    """Return a small model at the start of a task."""
    kind = compose(METHODS[method], STRATEGIES[strategy])
    torch.manual_seed(5)
    sizes = {"n_save": N_SAVE, "mem_size": 20, "replay_batch_size": 4}
    model = kind(small_backbone(method), **{**small(kind), **sizes, **settings})
    model.memory = FIFO(model.mem_size, model.stored_dim)
    model.settle(seed=3, num_train=60, num_classes=4, images=source or loader(task))
    model.begin_task(task, handoff)
    return model


def handed(method="mocov2plus", strategy="ccl", **settings):
    """Return the hand-off of a task 0 in which a step has moved the statistics."""
    model = make(method, strategy, **settings)
    step(model)
    model.end_task()
    return {name: value.clone() for name, value in model.state_dict().items()}


def step(model, number=0):
    """Let the model see a batch; return the batch as it was composed, the outputs and the terms."""
    model.images.step = number
    batch = model.compose_batch(next(iter(model.images)))
    out = model.forward_views(batch.views)
    return batch, out, model.losses(batch, out)


def second_task(method="mocov2plus", strategy="ccl", **settings):
    return make(method, strategy, task=1, handoff=handed(method, strategy, **settings), **settings)


# Who is kept ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=20), st.integers(1, 4))
def test_the_lowest_of_each_cluster(rows, number):
    cluster, score = torch.tensor(rows).T
    expected = []
    for one in range(4):
        own = [row for row in range(len(rows)) if rows[row][0] == one]
        expected += sorted(own, key=lambda row: rows[row][1])[:number]  # sorted is stable
    assert lowest_of_each(score.float(), cluster, number).tolist() == expected


def test_ccl_keeps_what_a_reference_in_numpy_keeps():
    model = make(exemplar_views=6)
    looks, forward = [], model.forward

    def recording(x):
        assert not model.backbone.training and not torch.is_grad_enabled()
        looks.append(forward(x)["z"])
        return forward(x)

    model.forward = recording
    model.end_task()
    model.forward = forward
    assert len(looks) == 7 and len({tuple(z[0].tolist()) for z in looks}) == 7
    torch.testing.assert_close(looks[0], model.eval()(model.images.centre_of(MEMBERS[0]))["z"])

    f = np.stack([z.double().numpy() for z in looks])
    f /= np.linalg.norm(f, axis=2, keepdims=True)
    scores = []
    for image in range(f.shape[1]):
        mean = f[:, image].mean(axis=0)
        mean /= np.linalg.norm(mean)
        scores.append(sum((f[view, image, dim] - mean[dim]) ** 2 for view in range(7) for dim in range(f.shape[2])))
    centre = torch.tensor(f[0]).float()
    _, cluster = spherical_kmeans(centre, 2, generator=generator(3, "exemplars", 0))
    kept = [np.flatnonzero(cluster.numpy() == c) for c in range(2)]
    kept = [own[np.argsort(np.array(scores)[own])][:N_SAVE] for own in kept]
    expected = MEMBERS[0][np.concatenate(kept)]
    assert len(expected) == 2 * N_SAVE
    assert model.memory.entries(model.memory.slots).keys.tolist() == expected.tolist()
    assert model.memory.entries(model.memory.slots).targets.tolist() == TARGETS[expected].tolist()


def test_the_spread_of_equal_views_is_nothing():
    looks = F.normalize(torch.randn(1, 5, 4), dim=2)
    torch.testing.assert_close(spread_of(looks.expand(7, 5, 4)), torch.zeros(5), atol=1e-12, rtol=0)
    assert (spread_of(torch.cat([looks, looks.flip(1)])) > 0.1).any()


@pytest.mark.parametrize("strategy", ["ccl", "simple_replay"])
def test_exemplars_come_from_their_task_and_accumulate(strategy):
    first = make(strategy=strategy)
    first.end_task()
    kept = first.memory.entries(first.memory.slots).keys
    assert len(kept) == len(set(kept.tolist())) == 2 * N_SAVE and set(kept.tolist()) <= set(MEMBERS[0].tolist())
    second = make(strategy=strategy, task=1, handoff=first.state_dict())
    second.end_task()
    both = second.memory.entries(second.memory.slots).keys
    assert both[: len(kept)].tolist() == kept.tolist() and len(both) == 4 * N_SAVE
    assert set(both[len(kept) :].tolist()) <= set(MEMBERS[1].tolist())


@pytest.mark.parametrize("strategy", ["ccl", "simple_replay"])
def test_the_choice_is_a_function_of_the_weights_and_changes_nothing_else(strategy):
    model = make(strategy=strategy)
    model.projector.eval()  # whatever the modes are
    other = copy.deepcopy(model)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("memory.")}
    modes = [module.training for module in model.modules()]
    model.end_task()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert [module.training for module in model.modules()] == modes
    torch.manual_seed(99)
    other.progress = other.progress.at(17)  # a run that was continued after its last step has forgotten where it was
    other.end_task()
    assert torch.equal(model.memory.keys, other.memory.keys)
    other.settle(seed=4, num_train=60, num_classes=4, images=other.images)
    other.memory.remove(other.memory.slots)
    other.end_task()
    assert not torch.equal(model.memory.keys, other.memory.keys)


def test_clusters_may_be_given_and_must_be_without_labels():
    model = make(exemplar_clusters=3)
    model.end_task()
    assert len(model.memory) == 3 * N_SAVE
    unlabelled = loader(0, torch.full((60,), -1))
    with pytest.raises(ConfigError, match="--exemplar_clusters"):
        make(source=unlabelled)
    make(source=unlabelled, exemplar_clusters=2).end_task()


def test_a_memory_that_is_too_small_is_told_before_the_training():
    with pytest.raises(ConfigError, match=r"--mem_size 11: --n_save 3 exemplars .* of all tasks .* 12"):
        make(mem_size=11)  # four classes
    make(mem_size=12)
    with pytest.raises(ConfigError, match=r"--mem_size 17: --n_save 3 exemplars .* of all tasks .* 18"):
        make(mem_size=17, exemplar_clusters=2).settle(num_train=60, num_classes=4, num_tasks=3)
    state = handed(mem_size=8, exemplar_clusters=2)
    with pytest.raises(ConfigError, match=r"--mem_size 8: .* up to task 1 .* 12"):
        make(mem_size=8, exemplar_clusters=2, task=1, handoff=state)


def test_one_view_is_refused():
    with pytest.raises(ConfigError) as caught:
        choose({"method": "mae", "strategy": "ccl"})
    assert any("two views" in problem for problem in caught.value.problems)
    choose({"method": "mae", "strategy": "simple_replay"})


# What is added to the loss -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mocov2plus", "simclr"])
def test_nothing_happens_in_task_0(method):
    model, plain = make(method), compose(METHODS[method])
    torch.manual_seed(5)
    plain = plain(small_backbone(method), **small(plain))
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in plain.state_dict()})
    model.begin_epoch(0)
    model.begin_epoch(1)
    batch, _, terms = step(model)
    assert batch.num_replay == 0
    expected = plain.losses(batch, plain.forward_views(batch.views))
    assert set(terms) == set(expected) and all(torch.equal(terms[name], expected[name]) for name in terms)
    assert not any(name.startswith("ccl_teacher.") for name in model.state_dict())
    assert all(queue.num_pushed == 0 for queue in model.extra_queues)


@pytest.mark.parametrize("number, expected", [(4, 4), (50, 2 * N_SAVE)])
def test_exemplars_follow_every_batch(number, expected):
    model = second_task(strategy="simple_replay", replay_batch_size=number)
    batch, _, terms = step(model)
    assert batch.num_replay == expected and len(batch.views[0]) == len(batch.index) == 8 + expected
    past = batch.index[8:]
    assert len(set(past.tolist())) == expected and set(past.tolist()) <= set(MEMBERS[0].tolist())
    assert torch.equal(batch.targets[8:], TARGETS[past]) and list(terms) == ["moco"]


@pytest.mark.parametrize("method", ["mocov2plus", "byol", "dino", "ressl", "simclr", "barlow_twins"])
def test_the_extra_queue_holds_the_keys_of_exemplars(method):
    """Of the momentum teacher where the objective takes its projections of all views, else of the student."""
    model = second_task(method, extra_queue_size=10)
    taught = method in ("mocov2plus", "byol")
    expected = [[], []]
    for number in range(3):
        teacher = copy.deepcopy(model.momentum_teacher) if taught else None
        batch, out, _ = step(model, number)
        for view in range(2):
            key = teacher(batch.views[view]) if taught else out[view]["z"].detach()
            expected[view].append(F.normalize(key[batch.num_stream :], dim=1))
    for queue, keys in zip(model.extra_queues, expected, strict=True):
        assert queue.num_pushed == 12 and len(queue.rows) == 10
        order = [10, 11, *range(2, 10)]  # a ring of ten
        torch.testing.assert_close(queue.rows, torch.cat(keys)[order])


def test_the_extra_queue_repels():
    model = second_task(extra_queue_weight=0.3, extra_queue_temperature=0.5)
    first = step(model)[2]
    assert float(first["extra_queue"].detach()) == 0  # nobody is in it yet
    queues = [queue.rows.clone() for queue in model.extra_queues]
    teacher = copy.deepcopy(model.momentum_teacher)
    batch, out, terms = step(model, 1)
    z = [F.normalize(o["z"].detach().double(), dim=1) for o in out]
    k = [F.normalize(teacher(view).double(), dim=1) for view in batch.views]
    values = []
    for i, j in ((0, 1), (1, 0)):
        for image in range(len(batch.index)):
            own = torch.exp(z[i][image] @ k[j][image] / 0.5)
            others = sum(torch.exp(z[i][image] @ row.double() / 0.5) for row in queues[j])
            values.append(-torch.log(own / (own + others)))
    expected = 0.3 * sum(values) / len(values)
    torch.testing.assert_close(terms["extra_queue"].double(), expected, rtol=1e-5, atol=1e-6, check_dtype=False)


def loops(q, a, q_bar, a_bar, tau, tau_bar):
    """The definition, in loops."""
    unit = [[row / row.norm() for row in x.double()] for x in (q, a, q_bar, a_bar)]
    total = 0.0
    for i in range(len(q)):
        s = torch.stack([unit[0][i] @ anchor / tau for anchor in unit[1]])
        t = torch.stack([unit[2][i] @ anchor / tau_bar for anchor in unit[3]])
        p, p_bar = s.exp() / s.exp().sum(), t.exp() / t.exp().sum()
        total += sum(p_bar[j] * (p_bar[j].log() - p[j].log()) for j in range(len(q)))
    return total / len(q)


def test_the_relations_against_loops():
    draws = torch.Generator().manual_seed(2)
    parts = [torch.randn(5, 4, dtype=torch.float64, generator=draws).requires_grad_() for _ in range(4)]
    value = relation_kl(*parts, 0.5, 0.3)
    expected = loops(*(part.detach() for part in parts[:2]), *parts[2:], 0.5, 0.3)
    torch.testing.assert_close(value, expected)
    gradients = torch.autograd.grad(value, parts, allow_unused=True)
    assert gradients[2] is None and gradients[3] is None
    reference = torch.autograd.grad(loops(*parts, 0.5, 0.3), parts[:2])
    torch.testing.assert_close(gradients[:2], reference)
    assert relation_kl(*(part[:1] for part in parts), 0.5, 0.3).abs() < 1e-12


def test_the_relations_are_those_of_exemplars_and_their_evaluation_views():
    model = second_task("byol", relation_weight=0.2)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.mul_(1.1).add_(0.02)  # away from the teacher
    state = copy.deepcopy(model.state_dict())
    batch, out, terms = step(model)
    terms["relations"].backward()
    assert all(weight.grad is None for weight in model.ccl_teacher.parameters())
    assert any(weight.grad.abs().sum() > 0 for weight in model.backbone.parameters())
    found = terms["relations"].detach().double()
    model.load_state_dict(state)
    past = batch.index[batch.num_stream :]
    centre = model.images.centre_of(past)
    model.forward_views(batch.views)
    anchors, anchors_bar = model(centre)["z"].detach(), model.ccl_teacher(centre)
    values = [
        loops(o["z"].detach()[8:], anchors, model.ccl_teacher(view[8:]), anchors_bar, 0.07, 0.04)
        for o, view in zip(out, batch.views, strict=True)
    ]
    torch.testing.assert_close(found, 0.2 * sum(values) / 2, rtol=1e-4, atol=1e-6, check_dtype=False)
    assert found > 1e-4


# When the teacher moves ----------------------------------------------------------------------------------------------


def teacher_of(model):
    return {k.removeprefix("stages."): v.clone() for k, v in model.ccl_teacher.state_dict().items()}


def student_of(model):
    parts = ("backbone.", "projector.")
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(parts)}


def test_the_teacher_starts_as_the_student_and_follows_once_an_epoch():
    state = handed("byol")
    state |= {name: value + 1 for name, value in state.items() if name.startswith("momentum_teacher.")}
    model = make("byol", task=1, handoff=state, ccl_momentum=0.9)
    start = student_of(model)
    assert any("running_mean" in name and value.abs().sum() > 0 for name, value in start.items())
    momentum = {k.removeprefix("stages."): v for k, v in model.momentum_teacher.state_dict().items() if k != "tau"}
    for found in (teacher_of(model), momentum):  # the objective's own teacher starts anew as well
        assert found.keys() == start.keys() and all(torch.equal(found[name], start[name]) for name in start)
    model.begin_epoch(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for number in range(2):
        model.train()
        assert not any(module.training for module in model.ccl_teacher.modules())
        torch.stack(list(step(model, number)[2].values())).sum().backward()
        optimizer.step()
        model.after_step(number + 1, 4)
    assert all(torch.equal(value, start[name]) for name, value in teacher_of(model).items())
    model.begin_epoch(1)
    student = student_of(model)
    moved = 0
    for name, value in teacher_of(model).items():
        if value.is_floating_point():  # weights and batch statistics
            torch.testing.assert_close(value, 0.9 * start[name] + 0.1 * student[name])
            moved += not torch.equal(value, start[name])
    assert moved > 10


@pytest.mark.parametrize("strategy", ["ccl", "simple_replay"])
def test_killed_and_continued(strategy, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")
    settings = {
        "method": "mocov2plus", "strategy": strategy, "batch_size": 256, "queue_size": 300, "n_save": 4, "mem_size": 60,
        "replay_batch_size": 16, "lr": 0.1, "warmup_epochs": 0,
    }  # fmt: skip
    run(tmp_path / "reference", **settings)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 3)  # in the second epoch
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **settings)
    run(tmp_path, checkpoint_minutes=0, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(tmp_path / "reference" / "job"))
    header = (tmp_path / "job" / "task1" / "metrics.csv").read_text()
    assert ("relations" in header) == ("extra_queue" in header) == (strategy == "ccl")


def test_small_crops_are_left_out():
    model = second_task("swav")
    batch = model.compose_batch(next(iter(model.images)))
    crops = [torch.randn(len(batch.index), 3, 4, 4)]
    with_crops = Batch(batch.index, [*batch.views, *crops], batch.targets, 2, batch.num_replay)
    out = model.forward_views(with_crops.views)
    terms = model.losses(with_crops, out)
    assert terms["relations"].isfinite() and model.extra_queues[0].num_pushed == batch.num_replay
