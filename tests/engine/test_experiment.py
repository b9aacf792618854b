"""An experiment on disk: what it leaves, what it refuses, and what it continues."""

import fcntl
import json
import subprocess
import sys
import time

import pytest
import torch
import yaml

from cassle.data.resident import ResidentLoader
from cassle.engine.tasks import TaskChain
from cassle.errors import CassleError, CheckpointError, ConfigError
from cassle.evaluation import report
from cassle.methods import simclr
from cassle.methods.guard import NonFiniteLossError

from . import BYOL, DISTILLED, STEPS, Killed, assert_equal, kill_at_batch, outcome, run, weights

PNG = b"\x89PNG"


@pytest.fixture
def plain_picture(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished SimCLR run with distillation: its base folder, the lines that it said, and its results."""
    base, lines = tmp_path_factory.mktemp("finished"), []
    return base, lines, run(base, method="simclr", **DISTILLED, say=lines.append)


def copy_of(finished, tmp_path):
    """Return the base of a copy that a test may spoil."""
    subprocess.run(["cp", "-r", finished[0] / "job", tmp_path], check=True)
    return tmp_path


# What a run leaves behind -------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_documentation_draws(finished):
    folder = finished[0] / "job"
    top = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert top == {
        "config.yaml", "ledger.json", "split.json", "last_checkpoint.txt", "task0", "task1", "results.json",
        "accuracy_matrix.csv", "accuracy_matrix.png", "report.html",
    }  # fmt: skip
    for task in (0, 1):
        assert {path.name for path in (folder / f"task{task}").iterdir()} == {"final.ckpt", "metrics.csv"}
    assert (folder / "accuracy_matrix.png").read_bytes().startswith(PNG)
    checkpoint, config = (folder / "last_checkpoint.txt").read_text().splitlines()
    assert checkpoint == str(folder / "task1" / "final.ckpt") and config == str(folder / "config.yaml")


def test_results_and_ledger_agree(finished):
    folder = finished[0] / "job"
    results, ledger = (json.loads((folder / name).read_text()) for name in ("results.json", "ledger.json"))
    assert results == finished[2]
    assert results["num_tasks"] == 2 and set(results["probes"]) == {"knn", "ridge", "linear"}
    assert [task["status"] for task in ledger["tasks"]] == ["done", "done"]
    for name, numbers in results["probes"].items():
        assert numbers["random"] == ledger["random"][name]
        assert numbers["accuracy_matrix"] == [task["rows"][name] for task in ledger["tasks"]]
        assert all(0 <= value <= 1 for row in numbers["accuracy_matrix"] for value in row)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["method"], config["distiller"], config["seed"]) == ("simclr", "contrastive", 5)


def test_metrics_have_one_row_an_epoch(finished):
    import csv

    with open(finished[0] / "job" / "task1" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["epoch"], row["step"]) for row in rows] == [("1", "0", "3"), ("1", "1", "6")]
    for row in rows:
        total = float(row["nt_xent"]) + float(row["distill"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-6)
        assert {"lr", "online_acc", "val_acc", "val_acc_task0", "val_acc_task1"} <= row.keys()
    said = [line for line in finished[1] if line.startswith("task ")]
    assert len(said) == 4 and said[0].startswith("task 0 (1/2)  epoch 1/2")


def test_a_finished_run_prints_its_table_and_trains_nothing(finished, tmp_path, monkeypatch, capsys, plain_picture):
    base, lines = copy_of(finished, tmp_path), []
    before = {path: path.stat().st_mtime_ns for path in base.rglob("final.ckpt")}
    monkeypatch.setattr(TaskChain, "_train", lambda *args: pytest.fail("trained again"))
    before_threads = torch.get_num_threads()
    try:  # on another machine
        results = run(base, method="simclr", **DISTILLED, say=lines.append, num_threads=before_threads + 1)
    finally:
        torch.set_num_threads(before_threads)
    assert results == finished[2]
    assert "finished before" in lines[0] and any("A: average accuracy" in line for line in lines)
    assert capsys.readouterr().out == ""  # whoever takes the lines has them all
    assert {path: path.stat().st_mtime_ns for path in base.rglob("final.ckpt")} == before


# What is refused ----------------------------------------------------------------------------------------------------


def test_another_configuration_is_refused_with_the_keys_that_differ(finished):
    before = (finished[0] / "job" / "config.yaml").read_bytes()
    with pytest.raises(ConfigError) as caught:
        run(finished[0], method="simclr", **DISTILLED, lr=0.5, seed=6)
    text = str(caught.value)
    assert "--lr: 0.3 there, 0.5 now" in text and "--seed: 5 there, 6 now" in text and "--overwrite" in text
    assert "--width" not in text and "--batch_size" not in text
    assert (finished[0] / "job" / "config.yaml").read_bytes() == before


def test_settings_that_change_no_result_may_differ(finished, tmp_path, plain_picture):
    base = copy_of(finished, tmp_path)
    assert run(base, method="simclr", **DISTILLED, checkpoint_minutes=1, num_workers=1) == finished[2]


def test_overwrite_moves_the_old_folder_aside(finished, tmp_path, monkeypatch, plain_picture):
    base, lines = copy_of(finished, tmp_path), []
    kill_at_batch(monkeypatch, 0, 1)
    with pytest.raises(Killed):
        run(base, method="simclr", lr=0.5, overwrite=True, say=lines.append)
    assert str(base / "job.old-1") in lines[0]
    assert_equal(outcome(base / "job.old-1"), outcome(finished[0] / "job"))
    assert yaml.safe_load((base / "job" / "config.yaml").read_text())["lr"] == 0.5
    with pytest.raises(Killed):
        run(base, method="simclr", lr=0.6, overwrite=True)
    assert {path.name for path in base.iterdir()} == {"job", "job.old-1", "job.old-2"}


def test_a_second_launcher_is_refused(finished):
    lock = finished[0] / "job" / ".lock"
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX);"
        "file.truncate(0); file.write('4242'); file.flush(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        for more in ({}, {"overwrite": True}):
            with pytest.raises(CassleError, match=r"another run \(process 4242\) is writing here"):
                run(finished[0], method="simclr", **DISTILLED, **more)
    assert run(finished[0], method="simclr", **DISTILLED) == finished[2]  # once it is gone


def test_the_folder_is_free_after_a_failure(tmp_path, monkeypatch, plain_picture):
    kill_at_batch(monkeypatch, 0, 0)
    with pytest.raises(Killed):
        run(tmp_path, method="simclr")
    with open(tmp_path / "job" / ".lock", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def stopped_in_task_1(base, monkeypatch, **settings):
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 1)
        with pytest.raises(Killed):
            run(base, **settings)
    return base / "job"


def test_a_checkpoint_that_is_not_the_ledgers_is_refused(tmp_path, monkeypatch, plain_picture):
    folder = stopped_in_task_1(tmp_path, monkeypatch, method="simclr")
    path = folder / "task0" / "final.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["backbone.layers.conv1.weight"] += 1
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not the file that the ledger knows"):
        run(tmp_path, method="simclr")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        run(tmp_path, method="simclr")


def test_a_damaged_ledger_is_refused(finished, tmp_path):
    base = copy_of(finished, tmp_path)
    (base / "job" / "ledger.json").write_text('{"random": ')
    with pytest.raises(CassleError, match=r"ledger.json: damaged .*--overwrite"):
        run(base, method="simclr", **DISTILLED)


def test_changed_data_is_refused(tmp_path, image_tree, noise_image, monkeypatch, plain_picture):
    data = image_tree()
    settings = {"dataset": "custom", "data_dir": data, "size": 8, "batch_size": 2, "method": "simclr", "knn_k": 2}
    folder = stopped_in_task_1(tmp_path, monkeypatch, **settings)
    manifest = (folder / "split.json").read_bytes()
    noise_image(data / "train" / "cat" / "0.png", seed=99)  # same name, other pixels
    with pytest.raises(ConfigError, match=r"the data has changed since this experiment began") as caught:
        run(tmp_path, **settings)
    assert "\n  train: 10 images as before, but pixels, labels" in str(caught.value) and "val" not in str(caught.value)
    assert (folder / "split.json").read_bytes() == manifest


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CassleError, match=r"--experiment_dir .*cannot be written"):
        run(tmp_path / "file", method="simclr")


# Other ways through -------------------------------------------------------------------------------------------------


def test_take_over_of_a_trained_task_0(finished, tmp_path, plain_picture):
    checkpoint = finished[0] / "job" / "task0" / "final.ckpt"
    results = run(tmp_path, method="simclr", **DISTILLED, task_idx=1, pretrained_model=checkpoint)
    own = {"settings": results.pop("settings"), "not_default": results.pop("not_default")}
    assert results == {name: value for name, value in finished[2].items() if name not in own}
    taken = {"task_idx": 1, "pretrained_model": "given"}  # which the results say
    assert own["settings"] == {**finished[2]["settings"], **taken}
    assert {*own["not_default"]} == {*finished[2]["not_default"], *taken}
    assert_equal(weights(tmp_path / "job", 1), weights(finished[0] / "job", 1))
    ours, theirs = (base / "job" / "task1" / "metrics.csv" for base in (tmp_path, finished[0]))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "job" / "task0").exists()


def test_take_over_refuses_another_architecture(finished, tmp_path, plain_picture):
    checkpoint = finished[0] / "job" / "task0" / "final.ckpt"
    with pytest.raises(CheckpointError, match=r"final.ckpt.*bn1.bias \(4,\) instead of \(8,\)"):
        run(tmp_path, method="simclr", **DISTILLED, task_idx=1, pretrained_model=checkpoint, width=8)


@pytest.mark.parametrize(("strategy", "tasks"), [("data", 3), ("domain", 5)])
def test_other_splits(strategy, tasks, tmp_path, plain_picture):
    settings = {
        "split_strategy": strategy,
        "num_tasks": tasks,
        "max_epochs": 1,
        "batch_size": 400,
        "disable_linear_eval": True,
    }
    results = run(tmp_path, **BYOL, **DISTILLED, **settings)
    assert results["protocol"]["split_strategy"] == strategy
    assert [len(row) for row in results["probes"]["knn"]["accuracy_matrix"]] == [tasks] * tasks
    manifest = json.loads((tmp_path / "job" / "split.json").read_text())
    assert len(manifest["tasks"]) == tasks


def test_unlabelled_images_are_trained_on_and_not_evaluated(tmp_path, noise_image):
    for i in range(12):
        noise_image(tmp_path / "flat" / f"{i}.png", seed=i)
    lines = []
    settings = {"dataset": "custom", "data_dir": tmp_path / "flat", "no_labels": True, "split_strategy": "data"}
    settings |= {"size": 8, "batch_size": 3, "method": "barlow_twins", **DISTILLED, "say": lines.append}
    assert run(tmp_path, **settings) == {}
    folder = tmp_path / "job"
    assert "No labels to evaluate with" in lines[-1] and "final.ckpt" in lines[-1]
    assert (folder / "task1" / "final.ckpt").is_file() and not (folder / "results.json").exists()
    assert "online" not in (folder / "task1" / "metrics.csv").read_text()
    assert run(tmp_path, **settings) == {}  # a finished run


def test_a_loss_that_is_not_finite_stops_before_a_weight_moves(tmp_path, monkeypatch, plain_picture):
    steps, nt_xent = [], simclr.nt_xent
    settings = {"method": "simclr", "checkpoint_minutes": 0}

    def breaking(*args, **more):
        steps.append(0)
        return nt_xent(*args, **more) * (float("nan") if len(steps) == STEPS + 2 else 1)

    seen = []
    make = ResidentLoader._make
    with monkeypatch.context() as patched:
        patched.setattr(simclr, "nt_xent", breaking)
        patched.setattr(ResidentLoader, "_make", lambda *args: seen.append(make(*args)) or seen[-1])
        with pytest.raises(NonFiniteLossError) as caught:
            run(tmp_path / "a", **settings)
    text = str(caught.value)
    assert "task 0, epoch 1" in text and "nt_xent = nan" in text and "No weight was moved" in text
    assert str(seen[-1].index.tolist()[:16])[:-1] in text
    saved = torch.load(tmp_path / "a" / "job" / "task0" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == STEPS + 1
    assert all(value.isfinite().all() for value in saved["state_dict"].values() if value.is_floating_point())
    run(tmp_path / "a", **settings)
    run(tmp_path / "b", **settings)
    assert_equal(outcome(tmp_path / "a" / "job"), outcome(tmp_path / "b" / "job"))


def test_wandb_offline_stays_in_the_folder(tmp_path, monkeypatch, plain_picture):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "base", method="simclr", max_epochs=1, disable_linear_eval=True, offline=True)
    folder = tmp_path / "base" / "job"
    runs = list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    deadline = time.monotonic() + 60  # wandb's own service writes the file, a little after the run is finished
    while runs[0].stat().st_size <= 1000 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert runs[0].stat().st_size > 1000
    assert json.loads((folder / "ledger.json").read_text())["wandb_id"] in runs[0].name
    assert {path.name for path in tmp_path.iterdir()} == {"base"}
