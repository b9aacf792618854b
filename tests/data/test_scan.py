"""Which files the engines read: what was never looked at is looked at once; what is bad is left out."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from cassle.data import room, source
from cassle.data import verify as verify_module
from cassle.data.inspection import inspect
from cassle.data.module import TaskData
from cassle.data.scan import LOCK, readable
from cassle.data.verified import CLEAN, QUARANTINE, VERIFIED, names_in
from cassle.data.verify import verify
from cassle.engine.changes import changes
from cassle.errors import ConfigError, DataError


@pytest.fixture
def tree(image_tree, truncated_image):
    """Fourteen clean images, one torn, and a GIF, which DALI does not read."""
    root = image_tree(size=(24, 20))
    truncated_image(root / "train" / "cat" / "torn.jpg")
    Image.new("P", (24, 20)).save(root / "train" / "dog" / "still.gif")
    return root


def files(root):
    return sorted(path for path in (root / "train").rglob("*.*"))


def test_what_was_never_looked_at_is_looked_at_once(tree):
    paths, said = files(tree), []
    first = readable(tree, paths, num_workers=2, dali=False, say=said.append)
    assert [paths[i].name for i in range(len(paths)) if i not in first.good] == ["torn.jpg"]
    assert first.unknown == [] and "torn.jpg: truncated" in "".join(first.damaged.values())
    assert "12 files" in said[0] and "decoded now, once" in said[0] and (tree / VERIFIED).is_file()
    again = []
    assert readable(tree, paths, num_workers=2, dali=False, say=again.append) == first and again == []


def test_dali_reads_fewer(tree):
    paths = files(tree)
    checked = readable(tree, paths, num_workers=2, dali=True, say=lambda line: None)
    left = {paths[i].name for i in range(len(paths)) if i not in checked.good}
    assert left == {"torn.jpg", "still.gif"}
    assert [line.partition(": ")[0] for line in checked.damaged.values()] == [str(tree / "train" / "cat" / "torn.jpg")]
    assert checked.foreign == [str(tree / "train" / "dog" / "still.gif")]
    with pytest.raises(DataError, match=r"reads none of the 1 images.*--engine workers"):
        readable(tree, [tree / "train" / "dog" / "still.gif"], num_workers=1, dali=True, say=lambda line: None)


def test_lists_elsewhere_and_a_folder_that_cannot_be_written(tree, tmp_path, monkeypatch):
    paths, said, lists = files(tree), [], tmp_path / "lists"
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: place != tree and access(place, mode))
    found = readable(tree, paths, num_workers=2, dali=True, say=said.append)
    assert len(found.good) == len(paths) - 2 and found.unknown == []
    assert "--verified_dir" in said[0] and not (tree / VERIFIED).exists() and not (tree / LOCK).exists()
    verify(tree, lists)
    said.clear()
    assert readable(tree, paths, lists=lists, num_workers=2, dali=True, say=said.append).good == found.good
    assert said == []


def test_files_that_lie_elsewhere_are_looked_at(tree, tmp_path, noise_image, truncated_image):
    odd = [noise_image(tmp_path / "other" / "a.png"), truncated_image(tmp_path / "other" / "b.png")]
    checked = readable(tree, [*files(tree), *odd], num_workers=1, dali=False, say=lambda line: None)
    number = len(files(tree))
    assert number in checked.good and number + 1 not in checked.good and checked.unknown == []


def test_only_the_files_of_the_run_are_looked_at(tree, monkeypatch):
    """The others' verdicts are kept; half a list would look like a whole one, so only ``verify`` makes them."""
    looked, paths = [], files(tree)
    monkeypatch.setattr(verify_module, "inspect", lambda path: looked.append(path) or inspect(path))
    readable(tree, paths, num_workers=1, dali=False, say=lambda line: None)
    assert sorted(looked) == [str(path) for path in paths] and not (tree / CLEAN).exists()
    looked.clear()
    assert verify(tree).looked_at == len(looked) == 4  # the validation files
    assert len((tree / CLEAN).read_text().splitlines()) == 15
    Image.new("RGB", (24, 20)).save(tree / "train" / "dog" / "new.png")
    readable(tree, [tree / "train" / "dog" / "new.png"], num_workers=1, dali=False, say=lambda line: None)
    assert looked[4:] == [str(tree / "train" / "dog" / "new.png")]
    assert len((tree / CLEAN).read_text().splitlines()) == 16  # brought up to date where it is
    assert verify(tree).looked_at == 0


def test_files_by_any_way_are_looked_at_once(tree, tmp_path, noise_image, truncated_image, monkeypatch):
    """A path through ``.`` or ``..``, an absolute one, files elsewhere, and another suffix."""
    outside = noise_image(tmp_path / "other" / "a.png")
    torn = truncated_image(tmp_path / "other" / "b.png")
    odd = outside.rename(tree / "train" / "photo.jfif")
    noise_image(outside)
    monkeypatch.chdir(tmp_path)
    own = Path("images/./train/cat/0.png")
    paths = [own, Path(f"{tree}/val/../train/cat/1.jpg"), Path("images/../other/a.png"), torn, odd]
    said = []
    first = readable(Path("images"), paths, num_workers=1, dali=False, say=said.append)
    assert first.good == [0, 1, 2, 4] and first.unknown == [] and len(said) == 1
    same = [tree / "train/cat/0.png", tree / "train/cat/1.jpg", outside, torn, odd]
    for place in (tree, Path("images"), Path("./other/../images")):
        assert readable(place, same, num_workers=1, dali=False, say=said.append).good == first.good
    verify(tree)  # keeps what it does not meet itself
    assert readable(tree, same, num_workers=1, dali=False, say=said.append).good == first.good and len(said) == 1
    assert "other" not in (tree / CLEAN).read_text() and f"{torn}\t" in (tree / QUARANTINE).read_text()
    outside.unlink()
    assert str(outside) not in verify(tree).verified.paths


def test_every_file_has_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ways = ["d/a.png", "./d/a.png", "d/./a.png", "d//a.png", "d/x/../a.png", "d/../d/a.png", f"{tmp_path}/d/a.png"]
    for folder in (Path("d"), Path("./d"), Path("d/../d"), tmp_path / "d", Path("e/../d")):
        assert set(names_in(folder, [*ways, f"{folder}/a.png", f"{folder}/./a.png"])) == {"a.png"}
        assert names_in(folder, ["d/../a.png", f"{folder}/../a.png", "/a.png"]) == [
            *2 * [f"{tmp_path}/a.png"],
            "/a.png",
        ]
        assert names_in(folder, ["d/.a/..b.png", "d2/a.png"]) == [".a/..b.png", f"{tmp_path}/d2/a.png"]
    assert names_in(Path("."), ["a.png", "./d/a.png"]) == ["a.png", "d/a.png"]


def test_the_folder_of_the_lists_is_named(tree, tmp_path):
    data = TaskData(dataset="custom", data_dir=tree, engine="workers", verified_dir=tmp_path / "typo")
    with pytest.raises(ConfigError, match=r"--verified_dir .*typo: no such folder"):
        data.parts()
    verify(tree, tmp_path / "lists")
    (tree / "train").rename(tmp_path / "train")
    with pytest.raises(ConfigError, match=r"--verified_dir .*lists: holds the lists of .*images"):
        readable(tmp_path / "train", [], lists=tmp_path / "lists", num_workers=1, dali=False, say=print)


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_a_data_set_is_loaded_without_its_quarantine(engine, tree, monkeypatch):
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.1)
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine=engine, num_workers=1)
    images = data.load(16, say=lambda line: None)
    assert len(images.train.targets) == 11 == len(images.train.pixels)
    assert len(images.skipped) == 1 and "torn.jpg" in images.skipped[0] and images.quarantined == []
    assert images.train.pixels[torch.tensor([0])].shape[1:] == images.train.pixels.shape[1:]
    verify(tree)
    after = data.load(16, say=lambda line: None)
    assert len(after.quarantined) == 1 and "torn.jpg: truncated" in after.quarantined[0]
    assert after.skipped == [] and changes(images.manifest, after.manifest) == []  # a run may go on


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_what_verify_has_told_of_is_no_damage(engine, tree, noise_image):
    """However much it is; what is found later is, until ``verify`` has told of it as well."""
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine=engine, num_workers=1)
    with pytest.raises(DataError, match=r"(?s)1 of 12 images do not decode.*python -m cassle verify DIR"):
        data.load(16, say=lambda line: None)  # and writes down what it has seen
    verify(tree)
    images = data.load(16, say=lambda line: None)
    assert len(images.train.targets) == 11 == len(images.train.pixels) and "torn.jpg" in images.quarantined[0]
    torn = tree / "train" / "cat" / "torn.jpg"
    torn.write_bytes(torn.read_bytes()[:-1])  # of another time: it was named all the same
    assert len(data.load(16, say=lambda line: None).quarantined) == 1
    (tree / "train" / "cat" / "0.png").write_bytes(b"")
    for _ in range(2):  # a run that has found it has told nobody
        with pytest.raises(DataError, match=r"1 of 11 images do not decode"):
            data.load(16, say=lambda line: None)
    verify(tree)
    assert len(data.load(16, say=lambda line: None).quarantined) == 2
    noise_image(torn)
    assert len(data.load(16, say=lambda line: None).quarantined) == 1  # repaired


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_nothing_is_left(engine, tree):
    for path in files(tree):
        path.write_bytes(b"")
    verify(tree)
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine=engine, num_workers=1, storage_size=16)
    with pytest.raises(DataError, match="No image is left: all of them are in quarantine"):
        data.load(16, say=lambda line: None)


def test_what_only_other_engines_cannot_read(tree, monkeypatch):
    """A PNG without its end, which Pillow reads and DALI does not: a quarantine that comes later changes the data."""
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.1)
    path = tree / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:-6])
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine="resident", num_workers=1)
    before = data.load(16)
    readable(tree, files(tree), num_workers=1, dali=False, say=lambda line: None)
    assert data.load(16).manifest == before.manifest  # what a run of workers has found is no quarantine
    assert verify(tree).quarantined == 2
    (line,) = changes(before.manifest, data.load(16).manifest)
    assert "train: 11 images then, 10 now" in line and "0 that are in quarantine then, 2 now" in line


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_too_much_damage_is_refused_by_every_engine(engine, tree):
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine=engine, num_workers=1)
    with pytest.raises(DataError, match=r"1 of 12 images do not decode, more than 1%:\n  .*torn.jpg"):
        data.load(16, say=lambda line: None)
    for path in files(tree):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="12 of 12 images do not decode"):
        data.load(16, say=lambda line: None)


# Room ----------------------------------------------------------------------------------------------------------------


def test_the_memory_of_a_job_counts(tmp_path, monkeypatch):
    groups = tmp_path / "groups"
    (groups / "job" / "step").mkdir(parents=True)
    limits = {"job": (5000, 3000, "inactive_file 500\n"), "job/step": ("max", 10, "")}
    for place, (limit, used, statistics) in limits.items():
        for name, text in (("max", limit), ("current", used), ("stat", statistics)):
            (groups / place / f"memory.{name}").write_text(f"{text}\n" if text != "" else "")
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/job/step\n")
    monkeypatch.setattr(room, "CGROUPS", groups)
    monkeypatch.setattr(room, "OWN", own)
    assert room.free_memory() == 5000 - 3000 + 500 and room.whole_memory() == 5000
    cpu = torch.device("cpu")
    assert room.room_for(cpu, 1) == 2500 and room.room_for(cpu, 4) == 1250
    own.unlink()
    assert room.whole_memory() > 10**8
