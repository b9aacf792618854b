"""Equal shares per class, however the rows come."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cassle.memory.balanced import ClassBalanced, balanced
from tests.memory.rules import generator, kept

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


def test_rows_that_were_left_out_would_be_left_out_again():
    draws = np.random.default_rng(0)
    for _ in range(200):
        classes, numbers = draws.integers(0, 4, 40), draws.random(40)
        first = np.flatnonzero(balanced(classes[:25], numbers[:25], 9))
        pool = np.concatenate([first, np.arange(25, 40)])
        assert set(pool[balanced(classes[pool], numbers[pool], 9)]) == set(
            np.flatnonzero(balanced(classes, numbers, 9))
        )
