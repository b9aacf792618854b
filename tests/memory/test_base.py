"""What holds for every memory: slots, counts, features, and the way through a checkpoint."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.errors import ConfigError
from cassle.memory import MEMORIES
from cassle.memory.entries import draw
from cassle.memory.fifo import FIFO
from cassle.memory.minred import MinRed
from tests.memory.rules import EXEMPLARS, ONLINE, generator, kept, needs_features, same

DIM, SHAPE = 3, (2, 2)


def rows(keys, memory):
    """Return what ``insert`` wants for these keys; features and payload are functions of the key."""
    keys = torch.as_tensor(keys, dtype=torch.int64)
    parts = {"payload": (keys[:, None, None] % 256).expand(-1, *SHAPE).to(torch.uint8)}
    if needs_features(memory):
        parts["features"] = torch.randn(len(keys), DIM, generator=generator(int(keys.sum())))
    return (keys, keys % 4 - 1), parts


def act(memory, kind, number, position, draws):
    """Do one action; return the keys that arrived."""
    if kind == "insert":
        args, parts = rows(range(position, position + number), memory)
        memory.insert(*args, **parts, generator=draws)
        return number
    if kind == "remove":
        memory.remove(memory.slots[: number // 2])
    elif len(memory):
        slots = memory.sample(number, draws)
        if kind == "update":
            memory.update(slots, torch.randn(number, DIM, generator=draws))
    return 0


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "sample", "update", "remove"]), st.integers(0, 9)), max_size=25
)


@pytest.mark.parametrize("name", ONLINE)
@settings(max_examples=25)
@given(size=st.integers(1, 8), actions=ACTIONS)
def test_any_sequence_of_actions(name, size, actions):
    memory, draws, position = ONLINE[name](size, DIM, SHAPE), generator(), 0
    for kind, number in actions:
        before = set(kept(memory))
        drawn = memory.uses.sum().item()
        position += act(memory, kind, number, position, draws)
        slots = memory.slots
        keys = kept(memory)
        # slots and keys are different, in range, oldest first, and nothing comes from nowhere
        assert len(memory) == len(slots) <= memory.size and len(set(slots.tolist())) == len(slots)
        assert len(set(keys)) == len(keys) and set(keys) <= before | set(range(position))
        assert keys == sorted(keys) == memory.inserted[slots].tolist() and memory.num_arrived == position
        if kind in ("sample", "update"):
            assert keys == sorted(before) and memory.uses.sum() == drawn + (number if before else 0)
        # everything of an entry lies in its slot, and nothing lies in the others
        entries = memory.entries(slots)
        assert entries.targets.tolist() == [key % 4 - 1 for key in keys]
        assert entries.payload.flatten(1).tolist() == [[key % 256] * 4 for key in keys]
        empty = torch.ones(memory.size, dtype=torch.bool).index_fill(0, slots, False)
        assert (memory.keys[empty] == -1).all() and not memory.seen[empty].any() and not memory.uses[empty].any()
        assert not memory.features[~memory.seen].any()


@pytest.mark.parametrize("name", ONLINE)
@settings(max_examples=15)
@given(size=st.integers(1, 8), actions=ACTIONS, cut=st.integers(0, 24))
def test_a_checkpoint_in_the_middle_changes_nothing(name, size, actions, cut):
    memory, position = ONLINE[name](size, DIM, SHAPE), 0
    for turn, (kind, number) in enumerate(actions):
        if turn == cut:
            other = ONLINE[name](size, DIM, SHAPE)
            act(other, "insert", 3, 1000, generator(9))  # what it held before does not matter
            len(other)
            other.load_state_dict({name: value.clone() for name, value in memory.state_dict().items()})
            assert same(memory, other)
        if turn >= cut:
            act(other, kind, number, position, generator(turn))
        position += act(memory, kind, number, position, generator(turn))
        if turn >= cut:
            assert same(memory, other) and kept(memory) == kept(other)


@pytest.mark.parametrize("name", ONLINE)
def test_no_use_of_a_memory_waits_for_the_device(name):
    # On the meta device tensors have no contents: whatever would read one fails.
    memory, draws = ONLINE[name](8, DIM, SHAPE), generator()
    act(memory, "insert", 4, 0, draws)  # once, the host reads what a checkpoint may have brought
    memory.to("meta")
    steps = 1 if isinstance(memory, MinRed) else 6  # MinRed reads its features when it is full
    for position in range(4, 4 + 4 * steps, 4):
        (keys, targets), parts = rows(range(position, position + 4), memory)
        memory.insert(keys, targets, **{part: value.to("meta") for part, value in parts.items()}, generator=draws)
        slots = memory.sample(5, draws)
        memory.update(slots, torch.zeros(5, DIM, device="meta"))
        assert memory.entries(memory.slots).keys.shape == (min(8, position + 4),)
    if isinstance(memory, MinRed):
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            (keys, targets), parts = rows(range(8, 12), memory)
            memory.insert(keys, targets, **parts, generator=draws)


@pytest.mark.parametrize("name", ONLINE)
def test_nothing_may_arrive(name):
    memory = ONLINE[name](4, DIM, SHAPE)
    act(memory, "insert", 0, 0, generator())
    assert len(memory) == 0 and memory.num_arrived == 0
    with pytest.raises(ValueError, match="memory of 0"):
        memory.sample(1, generator())


def test_a_sample_repeats_nothing_until_it_must():
    memory = FIFO(10)
    memory.insert(torch.arange(7), generator=generator())
    for seed in range(20):
        assert sorted(memory.sample(7, generator(seed)).tolist()) == list(range(7))
        assert set(memory.sample(30, generator(seed)).tolist()) <= set(range(7))
    assert memory.uses.sum() == 20 * 37 and memory.sample(0, generator()).dtype == torch.int64


def test_draws_are_uniform_and_different():
    counts = torch.zeros(100, dtype=torch.int64)
    first = torch.zeros(100, dtype=torch.int64)
    for seed in range(3000):
        drawn = torch.from_numpy(draw(10, 100, generator(seed)))
        assert len(drawn.unique()) == 10
        counts[drawn] += 1
        first[drawn[0]] += 1
    # 300 and 30 each, with standard deviations of 16.4 and 5.4
    assert (counts - 300).abs().max() < 5 * 16.4 and (first - 30).abs().max() < 5 * 5.5


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
def test_features_are_an_average_per_entry(alpha):
    memory, draws, expected = FIFO(6, DIM, feature_ema=alpha), generator(), {}
    memory.insert(torch.arange(6), generator=draws)
    for _ in range(8):
        slots, new = memory.sample(4, draws), torch.randn(4, DIM, generator=draws)
        memory.update(slots, new)
        for slot, feature in zip(slots.tolist(), new, strict=True):
            expected[slot] = alpha * expected[slot] + (1 - alpha) * feature if slot in expected else feature
        assert memory.seen.nonzero().flatten().tolist() == sorted(expected)
    for slot, feature in expected.items():
        torch.testing.assert_close(memory.features[slot], feature)


def test_of_a_slot_given_twice_the_last_row_counts():
    memory = FIFO(3, 1)
    memory.insert(torch.arange(3), generator=generator())
    memory.update(torch.tensor([2, 0, 2, 2]), torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert memory.features.flatten().tolist() == [2, 0, 4]
    memory.update(torch.tensor([2, 2]), torch.tensor([[torch.nan], [0.0]]))
    assert memory.features.flatten().tolist() == [2, 0, 2]


def test_a_slot_that_was_emptied_stays_empty():
    memory = MinRed(3, 1)
    memory.insert(torch.arange(3), generator=generator())
    memory.remove(torch.tensor([1]))
    memory.update(torch.arange(3), torch.ones(3, 1))
    assert memory.seen.tolist() == memory.touched.tolist() == [True, False, True] and memory.features[1] == 0


def test_features_on_arrival_count_as_seen_and_are_no_graph():
    memory, z = FIFO(4, DIM), torch.randn(3, DIM, requires_grad=True)
    memory.insert(torch.arange(3), features=z, generator=generator())
    memory.insert(torch.arange(3, 4), generator=generator())
    assert memory.seen.tolist() == [True] * 3 + [False] and not memory.features.requires_grad
    torch.testing.assert_close(memory.features[:3], z.detach())


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"targets": torch.zeros(3)}, "targets"),
        ({"features": torch.zeros(2, 5)}, "features"),
        ({"payload": torch.zeros(2, 3, 2)}, "payload"),
        ({"payload": None}, "payload"),
    ],
)
def test_what_does_not_fit_is_refused(parts, message):
    parts = {"payload": torch.zeros(2, *SHAPE, dtype=torch.uint8), **parts}
    with pytest.raises(ValueError, match=message):
        FIFO(4, DIM, SHAPE).insert(torch.arange(2), **parts, generator=generator())


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match="feature_dim"):
        FIFO(4).insert(torch.arange(2), features=torch.zeros(2, 1), generator=generator())
    with pytest.raises(ValueError, match="features"):
        FIFO(4).update(torch.arange(1), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="size=0"):
        FIFO(0)
    with pytest.raises(IndexError, match="from 0 to 3"):
        FIFO(4).remove(torch.tensor([4]))
    with pytest.raises(ConfigError, match=r"--feature_ema 1\.5"):
        FIFO(4, feature_ema=1.5)
    with pytest.raises(ConfigError, match="--virtual_ranks 0"):
        MinRed(4, 1, virtual_ranks=0)


def test_the_registry_knows_them_all():
    made = {name: MEMORIES[name](4, DIM) for name in MEMORIES}
    assert {name for name, memory in made.items() if not memory.online} == set(EXEMPLARS)
    assert set(made) == {"fifo", "fifo_last", "reservoir", "minred", "class_balanced", *EXEMPLARS}
