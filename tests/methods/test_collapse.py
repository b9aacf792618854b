"""Trained on real images, no objective collapses, and each encoder knows more than before it was trained."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cassle import METHODS, Experiment
from cassle.data.centre import centre_view
from cassle.engine import handoff
from cassle.evaluation import report
from cassle.methods import simclr
from cassle.nn.state import load_strictly

# The settings are the benchmark's: what is shown to work is what its page reports.
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
_SPEC = importlib.util.spec_from_file_location("methods_benchmark", BENCHMARKS / "methods.py")
benchmark = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(benchmark)
sys.path.remove(str(BENCHMARKS))

#: one task of ten epochs on all digits; no probe but ridge
ONE_TASK = {
    "num_tasks": 1, "split_strategy": "data", "max_epochs": 10, "batch_size": 128, "checkpoint_frequency": 10,
    "few_labels": 0, "disable_knn_eval": True, "accelerator": "cpu",
}  # fmt: skip
#: of the spread that directions have which are spread evenly over the sphere
SMALLEST_SPREAD = 0.2


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    """Drawing takes as long as training here."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


def trained(method, folder):
    """Train and return the run, with its model in eval mode, and the results."""
    settings = {**benchmark.settings(method), **ONE_TASK}
    run = Experiment(**settings, experiment_dir=folder, say=lambda line: None)
    results = run.run()
    weights = handoff.read(folder / "task0" / "final.ckpt", run.plan).weights
    model = run.plan.build_model()
    load_strictly(model, weights, ignore=model.transient)
    return run.plan, model.eval(), results


@torch.no_grad()
def projections(plan, model):
    """Return z of the validation images, (images, dim)."""
    recipe = plan.eval_recipe
    images = plan.data.load(plan.size).val.pixels
    return model.projector(model.backbone(centre_view(images, recipe.size, recipe.mean, recipe.std)))


def spread(z):
    """Return the mean over dimensions of the normalised z's standard deviation, times sqrt(dim): 1 = even, 0 = none."""
    return float(F.normalize(z, dim=1).std(dim=0).mean()) * z.shape[1] ** 0.5


def problems(z, results):
    """Return what is wrong with a trained network; the check of every test here."""
    ridge = results["probes"]["ridge"]
    wrong = []
    if not spread(z) > SMALLEST_SPREAD:
        wrong.append(f"collapsed: z has a spread of {spread(z):.3f}")
    if not ridge["average_accuracy"] > sum(ridge["random"]) / len(ridge["random"]):
        wrong.append(f"learnt nothing: ridge {ridge['average_accuracy']:.3f}, random encoder {ridge['random'][0]:.3f}")
    return wrong


@pytest.mark.parametrize("method", METHODS)
def test_no_method_collapses(method, tmp_path):
    plan, model, results = trained(method, tmp_path / "run")
    assert not problems(projections(plan, model), results)


def test_attraction_alone_collapses_and_is_caught(tmp_path, monkeypatch):
    def attraction(a, b, **settings):
        return -F.cosine_similarity(a, b, dim=1).mean()

    monkeypatch.setattr(simclr, "nt_xent", attraction)
    plan, model, results = trained("simclr", tmp_path / "run")
    assert any(text.startswith("collapsed") for text in problems(projections(plan, model), results))


def test_a_constant_z_and_an_untrained_encoder_are_caught():
    z = torch.ones(30, 8) + 1e-3 * torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    results = {"probes": {"ridge": {"random": [0.9], "average_accuracy": 0.9}}}
    assert [text.split(":")[0] for text in problems(z, results)] == ["collapsed", "learnt nothing"]


def test_the_spread_of_even_directions_is_one():
    z = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(z) == pytest.approx(1, abs=0.02)
    assert spread(z + 5) < 0.3  # a common direction
