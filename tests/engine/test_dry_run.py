"""What a dry run says of the images that will be read, and of the time that the training will take."""

import shlex

import pytest

from cassle.cli import main_continual
from cassle.data import source
from cassle.data.verified import QUARANTINE
from cassle.data.verify import verify
from cassle.engine import estimate
from cassle.engine.experiment import Experiment
from cassle.engine.plan import Plan
from cassle.engine.tasks import TaskChain
from cassle.strategies import STRATEGIES

from . import TINY

SMALL = {**TINY, "method": "simclr", "batch_size": 4, "num_workers": 1, "max_epochs": 1}
REPLAY = {
    **TINY, "method": "mocov2plus", "queue_size": 64, "batch_size": 16, "num_tasks": 2, "mem_size": 400,
    "replay_batch_size": 8,
}  # fmt: skip


@pytest.fixture
def damaged(image_tree, truncated_image, monkeypatch):
    """A tree of 20 + 4 images, two more that do not decode, and lists that know it."""
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.1)
    root = image_tree({"cat": 10, "dog": 10}, suffixes=(".png",))
    for number in range(2):
        truncated_image(root / "train" / "cat" / f"torn{number}.jpg")
    verify(root)
    return {**SMALL, "dataset": "custom", "data_dir": root, "size": 8}


def dry_run(capsys, code=0, **settings):
    words = [word for name, value in settings.items() for word in (f"--{name}", *shlex.split(str(value)))]
    assert main_continual(["--dry_run", *words]) == code
    said = capsys.readouterr()
    assert bool(said.err) is bool(code)
    return said.out + said.err


def counts(out):
    return sorted(int(line.split()[2]) for line in out.splitlines() if line.startswith("task "))


def test_what_is_in_quarantine_is_not_counted(damaged, capsys, tmp_path):
    settings = {**damaged, "engine": "workers"}
    out = dry_run(capsys, **settings)
    assert counts(out) == [10, 10] and "warning" not in out
    assert "Left out: 2 of 22 training images, which are in quarantine." in out and "Not looked at" not in out
    experiment, said = Experiment(**settings, experiment_dir=tmp_path / "e"), []
    (tmp_path / "e").mkdir()
    images = TaskChain(experiment.plan, experiment.folder, said.append)._load_images()
    assert counts(out) == sorted(len(part) for part in images.split.train)  # what the run itself reads
    assert any(line.startswith("Left out: 2 images that are in quarantine (python -m cassle verify).") for line in said)


def test_the_resident_engine_may_read_more_than_an_earlier_run(damaged, capsys):
    out = dry_run(capsys, **damaged)
    assert counts(out) == [10, 10] and "Engine: resident" in out
    assert "Left out: 2 of 22 training images, which are in quarantine." in out
    (damaged["data_dir"] / QUARANTINE).unlink()  # as if verify had never told of them
    out = dry_run(capsys, **damaged)
    assert counts(out) == [10, 12]
    assert "Left out: up to 2 of 22 training images, which did not decode in an earlier run; the engine resi" in out


def test_files_that_nobody_looked_at(damaged, noise_image, capsys):
    noise_image(damaged["data_dir"] / "train" / "dog" / "new.png")
    out = dry_run(capsys, **damaged, engine="workers")
    assert counts(out) == [10, 11]
    assert "Not looked at yet: 1 of 23 training images; the run will decode each once before it begins" in out


def test_too_little_is_left(damaged, capsys, monkeypatch):
    out = dry_run(capsys, 2, **{**damaged, "batch_size": 11, "split_strategy": "data"}, engine="workers")
    assert out.splitlines()[-1].startswith("  --batch_size 11: task 0 has only 10 images for 1 process(es)")
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.01)
    (damaged["data_dir"] / QUARANTINE).unlink()
    out = dry_run(capsys, **damaged, engine="workers")
    assert "warning: 2 of 22 images do not decode, more than 1%" in out


def test_a_list_of_files_is_counted_alone(damaged, capsys, tmp_path):
    listed = tmp_path / "train.txt"
    lines = [f"train/cat/{i}.png 0" for i in range(5)] + [f"train/dog/{i}.png 1" for i in range(4)]
    listed.write_text("\n".join([*lines, "train/cat/torn0.jpg 0"]))
    settings = {**damaged, "train_list": listed, "engine": "workers", "split_strategy": "data"}
    assert counts(dry_run(capsys, **settings)) == [4, 5]


def test_a_stream_of_what_is_left(damaged, capsys):
    words = {name: value for name, value in damaged.items() if name not in ("max_epochs", "warmup_epochs")}
    out = dry_run(capsys, **words, stream="class", engine="workers")
    assert "20 samples arrive, 4 at a time" in out and "Engine: workers; asked for; of a stream, threads" in out
    assert "making the views, for which 1 thread(s) decode what arrives; the slower of" in out


# Time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy, views",
    [
        ("er", [48, 48]), ("arp", [48, 48]), ("ccl", [32, 48]), ("kaizen", [32, 48]), ("der", [40, 40]),
        ("minred", [16, 16]), ("er+si", [48, 48]), ("lump", None), ("finetune", None), ("si", None),
    ],
)  # fmt: skip
def test_replay_is_part_of_the_time(strategy, views, capsys, monkeypatch):
    """719 images of task 0 and 718 of task 1, in batches of 16 with two views of each."""
    monkeypatch.setattr(estimate, "_views_per_second", lambda plan, model: 1.0)
    monkeypatch.setattr(estimate, "in_words", lambda seconds: f"{seconds:.3f} s")
    settings = {**REPLAY, "strategy": strategy}
    if not STRATEGIES[strategy].memories:
        settings = {name: value for name, value in settings.items() if name != "mem_size"}
    if views is None:
        settings.pop("replay_batch_size")
    out = dry_run(capsys, **settings)
    said = next(line for line in out.splitlines() if line.startswith("time: "))
    numbers = [int(line.split()[2]) for line in out.splitlines() if line.startswith("task ")]
    seconds = sum(2 * (n // 16) * v for n, v in zip(numbers, views or [32, 32], strict=True))
    assert said.startswith(f"time: {seconds:.3f} s of training at 1 views/s (measured here on the CPU)")
    assert (f"with --strategy {strategy} up to {max(views or [32])} views a step, without 32" in said) is bool(views)
    assert (f"what --strategy {strategy} does with its memory besides" in said) is bool(STRATEGIES[strategy].memories)


@pytest.mark.parametrize("strategy", ["er", "der", "minred", "arp", "ccl", "kaizen", "lump"])
def test_the_step_that_is_timed_is_one_without_replay(strategy):
    """A memory that has taken the first try's images would have the second one draw from it, without a source."""
    words = {name: value for name, value in REPLAY.items() if strategy != "lump" or name != "replay_batch_size"}
    plan = Plan({**words, "strategy": strategy})
    model = plan.build_model()
    assert estimate._views_per_second(plan, model) > 0 and len(model.memory) == 0


def test_a_distillers_teacher_begins_with_task_1(capsys, monkeypatch):
    monkeypatch.setattr(estimate, "_views_per_second", lambda plan, model: 1.0)
    monkeypatch.setattr(estimate, "in_words", lambda seconds: f"{seconds:.3f} s")
    settings = {**TINY, "method": "simclr", "batch_size": 16, "distiller": "auto"}
    out = dry_run(capsys, **settings)
    first, second = (int(line.split()[4]) for line in out.splitlines() if line.startswith("task "))  # steps
    assert f"time: {16 * 2 * (first + second * 4 / 3):.3f} s of training" in out
    assert "; from task 1 on a third more for the teacher of --distiller contrastive. Not counted" in out
    del settings["distiller"]
    assert "teacher" not in dry_run(capsys, **settings).partition("time: ")[2]


@pytest.mark.parametrize(
    "seconds, words",
    [(89, "about 89 s"), (90, "about 2 min"), (5400, "about 1.5 h"), (47.9 * 3600, "about 47.9 h"),
     (48 * 3600, "about 2.0 days"), (2400 * 3600, "about 100.0 days")],
)  # fmt: skip
def test_a_time_in_words(seconds, words):
    assert estimate.in_words(seconds) == words


def test_a_slow_network_is_timed_with_few_images(monkeypatch):
    """A step of 16 large images has taken a minute of a dry run."""
    plan, timed = Plan({**TINY, "method": "simclr"}), []

    def of(each):
        timed.clear()
        monkeypatch.setattr(estimate, "_seconds_of_step", lambda _, __, images: timed.append(images) or each * images)
        return estimate._views_per_second(plan, plan.build_model()) == pytest.approx(2 / each)

    assert of(0.01) and timed == [2, 16, 16]
    assert of(1.0) and timed == [2, 2]  # 16 would take 16 s
    assert of(4.0) and timed == [2]


# What cannot be ------------------------------------------------------------------------------------------------------


def test_what_no_machine_can_train_is_an_error(image_tree, capsys, monkeypatch):
    """The rest is printed all the same, and nothing is timed for it."""
    monkeypatch.setattr(estimate, "_seconds_of_step", None)
    settings = {**SMALL, "dataset": "custom", "data_dir": image_tree({"cat": 10, "dog": 10}), "size": 8}
    out = dry_run(capsys, 2, **{**settings, "batch_size": 128})
    assert "task 0: 10 images, 0 steps of 128" in out and "\ntime: 0; nothing can be trained\n" in out
    assert out.splitlines()[-1] == (
        "  --batch_size 128: task 0 has only 10 images for 1 process(es); use --batch_size 10 or less."
    )
    assert "warning" not in out
    out = dry_run(capsys, 2, **{**settings, "num_tasks": 3})
    assert "--num_tasks 3: does not divide the 2 classes" in out.splitlines()[-1]
    words = {name: value for name, value in settings.items() if name not in ("max_epochs", "warmup_epochs")}
    out = dry_run(capsys, 2, **{**words, "batch_size": 32}, stream="class")
    assert "--batch_size: the stream has 20 samples, which is not one batch of 32" in out.splitlines()[-1]


def test_what_is_known_of_a_data_set_that_is_not_here(capsys, tmp_path):
    settings = {**SMALL, "dataset": "cifar100", "data_dir": tmp_path, "num_tasks": 20}
    out = dry_run(capsys, **settings)
    assert "warning: " in out and "CIFAR100" in out and out.splitlines()[-1].startswith("time: about ")
    out = dry_run(capsys, 2, **{**settings, "batch_size": 4096})
    assert "task 0 has only 2500 images" in out.splitlines()[-1] and "CIFAR100" in out


def test_decoding_is_named_where_it_may_be_what_takes_the_time(damaged, capsys):
    out = dry_run(capsys, **damaged, engine="workers")
    assert (
        "Not counted: evaluation; making the views, for which the engine workers decodes every image in every epoch "
        "(1 process(es)); the slower of the two, network or decoding, sets the time."
    ) in out
    assert "Not counted: evaluation; making the views.\n" in dry_run(capsys, **damaged)


def test_notes_are_told_before_the_run(capsys):
    settings = {"method": "simclr", "dataset": "digits", "backbone": "tiny", "width": 4, "eta_lars": 0.02}
    assert "Note: --eta_lars 0.02 has no part in this run; it is for --lars." in dry_run(capsys, **settings)


def test_a_note_that_cannot_be_found_out_is_no_error(capsys, tmp_path):
    settings = {"method": "simclr", "dataset": "custom", "data_dir": tmp_path, "train_dir": "a", "backbone": "tiny"}
    out = dry_run(capsys, **settings)
    assert "warning: " in out and "Note: --train_dir" not in out
