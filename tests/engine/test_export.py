"""Weights for others: names, features, and a card that tells the truth."""

import json
import shutil

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

import cassle
from cassle.engine import checkpoint
from cassle.engine.export import export
from cassle.engine.linear import evaluate_checkpoint
from cassle.engine.plan import Plan
from cassle.engine.pretrained import load_backbone, read_encoder, start_from
from cassle.errors import CheckpointError, ConfigError
from cassle.evaluation.protocol import Evaluation
from tests.engine import DISTILLED, run

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The folder of a finished run of two tasks, and its results."""
    base = tmp_path_factory.mktemp("experiments")
    results = run(base, seed=3, **DISTILLED)
    return base / "job", results


def final(folder, size=8, **settings):
    """Write a hand-off of an untrained model, with statistics that are not those of a fresh one; return its path."""
    plan = Plan({"backbone": "tiny", "proj_hidden_dim": 8, "output_dim": 8, "size": size, **settings})
    model = plan.build_model()
    model.backbone(torch.randn(8, 3, size, size))
    recipe = plan.eval_recipe
    about = {"config": plan.config(), "size": size, "mean": [*recipe.mean], "std": [*recipe.std], "task": 0}
    path = folder / "task0" / "final.ckpt"
    checkpoint.save(path, {"state_dict": model.state_dict(), "cassle": about})
    return path


def test_there_and_back(experiment, tmp_path):
    source = experiment[0] / "task1" / "final.ckpt"
    weights, card = export(source, tmp_path / "encoder")
    assert (weights, card) == (tmp_path / "encoder.safetensors", tmp_path / "encoder.json")
    (ours, config), encoder = read_encoder(weights), load_backbone(source)
    assert (ours.size, ours.mean, ours.std, ours.num_features) == (8, encoder.mean, encoder.std, 16)
    assert torch.equal(ours(IMAGES), encoder(IMAGES)) and not ours.training
    assert config["method"] == "barlow_twins" and config["width"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_the_card(experiment, tmp_path):
    folder, results = experiment
    for task in (0, 1):
        card = json.loads(export(folder / f"task{task}" / "final.ckpt", tmp_path / f"e{task}")[1].read_text())
        assert (card["method"], card["distiller"], card["backbone"]) == ("barlow_twins", "decorrelative", "tiny")
        assert card["backbone_settings"] == {"width": 4, "stem_stride": 1} and card["num_features"] == 16
        assert (card["dataset"], card["task"], card["tasks_trained"], card["num_tasks"]) == (
            "digits",
            task,
            task + 1,
            2,
        )
        assert card["image_size"] == 8 and len(card["mean"]) == len(card["std"]) == 3 and card["seed"] == 3
        assert card["versions"] == {"cassle": cassle.__version__, "torch": str(torch.__version__)}
        assert "experiment_dir" not in card["config"] and "data_dir" not in card["config"]
        assert card["results"]["protocol"] == results["protocol"]
        for probe, numbers in results["probes"].items():
            assert card["results"]["probes"][probe]["accuracies"] == numbers["accuracy_matrix"][task]
    for probe, numbers in results["probes"].items():  # of the last task: those of the whole run
        last = card["results"]["probes"][probe]
        for name in ("average_accuracy", "forgetting", "forward_transfer"):
            assert last[name] == numbers[name]
    assert json.loads((tmp_path / "e0.json").read_text())["results"]["probes"]["knn"]["forgetting"] is None


def test_the_card_of_tasks_that_share_their_validation_samples(experiment, tmp_path):
    folder = shutil.copytree(experiment[0], tmp_path / "job")
    results = json.loads((folder / "results.json").read_text())
    results["protocol"] |= Evaluation().describe(shared_val=True)
    (folder / "results.json").write_text(json.dumps(results))
    card = json.loads(export(folder / "task1" / "final.ckpt", tmp_path / "e")[1].read_text())
    assert card["results"]["probes"]["knn"]["forward_transfer"] is None
    assert card["results"]["probes"]["knn"]["forgetting"] == results["probes"]["knn"]["forgetting"]


def test_exported_weights_are_evaluated_on_the_data_of_their_card(experiment, tmp_path):
    folder, results = experiment
    weights, _ = export(folder / "task1" / "final.ckpt", tmp_path / "e")
    values = {"few_labels": 0, "linear_max_iter": 3, "device": "cpu"}
    found = evaluate_checkpoint({"pretrained_feature_extractor": str(weights), **values}, say=lambda line: None)
    assert found["num_tasks"] == 2
    for probe, numbers in results["probes"].items():
        assert found["probes"][probe]["per_task"] == pytest.approx(numbers["accuracy_matrix"][1])


def test_torchvisions_resnet_takes_the_weights(tmp_path):
    source = final(tmp_path, backbone="resnet18", size=72, channels_last=True)
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(load_file(export(source, tmp_path / "e.safetensors")[0]), strict=True)
    images = torch.randn(2, 3, 72, 72)
    torch.testing.assert_close(theirs.eval()(images), load_backbone(source).backbone(images))


def test_timms_vision_transformer_takes_the_weights(tmp_path):
    timm = pytest.importorskip("timm")
    source = final(tmp_path, backbone="vit_tiny", depth=2, patch_size=4)
    size = {"img_size": 8, "patch_size": 4, "depth": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0, no_embed_class=True, qkv_bias=False, **size)
    theirs.load_state_dict(load_file(export(source, tmp_path / "e")[0]), strict=True)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(theirs.eval()(images), load_backbone(tmp_path / "e.safetensors").backbone(images))


def test_the_name_keeps_its_dots(tmp_path):
    source = final(tmp_path)
    paths = export(source, tmp_path / "new" / "encoder.v1")
    assert [path.name for path in paths] == ["encoder.v1.safetensors", "encoder.v1.json"]
    assert json.loads(paths[1].read_text())["results"] is None  # there are none
    assert export(source, tmp_path / "new" / "encoder.v1") == paths  # its own card may be replaced


def test_no_other_file_is_replaced(experiment):
    folder = experiment[0]
    before = (folder / "results.json").read_bytes()
    with pytest.raises(ConfigError, match=r"its card .*results.json would replace a file that is no card"):
        export(folder / "task1" / "final.ckpt", folder / "results")
    assert (folder / "results.json").read_bytes() == before and not (folder / "results.safetensors").exists()


def test_what_cannot_be_exported(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export(tmp_path / "none.ckpt", tmp_path / "e")
    checkpoint.save(tmp_path / "a.ckpt", {"state_dict": {"encoder.weight": torch.ones(1)}})
    with pytest.raises(CheckpointError, match=r"not a final.ckpt of cassle; only those can be exported"):
        export(tmp_path / "a.ckpt", tmp_path / "e")
    assert not list(tmp_path.glob("e*"))


def test_numbers_of_another_run_are_not_taken(experiment, tmp_path):
    folder = experiment[0]
    source = final(tmp_path, seed=4)
    (tmp_path / "results.json").write_bytes((folder / "results.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"of another experiment than .*final.ckpt \(other distiller, seed\)"):
        export(source, tmp_path / "e")
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"results.json: damaged"):
        export(source, tmp_path / "e")
    content = checkpoint.load(folder / "task1" / "final.ckpt")
    content["state_dict"]["backbone.layers.bn1.bias"] += 1
    for name in ("results.json", "ledger.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    checkpoint.save(tmp_path / "task1" / "final.ckpt", content)
    with pytest.raises(CheckpointError, match="not the file that the ledger of its experiment knows"):
        export(tmp_path / "task1" / "final.ckpt", tmp_path / "e")


def test_weights_and_card_belong_together(tmp_path):
    source = final(tmp_path)
    weights, card = export(source, tmp_path / "e")
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"e.safetensors: not the file that e.json describes"):
        load_backbone(weights)
    weights.write_bytes(data[:100])
    with pytest.raises(CheckpointError, match=r"e.safetensors: damaged or truncated"):
        load_backbone(weights)
    weights.write_bytes(data)
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "config": {**content["config"], "backbone": "tinny"}, "backbone": "tinny"}))
    with pytest.raises(CheckpointError, match=r"e.safetensors: --backbone tinny: unknown. Did you mean 'tiny'"):
        load_backbone(weights)
    del content["mean"]
    card.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"e.json: has no entry 'mean'"):
        load_backbone(weights)
    card.unlink()
    with pytest.raises(CheckpointError, match="name their --backbone"):
        load_backbone(weights)
    assert load_backbone(weights, "tiny", size=8).num_features == 128  # without its card like any other file
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_backbone(tmp_path / "none.safetensors")


def test_starting_from_exported_weights(tmp_path):
    weights, _ = export(final(tmp_path), tmp_path / "e")
    model = Plan({"backbone": "tiny", "method": "byol", "seed": 9}).build_model()
    start_from(model, weights, "tiny")
    assert torch.equal(model.momentum_backbone.layers.conv1.weight, load_file(weights)["layers.conv1.weight"])
    with pytest.raises(CheckpointError, match="holds a tiny, not a resnet18"):
        start_from(model, weights, "resnet18")
