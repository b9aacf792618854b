"""A file is the old one or the whole new one, whatever goes wrong in between."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from cassle.atomic import atomic_write, atomic_write_bytes, atomic_write_text
from cassle.engine import checkpoint
from cassle.errors import CassleError
from tests.conftest import REPOSITORY


class FullDisk:
    """A file on a disk that takes ``room`` writes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= 1
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def test_writes_text_and_makes_the_folder(tmp_path):
    path = tmp_path / "a" / "b.txt"
    atomic_write_text(path, "one é")
    assert path.read_text(encoding="utf-8") == "one é"
    atomic_write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_the_new_file_appears_at_once(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    seen = []

    def write(file):
        file.write(b"new")
        file.flush()
        seen.append(path.read_text())

    atomic_write(path, write)
    assert seen == ["old"] and path.read_text() == "new"


@pytest.mark.parametrize("room", range(5))
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, room):
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"step": 1})
    old = path.read_bytes()
    content = {"step": 2, "weights": torch.zeros(1000)}
    with pytest.raises(CassleError) as caught:
        atomic_write(path, lambda file: torch.save(content, FullDisk(file, room)))
    assert (
        str(path) in str(caught.value)
        and "No space left" in str(caught.value)
        and "Free some space" in str(caught.value)
    )
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_real_limit_on_the_size_of_files(tmp_path):
    code = """
import resource, signal, sys, torch
from cassle.atomic import atomic_write
from cassle.errors import CassleError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for step, size in (1, 10), (2, 100_000):
    try:
        atomic_write(sys.argv[1], lambda file: torch.save({"step": step, "weights": torch.randn(size)}, file))
    except CassleError as error:
        print("refused:", error)
print(torch.load(sys.argv[1])["step"])
"""
    path = tmp_path / "last.ckpt"
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert out.stdout.startswith(f"refused: {path}: not written (File too large)"), out.stdout
    assert out.stdout.endswith("\n1\n")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CassleError, match="Make the folder writable, or choose another"):
        atomic_write_text(tmp_path / "file" / "below", "x")


def test_a_leftover_of_a_killed_process_is_overwritten(tmp_path):
    (tmp_path / ".a.tmp").write_text("half a fi")
    atomic_write_text(tmp_path / "a", "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a"} and (tmp_path / "a").read_text() == "whole"


def test_a_programming_error_is_not_called_a_full_disk(tmp_path):
    (tmp_path / "a").write_text("old")

    def write(file):
        file.write(b"half")
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        atomic_write(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old" and not (tmp_path / ".a.tmp").exists()


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with open(path) as reader:
        atomic_write_text(path, "new")
        assert reader.read() == "old"  # the file was replaced, not overwritten
    assert path.read_text() == "new"


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    atomic_write_text(tmp_path / "a", "new")
    assert calls == ["fsync", "replace", "fsync"]
