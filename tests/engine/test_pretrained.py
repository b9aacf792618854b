"""From a checkpoint to an encoder, and to its accuracies."""

import pytest
import torch

import cassle
from cassle.engine import checkpoint
from cassle.engine.plan import Plan
from cassle.engine.pretrained import load_backbone, read_encoder
from cassle.errors import CheckpointError, ConfigError

SETTINGS = {"backbone": "tiny", "width": 4, "output_dim": 8, "proj_hidden_dim": 8, "size": 12}


@pytest.fixture
def saved(tmp_path):
    """A hand-off checkpoint and the model that it holds, with statistics that are not those of a fresh model."""

    def save(**settings):
        plan = Plan({**SETTINGS, **settings})
        model = plan.build_model()
        model.backbone(torch.randn(16, 3, 12, 12))
        recipe = plan.eval_recipe
        about = {
            "config": plan.config(),
            "size": recipe.size,
            "mean": list(recipe.mean),
            "std": list(recipe.std),
            "task": 0,
        }
        path = tmp_path / "final.ckpt"
        checkpoint.save(path, {"state_dict": model.state_dict(), "cassle": about})
        return path, model.eval()

    return save


IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_images_to_features(saved):
    path, model = saved()
    encoder = load_backbone(path)
    assert not encoder.training and encoder.num_features == 16 and encoder.size == 12
    features = encoder(IMAGES)
    assert features.shape == (5, 16) and torch.equal(features, encoder(IMAGES))
    assert torch.equal(features, encoder(IMAGES.float() / 255))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    grey = torch.full((2, 3, 12, 12), 51, dtype=torch.uint8)  # resizing leaves it alone
    torch.testing.assert_close(encoder(grey), model.backbone((grey / 255 - mean) / std))


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.randn(2, 3, 8, 8), "not normalised"),
        (torch.full((2, 3, 8, 8), float("nan")), "not normalised"),
        (torch.zeros(2, 1, 8, 8), "square colour images"),
        (torch.zeros(3, 8, 8), "square colour images"),
        (torch.zeros(2, 3, 8, 9), "square colour images"),
    ],
)
def test_images_of_another_kind_are_refused(saved, images, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(saved()[0])(images)


def test_the_configuration_comes_along(saved):
    config = read_encoder(saved(method="byol")[0])[1]
    assert config["method"] == "byol" and config["width"] == 4


def test_another_backbone_is_refused(saved):
    path, _ = saved()
    with pytest.raises(CheckpointError, match="holds a tiny, not a resnet18; give --backbone tiny"):
        read_encoder(path, "resnet18")


def test_loading_is_strict(saved):
    path, _ = saved()
    content = checkpoint.load(path)
    del content["state_dict"]["backbone.layers.bn2.running_var"]
    content["state_dict"]["backbone.extra"] = torch.zeros(1)
    checkpoint.save(path, content)
    with pytest.raises(CheckpointError, match=r"missing: layers.bn2.running_var; unexpected: extra"):
        load_backbone(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"model": {}}, {"cassle": {"config": {}}}])
def test_other_checkpoints(tmp_path, content):
    checkpoint.save(tmp_path / "a.ckpt", content)
    with pytest.raises(CheckpointError, match=r"not a final.ckpt of cassle"):
        load_backbone(tmp_path / "a.ckpt")


def test_evaluating_a_checkpoint(saved):
    rows = cassle.evaluate(
        load_backbone(saved()[0]), dataset="digits", num_tasks=2, few_labels=0, disable_linear_eval=True
    )
    assert set(rows) == {"knn", "ridge"} and all(
        len(row) == 2 and 0.2 < min(row) <= max(row) <= 1 for row in rows.values()
    )
    with pytest.raises(ConfigError, match="'num_tasks'"):
        cassle.evaluate(load_backbone(saved()[0]), num_taks=2)
    with pytest.raises(TypeError, match="load_backbone"):
        cassle.evaluate(torch.nn.Linear(2, 2))
