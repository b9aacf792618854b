"""A stream on two processes: together they read it once and in order, keep one memory, and do what one process does."""

import os
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from cassle.data.stream_loader import StreamLoader
from cassle.engine.stream_table import read_table
from cassle.methods.base import SSLMethod
from tests.engine import TINY, Killed, run
from tests.two_processes import in_two_processes

NUMBER, G = 96, 16  # images, and how many of them arrive at a time
BROKEN = {
    24,
    25,
    40,
    77,
}  # do not decode: in the part of the second process, of the second, of the first, of the second
#: without batch norm and chance in the views, so that a batch looks the same however it is spread over processes
SAME = {
    "backbone": "vit_tiny", "width": None, "depth": 1, "patch_size": 4, "size": 8, "method": "simclr", "num_tasks": 1,
    "min_scale": 1.0, "color_jitter_prob": 0.0, "gray_scale_prob": 0.0, "horizontal_flip_prob": 0.0,
    "gaussian_prob": 0.0, "max_epochs": None, "warmup_epochs": None, "lr": 0.01, "num_updates": 2, "eval_at": [100],
    "num_workers": 1,
}  # fmt: skip
RUNS = {
    "er": {"dataset": "frames", "strategy": "er", "mem_size": 40, "replay": 4},
    "minred": {"dataset": "frames", "strategy": "minred", "mem_size": 40, "memory_warm_up": 32, "eval_at": [50, 100]},
    "index": {"dataset": "digits", "stream": "class", "stream_length": 5 * G, "num_tasks": 5, "strategy": "er",
              "mem_size": 40, "replay": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    for i in range(NUMBER):
        values = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / f"{i}.png")
        if i in BROKEN:
            (root / f"{i}.png").write_bytes(b"no image")
    return root


def one_run(name, frames, folder, processes, **more):
    """Return what arrived at each step, what was drawn, and the memory in the end, as this process saw them."""
    settings = {**TINY, **SAME, **RUNS[name], "batch_size": G // processes, "devices": processes}
    replay = settings.pop("replay", None)
    settings |= {"replay_batch_size": replay and replay * 2 // processes, **more}
    settings |= {"trainer_strategy": "ddp" if processes > 1 else None}
    settings["data_dir"] = frames if settings["dataset"] == "frames" else None
    step, arrived, drawn, models = SSLMethod.training_step, [], [], []

    def noting(model, batch, batch_idx):
        outputs = step(model, batch, batch_idx)
        arrived.append(batch.index.tolist())
        drawn.append([] if model.recalled is None else model.recalled.keys.tolist())
        models[:] = [model]
        return outputs

    with mock.patch.object(SSLMethod, "training_step", noting), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, about processes on one machine
        run(folder / name, **settings)
    memory = {key: value.clone() for key, value in models[0].memory.state_dict().items()}
    return {"arrived": arrived, "drawn": drawn, "memory": memory}


def continued(frames, folder, at):
    """The same for ER, in a run that dies in both processes when step ``at`` begins, and is continued."""
    make = StreamLoader._batch

    def dying(loader, here, turn, *, early=False):
        if loader.step == at:
            raise Killed
        return make(loader, here, turn, early=early)

    with mock.patch.object(StreamLoader, "_batch", dying), pytest.raises(Killed):
        one_run("er", frames, folder, 2, checkpoint_minutes=0)
    return one_run("er", frames, folder, 2, checkpoint_minutes=0)


def everything(rank, frames, folder):
    # What Lightning's launcher sets; the process group is there already.
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    found = {name: one_run(name, frames, folder, 2) for name in RUNS}
    found["continued"] = continued(frames, folder / "continued", 8)  # the second step on a batch
    return found


@pytest.fixture(scope="module")
def two(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return in_two_processes(everything, folder, frames, folder), folder


@pytest.fixture(scope="module")
def alone(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return {name: one_run(name, frames, folder, 1) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_together_they_read_the_stream_once_and_in_order(name, two, alone):
    first, second = (found[name]["arrived"] for found in two[0])
    warm_up = 2 if name == "minred" else 0
    assert len(first) == len(second) == 2 * (NUMBER // G if name != "index" else 5)
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        t = step // 2 + warm_up
        if t * G >= NUMBER and name == "minred":
            assert a == b == []  # the stream is through, and the memory goes on
            continue
        assert len(a) == len(b) == G // 2
        expected = list(range(t * G, (t + 1) * G)) if name != "index" else alone[name]["arrived"][step]
        missing = {*expected} - {*a, *b}
        assert missing <= BROKEN and [i for i in a + b if i >= 0] == [i for i in expected if i not in missing]
        assert missing == {*expected} & BROKEN or name == "index"


@pytest.mark.parametrize("name", [*RUNS, "continued"])
def test_they_keep_the_same_memory(name, two):
    first, second = (dict(found[name]["memory"]) for found in two[0])
    for images in (first.pop("payload", None), second.pop("payload", None)):
        assert name == "index" or len(images) == 20  # of the 40 each holds its own only
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert (first["keys"] >= 0).all()
    assert name == "index" or not BROKEN & {*first["keys"].tolist()}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_do_what_one_does(name, two, alone):
    (first, second), one = (found[name] for found in two[0]), alone[name]
    assert [a + b for a, b in zip(first["drawn"], second["drawn"], strict=True)] == one["drawn"]
    assert any(one["drawn"])
    for key, value in one["memory"].items():
        if key == "payload":
            both = torch.stack([first["memory"][key], second["memory"][key]], dim=1).flatten(0, 1)
            assert torch.equal(both, value)
        elif value.is_floating_point():
            if name == "er":
                continue  # what does not decode is replaced by copies of others of the same process
            torch.testing.assert_close(first["memory"][key], value, rtol=1e-3, atol=1e-3)
        else:
            assert torch.equal(first["memory"][key], value), key


def test_a_run_that_died_between_two_steps_on_a_batch_goes_on_with_the_batches_of_both(two):
    for found in two[0]:
        undisturbed, continued_ = found["er"], found["continued"]
        assert continued_["arrived"] == undisturbed["arrived"][-len(continued_["arrived"]) :]
        assert all(torch.equal(value, continued_["memory"][key]) for key, value in undisturbed["memory"].items())


def test_what_was_skipped_is_counted_over_both(two):
    rows = read_table(two[1] / "er" / "job" / "task0" / "metrics.csv")
    assert rows[-1]["skipped"] == len(BROKEN)
