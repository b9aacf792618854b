"""The engine that a run keeps to, that its results name, and that an evaluation does without."""

import json

import pytest
import torch

from cassle import load_backbone
from cassle.engine.experiment import Experiment
from cassle.engine.linear import evaluate, evaluate_checkpoint
from cassle.errors import ConfigError

from . import TINY, run

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
            {"dataset": "digits", "data_dir": None, "batch_size": 192},  # arrays have their own
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
    with pytest.raises(ConfigError, match="--image_mean: the encoder brings its own"):
        evaluate(load_backbone(path), **data, image_mean=[0.5, 0.5, 0.5])
