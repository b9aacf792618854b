"""Exemplars: which rows of a class are kept at the end of a task, and how many."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st

from cassle.engine.settings import settings_of
from cassle.memory.exemplars import FirstExemplars, Herding, RandomExemplars, herd
from tests.memory.rules import EXEMPLARS, generator, kept, same


def task(labels: list[int], per_class: int, start: int) -> tuple[torch.Tensor, ...]:
    """Return keys, targets and features of a task."""
    targets = torch.tensor(labels).repeat(per_class)
    keys = torch.arange(start, start + len(targets))
    return keys, targets, torch.randn(len(keys), 5, generator=generator(start))


@pytest.mark.parametrize("name", EXEMPLARS)
def test_the_smaller_of_two_limits_wins(name):
    memory = EXEMPLARS[name](20, 5)
    where: dict[int, tuple[int, torch.Tensor]] = {}
    # int(0.25 * 18) = 4 of each class, then 20 slots among 6 and among 7
    for number, (labels, counts) in enumerate([([0, 1], {4}), ([2, 3], {4}), ([4, 5], {3, 4}), ([6], {2, 3})]):
        before = set(kept(memory))
        keys, targets, features = task(labels, 18, 1000 * number)
        where |= {int(key): (int(y), f) for key, y, f in zip(keys, targets, features, strict=True)}
        memory.fill(keys, targets, features, generator(number), proportion=0.25)
        found = memory.targets[memory.slots].bincount()
        assert set(found.tolist()) == counts and found.sum() == min(20, 4 * (max(labels) + 1))
        assert {key for key in kept(memory) if key < 1000 * number} <= before  # nothing comes back
        for slot, key in zip(memory.slots, kept(memory), strict=True):
            assert memory.targets[slot] == where[key][0] and torch.equal(memory.features[slot], where[key][1])


@pytest.mark.parametrize("name", EXEMPLARS)
def test_exemplars_continue_from_a_checkpoint(name):
    memory, other = EXEMPLARS[name](12, 5), EXEMPLARS[name](12, 5)
    memory.fill(*task([0, 1], 9, 0), generator())
    other.fill(*task([5], 9, 500), generator(8))
    other.load_state_dict(memory.state_dict())
    for copy in (memory, other):
        copy.fill(*task([1, 2], 9, 100), generator(1))
    assert same(memory, other) and memory.sample(5, generator()).tolist() == other.sample(5, generator()).tolist()


@pytest.mark.parametrize("name", EXEMPLARS)
def test_exemplars_take_no_rows_as_they_come_and_no_settings(name):
    memory = EXEMPLARS[name](4)
    with pytest.raises(TypeError, match="fill"):
        memory.insert(torch.arange(3), generator=generator())
    for proportion in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"proportion={proportion}"):
            memory.fill(torch.arange(3), None, torch.zeros(3, 2), generator(), proportion=proportion)
    assert len(memory) == 0 and not settings_of(EXEMPLARS[name])


@pytest.mark.parametrize("name", EXEMPLARS)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4), percent=st.integers(0, 300), slots=st.integers(1, 99)
)
@example(sizes=[100], percent=29, slots=99)  # 100 * 0.29 is a little below 29
def test_how_many_of_each_class(name, sizes, percent, slots):
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) - 1
    keys = torch.randperm(len(targets), generator=generator())
    memory = EXEMPLARS[name](slots)
    memory.fill(keys, targets[keys], torch.ones(len(keys), 2), generator(), proportion=percent / 100)
    allowed = [min(size, size * percent // 100) for size in sizes]
    found = (memory.targets[memory.slots] + 1).bincount(minlength=len(sizes)).tolist()
    assert sum(found) == min(slots, sum(allowed)) and torch.equal(
        targets[memory.keys[memory.slots]], memory.targets[memory.slots]
    )
    most = max(found)
    assert all(n <= limit and (n == limit or n >= most - 1) for n, limit in zip(found, allowed, strict=True))


def test_the_first_rows_in_the_order_handed_in():
    keys = torch.tensor([9, 4, 7, 1, 8, 2, 6, 0, 5, 3])
    targets = torch.tensor([0, 1, 0, 1, 1, 0, -1, 1, 0, -1])
    memory = FirstExemplars(8)
    memory.fill(keys, targets, None, generator(), proportion=0.75)
    assert kept(memory) == [9, 4, 7, 1, 8, 2, 6]  # three of four, and one of the two without a label
    memory.fill(torch.arange(20, 40), torch.full((20,), 2), None, generator())
    assert kept(memory) == [9, 4, 7, 1, 8, 6, 20, 21]  # two each; the slot that is left stays with the oldest
    memory = FirstExemplars(6)
    for start in (0, 100, 200):  # one class in three tasks
        memory.fill(torch.arange(start, start + 50), None, None, generator())
    assert kept(memory) == [0, 1, 100, 101, 200, 201]


def test_random_exemplars_need_no_features_and_no_labels_and_are_seeded():
    memories = [RandomExemplars(10, payload_shape=(1,)) for _ in range(3)]
    for memory, seed in zip(memories, (0, 0, 1), strict=True):
        memory.fill(torch.arange(50), None, None, generator(seed), payload=torch.arange(50, dtype=torch.uint8)[:, None])
    assert kept(memories[0]) == kept(memories[1]) != kept(memories[2])
    assert memories[0].payload.flatten().tolist() == memories[0].keys.tolist()
    assert (memories[0].targets == -1).all() and len(memories[0]) == 10


def icarl(features: torch.Tensor, number: int) -> list[int]:
    """Algorithm 4 word by word: the exemplar whose addition brings the mean of the chosen nearest to the class mean."""
    x = F.normalize(features.double(), dim=1)
    chosen: list[int] = []
    for k in range(1, number + 1):
        distances = [
            torch.inf if row in chosen else float((x.mean(0) - (x[row] + x[chosen].sum(0)) / k).norm())
            for row in range(len(x))
        ]
        chosen.append(int(np.argmin(distances)))
    return chosen


def test_herding_is_icarls():
    for seed in range(10):
        features = torch.randn(30, 6, generator=generator(seed)) + 1
        assert herd(features, 12).tolist() == icarl(features, 12)
    assert sorted(herd(features, 99).tolist()) == list(range(30)) and len(herd(features, 0)) == 0


def chosen_by_icarl(keys, targets, features, number: int) -> dict[int, list[int]]:
    """Return the keys of each class in the order of their choice."""
    members = {label: (targets == label).nonzero().flatten() for label in targets.unique().tolist()}
    return {label: keys[rows[icarl(features[rows], number)]].tolist() for label, rows in members.items()}


def test_herding_keeps_what_it_chose_first():
    keys, targets, features = task([0, 1], 20, 0)
    memory, expected = Herding(12, 5), chosen_by_icarl(keys, targets, features, 6)
    memory.fill(keys, targets, features, generator())
    assert kept(memory) == sorted(expected[0] + expected[1])
    for label, order in expected.items():
        slots = memory.slots[memory.targets[memory.slots] == label]
        assert memory.keys[slots[memory.number[slots].argsort()]].tolist() == order
    memory.fill(*task([2], 20, 100), generator())
    old = [key for key in kept(memory) if key < 100]
    assert old == sorted(expected[0][:4] + expected[1][:4]) and len(memory) == 12
    with pytest.raises(ValueError, match="features"):
        memory.fill(keys, targets, None, generator())


def test_herding_ranks_all_that_a_class_can_get():
    # Ten small classes may keep nothing, so the large one may keep more than an equal part of the slots.
    targets = torch.cat([torch.zeros(60), torch.arange(1, 11).repeat(4)]).long()
    keys, features = torch.arange(100), torch.randn(100, 5, generator=generator())
    memory = Herding(12, 5)
    memory.fill(keys, targets, features, generator(), proportion=0.2)
    assert kept(memory) == sorted(chosen_by_icarl(keys, targets, features, 12)[0])


def test_herding_ranks_one_row_more_than_an_equal_part():
    memory, (keys, targets, features) = Herding(3, 5), task([0], 9, 0)
    memory.fill(keys, targets, features, generator())
    memory.remove(torch.tensor([memory.number.argmin()]))  # the others were chosen second and third
    keys, targets, features = task([1], 20, 100)
    memory.fill(keys, targets, features, generator())
    order = chosen_by_icarl(keys, targets, features, 2)[1]
    assert sorted(order) == kept(memory)[1:]  # the second of the new class, not the third of the old one
