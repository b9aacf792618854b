"""Runs over images from Python, and over a stream that another data set evaluates."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cassle import Experiment
from cassle.data.stream_files import FolderStream
from cassle.data.stream_loader import StreamLoader
from cassle.engine.plan import Plan
from cassle.errors import CassleError, ConfigError
from cassle.evaluation import stream_report
from tests.engine import TINY, Killed

SETTINGS = {
    **{name: value for name, value in TINY.items() if name not in ("num_tasks", "max_epochs", "warmup_epochs")},
    "method": "simclr", "batch_size": 16, "num_updates": 2, "eval_at": [50, 100], "size": 8, "lr": 0.1,
    "strategy": "minred", "mem_size": 32, "say": lambda line: None, "name": "job",
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    monkeypatch.setattr(stream_report, "picture", lambda results, title: b"a picture")


def camera(start):
    """Ninety pictures from a position on."""
    for position in range(start, 90):
        yield np.random.default_rng(position).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def weights(folder):
    parts = sorted(folder.glob("task*/final.ckpt"))
    content = torch.load(parts[-1], weights_only=True)
    return {name: value.numpy().tobytes() for name, value in content["state_dict"].items()}


def test_images_from_python(tmp_path):
    results = Experiment(images=camera, stream_length=80, base_experiment_dir=tmp_path, **SETTINGS).run()
    assert results["probes"] == {} and results["samples"] == [32, 80] and results["along"][-1]["in_memory"] == 32
    assert json.loads((tmp_path / "job" / "results.json").read_text()) == results
    again = Experiment(images=camera(0), stream_length=80, base_experiment_dir=tmp_path / "iterable", **SETTINGS)
    assert again.run()["along"] == results["along"]
    assert weights(tmp_path / "job") == weights(tmp_path / "iterable" / "job")


def test_images_from_python_go_on_after_a_kill(tmp_path, monkeypatch):
    settings = {"images": camera, "stream_length": 80, "checkpoint_minutes": 0, **SETTINGS}
    Experiment(base_experiment_dir=tmp_path / "reference", **settings).run()
    make = StreamLoader._batch

    def dying(loader, here, turn, *, early=False):
        if loader.step == 6:
            raise Killed
        return make(loader, here, turn, early=early)

    with monkeypatch.context() as patched:
        patched.setattr(StreamLoader, "_batch", dying)
        with pytest.raises(Killed):
            Experiment(base_experiment_dir=tmp_path, **settings).run()
    Experiment(base_experiment_dir=tmp_path, **settings).run()
    assert weights(tmp_path / "job") == weights(tmp_path / "reference" / "job")


def test_an_iterator_that_ends_early_is_evaluated_where_it_ends(tmp_path, monkeypatch):
    said = []
    settings = {**SETTINGS, "images": camera, "stream_length": 160, "say": said.append, "checkpoint_minutes": 0}
    results = Experiment(base_experiment_dir=tmp_path, **settings).run()
    assert results["samples"] == [80, 80] and results["num_evaluations"] == 2  # it was over when the second half began
    assert results["along"][-1]["step"] == 10
    early = Experiment(base_experiment_dir=tmp_path / "early", **{**settings, "stream_length": 112}).run()
    assert early["samples"] == [64, 80] and early["along"][-1]["step"] == 10 and early["num_evaluations"] == 2
    assert "The stream has ended after 80 samples." in said
    assert Experiment(base_experiment_dir=tmp_path, **settings).run() == results
    with pytest.raises(CassleError, match="--batch_size 16: the stream was over before one batch"):
        Experiment(base_experiment_dir=tmp_path / "empty", **{**settings, "images": lambda start: iter(())}).run()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, "--stream_length: missing"),
        ({"images": 5}, "images int: must be an iterable"),
        ({"images": lambda: iter(())}, "images <lambda>(): must take one argument, the position"),
        ({"images": lambda start, stop: iter(())}, "images <lambda>(start, stop): must take one argument"),
        ({"images": camera, "dataset": "digits"}, "dataset='digits': images= are the data set"),
        ({"images": camera, "stream": "iid"}, "--stream iid: an iterator comes once"),
        ({"images": camera, "stream_epochs": 3}, "--stream_epochs 3: an iterator comes once"),
    ],
)
def test_what_is_refused(settings, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        Experiment(**{"images": camera, "base_experiment_dir": tmp_path, **SETTINGS, **settings}).run()
    assert any(words in problem for problem in caught.value.problems), caught.value.problems
    assert not any(tmp_path.iterdir())  # before anything is made


def test_the_command_line_has_no_iterator():
    with pytest.raises(ConfigError, match="--dataset iterator: the images come from Python"):
        Plan({"method": "simclr", "backbone": "tiny", "dataset": "iterator"})


FRAMES = {"dataset": "frames", "stream": "order", "strategy": "finetune", "mem_size": None}


@pytest.fixture
def frames(tmp_path):
    for position, picture in enumerate(camera(0)):
        folder = tmp_path / "frames" / f"walk{position // 30}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{position:03}.png")
    return tmp_path / "frames"


def test_frames_are_evaluated_on_a_labelled_data_set(frames, tmp_path):
    settings = {name: value for name, value in {**SETTINGS, **FRAMES}.items() if value is not None}
    experiment = Experiment(
        data_dir=frames, eval_dataset="digits", num_tasks=2, storage_size=9, base_experiment_dir=tmp_path, **settings
    )
    results = experiment.run()
    assert set(results["probes"]) >= {"knn", "ridge", "linear"}
    knn = results["probes"]["knn"]
    assert len(knn["accuracy"]) == 2 and len(knn["random"]) == 2 and knn["forgetting_of_splits"] == []
    assert [row["origins_in_batch"] for row in results["along"]][-1] in (1, 2)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"eval_dataset": "cifar10"}, "--eval_dataset cifar10: needs --eval_data_dir"),
        ({"eval_dataset": "digit"}, "--eval_dataset digit: unknown. Did you mean 'digits'?"),
        ({"eval_dataset": "video", "eval_data_dir": "."}, "--eval_dataset video: has no labels"),
        ({"eval_data_dir": "."}, "--eval_data_dir .: give --eval_dataset too"),
        ({"dataset": "digits", "stream": "iid", "eval_dataset": "digits"}, "is evaluated with its own labels"),
    ],
)
def test_what_evaluation_needs(settings, words):
    with pytest.raises(ConfigError) as caught:
        Plan({"method": "simclr", "backbone": "tiny", "dataset": "frames", "data_dir": ".", **settings})
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_what_was_skipped_before_and_along_the_way_is_named_once(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(FolderStream, "skipped_at_start", ("bad.mp4: no video in it",))
    for walk, broken in (("walk0", "003.png"), ("walk2", "070.png")):
        (frames / walk / broken).write_bytes(b"torn")
    settings = {name: value for name, value in {**SETTINGS, **FRAMES}.items() if value is not None}
    said = []
    settings |= {"say": said.append, "base_experiment_dir": tmp_path}
    results = Experiment(data_dir=frames, **settings).run()
    assert [name.split(":")[0].split("/")[-1] for name in results["skipped"]] == ["bad.mp4", "003.png", "070.png"]
    assert results["along"][-1]["skipped"] == 2
    assert sum("Skipped what does not decode" in line for line in said) == 2
