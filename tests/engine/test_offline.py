"""The hardware of an offline evaluation, and the files of its results."""

import json
import shutil

import pytest
import torch

from cassle.cli import main_linear

from . import run

FLAGS = ["--knn_k", "2", "--few_labels", "0", "--disable_linear_eval", "--device", "cpu"]


@pytest.fixture
def threads():
    """A function that tells torch's threads; afterwards they are what they were."""
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_the_threads_of_torch(tmp_path, threads, capsys):
    run(tmp_path, method="simclr", max_epochs=1, disable_linear_eval=True, disable_online_eval=True)
    line = [*FLAGS, "--pretrained_feature_extractor", str(tmp_path / "job" / "task1" / "final.ckpt")]
    before = threads()
    assert main_linear(line) == 0 and threads() == before  # as they are
    assert main_linear([*line, "--num_threads", str(before + 1)]) == 0 and threads() == before + 1
    assert main_linear([*line, "--num_threads", "0"]) == 2
    assert "--num_threads 0: must be at least 1" in capsys.readouterr().err


# Results -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, image_tree):
    """A checkpoint of a run on a folder of images, and that folder."""
    root = image_tree(suffixes=(".png",))
    small = {"dataset": "custom", "data_dir": root, "size": 8, "num_workers": 1, "batch_size": 4, "max_epochs": 1}
    run(tmp_path, method="simclr", **small, disable_linear_eval=True, disable_online_eval=True, knn_k=2)
    return tmp_path / "job" / "task1" / "final.ckpt", root


def test_every_data_set_has_a_file_of_its_own(trained, tmp_path, capsys):
    """The name of a folder is not enough: there are many "images"."""
    checkpoint, root = trained
    places = [tmp_path / name / "A" for name in "xy"]
    for place in places:
        shutil.copytree(root, place)
    line = [*FLAGS, "--pretrained_feature_extractor", str(checkpoint)]
    custom = ["--dataset", "custom", "--num_tasks", "2", "--data_dir"]
    for more in ([], *([*custom, str(place)] for place in places), ["--dataset", "digits"], []):
        assert main_linear([*line, *more]) == 0
    found = {path.name: json.loads(path.read_text()) for path in checkpoint.parent.glob("*.json")}
    assert found.pop("linear.json")["evaluation"]["data_dir"] == str(root)
    assert found.pop("linear-digits.json")["num_tasks"] == 5
    assert all(name.startswith("linear-custom-A-") for name in found)
    assert {result["evaluation"]["data_dir"] for result in found.values()} == {str(place) for place in places}
    assert "moved" not in capsys.readouterr().out
    assert main_linear([*line, *custom, str(root)]) == 0  # the experiment's own, in other words
    assert len(list(checkpoint.parent.glob("*.json"))) == 4


def test_results_of_another_evaluation_are_moved_aside(trained, capsys):
    checkpoint, _ = trained
    line = [*FLAGS, "--pretrained_feature_extractor", str(checkpoint)]
    kept = checkpoint.with_name("linear.json")
    kept.write_text("not ours")
    for more in ([], ["--knn_k", "3"], ["--knn_k", "3", "--num_workers", "2"]):
        assert main_linear([*line, *more]) == 0
    assert json.loads(kept.read_text())["evaluation"]["knn_k"] == 3
    assert checkpoint.with_name("linear.old-1.json").read_text() == "not ours"
    assert json.loads(checkpoint.with_name("linear.old-2.json").read_text())["evaluation"]["knn_k"] == 2
    assert not checkpoint.with_name("linear.old-3.json").exists()
    assert f"another evaluation; they are now in {checkpoint.with_name('linear.old-2.json')}" in capsys.readouterr().out
