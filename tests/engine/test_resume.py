"""A run that was stopped anywhere and continued by the same command equals one that never stopped, byte by byte."""

import os
import signal

import pytest
import torch

import cassle.atomic
from cassle.engine import chain as chain_module
from cassle.evaluation import report

from . import BYOL, DISTILLED, STEPS, Killed, assert_equal, kill_at_batch, outcome, read_until, run, start, weights

METHODS = {
    "simclr": {"method": "simclr", "distiller": "contrastive"},
    "barlow_twins": {"method": "barlow_twins", "distiller": "decorrelative"},
    "byol": {**BYOL, "distiller": "predictive"},
}
METHODS = {name: {**settings, "distill_proj_hidden_dim": 16} for name, settings in METHODS.items()}


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    """Drawing takes longer than training here; the picture has a test of its own."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Folders of uninterrupted runs, by method and further settings; each is made once."""
    made = {}

    def reference(method, **more):
        key = (method, *sorted(more.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("reference")
            run(made[key], **METHODS[method], **more)
        return made[key] / "job"

    return reference


def kill_in_evaluation(monkeypatch, number):
    """Die at evaluation ``number``: 0 is the random encoder, then one per task."""
    rows, calls = chain_module.accuracy_rows, []

    def dying(*args):
        calls.append(args)
        if len(calls) > number:
            raise Killed
        return rows(*args)

    monkeypatch.setattr(chain_module, "accuracy_rows", dying)


def kill_at_write(monkeypatch, name, number):
    """Die in the replacement of the file ``name`` for the ``number``-th time (from 0), before or after it happened."""
    replace, calls = os.replace, []

    def dying(source, target):
        if not str(target).endswith(name):
            return replace(source, target)
        calls.append(target)
        if len(calls) > number:
            raise Killed
        return replace(source, target)

    monkeypatch.setattr(cassle.atomic.os, "replace", dying)


LAST = STEPS - 1  # last batch of the first epoch
STOPS = {
    "first batch of task 0": (kill_at_batch, (0, 0), 10),
    "mid-epoch of task 0, nothing saved in it": (kill_at_batch, (0, STEPS + 1), 10),
    "mid-epoch of task 0, saved": (kill_at_batch, (0, STEPS + 1), 0),
    "mid-epoch of task 1, nothing saved in it": (kill_at_batch, (1, STEPS + 1), 10),
    "mid-epoch of task 1, saved": (kill_at_batch, (1, STEPS + 1), 0),
    "last batch of an epoch": (kill_at_batch, (1, LAST), 0),
    "after an epoch's checkpoint": (kill_at_batch, (1, STEPS), 10),
    "evaluation of the random encoder": (kill_in_evaluation, (0,), 10),
    "evaluation of task 0": (kill_in_evaluation, (1,), 10),
    "evaluation of task 1": (kill_in_evaluation, (2,), 10),
    "writing the first checkpoint": (kill_at_write, ("task0/last.ckpt", 0), 10),
    "writing a later checkpoint": (kill_at_write, ("task1/last.ckpt", 3), 0),
    "writing the final checkpoint": (kill_at_write, ("task1/final.ckpt", 0), 10),
    "writing the table of metrics": (kill_at_write, ("task1/metrics.csv", 1), 0),
    "writing the ledger after training": (kill_at_write, ("ledger.json", 1), 10),
    "writing the results": (kill_at_write, ("results.json", 0), 10),
}
EVERYWHERE = (
    "mid-epoch of task 1, saved",
    "last batch of an epoch",
    "after an epoch's checkpoint",
    "evaluation of task 0",
)
CASES = [("byol", stop) for stop in STOPS] + [(m, stop) for m in ("simclr", "barlow_twins") for stop in EVERYWHERE]


@pytest.mark.parametrize(("method", "stop"), CASES)
def test_stopped_and_continued(method, stop, references, tmp_path, monkeypatch):
    die, where, minutes = STOPS[stop]
    reference = references(method)
    with monkeypatch.context() as patched:
        die(patched, *where)
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=minutes, **METHODS[method])
    run(tmp_path, checkpoint_minutes=minutes, **METHODS[method])
    assert_equal(outcome(tmp_path / "job"), outcome(reference))
    assert not list((tmp_path / "job").rglob("*.tmp")) and not list((tmp_path / "job").rglob("last.ckpt"))


def test_stopped_many_times(references, tmp_path, monkeypatch):
    for task in (0, 1):
        for step in range(1, 2 * STEPS, 2):
            with monkeypatch.context() as patched:
                kill_at_batch(patched, task, step)
                with pytest.raises(Killed):
                    run(tmp_path, checkpoint_minutes=0, **METHODS["byol"])
    run(tmp_path, checkpoint_minutes=0, **METHODS["byol"])
    assert_equal(outcome(tmp_path / "job"), outcome(references("byol")))


@pytest.mark.parametrize("step", [1, 2, 4, 5, 8])
def test_accumulated_gradients(step, references, tmp_path, monkeypatch):
    # Five batches an epoch in pairs, the last one alone: a checkpoint never falls between the halves of a pair.
    settings = {**METHODS["byol"], "accumulate_grad_batches": 2, "batch_size": 128, "checkpoint_minutes": 0}
    reference = references("byol", accumulate_grad_batches=2, batch_size=128)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, step)
        with pytest.raises(Killed):
            run(tmp_path, **settings)
    run(tmp_path, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(reference))


def test_warm_predictor_and_batch_statistics_of_the_teacher(references, tmp_path, monkeypatch):
    more = {"predictor_init": "warm", "teacher_bn": "train", "num_tasks": 5, "batch_size": 128, "max_epochs": 1}
    reference = references("barlow_twins", **more)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 2, 1)
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **METHODS["barlow_twins"], **more)
    run(tmp_path, checkpoint_minutes=0, **METHODS["barlow_twins"], **more)
    assert_equal(outcome(tmp_path / "job", tasks=5), outcome(reference, tasks=5))


@pytest.mark.parametrize("method", METHODS)
def test_task_0_is_never_distilled(method, references, tmp_path, monkeypatch):
    kill_at_batch(monkeypatch, 1, 0)
    plain = {k: v for k, v in METHODS[method].items() if not k.startswith("distill")}
    with pytest.raises(Killed):
        run(tmp_path, **plain)
    reference = references(method)
    assert_equal(weights(tmp_path / "job", 0), weights(reference, 0))
    for folder in (tmp_path / "job", reference):
        assert "distill" not in (folder / "task0" / "metrics.csv").read_text()
    assert "distill" in (reference / "task1" / "metrics.csv").read_text()


@pytest.mark.parametrize("stopped", [False, True])
def test_the_teacher_is_the_previous_task(stopped, references, tmp_path, monkeypatch):
    folder = references("byol")
    if stopped:
        folder = tmp_path / "job"
        with monkeypatch.context() as patched:
            kill_at_batch(patched, 1, STEPS + 1)
            with pytest.raises(Killed):
                run(tmp_path, checkpoint_minutes=0, **METHODS["byol"])
        # The weights have moved on since: a teacher that is made again now would be another.
        saved = torch.load(folder / "task1" / "last.ckpt", weights_only=True)["state_dict"]
        assert not torch.equal(
            saved["backbone.layers.conv1.weight"], saved["teacher.stages.backbone.layers.conv1.weight"]
        )
        run(tmp_path, checkpoint_minutes=0, **METHODS["byol"])
    before, after = (torch.load(folder / f"task{t}" / "final.ckpt", weights_only=True)["state_dict"] for t in (0, 1))
    teacher = {name.removeprefix("teacher.stages."): v for name, v in after.items() if name.startswith("teacher.")}
    assert any(name.startswith("backbone.") for name in teacher)
    assert any(name.startswith("projector.") for name in teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.items())
    assert not any(name.startswith("teacher.") for name in before)


def test_the_random_keys_do_not_depend_on_other_draws(references, tmp_path):
    torch.rand(7)  # whatever the process drew before
    run(tmp_path, **METHODS["byol"])
    assert_equal(outcome(tmp_path / "job"), outcome(references("byol")))


# With processes and signals -----------------------------------------------------------------------------------------


def finish(process):
    text = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0, text


def files(folder):
    return {name: value for name, value in outcome(folder).items() if name != "report.html"}  # holds the real picture


def test_kill_9(references, tmp_path):
    settings = {**METHODS["byol"], "checkpoint_minutes": 0}
    for moment in ("task 0 (1/2)  epoch 1/2", "After task 0"):
        process = start(tmp_path, **settings)
        read_until(process, moment)
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    finish(start(tmp_path, **settings))
    assert_equal(files(tmp_path / "job"), files(references("byol")))


def test_sigterm_saves_and_exits_143(references, tmp_path):
    settings = {**METHODS["byol"], "checkpoint_frequency": 100}  # so that nothing but the signal saves
    process = start(tmp_path, **settings)
    read_until(process, "task 1 (2/2)  epoch 1/2")
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.stdout.close()
    assert process.wait() == 143
    assert (tmp_path / "job" / "task1" / "last.ckpt").is_file()
    finish(start(tmp_path, **settings))
    assert_equal(files(tmp_path / "job"), files(references("byol")))


def test_distilled_by_default_settings(references, tmp_path):
    run(tmp_path, **BYOL, **DISTILLED)  # auto is predictive for BYOL
    assert_equal(outcome(tmp_path / "job"), outcome(references("byol")))
