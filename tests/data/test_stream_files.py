"""Streams of image files: lists of every length and spelling, bad lines by number, folders of frames."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cassle.data.file_list import NameArray, Row, TextList
from cassle.data.orders import iid_order
from cassle.data.stream_files import FileListStream, FolderStream
from cassle.errors import ConfigError, DataError
from tests.data.test_streams import joined, same, values


def gray(path, value: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), (value, value, value)).save(path)
    return path


def text(tmp_path, content: str | bytes, name: str = "list.txt"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Twelve files, of which number 5 is damaged and number 7 missing, in a text and in an array."""
    root = tmp_path_factory.mktemp("listed")
    names = [f"in {i % 3}/{i}.png" for i in range(12)]
    for i, name in enumerate(names):
        gray(root / name, i)
    (root / names[5]).write_bytes(b"no image")
    (root / names[7]).unlink()
    text(root, "".join(f"{name} {i % 3}\n" for i, name in enumerate(names)))
    np.save(root / "list.npy", np.array([name.encode() for name in names], dtype="S120"))
    return root


@given(st.lists(st.integers(0, 5), max_size=5), st.integers(0, 12), st.sampled_from(["txt", "npy", "folder"]))
def test_any_cut_into_chunks_reads_the_same(listed, counts, start, kind):
    make = {
        "txt": lambda: FileListStream(listed / "list.txt", side=2, num_workers=2),
        "npy": lambda: FileListStream(listed / "list.npy", side=2, num_workers=1),
        "folder": lambda: FolderStream(listed, lambda n: iid_order(n, seed=0, epochs=2), side=2, num_workers=2),
    }[kind]
    stream, chunks, at = make(), [], start
    for count in counts:
        chunks.append(stream.read(at, count))
        at += count
    assert not chunks or set(joined(chunks).skipped) == set(make().read(start, at - start).skipped)
    whole = make().read(start, at - start)
    assert not chunks or same(joined(chunks)._replace(skipped=[]), whole._replace(skipped=[]))


def test_what_does_not_decode_is_named_and_its_position_stays_empty(listed):
    chunk = FileListStream(listed / "list.txt", side=2).read(0, 12)
    assert chunk.positions.tolist() == values(chunk) == [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]
    assert torch.equal(chunk.targets, chunk.positions % 3) and torch.equal(chunk.origins, chunk.targets)
    assert [name.split(": ")[0] for name in chunk.skipped] == [str(listed / f"in {i % 3}/{i}.png") for i in (5, 7)]
    unlabelled = FileListStream(listed / "list.npy", side=2).read(0, 12)
    assert torch.equal(unlabelled.pixels, chunk.pixels) and (unlabelled.targets == -1).all()


def test_a_list_is_relative_to_its_folder_or_to_a_root(listed, tmp_path):
    copy = text(tmp_path, (listed / "list.txt").read_bytes())
    assert len(FileListStream(copy, listed, side=2).read(0, 5).positions) == 5
    with pytest.raises(DataError, match=f"no file of the 12 lines .*{tmp_path}.*paths are relative to"):
        FileListStream(copy, side=2)
    absolute = text(tmp_path, f"{listed / 'in 0/0.png'}\n")
    assert values(FileListStream(absolute, side=2).read(0, 1)) == [0]


@pytest.mark.parametrize("name", ["list.txt", "list.npy"])
def test_every_third_line(listed, name):
    stream = FileListStream(listed / name, side=2, subsample=3)
    chunk = stream.read(0, 100)
    assert stream.length == 4 and chunk.positions.tolist() == [0, 1, 2, 3] and values(chunk) == [0, 3, 6, 9]


def test_an_order_over_a_list(listed):
    stream = FileListStream(listed / "list.txt", order=lambda n: iid_order(n, seed=0, epochs=2), side=2)
    assert stream.length == 24 and stream.num_origins == 3
    epochs = [values(stream.read(e, 12)) for e in (0, 12)]
    assert epochs[0] != epochs[1] and sorted(epochs[0]) == sorted(epochs[1]) == [0, 1, 2, 3, 4, 6, 8, 9, 10, 11]


@pytest.mark.parametrize(
    "content, rows",
    [
        ("a.png 3\nb c.png 4", [("a.png", 3), ("b c.png", 4)]),
        ("a.png\nb c.png\n", [("a.png", -1), ("b c.png", -1)]),
        ("a.png\t3\r\nb.png -1\r\n", [("a.png", 3), ("b.png", -1)]),
        ("a 1.png\nb 2.png\n\n\n", [("a 1.png", -1), ("b 2.png", -1)]),
        ("ä ö.png 12\n", [("ä ö.png", 12)]),
        ("7\n8\n", [("7", -1), ("8", -1)]),
    ],
)
def test_the_spelling_of_lines(tmp_path, content, rows):
    listing = TextList(text(tmp_path, content))
    assert listing.rows(list(range(len(listing)))) == [Row(*row) for row in rows]
    assert listing.num_classes == max(label for _, label in rows) + 1
    assert listing.rows([len(rows) - 1, 0]) == [Row(*rows[-1]), Row(*rows[0])]


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "an empty list"),
        ("\n\n", "an empty list"),
        ("a.png 1\nb.png\n", "line 2: no label at its end.*'b.png'"),
        ("a.png\nb.png\nc.png 1\n", "line 3: ends with a label"),
        ("a.png 1\nb.png x\n", "line 2: no label"),
        ("a.png 1\nb.png -2\n", "line 2: no label"),
        ("a.png 1\nb.png 12345678901\n", "line 2: no label"),
        ("a.png\n\nb.png\n", "line 2: empty"),
        (b"a.png\n\xff\xfe.png\n", "line 2: the name is not UTF-8"),
        (b"a.png\nb\0.png\n", "line 2: the name is not UTF-8"),
    ],
)
def test_bad_lists(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        FileListStream(text(tmp_path, content), side=2)


def test_bad_arrays(tmp_path):
    for array, words in [
        (np.array([], dtype="S8"), "an empty list"),
        (np.array([b"a", b"", b"c"]), "row 2: an empty name"),
        (np.array([b"a"] * 70_000 + [b"\xff"]), "row 70001: the name is not UTF-8"),
        (np.array(["a"]), "fixed-width byte names"),
        (np.zeros((2, 2)), "fixed-width byte names"),
        (np.array([[b"a"]]), "fixed-width byte names"),
    ]:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(DataError, match=words):
            NameArray(tmp_path / "a.npy")
    with pytest.raises(DataError, match="no array that numpy reads"):
        NameArray(text(tmp_path, "a.png 1", "b.npy"))
    np.save(tmp_path / "a.npy", np.array(["ä.png".encode(), b"b"], dtype="S120"))
    assert NameArray(tmp_path / "a.npy").rows([1, 0]) == [Row("b", -1), Row("ä.png", -1)]


def test_what_is_not_there(tmp_path):
    for name in ("none.txt", "none.npy"):
        with pytest.raises(DataError, match=rf"{name}: the list cannot be read \(No such file"):
            FileListStream(tmp_path / name, side=2)
    with pytest.raises(DataError, match="the list cannot be read"):
        FileListStream(tmp_path, side=2)
    with pytest.raises(DataError, match=r"--data_dir .*none: no such folder"):
        FolderStream(tmp_path / "none", side=2)
    with pytest.raises(DataError, match="no images"):
        FolderStream(tmp_path, side=2)
    with pytest.raises(ConfigError, match=r"--side 0.*\n--subsample 0.*\n--num_workers 0"):
        FileListStream(tmp_path / "none.txt", side=0, subsample=0, num_workers=0)


def test_a_million_lines(tmp_path):
    """One bad line is named by its number; a good list costs its offsets, and reading does not add to that."""
    lines = [b"folder/%07d.jpg %d\n" % (i, i % 1000) for i in range(1_000_000)]
    path = text(tmp_path, b"".join(lines))
    gray(tmp_path / "folder/0000000.jpg", 0)
    lines[123_455] = b"folder/0123455.jpg\n"
    bad = text(tmp_path, b"".join(lines), "bad.txt")
    del lines
    with pytest.raises(DataError, match="line 123456: no label"):
        FileListStream(bad, side=2)
    stream = FileListStream(path, side=2)
    assert stream.length == 1_000_000 and stream.num_origins == 1000
    assert stream.list.rows([999_999]) == [Row("folder/0999999.jpg", 999)]
    assert stream.read(999_990, 100).skipped[-1].startswith(f"{tmp_path}/folder/0999999.jpg: ")
    tracemalloc.start()
    try:
        for start in range(0, 1_000_000, 1000):
            stream.list.rows(list(range(start, start + 10)))
            stream.index(start, 10)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_only_the_places_of_lines_are_kept(tmp_path):
    path = text(tmp_path, b"".join(b"folder/%07d.jpg\n" % i for i in range(40_000)))
    tracemalloc.start()
    try:
        kept = TextList(path, subsample=4)
        assert len(kept) == 10_000 and tracemalloc.get_traced_memory()[0] < 16 * 10_000
    finally:
        tracemalloc.stop()


def test_a_folder_in_natural_order(tmp_path):
    names = ["b/frame_10.png", "b/frame_2.png", "a10/1.png", "a2/deep/3.png", "a2/deep/12.png", "a2/07.png", "z.png"]
    for i, name in enumerate(names):
        gray(tmp_path / name, i)
    gray(tmp_path / ".hidden/1.png", 99)
    gray(tmp_path / "b/._frame_2.png", 99)
    text(tmp_path, "no image", "notes.txt")
    stream = FolderStream(tmp_path, side=2)
    assert [names[i] for i in values(stream.read(0, 99))] == stream.paths
    assert stream.paths == ["a2/07.png", "a2/deep/3.png", "a2/deep/12.png", "a10/1.png", "b/frame_2.png",
                            "b/frame_10.png", "z.png"]  # fmt: skip
    assert stream.origin_names == ("a2", "a10", "b", ".") and stream.num_origins == 4
    assert stream.read(0, 99).origins.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert (stream.read(0, 99).targets == -1).all()
