"""Results say which run they are of: what was chosen, and the tasks; the same bytes wherever the run lies."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from cassle.engine.identity import MACHINES, identity_of
from cassle.engine.linear import evaluate_checkpoint
from cassle.engine.plan import Plan

from . import TINY, run

SMALL = {
    "method": "simclr", "dataset": "custom", "size": 8, "batch_size": 4, "max_epochs": 1, "knn_k": 2,
    "disable_linear_eval": True, "disable_online_eval": True, "strategy": "kaizen", "label_fraction": 0.5,
    "mem_size": 4, "replay_batch_size": 4,
}  # fmt: skip


def test_results_say_which_run_they_are_of(image_tree, tmp_path):
    root = image_tree(suffixes=(".png",))
    places = {"here": root, "elsewhere": tmp_path / "copy"}
    shutil.copytree(root, places["elsewhere"])
    for number, (name, place) in enumerate(places.items()):
        results = run(tmp_path / name, **SMALL, data_dir=place, num_workers=1 + number)
    kinds = ("results.json", "report.html")
    files = [[(tmp_path / name / "job" / kind).read_bytes() for name in places] for kind in kinds]
    assert all(here == elsewhere for here, elsewhere in files)
    found = json.loads(files[0][0])
    assert found == results and str(tmp_path).encode() not in files[0][0] + files[1][0]
    assert found["settings"]["label_fraction"] == 0.5 and found["settings"]["max_epochs"] == 1
    assert {"label_fraction", "mem_size", "max_epochs", "strategy", "size"} <= {*found["not_default"]}
    assert not {"lr", "num_workers", "data_dir", "name", "memory"} & {*found["not_default"]}
    assert sorted(found["tasks"]) == [["cat"], ["dog"]]
    page = files[1][0].decode()
    settings = page[page.index("<h2>Settings</h2>") : page.index("<h2>Tasks</h2>")]
    assert "<dt>label_fraction</dt><dd>0.5</dd>" in settings and "<dt>lr</dt>" not in settings
    assert "<dt>task 0</dt><dd>" in page[page.index("<h2>Tasks</h2>") :]
    again = evaluate_checkpoint(
        {"pretrained_feature_extractor": tmp_path / "here" / "job", "device": "cpu", "few_labels": 0, "knn_k": 2,
         "disable_linear_eval": True}, say=lambda line: None,
    )  # fmt: skip
    assert all(again[name] == found[name] for name in ("settings", "not_default", "tasks"))


def test_machines_and_places_are_no_part_of_it(tmp_path):
    plan = Plan({**TINY, "method": "simclr"})
    there = {
        "experiment_dir": tmp_path, "num_threads": 3, "accelerator": "cpu", "num_workers": 9, "checkpoint_minutes": 1.0,
        "name": "x", "verified_dir": tmp_path, "wandb": True, "project": "p", "dataset": "custom",
        "data_dir": tmp_path, "train_list": tmp_path / "a", "val_list": tmp_path / "b", "engine": "workers",
    }  # fmt: skip
    other = identity_of(Plan({**TINY, "method": "simclr", **there}), None)
    assert other["settings"] == {**identity_of(plan, None)["settings"], "dataset": "custom"}
    assert not MACHINES & other["settings"].keys() and {*plan.schema.names} >= MACHINES
    paths = {name for name, kind in plan.schema._types.items() if kind is Path or Path in get_args(kind)}
    assert {"data_dir", "eval_data_dir", "base_experiment_dir"} <= paths and not paths & other["settings"].keys()


def test_weights_that_a_run_starts_from(tmp_path):
    found = identity_of(Plan({**TINY, "method": "simclr", "pretrained_model": tmp_path / "w.pth"}), None)
    assert found["settings"]["pretrained_model"] == "given" and "pretrained_model" in found["not_default"]


@pytest.mark.parametrize(
    "contents, tasks",
    [([[1, 0], [2]], [["b", "a"], ["c"]]), (["real", "sketch"], ["real", "sketch"]), ([], None)],
)
def test_the_content_of_tasks(contents, tasks):
    manifest = {"classes": ["a", "b", "c"], "tasks": [{"contents": own} for own in contents]}
    assert identity_of(Plan({**TINY, "method": "simclr"}), manifest)["tasks"] == tasks
