"""Whole runs from image files through the engines that read them: by class, data and domain; killed and continued."""

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.trees import domainnet_tree, imagenet_tree, pictures
from cassle.data.engines import has_dali

from . import ROOT, assert_equal, command, outcome, read_until, run, start

SHARED = ROOT.parent / "shared" / "data" / "cifar10.tar.xz"  # real pictures where they are
ENGINES = [
    "workers",
    pytest.param("dali", marks=pytest.mark.skipif(not has_dali(), reason="NVIDIA DALI is not installed")),
]
NETWORK = {
    "backbone": "tiny", "width": 4, "method": "simclr", "proj_hidden_dim": 16, "output_dim": 8, "size": 96,
    "batch_size": 12, "max_epochs": 2, "warmup_epochs": 1, "few_labels": 0, "disable_linear_eval": True,
    "num_workers": 2, "strategy": "er", "mem_size": 24,
    "replay_batch_size": 6, "accelerator": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return pictures(96, SHARED if SHARED.is_file() else None)


@pytest.fixture(scope="module")
def imagenet(images, tmp_path_factory):
    """Six classes of twelve images, a quarter of them for validation: real JPEGs, also gray and CMYK."""
    return imagenet_tree(tmp_path_factory.mktemp("imagenet"), images, classes=6, per_class=12)


@pytest.fixture(scope="module")
def domainnet(images, tmp_path_factory):
    return domainnet_tree(tmp_path_factory.mktemp("domainnet"), images, per_class=8)


def settings(folder, engine, **more):
    device = {"dali_device": "cpu"} if engine == "dali" else {}
    return {**NETWORK, "dataset": "custom", "data_dir": folder, "engine": engine, **device, **more}


def losses(folder, task):
    rows = (folder / f"task{task}" / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("loss")
    return [float(row.split(",")[place]) for row in rows[1:]]


@pytest.mark.parametrize("engine", ENGINES)
def test_new_parts_of_an_imagenet_like_tree(engine, imagenet, tmp_path):
    said = []
    results = run(tmp_path, **settings(imagenet, engine, split_strategy="data", max_epochs=1), say=said.append)
    matrix = results["probes"]["knn"]["accuracy_matrix"]
    assert len(matrix) == 2 and all(len(row) == 2 for row in matrix)
    assert f"Engine: {engine}; asked for." in said
    assert json.loads((tmp_path / "job" / "split.json").read_text())["engine"] == engine


def children(number: int) -> list[int]:
    """Return the processes below a process."""
    found = [int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    return found + [below for child in found for below in children(child)]


def gone(number: int) -> bool:
    """Wait for the end of a process, for at most twenty seconds; tell whether it has come."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{number}").exists():
        time.sleep(0.05)
    return not Path(f"/proc/{number}").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_kill_9_and_the_same_command_again(engine, imagenet, tmp_path):
    """Class by class, with replay from a memory, whose images are decoded when they are drawn."""
    wanted = settings(imagenet, engine)
    run(tmp_path / "alone", **wanted)
    killed = {name: value for name, value in wanted.items() if value is not None}
    process = start(tmp_path / "killed", **killed, checkpoint_minutes=0)
    read_until(process, "task 1 (2/2)  epoch 1/2")
    others = children(process.pid)
    assert others or engine == "dali"
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert all(gone(number) for number in others)
    assert (tmp_path / "killed" / "job" / "task1" / "last.ckpt").is_file()
    run(tmp_path / "killed", **wanted, checkpoint_minutes=0)
    assert_equal(outcome(tmp_path / "killed" / "job"), outcome(tmp_path / "alone" / "job"))
    assert all(0 < loss < 20 for task in (0, 1) for loss in losses(tmp_path / "alone" / "job", task))


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def test_sigterm_to_all_processes_saves_and_none_stays(imagenet, tmp_path):
    """Eight views, four workers and few file descriptors; a job's end is told to the whole group of processes."""
    more = {"num_small_crops": 6, "num_workers": 4, "max_epochs": 50}
    wanted = {name: value for name, value in settings(imagenet, "workers", **more).items() if value is not None}
    process = subprocess.Popen(
        command(tmp_path, **wanted), cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=few_files,
    )  # fmt: skip
    read_until(process, "task 0 (1/2)  epoch 2/50")
    others = children(process.pid)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 143, said
    assert (tmp_path / "job" / "task0" / "last.ckpt").is_file()
    assert others and all(gone(number) for number in others)


@pytest.mark.parametrize("engine", ENGINES)
def test_domain_by_domain(engine, domainnet, tmp_path):
    more = {"dataset": "domainnet", "split_strategy": "domain", "num_tasks": 6, "max_epochs": 1, "strategy": None}
    results = run(
        tmp_path, **settings(domainnet, engine, **more) | {"mem_size": None, "replay_batch_size": None, "knn_k": 5}
    )
    matrix = results["probes"]["knn"]["accuracy_matrix"]
    assert len(matrix) == 6 and all(len(row) == 6 for row in matrix)
    assert json.loads((tmp_path / "job" / "split.json").read_text())["strategy"] == "domain"
