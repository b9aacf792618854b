"""Whole runs from image files through the engines that read them: by class, data and domain; killed and continued."""

import json
import signal
from pathlib import Path

import pytest
import torch

from benchmarks.trees import domainnet_tree, imagenet_tree, pictures
from cassle import load_backbone
from cassle.data.engines import has_dali
from cassle.engine.experiment import Experiment
from cassle.engine.linear import evaluate, evaluate_checkpoint
from cassle.errors import ConfigError

from . import TINY, assert_equal, outcome, read_until, run, start

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10.tar.xz"
ENGINES = [
    "workers",
    pytest.param("dali", marks=pytest.mark.skipif(not has_dali(), reason="NVIDIA DALI is not installed")),
]
NETWORK = {
    "backbone": "tiny", "width": 4, "method": "simclr", "proj_hidden_dim": 16, "output_dim": 8, "size": 96,
    "batch_size": 12, "max_epochs": 2, "warmup_epochs": 1, "few_labels": 0, "disable_linear_eval": True,
    "num_workers": 2, "dali_device": "cpu", "strategy": "er", "mem_size": 24,
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
    return {**NETWORK, "dataset": "custom", "data_dir": folder, "engine": engine, **more}


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


@pytest.mark.parametrize("engine", ENGINES)
def test_kill_9_and_the_same_command_again(engine, imagenet, tmp_path):
    """Class by class, with replay from a memory, whose images are decoded when they are drawn."""
    wanted = settings(imagenet, engine)
    run(tmp_path / "alone", **wanted)
    killed = {name: value for name, value in wanted.items() if value is not None}
    process = start(tmp_path / "killed", **killed, checkpoint_minutes=0)
    read_until(process, "task 1 (2/2)  epoch 1/2")
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "killed" / "job" / "task1" / "last.ckpt").is_file()
    run(tmp_path / "killed", **wanted, checkpoint_minutes=0)
    assert_equal(outcome(tmp_path / "killed" / "job"), outcome(tmp_path / "alone" / "job"))
    assert all(0 < loss < 20 for task in (0, 1) for loss in losses(tmp_path / "alone" / "job", task))


@pytest.mark.parametrize("engine", ENGINES)
def test_domain_by_domain(engine, domainnet, tmp_path):
    more = {"dataset": "domainnet", "split_strategy": "domain", "num_tasks": 6, "max_epochs": 1, "strategy": None}
    results = run(
        tmp_path, **settings(domainnet, engine, **more) | {"mem_size": None, "replay_batch_size": None, "knn_k": 5}
    )
    matrix = results["probes"]["knn"]["accuracy_matrix"]
    assert len(matrix) == 6 and all(len(row) == 6 for row in matrix)
    assert json.loads((tmp_path / "job" / "split.json").read_text())["strategy"] == "domain"


# A small tree that fits ----------------------------------------------------------------------------------------------

PROBES = {"few_labels": 0, "disable_linear_eval": True, "num_workers": 1}


@pytest.fixture
def small(image_tree):
    """The settings of a run over files of 10×8 pixels, 8 of which are stored."""
    return {
        **PROBES, "method": "simclr", "dataset": "custom", "data_dir": image_tree(), "size": 8, "max_epochs": 1,
        "batch_size": 4, "warmup_epochs": 0, "knn_k": 2,
    }  # fmt: skip


def test_a_run_keeps_its_engine_and_says_what_can_be_done(small, tmp_path, monkeypatch):
    run(tmp_path, **small)
    wanted = {**TINY, **small, "name": "job", "base_experiment_dir": tmp_path}
    monkeypatch.setattr("cassle.data.room.free_memory", lambda: 1000)
    ledger = tmp_path / "job" / "ledger.json"
    content = json.loads(ledger.read_text())
    content["tasks"][1]["status"] = "pending"
    ledger.write_text(json.dumps(content))
    for engine in ("auto", "resident"):
        with pytest.raises(ConfigError, match=r"free some, or use a machine with more\. .*--overwrite") as caught:
            run(tmp_path, **small, engine=engine)
        assert "--engine" not in str(caught.value)
    with pytest.raises(ConfigError, match="--engine: resident there, workers now"):
        run(tmp_path, **small, engine="workers")
    monkeypatch.undo()
    said = []
    experiment = Experiment(**wanted, say=said.append)
    results = experiment.run()
    assert "Engine: resident; as this experiment began." in said
    assert experiment.plan.config()["engine"] == experiment.plan.data.engine == "auto"
    assert run(tmp_path, **small, engine="resident") == results  # the same run, by its name
    monkeypatch.setattr("cassle.data.room.free_memory", lambda: 1000)
    run(tmp_path, **small, overwrite=True)
    assert json.loads((tmp_path / "job" / "split.json").read_text())["engine"] == "workers"  # anew


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, ("resident", 8, "stored at 8×8 (shorter side to 8, centre), all of it")),
        (
            {"engine": "workers", "storage_size": 16},
            ("workers", 16, "shorter side to 16 (smaller images are magnified), centre 14×14, resized to 8×8"),
        ),
        (
            {"dataset": "digits", "data_dir": None, "storage_size": 4, "batch_size": 192},  # arrays have their own
            ("resident", 8, "stored at 8×8 (shorter side to 8, centre), all of it"),
        ),
    ],
)
def test_the_protocol_says_the_engine_and_what_is_stored(settings, expected, small, tmp_path):
    results = run(tmp_path, **{**small, **settings})
    found = results["protocol"]
    assert (found["engine"], found["storage_size"], found["view"]) == expected


def test_what_was_trained_with_dali_is_evaluated_anywhere(small, tmp_path):
    """Settings of who made the views of a training on a GPU are none of an evaluation."""
    run(tmp_path, **small)
    for path in (tmp_path / "job").glob("task*/final.ckpt"):
        content = torch.load(path, weights_only=True)
        content["cassle"]["config"] |= {"engine": "dali", "dali_device": "gpu"}
        torch.save(content, path)
    for which in (tmp_path / "job", path):
        values = {**PROBES, "pretrained_feature_extractor": which, "device": "cpu", "knn_k": 2}
        results = evaluate_checkpoint(values, say=lambda line: None)
        assert "knn" in results["probes"]
        assert results["protocol"]["view"] == "stored at 8×8 (shorter side to 8, centre), all of it"
        with pytest.raises(ConfigError, match="--engine: is for training"):
            evaluate_checkpoint({**values, "engine": "dali"})
    data = {"dataset": "custom", "data_dir": small["data_dir"], "num_tasks": 2, "knn_k": 2, "disable_linear_eval": True}
    assert "knn" in evaluate(load_backbone(path), **data)
    with pytest.raises(ConfigError, match="--engine: is for training"):
        evaluate(load_backbone(path), **data, engine="dali")
