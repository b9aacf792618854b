"""What several processes hold of a stream is dealt anew without loss to any other number of them."""

import pytest
import torch

from cassle.data.recipe import Recipe
from cassle.data.stream_loader import StreamLoader
from cassle.data.streams import Chunk, Stream

WHOLE, LENGTH = 12, 60
LOST = {13, 17, 22, 26, 27, 28, 29, 30, 31}  # the last six fill one part of the batch at hand


class Numbered(Stream):
    """Images that are their position; some do not decode."""

    side, length = 2, LENGTH

    def __init__(self):
        self.taken = []

    def read(self, start, count):
        self.taken += range(start, start + count)
        good = [i for i in range(start, min(start + count, LENGTH)) if i not in LOST]
        numbers = torch.tensor(good, dtype=torch.int64)
        pixels = numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).to(torch.uint8)
        return Chunk(
            numbers,
            pixels,
            numbers % 3,
            numbers % 5,
            [f"{i}: broken" for i in range(start, start + count) if i in LOST],
        )


def loaders(world):
    recipe = Recipe(size=2, mean=(0.0,) * 3, std=(1.0,) * 3)
    common = {"seed": 0, "num_batches": LENGTH // WHOLE, "num_updates": 2, "depth": 0, "world_size": world}
    return [StreamLoader(Numbered(), [recipe], batch_size=WHOLE // world, rank=r, **common) for r in range(world)]


def state_of(loaders):
    """Return what the processes would write together."""
    states = [loader.state_dict() for loader in loaders]
    return {"step": states[0]["step"], "processes": [state["processes"][0] for state in states]}


def arrived(batches):
    return [i for batch in batches for i in batch.index.tolist() if i >= 0]


@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 10])
@pytest.mark.parametrize("before, now", [(2, 1), (1, 2), (2, 3), (4, 3), (3, 6), (6, 1)])
def test_the_rest_of_the_stream_is_what_it_would_have_been(before, now, step):
    old = loaders(before)
    steps = [iter(loader) for loader in old]
    for _ in range(step):
        for one in steps:
            next(one)
    state, rest = state_of(old), [list(one) for one in steps]
    new = loaders(now)
    for loader in new:
        loader.load_state_dict(state)
    after = [list(loader) for loader in new]
    assert {len(batches) for batches in after} == {10 - step}
    for batches, others in zip(zip(*rest, strict=True), zip(*after, strict=True), strict=True):
        assert arrived(batches) == arrived(others)
        assert {len(batch.index) for batch in others} == {WHOLE // now}
        for batch in others:  # what fills the place of others is an image, and the others are their own
            own = batch.index >= 0
            assert torch.equal(batch.pixels[own][:, 0, 0, 0], batch.index[own].to(torch.uint8))
            assert (batch.pixels < LENGTH).all()  # not the grey of a process that has seen no image
    assert sum(loader.num_skipped for loader in new) == sum(loader.num_skipped for loader in old) == len(LOST)
    assert {name for loader in new for name in loader.skipped} == {f"{i}: broken" for i in LOST}
    at_hand = range(step // 2 * WHOLE, (step // 2 + 1) * WHOLE) if step % 2 else ()
    assert not {i for loader in new for i in loader.stream.taken} & set(at_hand)  # nothing is read twice
