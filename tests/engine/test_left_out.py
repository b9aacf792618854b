"""Files that do not decode, or not with the engine: named, counted, and minded before the first task is trained."""

import pytest
from PIL import Image

from cassle.data import source
from cassle.data.engines import RESIDENT
from cassle.engine.experiment import Experiment
from cassle.engine.missing import batch_problems
from cassle.engine.tasks import TaskChain
from cassle.errors import ConfigError

from . import TINY, run

SMALL = {**TINY, "method": "simclr", "size": 8, "dataset": "custom", "num_workers": 1, "batch_size": 4}


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_a_task_that_loses_its_batch_is_told_before_any_training(engine, image_tree, tmp_path):
    """Its own turn would come after all the others', and the batch could not be changed any more."""
    root = image_tree({"cat": 4, "dog": 200, "emu": 4}, {"cat": 2, "dog": 2, "emu": 2}, suffixes=(".png",))
    lost = {root / "train" / "cat" / name: b"" for name in ("1.png", "2.png")}  # 2 of 208
    for path in lost:
        lost[path] = path.read_bytes()
        path.write_bytes(b"")
    said, settings = [], {**SMALL, "num_tasks": 3, "data_dir": root, "engine": engine, "disable_linear_eval": True}
    settings |= {"max_epochs": 1, "knn_k": 2, "say": said.append}
    with pytest.raises(ConfigError, match=r"task \d has only 2 images that are read") as caught:
        run(tmp_path, **settings)
    assert "bring back what was left out, or use --batch_size 2 or less and start anew with --ov" in str(caught.value)
    assert sum(line.startswith("Left out: 2 images that do not decode.\n") for line in said) == 1
    assert not [path for path in (tmp_path / "job").rglob("*") if path.suffix in (".ckpt", ".csv")]
    for path, content in lost.items():
        path.write_bytes(content)
    if engine == "resident":
        assert run(tmp_path, **settings)["probes"]  # the first advice can be followed


def test_a_task_without_a_batch_for_so_many_processes(image_tree):
    plan = Experiment(**SMALL, data_dir=image_tree()).plan
    assert batch_problems(plan.training, [4, 5]) == []
    assert batch_problems(plan.training, [4, 3, 2]) == [
        "--batch_size 4: task 1 has only 3 images for 1 process(es); use --batch_size 3 or less."
    ]
    (problem,) = batch_problems(plan.training, [0])
    assert problem.endswith("task 0 has only 0 images for 1 process(es); use fewer tasks.")


def test_what_is_left_out_for_dali_is_not_called_damaged(image_tree, truncated_image, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.2)
    root = image_tree({"cat": 10, "dog": 10})
    truncated_image(root / "train" / "cat" / "torn.jpg")
    for i in range(7):
        Image.new("P", (10, 8)).save(root / "train" / "dog" / f"still{i}.gif")
    said = []
    experiment = Experiment(**SMALL, data_dir=root, experiment_dir=tmp_path / "job")
    monkeypatch.setattr(experiment.plan, "choose_engine", lambda: RESIDENT._replace(name="dali"))
    images = TaskChain(experiment.plan, experiment.folder, said.append)._load_images()
    assert len(images.train.targets) == 20 and len(images.skipped) == 1 and len(images.left_out) == 7
    torn, foreign = (line.splitlines() for line in said if line.startswith("Left out"))
    assert torn[0] == "Left out: 1 images that do not decode." and "torn.jpg: truncated" in torn[1] and len(torn) == 2
    assert foreign[0] == "Left out: 7 images that decode, but not with dali: other engines read them."
    assert len(foreign) == 7 and foreign[5].endswith("still4.gif") and foreign[6] == "  … and 2 more"
