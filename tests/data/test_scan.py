"""Which files the engines read: what was never looked at is looked at once; what is bad is left out."""

import os

import pytest
import torch
from PIL import Image

from cassle.data import room
from cassle.data.module import TaskData
from cassle.data.scan import LOCK, readable
from cassle.data.verified import CLEAN, VERIFIED
from cassle.data.verify import verify


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
    assert first.unknown == [] and "torn.jpg: truncated" in first.quarantined[0]
    assert "12 files" in said[0] and "decoded now, once" in said[0] and (tree / CLEAN).is_file()
    again = []
    assert readable(tree, paths, num_workers=2, dali=False, say=again.append) == first and again == []


def test_dali_reads_fewer(tree):
    paths = files(tree)
    checked = readable(tree, paths, num_workers=2, dali=True, say=lambda line: None)
    left = {paths[i].name for i in range(len(paths)) if i not in checked.good}
    assert left == {"torn.jpg", "still.gif"}
    assert any("still.gif: clean, but not for DALI" in line for line in checked.quarantined)


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


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_a_data_set_is_loaded_without_its_quarantine(engine, tree):
    data = TaskData(dataset="custom", data_dir=tree, num_tasks=2, engine=engine, num_workers=1)
    if engine == "resident":  # it decodes every file anyway, and minds the lists that are there
        verify(tree)
    images = data.load(16, say=lambda line: None)
    assert len(images.train.targets) == 11 == len(images.train.pixels)
    assert len(images.skipped) == 1 and "torn.jpg" in images.skipped[0]
    assert images.train.pixels[torch.tensor([0])].shape[1:] == images.train.pixels.shape[1:]


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
