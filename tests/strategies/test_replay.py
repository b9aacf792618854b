"""What replay, mixing and alignment do to a batch and to the loss, against what their papers say."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.memory import MEMORIES
from cassle.methods import METHODS
from cassle.methods.compose import compose
from cassle.methods.progress import Progress
from cassle.optim.build import Optimization
from cassle.randomness import key
from cassle.strategies import STRATEGIES
from tests.methods import SMALL, small, small_backbone

IMAGES, BATCH = 64, 16
PIXELS = torch.randint(0, 256, (IMAGES, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4)
SIZES = {**SMALL, "mem_size": 24, "replay_batch_size": 6, "aligner_dim": 5}


def loader(task: int = 0) -> ResidentLoader:
    members = torch.arange(32) + 32 * task
    return ResidentLoader(PIXELS, torch.arange(IMAGES) % 4, members, [RECIPE] * 2, batch_size=BATCH, seed=0, task=task)


def begun(strategy, method="simclr", memory=None, task=0, handoff=None, **settings):
    """Return a small model at the beginning of a task."""
    torch.manual_seed(0)
    kind = compose(METHODS[method], STRATEGIES[strategy])
    values = {**small(kind, SIZES), **settings}
    model = kind(small_backbone(method), Optimization(lr=0.01, scheduler="none"), **values)
    name = memory or STRATEGIES[strategy].default_memory
    if name:
        arrival = {"feature_on_arrival": True} if name == "minred" else {}
        model.memory = MEMORIES[name](model.mem_size, model.stored_dim, **arrival)
    model.settle(seed=0, num_train=IMAGES, num_classes=4, images=loader(task))
    model.begin_task(task, handoff)
    return model


def steps(model, number):
    """Train for some steps; return the batches, the outputs and the terms of each."""
    optimizer, found = model.configure_optimizers(), []
    batches = iter([])
    for step in range(number):
        model.progress = Progress(step, number, 2)
        try:
            batch = next(batches)
        except StopIteration:  # the next epoch
            batches = iter(model.images)
            batch = next(batches)
        batch = model.compose_batch(batch)
        out = model.forward_views(batch.views)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        terms = model.losses(batch, out)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        model.after_step(step + 1, number)
        found.append((batch, out, terms, before))
    return found


def test_replay_follows_the_batch():
    model = begun("er", memory="fifo")
    (first, *_), (second, _, terms, _) = steps(model, 2)
    assert first.num_replay == 0 and len(first.index) == BATCH  # the memory was empty
    assert second.num_replay == 6 and second.num_stream == BATCH and len(second.index) == BATCH + 6
    assert set(second.index[BATCH:].tolist()) <= set(first.index.tolist())
    assert all(len(view) == BATCH + 6 for view in second.views)
    assert torch.equal(second.targets, second.index % 4)
    assert list(terms) == ["nt_xent"]  # the objective sees all rows as one batch


def test_images_arrive_once_or_in_every_epoch():
    for insert, arrived in (("first_epoch", 32), ("every_epoch", 64)):
        model = begun("er", memory="fifo", memory_insert=insert)
        steps(model, 4)  # two epochs of two steps
        assert model.memory.num_arrived == arrived
        assert len(model.memory) == 24


def test_what_is_kept_is_the_mean_projection_of_the_views():
    model = begun("er", memory="fifo", mem_size=16)
    ((batch, out, _, _),) = steps(model, 1)
    entries = model.memory.entries(model.memory.slots)
    assert torch.equal(entries.keys, batch.index)
    torch.testing.assert_close(entries.features, ((out[0]["z"] + out[1]["z"]) / 2).detach())


def test_replayed_features_are_refreshed_by_half():
    model = begun("er", memory="fifo", mem_size=40)
    (_, (batch, out, _, before)) = steps(model, 2)
    old = before["memory.features"]
    for row in range(batch.num_stream, len(batch.index)):
        slot = int((model.memory.keys == batch.index[row]).nonzero())
        new = ((out[0]["z"] + out[1]["z"]) / 2).detach()[row]
        torch.testing.assert_close(model.memory.features[slot], 0.5 * old[slot] + 0.5 * new)


def test_lump_mixes_present_and_past():
    model = begun("lump", memory="fifo", mem_size=16)
    (first, *_), (second, *_) = steps(model, 2)
    share = np.random.default_rng(key(0, "lump", 0, 1, 0)).beta(0.4, 0.4)
    again = loader()
    batches = iter(again)
    next(batches)
    plain = next(batches)
    past = again.views_of(model.recalled.keys, "replay")
    assert set(model.recalled.keys.tolist()) == set(first.index.tolist())
    for mixed, now, then in zip(second.views, plain.views, past, strict=True):
        torch.testing.assert_close(mixed, share * now + (1 - share) * then)
    assert torch.equal(second.index, plain.index) and second.num_replay == 0


def test_lumps_share_is_beta_distributed():
    model = begun("lump", alpha_lump=0.4)
    shares = []
    for step in range(2000):
        model.progress = Progress(step, 2000, 1)
        shares.append(model.share())
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.05)


def test_der_holds_features_to_what_they_were():
    model = begun("der", memory="fifo", mem_size=16, alpha_der=0.3)
    (first, out, _, _), (_, _, terms, before) = steps(model, 2)
    # stored when they came: the features of the first view
    stored = before["memory.features"][model.drawn]
    position = [first.index.tolist().index(k) for k in before["memory.keys"][model.drawn].tolist()]
    torch.testing.assert_close(stored, out[0]["feats"].detach()[position])
    fresh = begun("der", memory="fifo", mem_size=16)
    fresh.load_state_dict(before)
    fresh.images.step = 2
    view = fresh.images.views_of(before["memory.keys"][model.drawn], "replay")[0]
    expected = 0.3 * functional.mse_loss(fresh.backbone(view), stored)
    torch.testing.assert_close(terms["der"], expected, rtol=1e-4, atol=1e-6)


def test_minred_trains_on_the_memory_alone():
    model = begun("minred", replay_batch_size=8)
    (first, *_), (second, *_) = steps(model, 2)
    for batch in (first, second):
        assert len(batch.index) == batch.num_replay == 8 and batch.num_stream == 0
    assert set(first.index.tolist()) <= set(model.memory.keys.tolist()) | set(range(32))
    assert model.memory.num_arrived == 32


def test_aep_aligns_every_image_with_a_slow_network():
    model = begun("aep", omega=0.5, momentum_ema=0.9)
    found = steps(model, 3)
    batch, out, terms, before = found[-1]
    fresh = begun("aep", omega=0.5, momentum_ema=0.9)
    fresh.load_state_dict(before)
    distance = [
        -functional.cosine_similarity(fresh.aligner(o["z"].detach()), fresh.slow(view), dim=1).mean()
        for o, view in zip(out, batch.views, strict=True)
    ]
    torch.testing.assert_close(terms["align"], 0.5 * sum(distance) / 2, rtol=1e-4, atol=1e-5)
    # the slow network: tau theta_slow + (1 - tau) theta after every step
    name = "backbone.layers.conv1.weight"
    expected = 0.9 * before[f"slow.stages.{name}"] + 0.1 * model.state_dict()[name]
    torch.testing.assert_close(model.state_dict()[f"slow.stages.{name}"], expected)


@pytest.mark.parametrize("criterion", ["cosine", "mse"])
def test_arp_aligns_replayed_images_with_what_is_remembered(criterion):
    model = begun("arp", memory="fifo", mem_size=40, omega=2.0, align_criterion=criterion)
    _, (batch, out, terms, before) = steps(model, 2)
    fresh = begun("arp", memory="fifo", mem_size=40, align_criterion=criterion)
    fresh.load_state_dict(before)  # what was stored before this step refreshed it
    slots = [int((before["memory.keys"] == k).nonzero()) for k in batch.index[batch.num_stream :]]
    target, terms_of = before["memory.features"][slots], []
    for o in out:
        z = fresh.aligner(o["z"].detach()[batch.num_stream :])
        cosine = -functional.cosine_similarity(z, target, dim=1).mean()
        terms_of.append(cosine if criterion == "cosine" else (z - target).square().mean())
    torch.testing.assert_close(terms["align"], 2.0 * sum(terms_of) / 2, rtol=1e-4, atol=1e-5)


def test_apre_aligns_replayed_images_only():
    model = begun("apre", memory="fifo", mem_size=40)
    (_, _, first, _), (batch, out, second, before) = steps(model, 2)
    assert "align" not in first and "align" in second
    fresh = begun("apre", memory="fifo", mem_size=40)
    fresh.load_state_dict(before)
    distance = [
        -functional.cosine_similarity(fresh.aligner(o["z"].detach()[BATCH:]), fresh.slow(view[BATCH:]), dim=1).mean()
        for o, view in zip(out, batch.views, strict=True)
    ]
    torch.testing.assert_close(second["align"], 0.1 * sum(distance) / 2, rtol=1e-4, atol=1e-5)


def test_cassle_r_follows_the_previous_task_from_the_second_on():
    model = begun("cassle-r", memory="fifo", mem_size=40)
    first = steps(model, 2)
    assert all("align" not in terms for _, _, terms, _ in first)
    handoff = {name: value.clone() for name, value in model.state_dict().items()}
    model = begun("cassle-r", memory="fifo", mem_size=40, task=1, handoff=handoff)
    ((batch, _, terms, _),) = steps(model, 1)
    assert batch.num_replay == 6 and set(batch.index[BATCH:].tolist()) <= set(range(32))  # of task 0
    assert "align" in terms
    frozen = model.previous.state_dict()
    assert all(torch.equal(frozen[f"stages.{name}"], handoff[name]) for name in handoff if name.startswith("backbone"))


def test_the_memory_is_handed_from_task_to_task():
    model = begun("er", memory="reservoir")
    steps(model, 2)
    handoff = {name: value.clone() for name, value in model.state_dict().items()}
    later = begun("er", memory="reservoir", task=1, handoff=handoff)
    assert len(later.memory) == 24 and later.memory.num_arrived == 32
    assert torch.equal(later.memory.keys, model.memory.keys)


@pytest.mark.parametrize("strategy", ["aep", "apre", "arp", "cassle-r"])
def test_features_can_be_aligned_instead_of_projections_and_without_an_aligner(strategy):
    settings = {"omega": 2.0, "align_after_proj": False, "use_aligner": False, "align_criterion": "mse"}
    memory = None if strategy == "aep" else "fifo"
    model = begun(strategy, memory=memory, **settings)
    if strategy == "cassle-r":
        steps(model, 1)
        model = begun(strategy, memory=memory, task=1, handoff=model.state_dict(), **settings)
    (_, *_), (batch, out, terms, before) = steps(model, 2)
    again = begun(
        strategy, memory=memory, task=model.current_task, handoff=before if model.current_task else None, **settings
    )
    again.load_state_dict(before)
    first = batch.num_stream if batch.num_replay else 0
    if strategy == "arp":
        slots = [int((again.memory.keys == key).nonzero()[0]) for key in batch.index[first:]]
        targets = [again.memory.features[slots]] * 2
    else:
        teacher = again.previous if strategy == "cassle-r" else again.slow
        targets = [teacher(view[first:]) for view in batch.large]
    student = [o["feats"][first:] for o in out]
    wanted = 2.0 * sum(functional.mse_loss(f, t) for f, t in zip(student, targets, strict=True)) / 2
    torch.testing.assert_close(terms["align"], wanted)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"strategy": "er", "mem_size": 10, "replay_batch_size": 16}, "--mem_size 10: every step draws 16 images"),
        ({"strategy": "lump", "mem_size": 64, "batch_size": 128}, "give 128 or more, or a smaller --batch_size"),
        ({"strategy": "minred", "mem_size": 64, "batch_size": 128}, "give 128 or more, or a smaller --batch_size"),
        (
            {"strategy": "minred", "replay_batch_size": 1},
            "--replay_batch_size 1: simclr with these settings needs",
        ),
        ({"strategy": "arp", "replay_batch_size": 1}, "--replay_batch_size 1: the aligner"),
        ({"strategy": "minred", "virtual_ranks": 5000}, "--virtual_ranks 5000: every part needs a slot"),
        ({"strategy": "er", "feature_ema": 0.3}, "--feature_ema: needs --strategy arp or --memory minred"),
        ({"strategy": "der", "memory": "minred"}, "--memory minred: --strategy der takes reservoir or"),
        ({"strategy": "lump", "memory": "minred"}, "--memory minred: --strategy lump takes reservoir or"),
        ({"strategy": "arp", "memory": "minred"}, "--memory minred: --strategy arp takes reservoir or"),
    ],
)
def test_what_would_silently_do_nothing_is_refused(settings, words):
    base = {"dataset": "digits", "method": "simclr", "backbone": "tiny", "batch_size": 64}
    with pytest.raises(ConfigError) as caught:
        Plan({**base, **settings})
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_a_starved_memory_is_noted():
    notes = {
        arrival: Plan({"strategy": "er", "memory": "minred", "feature_on_arrival": arrival}).notes()
        for arrival in (True, False)
    }
    assert not any("FIFO" in note for note in notes[True]) and any("FIFO" in note for note in notes[False])


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if STRATEGIES[name].memories])
def test_every_memory_of_a_strategy_makes_a_plan(strategy):
    for memory in STRATEGIES[strategy].memories:
        model = Plan({"method": "simclr", "backbone": "tiny", "strategy": strategy, "memory": memory}).build_model()
        assert type(model.memory) is MEMORIES[memory] and model.memory.size == 2000


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if "minred" in STRATEGIES[name].memories])
def test_every_memory_remembers_what_the_network_made_of_an_image(strategy):
    for memory in STRATEGIES[strategy].memories:
        model = begun(strategy, memory=memory, mem_size=40)
        steps(model, 2)
        assert model.memory.seen[model.memory.slots].all(), memory
        assert (model.memory.features[model.memory.slots].norm(dim=1) > 0).all(), memory


def test_accumulated_batches_replay_different_images():
    model = begun("er", memory="fifo", mem_size=40)
    steps(model, 2)
    drawn = []
    for part in (0, 1):
        model.progress = Progress(7, 8, 2, part)
        drawn.append(model.draw(6).keys)
    assert drawn[0].tolist() != drawn[1].tolist()


def test_the_slow_network_begins_as_the_student_and_keeps_its_mode():
    for bn in ("eval", "train"):
        model = begun("aep", align_teacher_bn=bn)
        with torch.no_grad():
            for parameter in model.backbone.parameters():
                parameter.add_(1.0)  # as if weights had been loaded
        model.begin_task(0, None)
        pairs = zip(model.slow.stages["backbone"].parameters(), model.backbone.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert model.train().slow.training == (bn == "train")
