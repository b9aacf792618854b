"""Kaizen: what it keeps and replays of past tasks, and which labels it sees."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.splits import split_by_class
from cassle.errors import ConfigError
from cassle.memory.entries import Entries
from cassle.nn.queue import Queue
from cassle.strategies import labelled_replay
from cassle.strategies.kaizen import Kaizen
from tests.strategies.kaizen import CLASSES, IMAGES, TARGETS, begun, first_task, fresh, loader, second_task, step
from tests.two_processes import in_two_processes


def kept(model) -> Entries:
    """Return what the memory holds, oldest arrival first."""
    return model.memory.entries(model.memory.slots)


# Replay --------------------------------------------------------------------------------------------------------------

CIFAR100 = torch.arange(50_000) * 7 % 100


def replayed(tasks: int, **settings) -> list[Entries]:
    """Return what is kept after each task of CIFAR-100's split."""
    split = split_by_class(CIFAR100, CIFAR100[:0], 100, 5)
    pixels, recipe = torch.zeros(50_000, 3, 1, 1, dtype=torch.uint8), Recipe(size=1, mean=(0.5,) * 3, std=(0.5,) * 3)
    model, memories = None, []
    for task in range(tasks):
        state = model and model.state_dict()
        model = fresh(**settings)
        images = ResidentLoader(pixels, CIFAR100, split.train[task], [recipe] * 2, batch_size=2, seed=0, task=task)
        model.settle(seed=0, num_train=50_000, num_classes=100, images=images)
        model.begin_task(task, state)
        model.end_task()
        memories.append(kept(model))
    return memories


def test_the_published_sizes_of_the_replay():
    memories = replayed(4, replay_proportion=0.01)
    assert [len(memory.keys) for memory in memories] == [100, 200, 300, 400]
    last = memories[-1]
    assert last.targets.bincount(minlength=100).unique().tolist() == [0, 5]
    assert torch.equal(CIFAR100[last.keys], last.targets)
    for target in (11, 22, 89):  # the first of the class in the data
        first = (target == CIFAR100).nonzero().flatten()[:5]
        assert torch.equal(last.keys[last.targets == target].sort().values, first)


def test_a_budget_is_shared_by_the_past_classes():
    memories = replayed(3, replay_proportion=1.0, mem_size=130)
    counts = [memory.targets.bincount(minlength=100) for memory in memories]
    for task, count in enumerate(counts, start=1):
        share = 130 // (20 * task)
        assert count.sum() == 130 and (count > 0).sum() == 20 * task
        assert set(count[count > 0].tolist()) == {share, share + 1}


@pytest.mark.parametrize("memory", Kaizen.memories)
def test_how_exemplars_are_chosen(memory):
    model = begun(memory=memory)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passes = []
    hook = model.backbone.register_forward_hook(lambda *_: passes.append(1))
    model.end_task()
    hook.remove()
    found, again = kept(model), begun(memory=memory)
    assert bool(passes) is (memory == "herding")
    again.end_task()
    assert torch.equal(found.keys, kept(again).keys) and torch.equal(TARGETS[found.keys], found.targets)
    assert found.targets.bincount().tolist() == [4, 4] and len(set(found.keys.tolist())) == 8
    for label in (0, 1):
        members, mine = (label == TARGETS).nonzero().flatten(), found.keys[found.targets == label]
        assert torch.equal(mine, members[:4]) is (memory == "first_k")
        if memory == "herding":
            model.eval()
            feats = F.normalize(model.backbone(model.images.centre_of(members)).detach(), dim=1)
            nearest = (feats - feats.mean(0)).norm(dim=1).argmin()
            slots = model.memory.slots[found.targets == label]
            assert model.memory.keys[slots[model.memory.number[slots].argmin()]] == members[nearest]
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if not k.startswith(("memory.", "seen_classes")))


def at_the_end(rank: int) -> list[torch.Tensor]:
    """Return what is kept of task 0, and what is replayed first in task 1."""
    with mock.patch.object(labelled_replay, "CHUNK", 5):  # the 32 images in seven parts: four and three
        model = begun(memory="herding", replay_batch_size=3)
        for module in model.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean += rank  # each process has statistics of its own
        model.end_task()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    after = begun(1, state, memory="herding", replay_batch_size=3)
    batch = after.compose_batch(next(iter(after.images)))
    return [kept(model).keys, model.memory.number, batch.index[-batch.num_replay :]]


def test_two_processes_keep_the_same_and_replay_it_in_parts(tmp_path):
    one, two = in_two_processes(at_the_end, tmp_path)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) and len(one[0]) == 8
    replayed = [*one[2].tolist(), *two[2].tolist()]
    assert len(set(replayed)) == 6 and set(replayed) <= set(one[0].tolist())


def test_replayed_images_come_last_with_their_labels_and_differ():
    model = second_task()
    for _ in range(3):
        batch, _ = step(model)
        index = batch.index[-6:]
        assert batch.num_replay == 6 and len(set(index.tolist())) == 6
        assert torch.equal(batch.targets[-6:], TARGETS[index]) and batch.targets[-6:].max() < 2
        assert batch.targets[:-6].min() >= 2 and all(len(view) == 22 for view in batch.views)
    assert second_task(replay_batch_size=0).compose_batch(batch).num_replay == 6  # it adds none


def test_the_number_of_steps_does_not_depend_on_the_replay():
    for batch_size in (0, 6, 64):
        model = second_task(replay_batch_size=batch_size)
        found = [model.compose_batch(batch) for batch in model.images]
        assert len(found) == len(model.images) == 2
        assert {len(batch.index) for batch in found} == {16 + min(batch_size, 8)}  # eight are kept


def test_a_queue_takes_batches_that_do_not_divide_it():
    queue, angle = Queue(10, 2), torch.arange(24.0) / 24
    for part in angle.split(6):
        queue.push(torch.stack([part.cos(), part.sin()], dim=1))
    torch.testing.assert_close(torch.atan2(*queue.rows.T.flip(0)).sort().values, angle[14:])


# Labels --------------------------------------------------------------------------------------------------------------


def test_labels_may_be_scarce():
    model = begun(label_fraction=0.25)
    seen = model.visible[model.visible >= 0]
    assert seen.bincount(minlength=CLASSES).tolist() == [4, 4, 0, 0]
    assert torch.equal(model.visible, begun(label_fraction=0.25).visible)
    batch = next(iter(loader(0)))
    hidden = model.compose_batch(batch).targets
    assert torch.equal(hidden, model.visible[batch.index]) and (hidden == -1).any() and (hidden >= 0).any()
    assert torch.equal(hidden[hidden >= 0], batch.targets[hidden >= 0])
    model.end_task()
    found = kept(model)
    assert found.targets.bincount().tolist() == [4, 4]  # as many as with all labels, all of them labelled
    assert torch.equal(model.visible[found.keys], found.targets)
    assert (begun(label_fraction=0.001).visible >= 0).sum() == 2  # one of each class


def test_labels_may_come_late():
    handoff = first_task(label_tasks=[1])
    assert (handoff["memory.targets"] == -1).all() and (handoff["memory.keys"] >= 0).sum() == 8
    assert not handoff["seen_classes"].any()
    model = begun(1, handoff, label_tasks=[1])
    batch, _ = step(model)
    assert (batch.targets[-6:] == -1).all() and (batch.targets[:-6] >= 2).all()


def test_other_losses_do_not_see_hidden_labels_either():
    model = begun(method="supcon", label_tasks=[5])
    plain = begun(method="simclr", label_tasks=[5])
    plain.temperature = model.temperature
    torch.testing.assert_close(step(model)[1]["supcon"], step(plain)[1]["nt_xent"])


def test_naming_no_task_is_refused():
    with pytest.raises(ConfigError, match="--label_tasks: names no task"):
        fresh(label_tasks=[])


def test_data_without_labels_is_refused():
    with pytest.raises(ConfigError, match=r"--strategy kaizen: learns from labels, and this --dataset has none"):
        fresh().settle(num_train=IMAGES, num_classes=0, images=loader(0))
