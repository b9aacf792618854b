"""Settings without a part in the run are named, and no others."""

import pytest

from cassle.engine.idle import PARTS, idle_notes
from cassle.engine.plan import Plan

BASE = {"method": "byol", "dataset": "digits", "backbone": "tiny", "width": 4}
#: values that differ from the defaults; with the first line they have no part, with the second they have
CASES = [
    ({"eta_lars": 0.02, "grad_clip_lars": True}, {}, {"lars": True}),
    ({"momentum": 0.5}, {"optimizer": "adamw"}, {}),
    ({"lr_decay_steps": [1], "lr_decay_gamma": 0.5}, {}, {"scheduler": "step"}),
    ({"warmup_epochs": 1, "warmup_start_lr": 0.001}, {"scheduler": "cosine"}, {}),
    ({"min_lr": 0.001}, {"scheduler": "none"}, {"scheduler": "cosine"}),
    (
        {"small_crop_size": 4, "min_scale_small": 0.1, "max_scale_small": 0.2},
        {"method": "simclr"},
        {"method": "simclr", "num_small_crops": 2},
    ),
    ({"train_dir": "a", "val_dir": "b", "verified_dir": "."}, {}, None),
    ({"schedule_interval": "epoch"}, {"scheduler": "none"}, {}),
    ({"domain_aware": False}, {}, {"split_strategy": "domain"}),
    ({"project": "a", "entity": "b"}, {}, {"offline": True}),
    ({"knn_k": 3, "knn_temperature": 0.1}, {"disable_knn_eval": True}, {}),
    ({"few_label_draws": 2}, {"few_labels": 0}, {}),
    ({"linear_l2": 0.1, "linear_max_iter": 3}, {"disable_linear_eval": True}, {}),
    (
        {
            "momentum_classifier": True, "classifier_lr": 0.1, "online_eval_batch_size": 8,
            "online_eval_data": "seen_tasks", "check_val_every_n_epoch": 3,
        },
        {"disable_online_eval": True},
        {},
    ),
]  # fmt: skip


def named(**settings):
    return [note.split()[1] for note in idle_notes(Plan({**BASE, **settings}))]


def test_every_part_is_tried():
    assert sorted(name for values, _, _ in CASES for name in values) == sorted(n for part in PARTS for n in part.names)


@pytest.mark.parametrize(("values", "without", "having"), CASES)
def test_a_setting_is_named_where_it_has_no_part(values, without, having):
    assert sorted(named(**values, **without)) == sorted(f"--{name}" for name in values)
    assert having is None or named(**values, **having) == []
    assert named(**without) == []  # nothing was asked for


def test_folders_have_a_part_where_there_are_files(image_tree):
    root = image_tree()
    assert named(dataset="custom", data_dir=root, verified_dir=root) == []


def test_a_note_says_what_it_is_for(capsys):
    (note,) = idle_notes(Plan({**BASE, "eta_lars": 0.02}))
    assert note == "Note: --eta_lars 0.02 has no part in this run; it is for --lars."
