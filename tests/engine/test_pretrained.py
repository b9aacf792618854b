"""From weights, ours and others', to an encoder, to a start, and to accuracies."""

import argparse

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import cassle
from cassle.data.benchmarks import CIFAR10, IMAGENET_MEAN
from cassle.engine import checkpoint
from cassle.engine.foreign import backbone_weights, is_upstream, upstream_state
from cassle.engine.linear import evaluate_checkpoint, problems_of, schema
from cassle.engine.plan import Plan
from cassle.engine.pretrained import load_backbone, read_encoder, start_from
from cassle.errors import CheckpointError, ConfigError
from cassle.nn import BACKBONES
from tests.methods import build

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


def test_what_describes_itself_is_not_described_again(saved):
    path, _ = saved()
    assert load_backbone(path, "tiny").size == 12
    with pytest.raises(ConfigError, match="describes itself; leave out --size, --width"):
        load_backbone(path, "tiny", size=12, width=4)


def test_weights_are_never_fetched_again(saved, monkeypatch):
    timm = pytest.importorskip("timm")
    path, _ = saved()
    content = checkpoint.load(path)
    net = BACKBONES["timm/resnet10t"](12)
    content["cassle"]["config"] |= {"backbone": "timm/resnet10t", "timm_pretrained": True}
    content["state_dict"] = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    checkpoint.save(path, content)
    create = timm.create_model

    def offline(name, pretrained=False, **arguments):
        assert not pretrained
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    assert load_backbone(path).num_features == 512


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


# Weights from elsewhere -----------------------------------------------------------------------------------------------


def save_tiny(path, prefix="", wrapper=None, extra=()):
    """Write a tiny network's weights as some training program would; return the network."""
    net = BACKBONES["tiny"](12, width=4)
    net(torch.randn(16, 3, 12, 12))
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    state |= {name: torch.ones(2) for name in extra}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    return net.eval()


@pytest.mark.parametrize(
    "prefix, wrapper, extra",
    [
        ("", None, ["fc.weight", "fc.bias"]),
        ("", None, ["head.weight", "classifier.bias"]),
        ("backbone.", "state_dict", ["classifier.weight", "projector.0.weight"]),
        ("encoder.", "state_dict", ["projector.0.weight", "frozen_encoder.x", "online_eval_classifier.bias"]),
        ("module.encoder_q.", "state_dict", ["module.encoder_q.fc.0.weight", "module.queue"]),
        ("module.", "model", []),
        ("model.", "state_dict", ["model.fc.weight"]),
        ("module.backbone.", "teacher", ["module.head.mlp.0.weight"]),
    ],
)
def test_weights_of_others(tmp_path, prefix, wrapper, extra):
    net = save_tiny(tmp_path / "a.pth", prefix, wrapper, extra)
    encoder, config = read_encoder(tmp_path / "a.pth", "tiny", size=12, width=4)
    assert config == {} and not encoder.training
    for name, value in net.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[name], value), name


def test_the_student_is_taken_before_its_teacher(tmp_path):
    net = save_tiny(tmp_path / "a.pth", "encoder.", "state_dict")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    old = {f"momentum_{name}": torch.zeros_like(value) for name, value in content["state_dict"].items()}
    frozen = {f"frozen_{name.removeprefix('momentum_')}": value for name, value in old.items()}
    torch.save({"state_dict": {**old, **frozen, **content["state_dict"]}}, tmp_path / "a.pth")
    encoder = load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4)
    assert torch.equal(encoder.backbone.layers.conv1.weight, net.layers.conv1.weight)


def test_torchvisions_weights(tmp_path):
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    state = {name: value for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "resnet18.pth")  # the published file is older than that counter
    encoder = load_backbone(tmp_path / "resnet18.pth", "resnet18")
    assert encoder.size == 224 and encoder.mean == IMAGENET_MEAN
    images = torch.randn(2, 3, 64, 64)
    theirs.fc = nn.Identity()
    torch.testing.assert_close(encoder.backbone(images), theirs(images))
    with pytest.raises(CheckpointError, match=r"conv1.weight \(64, 3, 7, 7\) instead of \(64, 3, 3, 3\)"):
        load_backbone(tmp_path / "resnet18.pth", "resnet18", size=32)


def test_timms_weights(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet10t", num_classes=7).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    encoder = load_backbone(tmp_path / "model.safetensors", "timm/resnet10t", size=96)
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(encoder.backbone(images), theirs.forward_head(theirs.forward_features(images), True))


def test_loading_draws_no_random_numbers(saved, tmp_path):
    path, _ = saved()
    save_tiny(tmp_path / "a.pth")
    before = torch.get_rng_state()
    load_backbone(path)
    load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_preprocessing_of_weights_of_others(tmp_path):
    save_tiny(tmp_path / "a.pth")
    small = load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4)
    assert (small.size, small.mean, small.std) == (12, CIFAR10.mean, CIFAR10.std)
    own = load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4, mean=[0.1, 0.2, 0.3], std=[0.5] * 3)
    assert own.mean == (0.1, 0.2, 0.3) and own.std == (0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="three numbers each"):
        load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4, mean=[0.1])
    with pytest.raises(ConfigError, match=r"--widht: unknown. Did you mean 'width'"):
        load_backbone(tmp_path / "a.pth", "tiny", size=12, widht=4)


def test_weights_of_another_network(tmp_path):
    save_tiny(tmp_path / "a.pth", "encoder.", "state_dict")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    del content["state_dict"]["encoder.layers.bn1.bias"]
    content["state_dict"]["encoder.layers.bn1.offset"] = torch.zeros(4)
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as caught:
        load_backbone(tmp_path / "a.pth", "tiny", size=12, width=4)
    text = str(caught.value)
    assert str(tmp_path / "a.pth") in text and "'', 'backbone.', 'encoder.'" in text
    assert "closest with 'encoder.' (missing: layers.bn1.bias; unexpected: layers.bn1.offset)" in text
    with pytest.raises(CheckpointError, match=r"layers.bn1.bias \(4,\) instead of \(8,\)"):
        save_tiny(tmp_path / "b.pth")
        load_backbone(tmp_path / "b.pth", "tiny", size=12, width=8)
    with pytest.raises(CheckpointError, match=r"x: holds no weights \(its entries: epoch\)"):
        backbone_weights({"epoch": 3}, BACKBONES["tiny"](12), "x")


def test_a_file_with_code_is_refused(tmp_path):
    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: refused, .*argparse.Namespace.* Save its state dict alone"):
        load_backbone(tmp_path / "a.pth", "tiny", size=12)


def test_evaluating_weights_of_others(tmp_path):
    save_tiny(tmp_path / "a.pth", "encoder.", "state_dict")
    values = {
        "pretrained_feature_extractor": str(tmp_path / "a.pth"), "encoder": "tiny", "width": "4", "size": "8",
        "image_mean": [0.3, 0.3, 0.3], "device": "cpu", "few_labels": 0, "disable_linear_eval": True,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--dataset: missing"):
        evaluate_checkpoint(values, say=lambda line: None)
    given = {**values, "dataset": "digits", "num_tasks": 2}
    assert evaluate_checkpoint(given, say=lambda line: None)["num_tasks"] == 2
    del given["encoder"]
    assert problems_of(given) == ["--width: needs --backbone tiny."]
    misspelt = problems_of({**given, "backbone": "tinny"})
    assert [problem.split(".")[0] for problem in misspelt] == [
        "--width: belongs to --backbone tiny, not tinny",
        "--backbone tinny: unknown",
    ]
    assert "width" in schema({"encoder": "tiny"}).names and "width" not in schema().names


# Whole models and starts ----------------------------------------------------------------------------------------------


@pytest.fixture
def upstream(saved):
    """A checkpoint as CaSSLe writes it after task 0 of BYOL, made from one of ours, and that model."""
    path, model = saved(method="byol", pred_hidden_dim=8)
    names = {"backbone.": "encoder.", "projector.": "projector.", "predictor.": "predictor."}
    names |= {
        "momentum_teacher.stages.backbone.": "momentum_encoder.",
        "momentum_teacher.stages.projector.": "momentum_projector.",
    }
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                state[theirs + name.removeprefix(ours)] = value
    state |= {f"frozen_{k}": v + 1 for k, v in state.items() if k.startswith(("encoder.", "projector."))}
    more = ["classifier.weight", "momentum_classifier.bias", "online_eval_classifier.1.weight"]
    more += ["distill_predictor.0.weight", "feature_extractor_distill_predictor.0.bias"]
    state |= {name: torch.ones(1) for name in more}
    checkpoint.save(path, {"state_dict": state, "epoch": 4, "hyper_parameters": {"lr": 0.3}})
    return path, model


def test_taking_over_a_model_of_upstream(upstream):
    path, model = upstream
    content = checkpoint.load(path)
    assert is_upstream(content) and "momentum_teacher.tau" not in upstream_state(content["state_dict"])
    other = Plan({**SETTINGS, "method": "byol", "pred_hidden_dim": 8, "seed": 77, "distiller": "auto"}).build_model()
    other.begin_task(1, upstream_state(content["state_dict"], other))
    found, expected = other.state_dict(), model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert other.momentum_teacher.tau.item() == pytest.approx(0.99)
    teacher = other.teacher.state_dict()
    assert torch.equal(next(iter(teacher.values())), next(iter(model.backbone.state_dict().values())))


def test_what_upstream_has_and_we_do_not_is_told(upstream):
    content = checkpoint.load(upstream[0])
    content["state_dict"]["queue"] = torch.zeros(2, 3)
    model = Plan({**SETTINGS, "method": "byol", "pred_hidden_dim": 8}).build_model()
    with pytest.raises(CheckpointError, match="unexpected: queue"):
        model.begin_task(1, upstream_state(content["state_dict"], model))


def test_what_is_not_upstream(saved, tmp_path):
    assert not is_upstream(checkpoint.load(saved()[0]))
    save_tiny(tmp_path / "a.pth", "encoder.", "state_dict")
    assert not is_upstream(checkpoint.load(tmp_path / "a.pth"))  # without a projector there is nothing to go on with


def test_starting_from_our_weights(saved):
    path, model = saved()
    other = Plan({**SETTINGS, "method": "byol", "seed": 77}).build_model()
    projector = {name: value.clone() for name, value in other.projector.state_dict().items()}
    start_from(other, path, "tiny")
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(other.backbone.state_dict()[name], value)
        assert torch.equal(other.momentum_backbone.state_dict()[name], value)
    assert all(torch.equal(value, projector[name]) for name, value in other.projector.state_dict().items())
    with pytest.raises(CheckpointError, match="holds a tiny, not a resnet18"):
        start_from(other, path, "resnet18")


def test_starting_from_weights_of_others(tmp_path):
    net = save_tiny(tmp_path / "a.pth", "backbone.", "state_dict")
    model = Plan(SETTINGS).build_model()
    start_from(model, tmp_path / "a.pth", "tiny")
    assert torch.equal(model.backbone.layers.conv1.weight, net.layers.conv1.weight)
    wide = Plan({**SETTINGS, "width": 8}).build_model()
    with pytest.raises(CheckpointError, match=r"--pretrained_model .*a.pth does not fit .*\(4,\) instead of \(8,\)"):
        start_from(wide, tmp_path / "a.pth", "tiny")


#: beside encoder and momentum encoder, what upstream's models of 6 outputs, 12 hidden units and 20 slots hold
LINEAR, NORM = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
UPSTREAM = {
    "mocov2plus": {
        "projector.0": LINEAR, "projector.2": LINEAR, "momentum_projector.0": LINEAR, "momentum_projector.2": LINEAR,
        "queue": (2, 6, 20), "queue_ptr": (1,),
    },
    "nnclr": {
        "projector.0": LINEAR, "projector.1": NORM, "projector.3": LINEAR, "projector.4": NORM, "projector.6": LINEAR,
        "projector.7": NORM, "predictor.0": LINEAR, "predictor.1": NORM, "predictor.3": LINEAR,
        "queue": (20, 6), "queue_y": (20,), "queue_ptr": (1,),
    },
    "simsiam": {
        "projector.0": ("weight",), "projector.1": NORM, "projector.3": ("weight",), "projector.4": NORM,
        "projector.6": LINEAR, "projector.7": STATISTICS, "predictor.0": ("weight",), "predictor.1": NORM,
        "predictor.3": LINEAR,
    },
    "swav": {
        "projector.0": LINEAR, "projector.1": NORM, "projector.3": LINEAR, "prototypes.weight_g": (5, 1),
        "prototypes.weight_v": (5, 6), "queue": (2, 20, 6),
    },
}  # fmt: skip


def upstreams_state(method, model):
    """Return a state dict with upstream's names and shapes, each tensor of other numbers."""
    ours, state = model.state_dict(), {}
    for name, value in ours.items():
        for old, new in {"backbone.": "encoder.", "momentum_teacher.stages.backbone.": "momentum_encoder."}.items():
            if name.startswith(old):
                state[new + name.removeprefix(old)] = value + 1
    for module, parts in UPSTREAM[method].items():
        if isinstance(parts[0], int):
            state[module] = torch.randint(0, 9, parts).float()
            continue
        for part in parts:
            name = f"{module}.{part}".replace("momentum_projector", "momentum_teacher.stages.projector")
            width = len(ours[f"{module}.weight"]) if name not in ours else None  # a bias that we do without
            state[f"{module}.{part}"] = torch.rand((width,) if width else ours[name].shape) + 1
    return state


@pytest.mark.parametrize("method", UPSTREAM)
def test_upstreams_models_are_taken_over(method):
    model = build(method)
    model.begin_task(0, None)
    theirs = upstreams_state(method, model)
    model.begin_task(1, upstream_state(theirs, model))  # strict: every name is somebody's
    found = model.state_dict()
    assert torch.equal(found["projector.0.weight"], theirs["projector.0.weight"])
    if method == "mocov2plus":
        assert torch.equal(found["queues.1.slots"], theirs["queue"][1].T)
        assert found["queues.0.pushed"] == theirs["queue_ptr"]
    if method == "nnclr":
        assert torch.equal(found["queue.slots"], theirs["queue"])
    if method == "swav":
        assert torch.equal(found["prototypes.0.weight"], theirs["prototypes.weight_v"])
    if "projector.6.bias" in theirs:  # the batch norm behind it sees the same numbers as with the bias
        mean = theirs["projector.7.running_mean"] - theirs["projector.6.bias"]
        torch.testing.assert_close(found["projector.7.running_mean"], mean)
