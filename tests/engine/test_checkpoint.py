"""Checkpoints: what is damaged, unsafe or of another architecture is refused in words."""

import os
import pickle
import random

import pytest
import torch
from torch import nn

from cassle.engine import checkpoint
from cassle.errors import CheckpointError
from cassle.nn.state import load_strictly

CONTENT = {"state_dict": {"w": torch.arange(300.0)}, "epoch": 3, "names": ["a", ("b", None)], "lr": 0.1}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "task0" / "final.ckpt", CONTENT)
    return tmp_path / "task0" / "final.ckpt"


def test_what_is_written_is_read(path):
    content = checkpoint.load(path)
    assert torch.equal(content["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert {k: v for k, v in content.items() if k != "state_dict"} == {
        k: v for k, v in CONTENT.items() if k != "state_dict"
    }


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"a.ckpt: no such checkpoint"):
        checkpoint.load(tmp_path / "a.ckpt")


def test_a_folder_names_the_newest_checkpoint_in_it(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder, without a checkpoint of a finished task; give a file"):
        checkpoint.load(tmp_path)
    for task in (2, 10):
        checkpoint.save(tmp_path / f"task{task}" / "final.ckpt", CONTENT)
    (tmp_path / "task11").mkdir()  # being trained
    for folder in (tmp_path, tmp_path / "task10"):
        with pytest.raises(CheckpointError, match=r"is a folder; give a file, e\.g\. .*/task10/final\.ckpt\."):
            checkpoint.load(folder)


def test_a_truncated_file(path):
    data = path.read_bytes()
    for length in [*range(0, len(data), len(data) // 25), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"final.ckpt: damaged or truncated"):
            checkpoint.load(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_garbage_is_never_another_error(path):
    draws = random.Random(0)
    for _ in range(200):
        path.write_bytes(draws.randbytes(100))
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert "would run code that it carries" not in str(caught.value) and "weights_only" not in str(caught.value)


class Evil:
    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_refused_and_not_run(tmp_path, protocol):
    path, trace = tmp_path / "evil.ckpt", str(tmp_path / "was_run")
    if protocol is None:
        torch.save({"state_dict": {}, "extra": Evil(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"extra": Evil(trace)}, protocol=protocol))
    with pytest.raises(CheckpointError, match=r"evil.ckpt: refused, because .* code"):
        checkpoint.load(path)
    assert not os.path.exists(trace)
    if protocol is None:
        torch.load(path, weights_only=False)  # the trap is armed
        assert os.path.exists(trace)


def test_a_name_of_code_is_said(tmp_path):
    torch.save({"extra": Evil("x")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"posix.mkdir"):
        checkpoint.load(tmp_path / "evil.ckpt")


@pytest.mark.parametrize("content, kind", [([1], "list"), (torch.zeros(2), "Tensor")])
def test_another_kind_of_content(path, content, kind):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"holds a {kind}, not a checkpoint"):
        checkpoint.load(path)


def test_the_digest_sees_one_bit(path):
    before = checkpoint.digest(path)
    assert before == checkpoint.digest(path) and len(before) == 64
    with open(path, "rb") as file:
        assert checkpoint._slow(file) == before  # the way of Python 3.10
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert checkpoint.digest(path) != before


def test_equal_content_gives_equal_files(tmp_path):
    for name in ("a/final.ckpt", "b/final.ckpt"):
        checkpoint.save(tmp_path / name, CONTENT)
    assert (tmp_path / "a/final.ckpt").read_bytes() == (tmp_path / "b/final.ckpt").read_bytes()


def test_lightning_writes_through_it(tmp_path):
    io = checkpoint.AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert io.load_checkpoint(tmp_path / "last.ckpt") == {"epoch": 1}
    io.remove_checkpoint(tmp_path / "last.ckpt")
    io.remove_checkpoint(tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


# Strict loading ------------------------------------------------------------------------------------------------------


def net(width: int = 3) -> nn.Module:
    return nn.ModuleDict({"body": nn.Linear(2, width), "head": nn.Linear(width, 1)})


def test_another_architecture_lists_the_keys():
    state = {**net(4).state_dict(), "tail.weight": torch.zeros(1)}
    del state["head.bias"]
    module, before = net(), None
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(module, state, source="a.ckpt")
    text = str(caught.value)
    assert text.startswith("a.ckpt does not fit this architecture")
    assert "missing: head.bias" in text and "unexpected: tail.weight" in text
    assert "body.weight (4, 2) instead of (3, 2)" in text and "--backbone" in text
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_many_keys_are_counted():
    with pytest.raises(CheckpointError, match="unexpected: k0, k1, k2, k3, k4, k5 and 4 more"):
        load_strictly(nn.Module(), {f"k{i}": torch.zeros(1) for i in range(10)})


def test_only_what_is_named_may_be_absent():
    source, module = net(), net()
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("head.")}
    kept = module["head"].weight.clone()
    load_strictly(module, {**state, "head.extra": torch.zeros(1)}, ignore=("head.",))
    assert torch.equal(module["body"].weight, source["body"].weight) and torch.equal(module["head"].weight, kept)
    with pytest.raises(CheckpointError, match=r"missing: head.bias, head.weight"):
        load_strictly(module, state, ignore=("tail.",))
