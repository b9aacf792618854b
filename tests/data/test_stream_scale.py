"""Streams of any length: what is saved, what is read and what is drawn do not grow with the position."""

import io
from functools import partial

import pytest
import torch

from cassle.data import file_list, orders
from cassle.data.orders import class_sequential, group_order, iid_order, in_order
from cassle.data.recipe import Recipe
from cassle.data.stream_files import FileListStream
from cassle.data.stream_loader import StreamLoader
from cassle.data.streams import ArrayStream, Chunk, Stream
from cassle.data.views import ViewMaker
from cassle.memory.fifo import FIFO
from cassle.memory.minred import MinRed
from cassle.memory.reservoir import Reservoir
from cassle.randomness import generator

FAR = 10**9
RECIPES = [Recipe(size=4, mean=(0.5,) * 3, std=(0.25,) * 3)] * 2
TARGETS = torch.arange(60) % 5
ORDERS = {
    "as they lie": lambda: in_order(60, epochs=None),
    "shuffled": lambda: iid_order(60, seed=0, epochs=None),
    "runs": lambda: class_sequential(TARGETS, run=16, seed=0, epochs=None),
    "groups": lambda: group_order(torch.tensor([10, 20, 30]), seed=0, epochs=None),
}


class Numbers(Stream):
    """Images that show their position; notes what is read. If so wished every fourth does not decode."""

    side, length = 4, 2 * FAR

    def __init__(self, bad=False):
        self.bad, self.read_ = bad, []

    def read(self, start, count):
        self.read_.append((start, count))
        p = torch.arange(start, start + count)
        p = p[p % 4 > 0] if self.bad else p
        pixels = (p % 256).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).clone()
        skipped = [f"{i}: torn" for i in range(start, start + count) if i % 4 == 0 and self.bad]
        return Chunk(p, pixels, p % 5, p // 64 % 1000, skipped)


@pytest.fixture(autouse=True)
def without_views(monkeypatch):
    monkeypatch.setattr(ViewMaker, "views", lambda *about: [])


def loader(stream, step, **settings):
    made = StreamLoader(stream, RECIPES, num_batches=FAR // 4, seed=0, **{"batch_size": 8, **settings})
    made.step = step
    return made


def size(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("updates", [1, 3])
def test_the_state_does_not_grow_and_continuing_late_reads_nothing_else(bad, updates):
    sizes, reads = [], []
    for batch in (1, FAR // 8 - 30, FAR // 8):
        stream = Numbers(bad)
        made = loader(stream, batch * updates, num_updates=updates, depth=3)
        steps = iter(made)
        batches = [next(steps) for _ in range(20 * updates + 1)]
        sizes.append(size(made.state_dict()))
        found = batches[0].index[batches[0].index >= 0]
        assert found.tolist() == [p for p in range(8 * batch, 8 * batch + 8) if p % 4 or not bad]
        starts = [start for start, _ in stream.read_]
        assert starts == list(range(8 * batch, 8 * batch + 8 * len(starts), 8))
        reads.append(len(starts))
        assert made.position == 8 * (batch + 21) > 0
    # What has passed would take kilobytes; longer numbers and names take some bytes.
    assert max(sizes) - min(sizes) <= (1024 if bad else 128)
    assert max(reads) <= 21 + 3 + 1 and min(reads) >= 21


def test_names_of_what_does_not_decode_do_not_pile_up():
    made, sizes = loader(Numbers(bad=True), 0, batch_size=200), []
    steps = iter(made)
    for step in range(1, 41):
        next(steps)
        if step in (25, 40):
            sizes.append(size(made.state_dict()))
    assert made.num_skipped == 50 * 40 and made.skipped[:3] == ["0: torn", "4: torn", "8: torn"]
    assert len(made.skipped) == len(set(made.skipped)) <= 1000 and sizes[0] == sizes[1]


@pytest.mark.parametrize("order", ORDERS)
def test_reading_far_away_costs_no_more_draws_than_at_the_start(order, monkeypatch):
    drawn = []

    def noting(*coordinates):
        drawn.append(coordinates)
        return generator(*coordinates)

    monkeypatch.setattr(orders, "generator", noting)
    calls = {}
    for start in (0, 48, FAR - FAR % 960, FAR - FAR % 960 + 48):  # 960: epochs and runs begin alike at both
        made = ArrayStream(torch.zeros(60, 3, 4, 4, dtype=torch.uint8), TARGETS, ORDERS[order]())
        drawn.clear()
        chunk = made.read(start, 32)
        assert chunk.positions.tolist() == list(range(start, start + 32)) and len(chunk.pixels) == 32
        calls.setdefault(start % 960, []).append(len(drawn))
    assert all(near == far for near, far in calls.values())


def test_a_late_line_of_a_list_is_found_without_the_lines_before_it(tmp_path, noise_image, monkeypatch):
    noise_image(tmp_path / "a.png", (8, 8))
    (tmp_path / "list.txt").write_text("a.png 3\n" * 20_000)
    stream = FileListStream(tmp_path / "list.txt", side=4, num_workers=1)
    label, calls = file_list._label, []
    monkeypatch.setattr(file_list, "_label", lambda line: calls.append(line) or label(line))
    for start in (0, 19_990):
        calls.clear()
        assert stream.read(start, 8).targets.tolist() == [3] * 8 and len(calls) == 8


@pytest.mark.parametrize(
    "kind", [FIFO, Reservoir, partial(MinRed, feature_on_arrival=True)], ids=["fifo", "reservoir", "minred"]
)
def test_a_memory_goes_on_after_four_billion_arrivals(kind):
    memory, draws = kind(16, 4, (3, 2, 2)), generator(0, "rows")
    before = size(memory.state_dict())

    def arrive(start):
        keys = torch.arange(start, start + 8)
        payload = (keys % 256).to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
        memory.insert(keys, features=torch.randn(8, 4, generator=draws), payload=payload, generator=draws)

    for start in range(0, 24, 8):
        arrive(start)
    state = memory.state_dict()
    shift = FAR * 4 - 24  # beyond 32 bits
    state["arrived"] = state["arrived"] + shift
    state["inserted"] = torch.where(state["inserted"] >= 0, state["inserted"] + shift, -1)
    memory.load_state_dict(state)
    for start in range(4 * FAR, 4 * FAR + 400, 8):
        arrive(start)
        slots = memory.sample(8, draws)
        memory.update(slots, torch.randn(8, 4, generator=draws))
    assert memory.num_arrived == 4 * FAR + 400 and len(memory) == 16
    entries = memory.entries(memory.slots)
    assert torch.equal(entries.payload[:, 0, 0, 0].long(), entries.keys % 256)
    if kind is FIFO:
        assert entries.keys.tolist() == list(range(4 * FAR + 384, 4 * FAR + 400))
    if kind is Reservoir:  # each of these 400 rows enters with probability 16 / 4e9
        assert (entries.keys < 24).all()
    assert size(memory.state_dict()) == before


def test_a_shard_far_away():
    parts = []
    for rank in (0, 1):
        stream = Numbers()
        made = loader(stream, FAR // 16, rank=rank, world_size=2)
        parts.append(next(iter(made)).index)
    assert torch.cat(parts).tolist() == list(range(FAR // 16 * 16, FAR // 16 * 16 + 16))
    assert parts[0].dtype == torch.int64
