"""Kaizen from end to end: killed and continued, watched, and evaluated again from its folder."""

import json

import pytest
import torch

from cassle.cli import main_continual, main_linear
from cassle.engine.linear import evaluate_checkpoint, problems_of
from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.evaluation import report
from tests.engine import BYOL, DISTILLED, Killed, assert_equal, kill_at_batch, outcome, run, weights

KAIZEN = {
    "strategy": "kaizen", "classifier_layers": [8], "replay_proportion": 0.05, "replay_batch_size": 16,
    "label_fraction": 0.5, "memory": "herding", "warmup_epochs": 0, **BYOL, **DISTILLED,
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    """Drawing takes longer than training here; the picture has a test of its own."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing interrupted."""
    base = tmp_path_factory.mktemp("kaizen")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "heatmap_png", lambda results, title: b"a picture")
        return base, run(base, **KAIZEN)


def read(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def teachers(state: dict) -> dict:
    """Return the frozen encoder and classifier under the names that they had in the previous task."""
    prefixes = ("teacher.stages.", "classifier_teacher.stages.")
    return {name.removeprefix(p): v for name, v in state.items() for p in prefixes if name.startswith(p)}


def test_killed_and_continued_with_the_same_teacher(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 2)
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **KAIZEN)
    job = tmp_path / "job"
    before, midway = read(job / "task0" / "final.ckpt"), read(job / "task1" / "last.ckpt")
    run(tmp_path, checkpoint_minutes=0, **KAIZEN)
    assert_equal(outcome(job), outcome(finished[0] / "job"))
    for state in (midway, read(job / "task1" / "final.ckpt")):
        frozen = teachers(state)
        assert {"classifier.0.weight", "classifier.2.bias"} <= frozen.keys() and len(frozen) > 10
        assert all(torch.equal(value, before[name]) for name, value in frozen.items())
        assert not torch.equal(state["classifier.0.weight"], before["classifier.0.weight"])


def test_the_classifier_has_a_row_beside_the_probes(finished):
    base, results = finished
    found = results["probes"]["classifier"]
    assert len(found["accuracy_matrix"]) == 2 and len(found["random"]) == 2 and next(iter(results["probes"])) == "knn"
    assert found["final_accuracy"] == pytest.approx(sum(found["accuracy_matrix"][1]) / 2)
    ledger = json.loads((base / "job" / "ledger.json").read_text())
    assert [record["rows"]["classifier"] for record in ledger["tasks"]] == found["accuracy_matrix"]
    assert ledger["random"]["classifier"] == found["random"]
    assert "the model's own" in results["protocol"]["probes"]["classifier"]
    assert "classifier" in (base / "job" / "accuracy_matrix.csv").read_text()
    assert "continual accuracy" in (base / "job" / "report.html").read_text()
    header = (base / "job" / "task1" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"byol", "distill", "classifier", "soft_label"} <= set(header)


def test_neither_the_online_probe_nor_a_detached_classifier_touches_the_encoder(finished, tmp_path):
    settings = {**KAIZEN, "disable_linear_eval": True}
    run(tmp_path / "a", **settings, disable_online_eval=True)
    run(tmp_path / "b", **settings, classifier_loss_weight=0.5, soft_label=False)
    expected = {k: v for k, v in weights(finished[0] / "job", 1).items() if " model backbone." in k}
    for found in (weights(tmp_path / "a" / "job", 1), weights(tmp_path / "b" / "job", 1)):
        assert_equal({k: v for k, v in found.items() if " model backbone." in k}, expected)


# Evaluating the folder -----------------------------------------------------------------------------------------------


def offline(folder, **settings) -> dict:
    settings = {"few_labels": 0, "linear_max_iter": 3, **settings}
    return evaluate_checkpoint({"pretrained_feature_extractor": str(folder), **settings}, say=lambda line: None)


def test_a_folder_is_evaluated_in_one_command(finished, tmp_path, capsys):
    base, results = finished
    job = base / "job"
    code = main_linear(["--pretrained_feature_extractor", str(job), "--few_labels", "0", "--linear_max_iter", "3"])
    out, _ = capsys.readouterr()
    assert code == 0 and "After task 1" in out and "CA " in out
    found = json.loads((job / "linear.json").read_text())
    assert found["probes"] == results["probes"] and found["num_tasks"] == 2 and found["checkpoint"] == str(job)
    one = offline(job / "task1" / "final.ckpt", output=str(tmp_path / "one.json"))
    assert {p: n["per_task"] for p, n in one["probes"].items()} == {
        p: n["accuracy_matrix"][1] for p, n in results["probes"].items()
    }


def test_a_folder_on_other_data(finished, tmp_path):
    found = offline(finished[0] / "job", dataset="digits", num_tasks=5, output=str(tmp_path / "five.json"))
    assert (
        len(found["probes"]["classifier"]["accuracy_matrix"][1]) == 5
        and found["probes"]["knn"]["forgetting"] is not None
    )
    with pytest.raises(ConfigError, match=r"--num_tasks 1: .* holds 2 tasks"):
        offline(finished[0] / "job", dataset="digits", num_tasks=1)


def test_a_folder_with_a_gap_is_refused(tmp_path):
    problems = problems_of({"pretrained_feature_extractor": str(tmp_path)})
    assert len(problems) == 1 and "task0/final.ckpt is missing" in problems[0]
    (tmp_path / "task1").mkdir()
    (tmp_path / "task1" / "final.ckpt").touch()
    (tmp_path / "task10").mkdir()
    (tmp_path / "task10" / "final.ckpt").touch()
    assert "task0/final.ckpt is missing" in problems_of({"pretrained_feature_extractor": str(tmp_path)})[0]
    of_one_task = problems_of({"pretrained_feature_extractor": str(tmp_path / "task10")})
    assert len(of_one_task) == 1 and "task10: is a folder; give a file, e.g. " in of_one_task[0]


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"dataset": "custom", "data_dir": ".", "no_labels": True, "split_strategy": "data"},
            "kaizen learns from labels",
        ),
        ({"label_tasks": [1, 7, 9]}, "--label_tasks 7 9: there are only 5 tasks"),
        ({"memory": "reservoir"}, "--memory reservoir: --strategy kaizen takes first_k or random or herding."),
        ({"feature_ema": 0.9}, "--feature_ema: needs --strategy arp or --memory minred"),
        ({"label_fraction": 0}, "--label_fraction 0.0: must be above 0, up to 1"),
        ({"head_lr": 0}, "--head_lr 0.0: must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ConfigError) as caught:
        Plan({"strategy": "kaizen", "backbone": "tiny", **settings})
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_its_settings_belong_to_it(capsys):
    assert main_continual(["--soft_label_lamb", "3", "--dry_run"]) == 2
    assert "--soft_label_lamb: belongs to --strategy kaizen, not finetune." in capsys.readouterr().err
