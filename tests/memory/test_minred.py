"""MinRed: exactly the dense greedy rule, however features move, entries come and go, and cosines tie."""

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.errors import ConfigError
from cassle.memory import redundancy
from cassle.memory.minred import MinRed, degenerates
from cassle.memory.redundancy import Redundancy
from tests.memory.minred_oracle import Oracle, dense_greedy, pair_order
from tests.memory.rules import feed, generator, kept, same, unit


def points(number: int, draws: torch.Generator, *, ties: bool) -> torch.Tensor:
    """Return features; with ``ties`` their cosines are multiples of 1/2 without any rounding."""
    if ties:
        return torch.randint(0, 2, (number, 4), generator=draws) * 2.0 - 1
    return torch.randn(number, 4, generator=draws)


def fresh(features: torch.Tensor) -> Redundancy:
    n = len(features)
    nothing = np.full(n, -np.inf, dtype=np.float32), np.full(n, -1)
    pairs = Redundancy(features, np.arange(n), *nothing)
    pairs.change(np.arange(n))
    return pairs


@pytest.fixture(params=["usual", "small blocks, few near"])
def sizes(request, monkeypatch):
    """The constants are for speed: others give the same removals, through the paths that are rare."""
    if request.param != "usual":
        monkeypatch.setattr(redundancy, "MAX_ENTRIES", {"cpu": 40})
        monkeypatch.setattr(redundancy, "GROUP", 2)
        monkeypatch.setattr(redundancy, "SPARE", 1)


@pytest.mark.parametrize("ties", [False, True])
def test_removals_are_those_of_the_dense_rule_and_of_the_pairs_in_order(ties, sizes):
    for seed in range(12):
        features = unit(points(40, generator(seed), ties=ties))
        for number in (1, 7, 20):
            removed = fresh(features).evict(number).tolist()
            assert removed == dense_greedy(features, number) == pair_order(features, number)


def test_of_equal_pairs_the_oldest_goes():
    features = unit(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]))
    assert fresh(features).evict(3).tolist() == [0, 1, 2]
    assert fresh(features).evict(4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("on_arrival", [False, True])
def test_a_memory_keeps_what_the_dense_rule_keeps(ties, on_arrival, sizes):
    greedy_rounds = 0
    for seed in range(3):
        draws = generator(seed)
        # With ties the newest feature counts alone: an average of such features would be rounded.
        alpha = 0.0 if ties else 0.5
        memory = MinRed(48, 4, feature_on_arrival=on_arrival, feature_ema=alpha)
        oracle = Oracle(48, alpha, on_arrival)
        position = 0
        for turn in range(30):
            batch = int(torch.randint(0, 13, (), generator=draws)) if turn > 3 else 16
            keys = torch.arange(position, position + batch)
            features = points(batch, draws, ties=ties) if on_arrival else None
            memory.insert(keys, features=features, generator=draws)
            oracle.insert(keys, features)
            position += batch
            assert kept(memory) == oracle.keys()
            greedy_rounds += 2 * batch <= int(memory.seen.sum()) and batch > 0 and turn > 3
            for _ in range(int(torch.randint(0, 4, (), generator=draws))):
                slots = memory.sample(12, draws)
                new = points(12, draws, ties=ties)
                oracle.update(memory.keys[slots], new)
                memory.update(slots, new)
            if turn % 9 == 8:
                gone = memory.sample(3, draws)
                oracle.remove(memory.keys[gone].tolist())
                memory.remove(gone)
            for entry, slot in zip(oracle.entries, memory.slots, strict=True):
                expected = torch.zeros(4) if entry["feature"] is None else entry["feature"]
                torch.testing.assert_close(memory.features[slot], expected)
    assert greedy_rounds > 30  # not merely the oldest every time


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 12), batch=st.integers(1, 30), on_arrival=st.booleans())
def test_small_memories_and_large_batches(seed, size, batch, on_arrival):
    draws = generator(seed)
    memory, oracle = MinRed(size, 4, feature_on_arrival=on_arrival), Oracle(size, 0.5, on_arrival)
    for keys in torch.arange(5 * batch).split(batch):
        features = points(len(keys), draws, ties=False) if on_arrival else None
        memory.insert(keys, features=features, generator=draws)
        oracle.insert(keys, features)
        assert kept(memory) == oracle.keys()
        slots, new = memory.slots[::2], points(len(memory.slots[::2]), draws, ties=False)
        oracle.update(memory.keys[slots], new)
        memory.update(slots, new)


def test_all_features_may_be_the_same():
    memory = MinRed(300, 4)
    feed(memory, 300, generator())
    memory.update(memory.slots, torch.ones(300, 4))
    feed(memory, 100, generator(), start=300)
    assert kept(memory) == list(range(100, 400))


def test_features_without_a_direction_spoil_nothing():
    memory = MinRed(8, 2)
    feed(memory, 8, generator())
    angle = torch.tensor([0.0, 0.3, 1.0, 1.1, 2.0, 2.5, 4.0, 5.0])
    features = torch.stack([angle.cos(), angle.sin()], dim=1)
    features[0], features[5], features[6] = torch.nan, 0, torch.inf
    memory.update(memory.slots, features)
    feed(memory, 2, generator(), start=8)
    assert kept(memory) == [0, 3, 4, 5, 6, 7, 8, 9]  # of 1.0 and 1.1 the older, then of 0.3 and 1.1


def test_virtual_ranks_are_memories_of_their_own():
    draws = generator()
    memory = MinRed(64, 4, virtual_ranks=4)
    alone = [MinRed(16, 4) for _ in range(4)]
    for keys in torch.arange(640).split(32):
        memory.insert(keys, generator=draws)
        for own, part in zip(alone, keys.chunk(4), strict=True):
            own.insert(part, generator=draws)
        assert kept(memory) == sorted(key for own in alone for key in kept(own))
        for _ in range(3):
            slots = memory.sample(16, draws)
            new = torch.randn(16, 4, generator=draws)
            memory.update(slots, new)
            for rank, own in enumerate(alone):
                mine = slice(4 * rank, 4 * rank + 4)
                assert (slots[mine] // 16 == rank).all()
                place = {key: slot for slot, key in enumerate(own.keys.tolist())}
                own.update(torch.tensor([place[key] for key in memory.keys[slots[mine]].tolist()]), new[mine])


def videos(keys: torch.Tensor, draws: torch.Generator, frames: int = 64) -> torch.Tensor:
    """Return looks at frames: those of one video are alike."""
    directions = torch.randn(2048, 16, generator=generator(7))
    return directions[keys // frames % 2048] + 0.4 * torch.randn(len(keys), 16, generator=draws)


@functools.cache  # the tests that share one only look
def stream(updates: int, *, on_arrival: bool = False, steps: int = 160) -> MinRed:
    memory, draws, batch = MinRed(1024, 16, feature_on_arrival=on_arrival), generator(), 64
    for keys in torch.arange(steps * batch).split(batch):
        memory.insert(keys, features=videos(keys, draws) if on_arrival else None, generator=draws)
        for _ in range(updates if len(memory) == 1024 else 0):
            slots = memory.sample(batch, draws)
            memory.update(slots, videos(memory.keys[slots], draws))
    return memory


@pytest.mark.parametrize("updates", [3, 5])
def test_one_in_k_entries_was_never_seen(updates):
    memory = stream(updates)
    assert 1 - memory.seen.float().mean().item() == pytest.approx(1 / updates, abs=0.06)


def test_many_more_videos_than_a_fifo_keeps():
    memory = stream(5)
    distinct = len((memory.keys // 64).unique())
    fifo = 1024 // 64  # the last 1024 frames
    assert distinct > 5 * fifo


def test_one_update_per_batch_makes_a_fifo():
    memory = stream(1)
    assert memory.seen.float().mean() < 0.15  # starved of candidates
    assert "becomes a FIFO" in degenerates(1, False)
    assert degenerates(2, False) is None and degenerates(1, True) is None
    healthy = stream(1, on_arrival=True)
    assert healthy.seen.all() and len((healthy.keys // 64).unique()) > 2 * len((memory.keys // 64).unique())


def test_an_entry_that_was_drawn_often_leaves():
    memory, draws = MinRed(8, 4, limit_num_seen=3), generator()
    feed(memory, 8, draws)
    for _ in range(4):
        memory.sample(4, draws)
    often = set(memory.keys[memory.uses >= 3].tolist())
    assert 0 < len(often) < 8
    feed(memory, 1, draws, start=8)
    assert set(kept(memory)) == set(range(9)) - often


def test_a_checkpoint_in_the_middle_of_a_stream_keeps_the_bounds():
    memory, draws = copy.deepcopy(stream(4, steps=40)), generator(1)
    other = MinRed(1024, 16)
    other.load_state_dict(memory.state_dict())
    assert (memory.neighbour[memory.seen] < 0).any() and memory.touched.any() and memory.bound.isfinite().any()
    for turn, keys in enumerate(torch.arange(10**5, 10**5 + 640).split(64)):
        new = videos(torch.arange(64), draws)
        for each in (memory, other):
            each.insert(keys, generator=generator(turn))
            each.update(each.sample(64, generator(turn)), new)
        assert same(memory, other)


def check_bounds(memory: MinRed) -> float:
    """Bounds are at least, and with a neighbour exactly, what they bound; return how many have one."""
    seen = memory.seen.nonzero().flatten()
    x = memory.features[seen]
    largest = (x @ x.T).fill_diagonal_(-10).amax(dim=1)
    bound, neighbour = memory.bound[seen], memory.neighbour[seen]
    assert (bound > largest - 1e-5).all()
    exact = neighbour >= 0
    torch.testing.assert_close(bound[exact], largest[exact])
    torch.testing.assert_close((x[exact] * memory.features[neighbour[exact]]).sum(dim=1), largest[exact])
    assert (memory.bound[~memory.seen] == -torch.inf).all() and (memory.neighbour[~memory.seen] == -1).all()
    return exact.float().mean().item()


def test_bounds_are_bounds():
    memory = copy.deepcopy(stream(5, steps=60))
    feed(memory, 64, generator(), start=10**6)
    assert check_bounds(memory) > 0.5
    memory.remove(memory.slots[::7])
    assert check_bounds(memory) > 0.2
    feed(memory, 700, generator(), start=2 * 10**6)  # too many for the evaluated ones: the oldest go
    assert 0 < check_bounds(memory) < 1


def test_a_neighbour_that_falls_by_age_is_forgotten():
    memory = MinRed(8, 2)
    feed(memory, 8, generator())
    angle = torch.tensor([0.0, 1.0, 1.1, 2.0, 3.0, 4.0, 5.0, 0.3])
    memory.update(memory.slots, torch.stack([angle.cos(), angle.sin()], dim=1))
    feed(memory, 1, generator(), start=8)
    assert kept(memory) == [0, 2, 3, 4, 5, 6, 7, 8] and memory.neighbour[7] == 0
    feed(memory, 5, generator(), start=9)
    assert kept(memory) == [6, 7, *range(8, 14)] and memory.neighbour[7] == -1
    check_bounds(memory)


@pytest.mark.parametrize("on_arrival", [False, True])
def test_features_come_when_the_setting_says(on_arrival):
    features = None if on_arrival else torch.zeros(2, 4)
    with pytest.raises(ValueError, match=f"feature_on_arrival={on_arrival}"):
        MinRed(4, 4, feature_on_arrival=on_arrival).insert(torch.arange(2), features=features, generator=generator())
    with pytest.raises(ConfigError, match="--virtual_ranks 9: every part needs a slot, and there are only 8"):
        MinRed(8, 2, virtual_ranks=9)
    with pytest.raises(ValueError, match="feature_dim=0"):
        MinRed(4)
