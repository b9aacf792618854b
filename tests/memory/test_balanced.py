"""Equal shares per class, as rows come and at the end of a task; herding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cassle.errors import ConfigError
from cassle.memory.balanced import ClassBalanced, balanced
from cassle.memory.exemplars import Herding, RandomExemplars, herd
from tests.memory.rules import EXEMPLARS, generator, kept, same

LABELS = st.lists(st.integers(-1, 3), max_size=60)


def shares(available: list[int], size: int) -> list[list[int]]:
    """Return for each class the numbers of rows that an equal division may give it."""
    quota = 0
    while sum(min(n, quota + 1) for n in available) <= size and quota < max(available, default=0):
        quota += 1
    return [[min(n, quota), min(n, quota + 1)] for n in available]


@given(labels=LABELS, size=st.integers(1, 20), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_classes_share_however_the_stream_is_cut(labels, size, batch, seed):
    targets = torch.tensor(labels, dtype=torch.int64)
    memory, whole, draws = ClassBalanced(size), ClassBalanced(size), generator(seed)
    for keys in torch.arange(len(labels)).split(batch):
        memory.insert(keys, targets[keys], generator=draws)
    whole.insert(torch.arange(len(labels)), targets, generator=generator(seed))
    assert kept(memory) == kept(whole) and len(memory) == min(size, len(labels))
    assert torch.equal(memory.targets[memory.slots], targets[memory.keys[memory.slots]])
    classes, available = np.unique(labels, return_counts=True)
    for label, allowed in zip(classes, shares(available.tolist(), size), strict=True):
        assert (memory.targets[memory.slots] == label).sum().item() in allowed


def test_within_a_class_every_row_is_kept_with_the_same_probability():
    targets = torch.cat([torch.zeros(20), torch.ones(40), torch.zeros(20), torch.full((3,), 2)]).long()
    counts = torch.zeros(83)
    for seed in range(700):
        memory, draws = ClassBalanced(15), generator(seed)
        for keys in torch.arange(83).split(9):
            memory.insert(keys, targets[keys], generator=draws)
        counts[memory.keys] += 1
    for label, share in ((0, 6), (1, 6), (2, 3)):
        mine = counts[targets == label]
        assert mine.sum() / 700 == pytest.approx(share, rel=0.02)
        assert chisquare(mine.numpy()).pvalue > 0.01


def test_a_removed_entry_leaves_room_in_its_memory():
    memory, draws = ClassBalanced(4), generator()
    memory.insert(torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 1]), generator=draws)
    memory.remove(memory.slots[memory.targets[memory.slots] == 0])
    memory.insert(torch.arange(6, 12), torch.zeros(6).long(), generator=draws)
    assert memory.targets[memory.slots].sort().values.tolist() == [0, 0, 1, 1]


def task(labels: list[int], per_class: int, start: int) -> tuple[torch.Tensor, ...]:
    """Return keys, targets and features of a task."""
    targets = torch.tensor(labels).repeat(per_class)
    keys = torch.arange(start, start + len(targets))
    return keys, targets, torch.randn(len(keys), 5, generator=generator(start))


@pytest.mark.parametrize("name", EXEMPLARS)
def test_the_smaller_of_two_limits_wins(name):
    memory = EXEMPLARS[name](20, 5, replay_proportion=0.25)
    where: dict[int, tuple[int, torch.Tensor]] = {}
    # int(0.25 * 18) = 4 of each class, then 20 slots among 6 and among 7
    for number, (labels, counts) in enumerate([([0, 1], {4}), ([2, 3], {4}), ([4, 5], {3, 4}), ([6], {2, 3})]):
        before = set(kept(memory))
        keys, targets, features = task(labels, 18, 1000 * number)
        where |= {int(key): (int(y), f) for key, y, f in zip(keys, targets, features, strict=True)}
        memory.fill(keys, targets, features, generator(number))
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
def test_exemplars_take_no_rows_as_they_come(name):
    memory = EXEMPLARS[name](4)
    with pytest.raises(TypeError, match="fill"):
        memory.insert(torch.arange(3), generator=generator())
    with pytest.raises(ConfigError, match="--replay_proportion 2"):
        EXEMPLARS[name](4, replay_proportion=2)


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


def test_herding_keeps_what_it_chose_first():
    keys, targets, features = task([0, 1], 20, 0)
    memory = Herding(12, 5)
    memory.fill(keys, targets, features, generator())
    expected = Herding.select(features, targets, 6)
    assert targets[expected].tolist() == [0] * 6 + [1] * 6
    assert kept(memory) == sorted(keys[expected].tolist())
    for label, rows in ((0, expected[:6]), (1, expected[6:])):
        mine = (targets == label).nonzero().flatten()
        assert rows.tolist() == mine[icarl(features[mine], 6)].tolist()
    memory.fill(*task([2], 20, 100), generator())
    old = [key for key in kept(memory) if key < 100]
    assert old == sorted(keys[Herding.select(features, targets, 4)].tolist()) and len(memory) == 12
    with pytest.raises(ValueError, match="features"):
        memory.fill(keys, targets, None, generator())


def test_rows_that_were_left_out_would_be_left_out_again():
    draws = np.random.default_rng(0)
    for _ in range(200):
        classes, numbers = draws.integers(0, 4, 40), draws.random(40)
        first = np.flatnonzero(balanced(classes[:25], numbers[:25], 9))
        pool = np.concatenate([first, np.arange(25, 40)])
        assert set(pool[balanced(classes[pool], numbers[pool], 9)]) == set(
            np.flatnonzero(balanced(classes, numbers, 9))
        )
