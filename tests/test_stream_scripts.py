"""The scripts over streams: published settings of two papers' code, and twins of them that run in minutes."""

from functools import cache
from pathlib import Path

import pytest

from cassle.engine.plan import Plan
from tests.conftest import REPOSITORY
from tests.test_scripts import VIEWS, given

FOLDER = REPOSITORY / "bash_files" / "stream"
SCRIPTS = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.sh"))
SPLITS = ("single_pass", "fifo", "minred")
VIDEO = ("decorrelated", "sequential_epochs", "sequential", "fifo", "minred")
ONLINE = ("er", "minred", "lump", "apre", "arp", "iid")
THERE = {
    "flickr": ("epochs", "single_pass", "fifo"), "kinetics": VIDEO, "imagenet21k": SPLITS, "imagenet-100": SPLITS,
    "cifar100": ONLINE, "videos": VIDEO, "digits": ("er",),
    "cifar10": ("epochs", "single_pass", "fifo", *(f"splits_{name}" for name in SPLITS)),
}  # fmt: skip
#: of Continuous SSL: epochs or K, the share of the data, steps for each of its images
OF_THE_PAPER = {
    "flickr/epochs": (10, 1, 10), "flickr/single_pass": (1, 1, 1), "flickr/fifo": (1, 1, 10),
    "kinetics/decorrelated": (5, 1, 5), "kinetics/sequential_epochs": (5, 1, 5), "kinetics/sequential": (1, 1, 1),
    "kinetics/fifo": (1, 1, 5), "kinetics/minred": (1, 1, 5),
    **{f"{place}/{name}": (1, 1 if name == "single_pass" else 4, 1) for place in ("imagenet21k", "imagenet-100")
       for name in SPLITS},
}  # fmt: skip
TWINS = {
    **{f"videos/{name}": f"kinetics/{name}" for name in VIDEO},
    **{f"cifar10/{name}": f"flickr/{name}" for name in THERE["flickr"]},
    **{f"cifar10/splits_{name}": f"imagenet-100/{name}" for name in SPLITS},
    "digits/er": "cifar100/er",
}


def values(name: str) -> dict[str, str]:
    (flags,) = given(f"stream/{name}")
    return flags


@cache
def plan(name: str) -> Plan:
    return Plan(values(name))


def test_which_scripts_there_are():
    assert set(SCRIPTS) == {f"{place}/{name}" for place, names in THERE.items() for name in names}
    assert len({values(name)["name"] for name in SCRIPTS}) == len(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no $DATA_DIR lies
    if values(name)["dataset"] == "video":
        pytest.importorskip("av")
    made = plan(name)
    place, what = name.split("/")
    assert made.is_stream and what.replace("_", "-") in values(name)["name"] and made.method == "simsiam"
    assert values(name)["name"].endswith(place.replace("-", ""))
    made.data.look_only()
    absent = ("--gpus", "--data_dir $DATA_DIR", "$DATA_DIR/", "--pretrained_model $PRETRAINED_PATH")
    assert all(problem.startswith(absent) for problem in made.missing_here()), made.missing_here()
    defaults = made.schema.resolve({})
    repeated = {flag for flag in values(name) if made.values[flag] == defaults[flag]}
    assert repeated <= {"dataset" if place == "digits" else "method"}


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_continuous_ssl_as_published(name):
    made, settings = plan(name), plan(name).values
    optimization, place = made.optimization, name.split("/")[0]
    splits = place.startswith("imagenet")
    found = (optimization.scaled_lr, optimization.scheduler, optimization.weight_decay, optimization.momentum)
    assert found == (0.01 if splits else 0.05, "none" if splits else "cosine", 1e-4, 0.9)
    assert (optimization.optimizer, optimization.lars, made.training.batch_size) == ("sgd", False, 256)
    widths = (settings["output_dim"], settings["proj_hidden_dim"], settings["pred_hidden_dim"])
    assert widths == (512, 512, 128) and made.backbone == "resnet18" and settings["zero_init_residual"] is True
    jitter, blur, _, smallest = VIEWS["simsiam"]
    for recipe, probability in zip(made.recipes, blur, strict=True):
        assert (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue) == jitter
        assert (recipe.blur_prob, recipe.gray_prob, recipe.jitter_prob) == (probability, 0.2, 0.8)
        assert (recipe.scale, recipe.size, recipe.flip_prob) == ((smallest, 1), 224, 0.5)
    assert settings["storage_size"] == (None if place == "imagenet-100" else 256)  # 8/7 of 224 is 256
    assert (settings["pretrained_model"] is not None) is splits


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_the_published_streams(name):
    made, settings = plan(name), plan(name).values
    epochs, part, steps = OF_THE_PAPER[name]
    place, what = name.split("/")
    stream = made.stream
    assert values(name).get("subsample") == ("4" if part == 4 else None)
    assert (stream.epochs, stream.epochs * stream.num_updates) == (epochs, steps * part)
    order = {"flickr": "iid", "kinetics": "order", "imagenet21k": "order", "imagenet-100": "class"}[place]
    assert stream.stream == ("iid" if what == "decorrelated" else order)
    if place == "kinetics":
        frames = (stream.fps, stream.n_seq_samples, stream.seq_sampling)
        assert frames == (8, 64, "consecutive" if what == "decorrelated" else "random")
    if what not in ("fifo", "minred"):
        assert (made.strategy, stream.num_updates) == ("finetune", 1)
        return
    size = 2048 if place == "imagenet-100" else 65_536
    assert (made.strategy, made.memory, settings["mem_size"], stream.warm_up) == ("minred", what, size, size)
    if what == "minred":  # features come from the training passes, in four parts as on four GPUs
        shards = 1 if place == "imagenet-100" else 4
        found = (settings["feature_on_arrival"], settings["virtual_ranks"], settings["feature_ema"])
        assert found == (False, shards, 0.5)
    assert settings.get("replay_batch_size") is None  # as many as arrive


@pytest.mark.parametrize("name", ONLINE)
def test_the_online_setting_of_the_library(name):
    made, settings = plan(f"cifar100/{name}"), plan(f"cifar100/{name}").values
    optimization, stream = made.optimization, made.stream
    found = (optimization.optimizer, optimization.scheduler, optimization.weight_decay, optimization.momentum)
    assert found == ("sgd", "none", 1e-4, 0.9) and optimization.scaled_lr == pytest.approx(0.01, rel=1e-4)
    widths = (settings["output_dim"], settings["proj_hidden_dim"], settings["pred_hidden_dim"])
    assert widths == (2048, 512, 512) and settings["zero_init_residual"] is True and made.data.num_tasks == 20
    one, two = made.recipes
    assert one == two and (one.brightness, one.contrast, one.saturation, one.hue) == (0.4, 0.4, 0.2, 0.1)
    assert (one.scale, one.blur_prob, one.solarize_prob, one.gray_prob, one.size) == ((0.2, 1), 0, 0, 0.2, 32)
    if name == "iid":  # sees as many images as 3 updates on 10 + 128
        assert (made.strategy, made.training.batch_size, stream.stream) == ("finetune", 138, "iid")
        assert stream.epochs == round(3 * (10 + 128) / 10 + 0.5)
        return
    assert (made.strategy, stream.stream, stream.num_updates, made.training.batch_size) == (name, "class", 3, 10)
    assert (made.memory, settings["mem_size"]) == ("minred" if name == "minred" else "reservoir", 2000)
    assert settings.get("replay_batch_size") == (None if name == "lump" else 128)
    own = {
        "minred": {"feature_on_arrival": True, "feature_ema": 0.5}, "lump": {"alpha_lump": 0.4}, "er": {},
        "apre": {"omega": 0.1, "momentum_ema": 0.999, "align_teacher_bn": "train", "aligner_dim": 512},
        "arp": {"omega": 0.1, "align_criterion": "cosine", "aligner_dim": 512, "feature_ema": 0.5},
    }[name]  # fmt: skip
    assert {flag: settings[flag] for flag in own} == own


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_its_original_with_other_sizes(name):
    twin, original = values(name), values(TWINS[name])
    sizes = {
        "name", "dataset", "data_dir", "download", "stream_file", "num_tasks", "storage_size", "size", "num_workers",
        "gpus", "num_threads", "backbone", "zero_init_residual", "width", "stem_stride", "output_dim", "eval_at",
        "proj_hidden_dim", "pred_hidden_dim", "batch_size", "lr", "mem_size", "memory_warm_up", "replay_batch_size",
        "pretrained_model", "min_scale", "gaussian_prob", "saturation", "horizontal_flip_prob", "virtual_ranks",
    }  # fmt: skip
    if TWINS[name].startswith("flickr"):
        sizes |= {"stream_epochs", "num_updates"}
        steps = [plan(f"cifar10/{row}").stream for row in ("epochs", "fifo")]
        assert steps[0].epochs == steps[1].num_updates
    assert {k: v for k, v in twin.items() if k not in sizes} == {k: v for k, v in original.items() if k not in sizes}
    assert plan(name).backbone == "tiny" and plan(name).strategy == plan(TWINS[name]).strategy
    assert ("memory_warm_up" in twin) is ("memory_warm_up" in original)
    assert twin.get("memory_warm_up") in (None, twin.get("mem_size"))  # the memory is full before the first step


@pytest.mark.parametrize("name", TWINS)
def test_a_comment_names_the_original(name):
    text = Path(FOLDER / f"{name}.sh").read_text()
    assert f"{TWINS[name]}.sh" in text
