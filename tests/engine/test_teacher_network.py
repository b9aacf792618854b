"""Evaluating the network that follows the student: ``--network teacher``."""

import pytest
import torch

from cassle import load_backbone
from cassle.engine.linear import evaluate_checkpoint
from cassle.errors import CheckpointError
from cassle.spelling import upstream_spelling
from tests.engine import BYOL, run

CCL = {"strategy": "ccl", "n_save": 2, "replay_batch_size": 8}


@pytest.mark.parametrize(
    "settings, prefix",
    [
        (BYOL, "momentum_teacher.stages.backbone."),
        ({"method": "simclr", "strategy": "aep", "aligner_dim": 8}, "slow.stages.backbone."),
        ({**BYOL, **CCL}, "ccl_teacher.stages.backbone."),
    ],
)
def test_the_teacher_is_read_and_evaluated(tmp_path, settings, prefix):
    run(tmp_path, **settings)
    final = tmp_path / "job" / "task1" / "final.ckpt"
    state = torch.load(final, weights_only=True)["state_dict"]
    for network, known in {"student": "backbone.", "teacher": prefix}.items():
        encoder = load_backbone(final, network=network)
        for name, value in encoder.backbone.state_dict().items():
            assert torch.equal(value, state[known + name]), name
    values = {"pretrained_feature_extractor": final, "few_labels": 0, "disable_linear_eval": True, "device": "cpu"}
    found = [evaluate_checkpoint({**values, "network": n}, say=lambda _: None) for n in ("student", "teacher")]
    assert [result["protocol"]["network"] for result in found] == ["student", "teacher"]
    assert found[0]["probes"] != found[1]["probes"]
    assert {path.name for path in final.parent.glob("*.json")} == {"linear.json", "linear-teacher.json"}


def test_of_a_folder_the_tasks_that_have_no_teacher_give_their_student(tmp_path):
    run(tmp_path, **{**BYOL, **CCL, "method": "simclr", "pred_hidden_dim": None})
    said = []
    values = {"few_labels": 0, "disable_linear_eval": True, "device": "cpu", "network": "teacher"}
    folder = evaluate_checkpoint({**values, "pretrained_feature_extractor": tmp_path / "job"}, say=said.append)
    final = tmp_path / "job" / "task1" / "final.ckpt"
    last = evaluate_checkpoint({**values, "pretrained_feature_extractor": final}, say=said.append)
    assert "Task 0 has no teacher: its student is evaluated." in said
    assert folder["probes"]["knn"]["accuracy_matrix"][1] == last["probes"]["knn"]["per_task"]


def test_where_there_is_no_teacher_it_is_told(tmp_path):
    run(tmp_path, method="simclr")
    final = tmp_path / "job" / "task0" / "final.ckpt"
    with pytest.raises(CheckpointError, match=r"--network teacher: .*final\.ckpt holds none"):
        load_backbone(final, network="teacher")
    weights = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.zeros(1)}, weights)
    with pytest.raises(CheckpointError, match=r"--network teacher: .* weights from elsewhere"):
        load_backbone(weights, "tiny", network="teacher")


def test_ccls_word_for_it():
    assert upstream_spelling({"use_teacher_weight": "True"}, print)[0] == {"network": "teacher"}
