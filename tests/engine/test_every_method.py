"""Every method with its own distiller, killed midway and continued; and every method on every backbone family."""

import pytest
import torch

from cassle.data.batch import Batch
from cassle.engine.choice import model_class
from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.evaluation import report
from cassle.methods import METHODS
from cassle.nn import BACKBONES
from tests.methods import SMALL, num_views, small

from . import Killed, assert_equal, kill_at_batch, outcome, run

#: two tasks of two epochs of two steps: what happens at the start of an epoch happens, and there is a middle of one
TWO_STEPS = {"batch_size": 320, "max_epochs": 2, "warmup_epochs": 0, "lr": 0.1}
SIZES = {**SMALL, "output_dim": 8, "proj_hidden_dim": 16, "pred_hidden_dim": 16, "queue_size": 600}


def settings_of(method: str, distiller: str | None = None) -> dict:
    """Return the settings of a tiny run of a method."""
    more = {"method": method, "distiller": distiller, **TWO_STEPS, **small(model_class(method, distiller), SIZES)}
    if method == "mae":
        more |= {"backbone": "vit_tiny", "depth": 1, "width": None, "output_dim": None, "proj_hidden_dim": None}
    if method == "emp_ssl":
        more["num_crops"] = 3
    if method == "swav":
        more["epoch_queue_starts"] = 1
    return more


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    """Drawing takes longer than training here; the picture has a test of its own."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


@pytest.mark.parametrize("method", METHODS)
def test_killed_in_the_middle_of_an_epoch_and_continued(method, tmp_path, monkeypatch):
    settings = settings_of(method, METHODS[method].auto_distiller)
    run(tmp_path / "reference", **settings)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 3)  # the second batch of the second epoch
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **settings)
    assert (tmp_path / "job" / "task1" / "last.ckpt").is_file()
    run(tmp_path, checkpoint_minutes=0, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(tmp_path / "reference" / "job"))
    assert "distill" in (tmp_path / "job" / "task1" / "metrics.csv").read_text()


# Backbones -----------------------------------------------------------------------------------------------------------

FAMILIES = {
    "tiny": {"width": 4},
    "resnet18": {},
    "slim_resnet18": {},
    "slim_resnet9": {},
    "vit_tiny": {"depth": 1},
    "timm/test_vit": {"size": 160},
    "timm/test_resnet": {},
}


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_on_every_backbone(method, backbone):
    if backbone.startswith("timm/"):
        pytest.importorskip("timm", reason="the extra timm is not installed")
    settings = {k: v for k, v in settings_of(method).items() if k not in ("backbone", "depth") and v is not None}
    settings |= {"backbone": backbone, **FAMILIES[backbone]}
    if method == "mae" and not backbone.startswith("vit"):
        with pytest.raises(ConfigError, match="--backbone vit_tiny"):
            Plan(settings)
        return
    plan = Plan(settings)
    model = plan.build_model()
    model.settle(num_train=16, num_classes=2)
    model.begin_task(0, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = next(p for p in model.backbone.parameters() if p.ndim == 4).clone()
    draws = torch.Generator().manual_seed(0)
    for step in range(2):
        model.begin_epoch(step)
        size = plan.size
        views = [torch.randn(16, 3, size, size, generator=draws) for _ in range(num_views(method))]
        batch = Batch(torch.arange(16), views, torch.arange(16) % 2, len(views))
        loss = torch.stack(list(model.losses(batch, model.forward_views(views)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step(step + 1, 2)
        assert loss.isfinite()
    assert not torch.equal(next(p for p in model.backbone.parameters() if p.ndim == 4), before)


def test_the_families_are_of_all_kinds():
    modules = {BACKBONES[name].__module__ for name in BACKBONES}
    assert {BACKBONES[name].__module__ for name in FAMILIES if not name.startswith("timm/")} == modules
