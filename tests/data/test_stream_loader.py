"""Batches of a stream: which samples, how often, in which order; and what a killed run continues with."""

import pytest
import torch

from cassle.data.orders import class_sequential
from cassle.data.recipe import Recipe
from cassle.data.stream_loader import StreamLoader
from cassle.data.streams import ArrayStream, Chunk, Stream
from cassle.errors import DataError

PIXELS = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(40) // 10
RECIPES = [Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4)] * 2


class Holes(Stream):
    """Forty samples, of which some do not decode; remembers what was read."""

    side, length = 8, 40

    def __init__(self, bad=()):
        self.bad, self.read_ = set(bad), []

    def read(self, start, count):
        positions = [p for p in range(start, min(start + count, self.length)) if p not in self.bad]
        self.read_ += range(start, min(start + count, self.length))
        index = torch.tensor(positions, dtype=torch.int64)
        bad = [f"{p}: torn" for p in range(start, start + count) if p in self.bad]
        return Chunk(index, PIXELS[index], TARGETS[index], index // 8, bad)


def loader(stream=None, **settings):
    settings = {"batch_size": 4, "seed": 3, **settings}
    whole = 40 // settings["batch_size"] // settings.get("world_size", 1)
    return StreamLoader(stream or Holes(), RECIPES, **{"num_batches": whole, **settings})


def test_every_sample_arrives_once_and_is_seen_k_times():
    stream = Holes()
    made = loader(stream, num_updates=3)
    batches = list(made)
    assert len(batches) == len(made) == 30 and sorted(stream.read_) == list(range(40))
    assert [b.index.tolist() for b in batches[::3]] == [list(range(i, i + 4)) for i in range(0, 40, 4)]
    for a, b, c in zip(batches[::3], batches[1::3], batches[2::3], strict=True):
        assert torch.equal(a.index, c.index) and torch.equal(a.pixels, b.pixels)
        assert not torch.equal(a.views[0], b.views[0]) and not torch.equal(a.views[0], a.views[1])
        assert [x.first_pass for x in (a, b, c)] == [True, False, False]
        assert [x.last_pass for x in (a, b, c)] == [False, False, True]
    assert batches[3].origins.tolist() == [0, 0, 0, 0] and batches[3].targets.tolist() == [0] * 4


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("stop", [1, 4, 5, 29])
def test_a_continued_run_sees_what_an_uninterrupted_one_sees(updates, stop):
    stop = min(stop, 10 * updates - 1)
    whole = list(loader(num_updates=updates))
    first = loader(num_updates=updates)
    batches = iter(first)
    for _ in range(stop):
        next(batches)
    state = first.state_dict()
    stream = Holes()
    second = loader(stream, num_updates=updates)
    second.load_state_dict(state)
    rest = list(second)
    assert len(rest) == len(whole) - stop
    for found, wanted in zip(rest, whole[stop:], strict=True):
        assert torch.equal(found.index, wanted.index) and torch.equal(found.views[0], wanted.views[0])
        assert (found.first_pass, found.last_pass) == (wanted.first_pass, wanted.last_pass)
    assert min(stream.read_, default=40) == -(-stop // updates) * 4  # the batch at hand is not read again


def test_in_the_place_of_what_does_not_decode_come_earlier_images_that_no_memory_takes():
    made = loader(Holes({5, 6, *range(8, 12)}))
    first, second, third, *_ = made
    assert second.index.tolist() == [4, 7, -1, -1] and second.num_lost == 2
    assert torch.equal(second.pixels[2:], first.pixels[:2]) and second.targets[2:].tolist() == [-1, -1]
    assert third.index.tolist() == [-1] * 4 and torch.equal(third.pixels, first.pixels)  # the last whole batch
    assert made.num_skipped == 6 and made.skipped == [f"{p}: torn" for p in (5, 6, 8, 9, 10, 11)]


def test_before_there_was_a_whole_batch_come_copies():
    first, second, *_ = loader(Holes({1, 2, *range(4, 8)}))
    assert first.index.tolist() == [0, 3, -1, -1] and torch.equal(first.pixels[2:], first.pixels[:2])
    assert second.index.tolist() == [-1] * 4 and (second.pixels == 128).all()


def test_what_fills_is_the_same_in_a_continued_run():
    settings = {"num_updates": 2}
    whole, first = list(loader(Holes({5, 6, 9}), **settings)), loader(Holes({5, 6, 9}), **settings)
    for step, _ in enumerate(first, start=1):
        second = loader(Holes({5, 6, 9}), **settings)
        second.load_state_dict(first.state_dict())
        following = list(second)
        assert len(following) == 20 - step and second.num_skipped == 3
        for a, b in zip(following, whole[step:], strict=True):
            assert torch.equal(a.pixels, b.pixels) and torch.equal(a.views[0], b.views[0])


def test_index_mode_looks_images_up():
    stream = ArrayStream(PIXELS, TARGETS, class_sequential(TARGETS, run=5, seed=0))
    made = loader(stream, pixels=PIXELS, targets=TARGETS, batch_size=5, num_batches=5)
    batches = list(made)
    assert len(batches) == 5 and all(len(b.targets.unique()) == 1 and b.pixels is None for b in batches)
    index = torch.tensor([5, 6])
    assert torch.equal(made.centre_of(index), made.centre_of(index, PIXELS[index]))
    with pytest.raises(ValueError, match="passes once"):
        loader().views_of(index, "replay")


def test_two_processes_share_a_batch_in_consecutive_chunks():
    parts = [list(loader(rank=rank, world_size=2)) for rank in (0, 1)]
    for step, (a, b) in enumerate(zip(*parts, strict=True)):
        assert torch.cat([a.index, b.index]).tolist() == list(range(8 * step, 8 * step + 8))
        assert not torch.equal(a.views[0], b.views[0])


def test_a_warm_up_arrives_before_the_first_step_and_the_rest_goes_on_without_a_stream():
    made = loader(warm_up=3, num_updates=2)
    batches = []
    for batch in made:
        if not batches:
            assert [b.index.tolist() for b in made.ahead()] == [list(range(i, i + 4)) for i in (0, 4, 8)]
        batches.append(batch)
    assert list(made.ahead()) == []
    assert len(batches) == 20 and batches[0].index.tolist() == [12, 13, 14, 15]
    assert [b.num_stream for b in batches] == [4] * 14 + [0] * 6


def test_position():
    made = loader(num_updates=2)
    positions = []
    for _ in made:
        positions.append(made.position)
    assert positions == [4 * (step // 2 + 1) for step in range(20)]


class Short(Holes):
    """A stream of which nobody knew that it has only forty samples."""

    may_end = True


def test_a_stream_that_ends_early():
    made = loader(Short(), num_batches=12, num_updates=2)
    assert len(list(made)) == 20 and made.ended and made.position == 40 and len(made) == 24
    with pytest.raises(DataError, match="--batch_size 50: the stream was over before one batch"):
        list(loader(Short(), batch_size=50, num_batches=2))


def test_views_that_are_made_later_are_the_same():
    later = loader(views_later=True)
    for one, other in zip(loader(), later, strict=True):
        assert not other.views and torch.equal(later.with_views(other).views[1], one.views[1])
