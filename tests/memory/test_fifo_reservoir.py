"""First in first out, and algorithm R."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cassle.memory.fifo import FIFO, FIFOLast
from cassle.memory.reservoir import Reservoir
from tests.memory.rules import feed, generator, kept, same


@given(size=st.integers(1, 9), batches=st.lists(st.integers(0, 14), max_size=8))
def test_fifo_keeps_the_last_rows_in_a_ring(size, batches):
    memory, arrived = FIFO(size), 0
    for batch in batches:
        feed(memory, batch, generator(), start=arrived)
        arrived += batch
        assert kept(memory) == list(range(max(0, arrived - size), arrived))


def test_fifo_first_fills_what_was_emptied():
    memory = FIFO(4)
    feed(memory, 6, generator())
    memory.remove(memory.slots[1:3])
    assert kept(memory) == [2, 5]
    feed(memory, 3, generator(), start=6)
    assert kept(memory) == [5, 6, 7, 8]


def test_fifo_last_gives_the_newest_first():
    memory = FIFOLast(5)
    feed(memory, 8, generator())
    assert memory.keys[memory.sample(3, generator())].tolist() == [7, 6, 5]
    assert memory.keys[memory.sample(7, generator())].tolist() == [7, 6, 5, 4, 3, 7, 6]
    assert memory.uses[memory.slots].tolist() == [1, 1, 2, 3, 3]


def algorithm_r(size: int, number: int, draws: torch.Generator) -> dict[int, int]:
    """Return slot -> row, one row at a time."""
    slots = {}
    for t in range(number):
        u = torch.rand(1, dtype=torch.float64, generator=draws).item()
        if t < size:
            slots[t] = t
        elif int(u * (t + 1)) < size:
            slots[int(u * (t + 1))] = t
    return slots


@given(size=st.integers(1, 12), batch=st.integers(1, 50), number=st.integers(0, 120), seed=st.integers(0, 99))
def test_reservoir_is_algorithm_r_however_the_stream_is_cut(size, batch, number, seed):
    memory = Reservoir(size)
    feed(memory, number, generator(seed), batch=batch)
    slots = algorithm_r(size, number, generator(seed))
    assert {slot: memory.keys[slot].item() for slot in memory.slots.tolist()} == slots
    assert memory.num_arrived == number


@pytest.mark.parametrize("batch", [7, 100])
def test_every_row_is_kept_with_the_same_probability(batch):
    # Also those beyond the size in the batch that fills the memory.
    counts, size, number, runs = torch.zeros(60), 12, 60, 1000
    for seed in range(runs):
        memory = Reservoir(size)
        feed(memory, number, generator(seed), batch=batch)
        counts[memory.keys] += 1
    assert counts.sum() == runs * size
    # Rows exclude each other, which only makes the counts more even than independent ones.
    assert chisquare(counts.numpy()).pvalue > 0.01
    assert not chisquare(counts.numpy() + 3 * torch.arange(60).numpy()).pvalue > 0.01


def test_a_removed_slot_of_a_reservoir_waits_for_its_draw():
    memory, other = Reservoir(5), Reservoir(5)
    draws, more = generator(3), generator(3)
    feed(memory, 10, draws)
    feed(other, 10, more)
    memory.remove(memory.slots[2:3])
    feed(memory, 90, draws, start=10)
    feed(other, 90, more, start=10)
    assert same(memory, other)


@pytest.mark.parametrize("updates", [3, 5])
def test_uses_of_a_row_in_a_fifo(updates):
    # Mid-stream K on average; half of it for the first N, which the filling skips, and 3 K / 2 for the last N, on which
    # the updates that are left are spent (so many that all rows together are used K times each).
    size, batch, total = 512, 32, 4096
    memory, draws, uses = FIFO(size), generator(), torch.zeros(total, dtype=torch.int64)
    planned = total * updates // batch
    done = 0

    def train(steps: int) -> int:
        for _ in range(steps):
            uses.index_add_(0, memory.keys[memory.sample(batch, draws)], torch.ones(batch, dtype=torch.int64))
        return steps

    for keys in torch.arange(total).split(batch):
        memory.insert(keys, generator=draws)
        if len(memory) == size:
            done += train(updates)
    done += train(planned - done)
    assert done == planned and uses.sum() == total * updates
    first, middle, last = (part.float().mean().item() for part in (uses[:size], uses[size:-size], uses[-size:]))
    assert middle == pytest.approx(updates, rel=0.05)
    assert first == pytest.approx(updates / 2, rel=0.1) and last == pytest.approx(1.5 * updates, rel=0.1)
