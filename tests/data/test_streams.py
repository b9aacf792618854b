"""Streams of data sets in memory and of iterators: orders, positions, shards; any cut into chunks reads the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cassle.data.iterators import IteratorStream
from cassle.data.orders import class_order, class_sequential, group_order, iid_order, in_order
from cassle.data.splits import split_by_class
from cassle.data.streams import ArrayStream, Chunk, shard
from cassle.errors import ConfigError, DataError

TARGETS = torch.tensor([0, 1, 2, 3] * 6)
PIXELS = torch.arange(24, dtype=torch.uint8)[:, None, None, None].expand(24, 3, 2, 2).contiguous()
SPLITS = split_by_class(TARGETS, TARGETS, 4, 2, seed=5)

ORDERS = {
    "in_order": lambda: in_order(24, epochs=3),
    "iid": lambda: iid_order(24, seed=1, epochs=3),
    "class": lambda: class_order(SPLITS.train, seed=1),
    "classes in splits": lambda: class_order(SPLITS.train, seed=1, targets=TARGETS),
    "class_sequential": lambda: class_sequential(TARGETS, run=4, seed=1, epochs=3),
    "groups": lambda: group_order(torch.tensor([3, 1, 4, 16]), seed=1, epochs=3),
}


def joined(chunks: list[Chunk]) -> Chunk:
    tensors = [torch.cat([chunk[i] for chunk in chunks]) for i in range(4)]
    return Chunk(*tensors, [text for chunk in chunks for text in chunk.skipped])


def same(one: Chunk, other: Chunk) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)) and one.skipped == other.skipped


def order_of(name: str, start: int = 0, count: int = 72) -> list[int]:
    return ORDERS[name]().index(start, count).tolist()


@given(st.sampled_from(sorted(ORDERS)), st.lists(st.integers(0, 17), max_size=8), st.integers(0, 80))
def test_any_cut_into_chunks_reads_the_same(name, counts, start):
    stream, chunks, at = ArrayStream(PIXELS, TARGETS, ORDERS[name]()), [], start
    for count in counts:
        chunks.append(stream.read(at, count))
        at += count
    whole = ArrayStream(PIXELS, TARGETS, ORDERS[name]()).read(start, sum(counts))
    assert not chunks or same(joined(chunks), whole)
    assert whole.positions.tolist() == list(range(start, start + len(whole.positions)))
    assert torch.equal(whole.pixels[:, 0, 0, 0].long(), stream.index(start, sum(counts)))


@pytest.mark.parametrize("name", ["in_order", "iid", "groups", "class_sequential"])
def test_every_epoch_has_every_sample_once_in_another_order(name):
    order = order_of(name)
    epochs = [order[e : e + 24] for e in (0, 24, 48)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert (epochs[0] != epochs[1] and epochs[1] != epochs[2]) == (name != "in_order")
    assert ORDERS[name]().length == 72 and ORDERS[name]().bounds == (24, 48, 72)
    assert order_of(name, 70, 10) == order[70:]


def test_an_order_depends_on_its_seed_and_may_have_no_end():
    assert iid_order(24, seed=2).index(0, 24).tolist() != order_of("iid")[:24]
    endless = iid_order(24, seed=1, epochs=None)
    assert endless.length is None and endless.index(0, 72).tolist() == order_of("iid")
    assert sorted(endless.index(24 * 10**9, 24).tolist()) == list(range(24))


def test_groups_stay_together():
    order, ends = order_of("groups", 0, 24), {0: 3, 3: 1, 4: 4, 8: 16}
    at = 0
    while at < 24:
        size = ends[order[at]]
        assert order[at : at + size] == list(range(order[at], order[at] + size))
        at += size


def test_class_order_follows_the_splits():
    order = order_of("class")
    assert [sorted(part) for part in (order[:12], order[12:])] == [part.tolist() for part in SPLITS.train]
    assert order[:12] != SPLITS.train[0].tolist()  # in random order inside
    assert ORDERS["class"]().bounds == (12, 24)
    labels = TARGETS[order_of("classes in splits")]
    assert labels.tolist() == [c for ids in SPLITS.contents for c in sorted(ids) for _ in range(6)]


def test_runs_of_a_class():
    order = class_sequential(torch.cat([TARGETS, torch.tensor([-1, -1])]), run=2, seed=1)
    runs = order.index(0, 100).view(12, 2)
    assert order.length == 24 and runs.unique().tolist() == list(range(24))
    assert all(len(TARGETS[run].unique()) == 1 for run in runs)
    assert (TARGETS[runs[1:, 0]] != TARGETS[runs[:-1, 0]]).sum() > 5
    odd = class_sequential(TARGETS, run=4, seed=1).index(0, 24)  # six of a class: runs of four and of two
    lengths = TARGETS[odd].unique_consecutive(return_counts=True)[1]
    assert sorted(odd.tolist()) == list(range(24)) and set(lengths.tolist()) <= {2, 4, 6, 8, 10}


def test_a_chunk_of_a_data_set():
    stream = ArrayStream(PIXELS, TARGETS, in_order(24), classes="abcd")
    assert (stream.length, stream.side, stream.num_origins, list(stream.origin_names)) == (24, 2, 4, list("abcd"))
    chunk = stream.read(20, 10)
    assert chunk.positions.tolist() == [20, 21, 22, 23] and torch.equal(chunk.pixels, PIXELS[20:])
    assert torch.equal(chunk.targets, TARGETS[20:]) and torch.equal(chunk.origins, TARGETS[20:])
    assert len(stream.read(24, 5).positions) == len(stream.read(10**12, 5).positions) == 0


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: iid_order(24, seed=0, epochs=0), "--stream_epochs 0"),
        (lambda: in_order(0), "no samples"),
        (lambda: class_order([], seed=0), "no samples"),
        (lambda: class_sequential(torch.tensor([-1, -1]), run=5, seed=0), "needs labels"),
        (lambda: class_sequential(TARGETS, run=0, seed=0), "--n_cls_samples 0"),
        (lambda: IteratorStream(5, side=2), "images int"),
        (lambda: IteratorStream([], side=0), "--side 0"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_wrong_arrays_and_positions_are_refused():
    for pixels, targets in ((PIXELS.float(), TARGETS), (PIXELS, TARGETS[1:]), (PIXELS[:, :, :1], TARGETS)):
        with pytest.raises(ValueError, match="pixels"):
            ArrayStream(pixels, targets, in_order(24))
    for stream in (ArrayStream(PIXELS, TARGETS, in_order(24)), IteratorStream([], side=2)):
        with pytest.raises(ValueError, match="start=-1"):
            stream.read(-1, 5)


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 9))
def test_the_processes_together_read_one_global_batch(position, world, batch):
    parts = [shard(position, rank, world, batch) for rank in range(world)]
    read = [at for start, count in parts for at in range(start, start + count)]
    assert read == list(range(position, position + world * batch))


def test_sixty_four_frames_on_four_processes_are_a_video_each():
    order = group_order(torch.full((40,), 64), seed=0)
    for rank in range(4):
        assert len((order.index(*shard(5 * 256, rank, 4, 64)) // 64).unique()) == 1
    for wrong in ((-1, 0, 1, 1), (0, 2, 2, 1), (0, -1, 2, 1), (0, 0, 1, 0)):
        with pytest.raises(ValueError, match="cannot be"):
            shard(*wrong)


def values(chunk: Chunk) -> list[int]:
    return chunk.pixels[:, 0, 0, 0].tolist()


def numbered(start: int = 0, stop: int = 200):
    return (torch.full((2, 2, 3), i, dtype=torch.uint8) for i in range(start, stop))


@given(st.lists(st.integers(0, 40), max_size=8), st.booleans())
def test_an_iterator_is_read_the_same_in_any_chunks(counts, with_open):
    make = (lambda: IteratorStream(numbered, side=2)) if with_open else (lambda: IteratorStream(numbered(), side=2))
    stream, chunks, at = make(), [], 0
    for count in counts:
        chunks.append(stream.read(at, count))
        at += count
    whole = make().read(0, at)
    assert not chunks or same(joined(chunks), whole)
    assert values(whole) == list(range(min(at, 200)))


def test_a_function_opens_the_iterator_anywhere():
    stream = IteratorStream(numbered, side=2)
    for start in (50, 60, 0, 190):
        assert values(stream.read(start, 10)) == list(range(start, start + 10))
    assert stream.length is None
    assert values(stream.read(195, 10)) == list(range(195, 200)) and stream.length == 200
    assert values(stream.read(200, 10)) == []


def test_a_camera_continues_but_cannot_go_back():
    stream = IteratorStream(numbered(), side=2)
    first = stream.read(1000, 3)  # a run that was continued: the camera gives what it sees now
    assert first.positions.tolist() == [1000, 1001, 1002] and values(first) == [0, 1, 2]
    assert values(stream.read(1003, 2)) == [3, 4]
    for elsewhere in (1003, 1006):
        with pytest.raises(DataError, match=f"position {elsewhere} .* stands at 1005"):
            stream.read(elsewhere, 1)
    assert values(IteratorStream(numbered(), side=2, length=4).read(0, 10)) == [0, 1, 2, 3]


def test_every_kind_of_image_and_labels(tmp_path, noise_image, truncated_image):
    image = Image.open(noise_image(tmp_path / "a.png", (8, 8)))
    array = np.asarray(image)
    gray = array[:, :, 0].copy()
    items = [(image, 3), array, torch.tensor(array), torch.tensor(array).permute(2, 0, 1), gray]
    with Image.open(truncated_image(tmp_path / "bad.jpg")) as bad:
        chunk = IteratorStream([*items, bad], side=8).read(0, 6)
    expected = torch.tensor(array).permute(2, 0, 1)
    assert all(torch.equal(pixels, expected) for pixels in chunk.pixels[:4])
    assert torch.equal(chunk.pixels[4], torch.tensor(gray).expand(3, 8, 8))
    assert chunk.targets.tolist() == [3, -1, -1, -1, -1] and chunk.origins.tolist() == [-1] * 5
    assert len(chunk.skipped) == 1 and chunk.skipped[0].startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert IteratorStream([np.zeros((20, 10, 3), np.uint8)], side=4).read(0, 1).pixels.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("item", [None, "a.png", np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), torch.zeros(3)])
def test_an_item_that_is_no_image_is_an_error(item):
    with pytest.raises(DataError, match=r"item 7 of the iterator is .*must be a PIL image"):
        IteratorStream([item], side=2).read(7, 1)
