"""The folder of an experiment: one writer, one configuration; and its ledger."""

import fcntl
import multiprocessing
import os

import pytest

from cassle.cli import guarded
from cassle.engine.folder import FREE, ExperimentFolder, fingerprint
from cassle.engine.ledger import Ledger
from cassle.errors import CassleError, ConfigError

CONFIG = {"lr": 0.3, "name": "a", "method": "byol", "data_dir": "/a", "lr_decay_steps": [1, 2]}


def test_the_fingerprint_sees_what_changes_results_and_nothing_else():
    assert fingerprint(CONFIG) == fingerprint(dict(reversed(CONFIG.items())))
    assert fingerprint(CONFIG) == fingerprint({**CONFIG, "name": "b", "data_dir": "/b", "num_workers": 9})
    different = [{"lr": 0.4}, {"method": "simclr"}, {"lr_decay_steps": [1]}, {"seed": 1}]
    assert len({fingerprint({**CONFIG, **change}) for change in [{}, *different]}) == 5


def test_settings_that_change_results_are_not_free():
    assert not FREE & {
        "seed",
        "lr",
        "batch_size",
        "max_epochs",
        "dataset",
        "num_tasks",
        "precision",
        "trainer",
        "few_labels",
        "gpus",
    }


def test_a_folder_is_claimed_once_and_continued_after(tmp_path):
    folder = ExperimentFolder(tmp_path / "a" / "b")
    assert folder.claim(CONFIG) is False
    assert folder.claim({**CONFIG, "name": "other"}) is True
    assert folder.task(3) == tmp_path / "a" / "b" / "task3"


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    folder = ExperimentFolder(tmp_path)
    folder.claim(CONFIG)
    with pytest.raises(ConfigError) as caught:
        folder.claim({**CONFIG, "lr": 0.4, "name": "other", "seed": 3})
    text = str(caught.value)
    assert "--lr: 0.3 there, 0.4 now" in text and "--seed: absent there, 3 now" in text
    assert "--overwrite" in text and "--name:" not in text and "--method" not in text
    assert folder.claim(CONFIG) is True  # nothing was written


def test_threads_are_no_matter_once_nothing_is_left_to_train(tmp_path):
    """They change the order of sums: what is trained must not, what is trained already may be looked at."""
    folder, ledger = ExperimentFolder(tmp_path), Ledger(tmp_path / "ledger.json", 2)
    folder.claim({**CONFIG, "num_threads": 1})
    ledger.tasks[0].status = "done"
    ledger.save()
    with pytest.raises(ConfigError, match=r"--num_threads: 1 there, 2 now \(they set the order of sums"):
        folder.claim({**CONFIG, "num_threads": 2})
    ledger.tasks[1].status = "done"
    ledger.save()
    assert folder.claim({**CONFIG, "num_threads": 2}) is True
    with pytest.raises(ConfigError) as caught:
        folder.claim({**CONFIG, "num_threads": 2, "lr": 0.4})
    assert "--lr: 0.3 there" in str(caught.value) and "num_threads" not in str(caught.value)


def test_settings_that_differ_are_counted_as_what_they_are(tmp_path, capsys):
    folder = ExperimentFolder(tmp_path)
    folder.claim(CONFIG)
    for changes in ({"lr": 0.4}, {"lr": 0.4, "seed": 3, "method": "simclr"}):
        assert guarded(lambda changes=changes: folder.claim({**CONFIG, **changes})) == 2
        heading, first, *lines = capsys.readouterr().err.splitlines()
        assert heading == "1 problem:" and len(lines) == len(changes)
        assert f" with {len(changes)} other setting{'s' * (len(changes) > 1)}; " in first
        assert first.startswith("  /") and all(line.startswith("    --") for line in lines)


@pytest.mark.parametrize("before", ["auto", "workers"])
def test_auto_and_the_engine_that_it_has_come_to_are_one_run(before, tmp_path):
    folder = ExperimentFolder(tmp_path)
    folder.claim({**CONFIG, "engine": before})
    folder.keep({"engine": "workers"})
    for now in ("auto", "workers"):
        assert folder.claim({**CONFIG, "engine": now}) is True
    with pytest.raises(ConfigError, match="--engine: workers there, resident now"):
        folder.claim({**CONFIG, "engine": "resident"})
    assert folder.saved()["engine"] == before


@pytest.mark.parametrize("content", ["lr: [", "- 1", ""])
def test_a_damaged_configuration(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(CassleError, match=r"(?s)config.yaml: damaged .*--overwrite"):
        ExperimentFolder(tmp_path).claim(CONFIG)


def hold(path, ready, done):
    with ExperimentFolder(path).locked():
        ready.set()
        done.wait(30)


def test_a_second_process_is_refused(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(CassleError, match=rf"another run \(process {process.pid}\) is writing here"):
            ExperimentFolder(tmp_path).locked().__enter__()
    finally:
        done.set()
        process.join(30)
    with ExperimentFolder(tmp_path).locked():  # free again, also after a kill: the system drops the lock
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_the_lock_is_dropped_when_a_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), ExperimentFolder(tmp_path).locked():
        1 / 0  # noqa: B018
    with open(tmp_path / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CassleError, match=r"--experiment_dir .*: cannot be written"):
        ExperimentFolder(tmp_path / "file" / "e").locked().__enter__()


def test_overwriting_deletes_nothing(tmp_path):
    folder = ExperimentFolder(tmp_path / "e")
    assert folder.move_aside() is None
    for n in (1, 2):
        folder.claim({"lr": n})
        assert folder.move_aside() == tmp_path / f"e.old-{n}"
        assert not folder.path.exists()
    assert "lr: 1" in (tmp_path / "e.old-1" / "config.yaml").read_text()
    assert "lr: 2" in (tmp_path / "e.old-2" / "config.yaml").read_text()


def test_a_ledger_is_read_back(tmp_path):
    ledger = Ledger(tmp_path / "ledger.json", 2)
    assert [record.status for record in ledger.tasks] == ["pending", "pending"]
    ledger.random, ledger.wandb_id = {"knn": [0.1, 0.2]}, "x"
    ledger.tasks[0].status, ledger.tasks[0].rows = "done", {"knn": [0.5, 0.25]}
    ledger.tasks[1].status, ledger.tasks[1].checkpoint, ledger.tasks[1].digest = "trained", "task1/final.ckpt", "abc"
    ledger.save()
    again = Ledger(tmp_path / "ledger.json", 2)
    assert vars(again) == vars(ledger) and again.tasks[0].rows == {"knn": [0.5, 0.25]}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"random": null}', '{"random": null, "wandb_id": null, "tasks": [{"x": 1}]}']
)
def test_a_damaged_ledger(tmp_path, content):
    (tmp_path / "ledger.json").write_text(content)
    with pytest.raises(CassleError, match=r"ledger.json: damaged .*--overwrite"):
        Ledger(tmp_path / "ledger.json", 2)
