"""Runs that are killed and continued on another number of processes: nothing is lost or seen twice, and they say so."""

import json
import os
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from cassle.data.resident import ResidentLoader
from cassle.data.stream_loader import StreamLoader
from cassle.engine.stream_table import read_table
from cassle.errors import ConfigError
from cassle.methods.base import SSLMethod
from tests.engine import TINY, Killed, run
from tests.engine.test_stream_processes import SAME
from tests.two_processes import in_two_processes

NUMBER, G = 80, 16  # images of the stream, and how many arrive at a time
BROKEN = {33, 42}  # in the batch at hand of the killed run, one for each of two processes
TASKS = {
    **SAME, "num_tasks": 2, "max_epochs": 2, "warmup_epochs": 1, "num_updates": None, "eval_at": None,
    "disable_linear_eval": True,
}  # fmt: skip
RUNS = {
    "tasks": {**TASKS, "strategy": "er", "mem_size": 300, "batch_size": 192, "replay_batch_size": 16},
    "er": {**SAME, "dataset": "frames", "strategy": "er", "mem_size": 25, "batch_size": G, "replay_batch_size": 8,
           "eval_at": [40, 100]},
    "minred": {**SAME, "dataset": "frames", "strategy": "minred", "mem_size": 25, "batch_size": G},
}  # fmt: skip
#: where they are killed: in the second epoch of the second task; between the two steps on a batch of the stream
DIES = {"tasks": 4, "er": 5, "minred": 5}
#: the task or part, and the steps in it, after which they go on
NOTED = {"tasks": (1, 4), "er": (1, 1), "minred": (0, 5)}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    for i in range(NUMBER):
        values = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / f"{i:02}.png")
        if i in BROKEN:
            (root / f"{i:02}.png").write_bytes(b"no image")
    return root


def one_run(name, frames, base, processes, **more):
    """Run it; return the images that this process was given at each step, the memory in the end, and what was said."""
    settings = {**TINY, **RUNS[name], "checkpoint_minutes": 0, "devices": processes, **more}
    settings |= {n: settings[n] // processes for n in ("batch_size", "replay_batch_size") if n in settings}
    settings |= {"trainer_strategy": "ddp" if processes > 1 else None}
    settings |= {"data_dir": frames} if settings.get("dataset") == "frames" else {"disable_online_eval": False}
    step, seen, models, said = SSLMethod.training_step, [], [], []

    def noting(model, batch, batch_idx):
        outputs = step(model, batch, batch_idx)
        seen.append(batch.index.tolist())
        models[:] = [model]
        return outputs

    with mock.patch.object(SSLMethod, "training_step", noting), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, about processes on one machine
        run(base / name, **settings, say=said.append)
    memory = {key: value.clone() for key, value in models[0].memory.state_dict().items()} if models else {}
    return {"seen": seen, "memory": memory, "said": said}


def killed(name, frames, base, processes):
    """Let a run die when step ``DIES`` is to be taken."""
    make, batch = ResidentLoader._make, StreamLoader._batch

    def dying(loader, number, index):
        if (loader.task, number) == (1, DIES[name]):
            raise Killed
        return make(loader, number, index)

    def dying_too(loader, here, turn, *, early=False):
        if loader.step == DIES[name] + 1:
            raise Killed
        return batch(loader, here, turn, early=early)

    with (
        mock.patch.object(ResidentLoader, "_make", dying),
        mock.patch.object(StreamLoader, "_batch", dying_too),
        pytest.raises(Killed),
    ):
        one_run(name, frames, base, processes)


def of_two(rank, frames, base):
    # What Lightning's launcher sets; the process group is there already.
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name in RUNS:
        killed(name, frames, base / "two", 2)
    return {name: one_run(name, frames, base / "one", 2, reshard=True) for name in RUNS}


@pytest.fixture(scope="module")
def found(frames, tmp_path_factory):
    base = tmp_path_factory.mktemp("reshard")
    undisturbed = {name: one_run(name, frames, base / "undisturbed", 1) for name in RUNS}
    for name in RUNS:
        killed(name, frames, base / "one", 1)
    to_two = in_two_processes(of_two, base, frames, base)
    refused = {}
    for name in RUNS:
        with pytest.raises(ConfigError) as caught:
            one_run(name, frames, base / "two", 1, batch_size=RUNS[name]["batch_size"] // 2)
        refused[name] = str(caught.value)
    to_one = {name: one_run(name, frames, base / "two", 1, reshard=True) for name in RUNS}
    again = one_run("er", frames, base / "two", 1)["said"]
    return {
        "undisturbed": undisturbed,
        "to two": to_two,
        "to one": to_one,
        "refused": refused,
        "again": again,
        "base": base,
    }


def joined(first, second):
    """Return one memory from the parts of two processes."""
    payload = {}
    if "payload" in first:
        payload["payload"] = torch.stack([first["payload"], second["payload"]], dim=1).flatten(0, 1)[
            : len(first["keys"])
        ]
    return {**first, **payload}


@pytest.mark.parametrize("name", RUNS)
def test_without_the_flag_it_is_refused_with_the_way_on(name, found):
    batch = RUNS[name]["batch_size"]
    text = found["refused"][name]
    assert "the run was begun with 2 processes and has 1 now. --reshard --batch_size" in text
    assert f"--batch_size {batch}" in text and "no longer byte-equal" in text and "--devices:" not in text


@pytest.mark.parametrize("way", ["to one", "to two"])
@pytest.mark.parametrize("name", RUNS)
def test_every_sample_is_seen_as_often_as_planned(name, way, found):
    expected = found["undisturbed"][name]["seen"]
    if way == "to one":
        seen = found[way][name]["seen"]
    else:
        parts = (part[name]["seen"] for part in found[way])
        seen = [a + b for a, b in zip(*parts, strict=True)]
    assert 0 < len(seen) < len(expected) and all(len(set(batch)) == len(batch) for batch in seen if -1 not in batch)
    assert len(seen) == len(expected) - DIES[name] - (6 if name == "tasks" else 0)
    for batch, planned in zip(seen, expected[-len(seen) :], strict=True):
        assert sorted(batch) == sorted(planned)


@pytest.mark.parametrize("way", ["to one", "to two"])
@pytest.mark.parametrize("name", RUNS)
def test_the_memory_is_that_of_an_undisturbed_run(name, way, found):
    expected = found["undisturbed"][name]["memory"]
    memory = found[way][name]["memory"] if way == "to one" else joined(*(part[name]["memory"] for part in found[way]))
    for key, value in expected.items():
        if not value.is_floating_point():
            assert torch.equal(memory[key], value), key


@pytest.mark.parametrize("way", ["one", "two"])
@pytest.mark.parametrize("name", ["tasks", "minred"])
def test_its_numbers_go_on_where_they_were(name, way, found):
    # These views have no chance in them, so that only the rounding differs.
    folders = [found["base"] / place / name / "job" for place in ("undisturbed", way)]
    for task in range(TASKS["num_tasks"] if name == "tasks" else 1):
        expected, rows = (read_table(folder / f"task{task}" / "metrics.csv") for folder in folders)
        assert len(rows) == len(expected) > 1
        for row, other in zip(rows, expected, strict=True):
            for column in set(other) - {"online_loss", "online_acc"}:
                if not column.startswith("val_acc"):
                    assert row[column] == pytest.approx(other[column], rel=2e-3, abs=1e-6), column


@pytest.mark.parametrize("way", ["one", "two"])
@pytest.mark.parametrize("name", RUNS)
def test_it_is_said_and_noted(name, way, found):
    now, before = (1, "2") if way == "two" else (2, "1")
    said = found["to one"][name]["said"] if way == "two" else found["to two"][0][name]["said"]
    words = f"{now} process{'' if now == 1 else 'es'} instead of {before} from step"
    assert [line for line in said if line.startswith(f"Resharded: {words}") and "not byte-equal" in line]
    folder = found["base"] / way / name / "job"
    results = json.loads((folder / "results.json").read_text())
    assert results["protocol"]["resharded"].startswith(words) and "not byte-equal" in results["protocol"]["resharded"]
    assert name != "tasks" or words in (folder / "report.html").read_text()
    noted = json.loads((folder / "ledger.json").read_text())["resharded"]
    task, step = NOTED[name]
    assert noted == [{"task": task, "step": step, "from": int(before), "to": now}]
    undisturbed = json.loads((found["base"] / "undisturbed" / name / "job" / "results.json").read_text())
    assert "resharded" not in undisturbed["protocol"]


@pytest.mark.parametrize("way", ["one", "two"])
def test_what_did_not_decode_is_counted_once(way, found):
    folder = found["base"] / way / "er" / "job"
    assert read_table(folder / "task1" / "metrics.csv")[-1]["skipped"] == len(BROKEN)
    assert len(json.loads((folder / "results.json").read_text())["skipped"]) == len(BROKEN)


def test_the_new_settings_are_those_of_the_run_from_then_on(found):
    assert any("finished before" in line for line in found["again"])
