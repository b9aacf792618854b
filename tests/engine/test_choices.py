"""What a method asks of the rest of a run, and what it refuses, by name and before anything starts."""

import pytest
import torch
import torchvision

from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.evaluation import report
from cassle.methods import METHODS
from tests.methods import SMALL

from . import Killed, assert_equal, kill_at_batch, outcome, run

TINY = {"backbone": "tiny", "width": 4}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"method": "byol", "num_small_crops": 4}, "--num_small_crops 4: byol takes no small crops; simclr, "),
        ({"method": "simclr", "num_crops": 1}, "--num_crops 1: simclr takes 2 or more full-size views"),
        ({"method": "mae", "num_crops": 2}, "--num_crops 2: mae takes 1 full-size views"),
        ({"method": "mae", "backbone": "resnet18"}, "--method mae: hides patches; use --backbone vit_tiny"),
        ({"method": "mae", "decoder_heads": 5}, "--decoder_heads 5: does not divide the width 192"),
        ({"method": "mae", "mask_ratio": 0.99}, "--mask_ratio 0.99: hides all of the 16 patches"),
        ({"method": "mae", "mask_ratio": 0.0}, "--mask_ratio 0.0: hides none of the 16 patches"),
        ({"method": "wmse", "batch_size": 128}, "--batch_size 128: wmse with these settings needs at least 129 images"),
        ({"method": "deepclusterv2", "max_epochs": 1}, "--max_epochs 1: deepclusterv2 learns nothing in the first"),
        ({"method": "wmse", "whitening_size": 128}, "--whitening_size 128: the covariance of so few images"),
        ({"method": "byol", "distiller": "knowledge"}, "needs prototypes, which swav, deepclusterv2, dino have"),
        ({"method": "simclr", "small_crop_size": 12, "num_small_crops": 1}, "--small_crop_size 12: above the 8 pixels"),
        ({"method": "simclr", "min_scale_small": 0.3, "num_small_crops": 1}, "--min_scale_small 0.3 --max_scale_small"),
        ({"method": "supcon", "dataset": "custom", "data_dir": ".", "no_labels": True, "split_strategy": "data"},
         "--no_labels: supcon needs labels"),
        ({"backbone": "vit_tiny", "patch_size": 3}, "--patch_size 3: does not divide images of 8 pixels"),
        ({"online_eval_batch_size": 1}, "--online_eval_batch_size 1: must be at least 2: the probe normalises"),
        ({"method": "dino", "distill_queue_size": 5}, "--distill_queue_size: needs --distiller relational"),
    ],
)  # fmt: skip
def test_refused(settings, words):
    with pytest.raises(ConfigError) as caught:
        Plan(settings)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


ALONE = "batch norm has the images of one process, and one has no variance; give 2 or more, or --sync_batchnorm."


@pytest.mark.parametrize(
    "settings, flag",
    [({"batch_size": 1}, "--batch_size 1"), ({"strategy": "minred", "replay_batch_size": 1}, "--replay_batch_size 1")],
)
def test_one_image_of_a_process_has_no_batch_statistics(settings, flag):
    two = {"method": "barlow_twins", "devices": 2, "accelerator": "cpu", "batch_size": 8, **TINY, **settings}
    with pytest.raises(ConfigError) as caught:
        Plan(two)
    assert caught.value.problems == [f"{flag}: {ALONE}"]
    synced = {**two, "sync_batchnorm": True, "online_eval_batch_size": 2}
    assert Plan(synced).training.images_per_step in (2, 16)
    with pytest.raises(ConfigError, match=r"needs at least 2 images \(of all processes\)"):
        Plan({**synced, "devices": 1})


def test_the_online_probe_has_batch_statistics_of_its_own():
    two = {"method": "mae", "devices": 2, "accelerator": "cpu", "batch_size": 1}  # no batch norm but the probe's
    with pytest.raises(ConfigError) as caught:
        Plan(two)
    (problem,) = caught.value.problems
    assert problem.startswith("--batch_size 1: the online probe") and "--online_eval_batch_size 2" in problem
    assert Plan({**two, "disable_online_eval": True}).online.disabled
    assert Plan({**two, "online_eval_batch_size": 2}).online.batch_size == 2


def test_a_methods_defaults_are_the_runs():
    plan = Plan({"method": "emp_ssl", "backbone": "tiny"})
    assert plan.augmentation.num_crops == len(plan.recipes) == 20
    assert plan.recipes[0].scale == (0.25, 0.25) and plan.config()["num_crops"] == 20
    plan = Plan({"method": "mae"})
    assert plan.backbone == "vit_tiny" and len(plan.recipes) == 1 and plan.recipes[0].jitter_prob == 0
    assert len(Plan({"method": "emp_ssl", "backbone": "tiny", "num_crops": 6}).recipes) == 6
    assert len(Plan({"backbone": "tiny"}).recipes) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distiller", [None, "auto"])
def test_every_method_can_be_run_as_it_is(method, distiller):
    """No other setting is needed: the defaults go together."""
    plan = Plan({"method": method, "distiller": distiller, "dataset": "cifar10", "data_dir": "."})
    assert plan.training.batch_size >= plan.build_model().smallest_batch or plan.training.batch_size >= 2
    expected = {"wmse": 1.0, "lejepa": 1.0, "mae": 1.0, "vicreg": 25.0}
    if distiller and method in expected:
        assert plan.config()["distill_lamb"] == expected[method]


def test_small_crops_follow_the_large_ones():
    settings = {"method": "swav", **TINY, "num_small_crops": 3, "solarization_prob": [0.0, 0.2]}
    recipes = Plan(settings).recipes
    assert [(r.size, r.local, r.scale) for r in recipes[1:3]] == [(8, False, (0.08, 1.0)), (3, True, (0.05, 0.14))]
    assert [r.local for r in recipes] == [False, False, True, True, True]
    assert {r.solarize_prob for r in recipes[2:]} == {0.2}
    recipes = Plan({**settings, "small_crop_size": 4, "min_scale_small": 0.1, "max_scale_small": 0.3}).recipes
    assert (recipes[-1].size, recipes[-1].scale) == (4, (0.1, 0.3))


@pytest.mark.parametrize("method", ["simclr", "swav", "dino"])
def test_multi_crop_from_end_to_end(method, tmp_path, monkeypatch):
    """Two tasks with two large and three small views, distilled, killed and continued."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")
    settings = {
        "method": method, "distiller": "auto", "num_small_crops": 3, "small_crop_size": 4, "max_epochs": 1,
        "distill_proj_hidden_dim": 16, **({"num_prototypes": 9} if method != "simclr" else {}),
    }  # fmt: skip
    run(tmp_path / "reference", **settings)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 1)
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **settings)
    run(tmp_path, checkpoint_minutes=0, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(tmp_path / "reference" / "job"))


def test_start_from_given_weights(tmp_path, monkeypatch):
    """--pretrained_model at task 0 is where the encoder starts, not a task that is done."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")
    run(tmp_path / "first", method="byol", pred_hidden_dim=16, num_tasks=1, split_strategy="data", max_epochs=1)
    weights = tmp_path / "first" / "job" / "task0" / "final.ckpt"
    settings = {"method": "simclr", "lr": 1e-9, "warmup_start_lr": 0, "max_epochs": 1}
    run(tmp_path / "second", pretrained_model=weights, **settings)
    before, after = (
        torch.load(path / "task0" / "final.ckpt", weights_only=True)["state_dict"]
        for path in (tmp_path / "first" / "job", tmp_path / "second" / "job")
    )
    names = [name for name in before if name.startswith("backbone.") and name.endswith("weight")]
    assert names and all(torch.allclose(before[name], after[name], atol=1e-5) for name in names)


def test_weights_that_do_not_fit_are_told_before_anything_starts(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    settings = {"method": "byol", "backbone": "resnet18", "pretrained_model": tmp_path / "r18.pth"}
    problems = Plan(settings).missing_here()
    assert len(problems) == 1 and "conv1.weight" in problems[0] and "3×3 stem; --size" in problems[0]
    assert Plan({**settings, "size": 72}).missing_here() == []


def test_small_settings_are_taken_by_somebody():
    from cassle.engine.choice import known_settings

    assert set(SMALL) <= known_settings()
