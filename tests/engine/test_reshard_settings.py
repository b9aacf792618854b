"""What may differ when a run goes on with another number of processes, what must stay, and what is noted."""

import re

import pytest

from cassle.engine.choice import Choice, schema_for
from cassle.engine.folder import ExperimentFolder
from cassle.engine.ledger import Ledger
from cassle.engine.reshard import PER_PROCESS, deal_anew, problems, refusal
from cassle.errors import ConfigError
from cassle.strategies import STRATEGIES

CONFIG = {"devices": 2, "num_nodes": 1, "gpus": None, "batch_size": 24, "replay_batch_size": 8, "lr": 0.3}


def claimed(folder, **changes):
    """Claim a folder of ``CONFIG`` with other settings; return the line that is said, and the problems."""
    config = {**CONFIG, **changes}
    ledger = Ledger(folder.path / "ledger.json", 2)
    try:
        folder.claim(config, resharding=True)
    except ConfigError as error:
        return None, error.problems
    return deal_anew(folder, ledger, config), []


@pytest.fixture
def folder(tmp_path):
    made = ExperimentFolder(tmp_path)
    made.claim(CONFIG)
    ledger = Ledger(tmp_path / "ledger.json", 2)
    ledger.tasks[0].status = "done"
    ledger.save()
    return made


def test_every_setting_per_process_is_known():
    choices = [Choice(strategy=strategy, memory=STRATEGIES[strategy].default_memory) for strategy in STRATEGIES]
    found = set()
    for choice in choices:
        for action in schema_for(choice).parser._actions:
            if re.search(r"(per|and) process\b", action.help or ""):
                found.add(action.dest)
    assert found == set(PER_PROCESS)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"devices": 1}, "--batch_size 24: 1 process would take 24 images at a time, and the run was begun with 48 "
         r"\(2 processes of 24\); give --batch_size 48 or --devices for 2 processes\."),
        ({"devices": 1, "batch_size": 48}, "--replay_batch_size 8: .* give --replay_batch_size 16"),
        ({"devices": 5, "batch_size": 9}, r"--batch_size 9: .*a number of processes that divides it \(1, 2, 4, 8\)"),
        ({"gpus": [0, 1, 2, 3], "batch_size": 6, "replay_batch_size": 4}, "--batch_size 6: .*--batch_size 12"),
        ({"devices": 1, "batch_size": 48, "replay_batch_size": 16, "lr": 0.4}, "--lr: 0.3 there, 0.4 now"),
        ({"batch_size": 12}, "--batch_size 12: .*--batch_size 24"),
    ],
)  # fmt: skip
def test_what_all_processes_do_together_must_stay(changes, expected, folder):
    said, problems = claimed(folder, **changes)
    assert said is None and re.search(expected, "\n".join(problems)), problems
    assert folder.saved() == CONFIG and not Ledger(folder.path / "ledger.json", 2).resharded


def test_it_is_noted_once_and_the_settings_are_the_new_ones(folder):
    changes = {"devices": 1, "num_nodes": 4, "batch_size": 12, "replay_batch_size": 4}
    assert claimed(folder, **changes)[0].startswith("Resharded: 4 processes instead of 2 from task 1 on. ")
    folder.write(CONFIG)  # as after a kill between the two writes
    claimed(folder, **changes)
    assert Ledger(folder.path / "ledger.json", 2).resharded == [{"task": 1, "step": 0, "from": 2, "to": 4}]
    assert folder.saved() == {**CONFIG, **changes}
    assert claimed(folder, **changes) == ("Note: --reshard: 4 processes, as before; nothing changes.", [])


def test_other_devices_are_noted_too(folder):
    line, _ = claimed(folder, accelerator="gpu")
    assert line.startswith("Resharded: 2 processes on other devices from task 1 on. ")
    assert Ledger(folder.path / "ledger.json", 2).resharded == [{"task": 1, "step": 0, "from": 2, "to": 2}]


def test_before_anything_was_trained_nothing_is_noted(folder):
    (folder.path / "ledger.json").unlink()
    said, _ = claimed(folder, devices=1, batch_size=48, replay_batch_size=16)
    assert said == "Resharded: 1 process instead of 2; nothing was trained yet."
    assert not (folder.path / "ledger.json").exists() and folder.saved()["devices"] == 1


def test_a_finished_run_is_left_as_it_is(folder):
    ledger = Ledger(folder.path / "ledger.json", 2)
    for record in ledger.tasks:
        record.status = "done"
    ledger.save()
    assert claimed(folder, devices=1, batch_size=48, replay_batch_size=16) == (None, [])
    assert folder.saved() == CONFIG


def test_a_memory_batch_of_as_many_as_arrive_goes_on_as_that():
    before = {"devices": 2, "batch_size": 24, "replay_batch_size": None}
    now = {"devices": 1, "batch_size": 48}
    assert not problems(before, {**now, "replay_batch_size": None})
    assert not problems(before, {**now, "replay_batch_size": 48})
    assert problems(before, {**now, "replay_batch_size": 24})
    assert len(problems(before, {**before, "devices": 1})) == 1  # not of what follows --batch_size
    assert refusal(before, {**before, "gpus": [0, 1]}) is None
    assert "--reshard --batch_size 48 continues" in refusal(before, {**before, "devices": 1})


@pytest.mark.parametrize(
    "now, expected",
    [
        ({"devices": 1}, "--reshard --batch_size 48 --replay_batch_size 16 continues it"),
        ({"devices": 8, "replay_batch_size": 2}, "--reshard --batch_size 6 continues it"),
        ({"devices": 3}, r"does not continue it .*: --replay.* divides it \(1, 2, 4, 8\)\. Or give 2 processes"),
        ({"devices": 4, "batch_size": 12, "replay_batch_size": None}, "--reshard --replay_batch_size 4 continues it"),
    ],
)
def test_the_way_on_is_one(now, expected):
    """What is told to be given is taken, or it is said that there is nothing to give."""
    said = refusal(CONFIG, {**CONFIG, **now})
    assert re.search(expected, said), said
    if "continues it" in said:
        flags = re.findall(r"--(\w+) (\d+)", said.split("--reshard")[1])
        assert not problems(CONFIG, {**CONFIG, **now, **{name: int(value) for name, value in flags}})


def test_a_memory_batch_that_was_not_given_is_named_where_it_is_given_now():
    before = {"devices": 2, "batch_size": 24, "replay_batch_size": None}
    assert "--reshard --batch_size 48 --replay_batch_size 48 continues" in refusal(
        before, {"devices": 1, "batch_size": 24, "replay_batch_size": 8}
    )


def test_a_number_of_processes_is_told_that_fits_everything():
    before = {"devices": 2, "batch_size": 24, "replay_batch_size": 5}
    (batch, _) = problems(before, {**before, "devices": 1, "batch_size": 12})
    assert batch.startswith("--batch_size 12") and batch.endswith("give --batch_size 48.")  # 4 processes: 10 / 4
