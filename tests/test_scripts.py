"""The project's own scripts: short, complete, and with the published settings."""

import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cassle.engine.idle import idle_notes
from cassle.engine.launch import parse_script
from cassle.engine.linear import missing_here, wrong_settings
from cassle.engine.plan import Plan
from cassle.spelling import collect, upstream_spelling
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "bash_files"
CONTINUAL = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in (FOLDER / "continual").rglob("*.sh"))
LINEAR = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in (FOLDER / "linear").rglob("*.sh"))
STREAM = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in (FOLDER / "stream").rglob("*.sh"))
LARGE = ("imagenet-100/class", "imagenet-100/data", "domainnet")
STRATEGIES = ("cifar/simsiam_lump", "imagenet-100/class/mocov2plus_ccl", "digits/simclr_er")
KAIZEN = ("byol", "mocov2plus", "simclr", "vicreg")
METHODS = ("barlow", "byol", "mocov2plus", "simclr", "supcon", "swav", "vicreg")


def path(name: str) -> Path:
    return FOLDER / f"{name}.sh"


@cache
def given(name: str) -> list[dict[str, Any]]:
    """Return the flags of every command of a script, in today's spelling; the scripts need no other."""
    notes = []
    found = [collect(words[2:]) for words in parse_script(path(name), missing_ok=True, environment={})]
    values = [upstream_spelling(flags, notes.append) for flags, modes in found if not modes]
    assert notes == [] and all(problems == [] for _, problems in values) and len(values) == len(found)
    return [flags for flags, _ in values]


@cache
def plan(name: str) -> Plan:
    return Plan(given(f"continual/{name}")[0])


def test_which_scripts_there_are():
    def trained(
        place: str, methods: tuple[str, ...], kinds: tuple[str, ...] = ("", "_distill", "_offline")
    ) -> set[str]:
        return {f"continual/{place}/{method}{kind}" for method in methods for kind in kinds}

    expected = trained("cifar", (*METHODS, "simsiam")).union(*(trained(place, METHODS) for place in LARGE))
    expected |= trained("digits", ("barlow", "byol", "simclr"), ("", "_distill"))
    expected |= trained("cifar", tuple(f"kaizen_{method}" for method in KAIZEN), ("",))
    expected |= {f"continual/{name}" for name in STRATEGIES}
    assert set(CONTINUAL) == expected
    probed = {f"linear/{place}/{method}" for place in ("cifar", *LARGE) for method in (*METHODS, "simsiam")}
    assert set(LINEAR) == probed - {"linear/domainnet/simsiam"}


@pytest.mark.parametrize("name", [*CONTINUAL, *LINEAR, *STREAM])
def test_a_script_is_short_and_explains_itself(name):
    lines = path(name).read_text().splitlines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 120 and lines[0].startswith("# ") and lines[0].endswith(".")


@pytest.mark.parametrize("name", CONTINUAL)
def test_a_script_that_trains(name):
    (values,) = given(name)
    place, method = name.removeprefix("continual/").rsplit("/", 1)
    made = plan(f"{place}/{method}")
    dataset = {"cifar": "cifar100", "imagenet-100/class": "imagenet100", "imagenet-100/data": "imagenet100"}
    assert made.data.dataset == dataset.get(place, place)
    assert values["name"].startswith(method.replace("_", "-")) and made.run.task_idx == 0
    made.data.look_only()
    kinds = ("--gpus", "--data_dir $DATA_DIR", "$DATA_DIR/")
    assert all(problem.startswith(kinds) for problem in made.missing_here()), made.missing_here()
    assert len({given(other)[0]["name"] for other in CONTINUAL}) == len(CONTINUAL)


@pytest.mark.parametrize("name", [name for name in CONTINUAL if "digits" not in name])
def test_what_equals_its_default_is_not_repeated(name):
    made = plan(name.removeprefix("continual/"))
    defaults = made.schema.resolve({})
    assert {flag for flag in given(name)[0] if made.values[flag] == defaults[flag]} <= {"method"}


@pytest.mark.parametrize("name", LINEAR)
def test_a_script_that_evaluates(name):
    commands = given(name)
    assert len(commands) == (7 if "domainnet" in name else 1)
    for values in commands:
        assert wrong_settings(values) == []
        problems = missing_here(values)
        assert all("$PRETRAINED_PATH" in problem or "$DATA_DIR" in problem for problem in problems), problems
    domains = [values.get("domain") for values in commands]
    assert "domainnet" not in name or domains == [None, *plan("domainnet/byol").data.benchmark.domains]


@pytest.mark.parametrize(
    "name",
    [name for name in CONTINUAL if not name.endswith(("_distill", "_offline", *STRATEGIES)) and "kaizen" not in name],
)
def test_the_variants_of_a_script_differ_in_what_makes_them_variants(name):
    def without(values: dict[str, Any], *left_out: str) -> dict[str, Any]:
        return {flag: value for flag, value in values.items() if flag not in left_out}

    (base,), (distilled,) = given(name), given(f"{name}_distill")
    flags = [flag for flag in distilled if flag.startswith("distill")]
    assert (
        without(distilled, "name", *flags) == without(base, "name") and "distiller" in flags and "distiller" not in base
    )
    assert distilled["name"] == base["name"].replace("-", "-distill-", 1)
    if "digits" not in name:
        (offline,) = given(f"{name}_offline")
        split = ("name", "num_tasks", "split_strategy")
        assert without(offline, *split) == without(base, *split) and offline["num_tasks"] == "1"
        assert offline["name"] == base["name"].replace("-", "-offline-", 1)
        assert plan(f"{name.removeprefix('continual/')}_offline").data.num_tasks == 1


#: method: peak rate, final rate, weight decay, LARS, distiller; as published (simsiam: its own paper)
TABLES = {
    "cifar": {
        "barlow": (0.3, 0, 1e-4, True, "decorrelative"), "byol": (1.0, 0, 1e-5, True, "predictive"),
        "simclr": (0.4, 0, 1e-5, True, "contrastive"), "swav": (0.6, 6e-4, 1e-6, True, "knowledge"),
        "vicreg": (0.3, 0, 1e-4, True, "predictive_mse"), "supcon": (0.4, 0, 1e-5, True, "contrastive"),
        "mocov2plus": (0.4, 0, 1e-4, True, "contrastive"), "simsiam": (0.03, 0, 5e-4, False, "predictive"),
    },
    **{place: {
        "barlow": (0.4, 0, 1e-4, True, "decorrelative"), "byol": (0.6, 0, 1e-5, True, "predictive"),
        "mocov2plus": (0.4, 0, 1e-4, False, "contrastive"), "simclr": (0.4, 0, 1e-4, True, "contrastive"),
        "supcon": (0.4, 0, 1e-4, True, "contrastive"), "swav": (0.8, 6e-4, 1e-6, True, "knowledge"),
        "vicreg": (0.4, 0, 1e-4, True, "predictive_mse"),
    } for place in LARGE},
}  # fmt: skip
#: place: tasks, how they are cut, epochs per task, GPUs, size of the views
SETTINGS = {
    "cifar": (5, "class", 500, 1, 32), "imagenet-100/class": (5, "class", 400, 2, 224),
    "imagenet-100/data": (5, "data", 400, 2, 224), "domainnet": (6, "domain", 200, 4, 224),
}  # fmt: skip


@pytest.mark.parametrize("place, method", [(place, method) for place, rows in TABLES.items() for method in rows])
def test_the_published_optimization(place, method):
    made, distilled = plan(f"{place}/{method}"), plan(f"{place}/{method}_distill")
    optimization, training = made.optimization, made.training
    lr, min_lr, weight_decay, lars, distiller = TABLES[place][method]
    found = (optimization.lr, optimization.min_lr, optimization.weight_decay, optimization.lars, distilled.distiller)
    assert found == (lr, min_lr, weight_decay, lars, distiller) and made.distiller is None
    assert optimization.scaled_lr == lr  # 256 images in a step
    assert optimization.optimizer == "sgd" and optimization.momentum == 0.9
    assert optimization.scheduler == ("warmup_cosine" if lars else "cosine") and optimization.warmup_epochs == 10
    if lars:
        assert (optimization.eta_lars, optimization.grad_clip_lars) == (0.02, True)
        assert optimization.exclude_bias_n_norm is ((place, method) != ("cifar", "swav"))
    tasks, split, epochs, gpus, size = SETTINGS[place]
    assert (made.data.num_tasks, made.data.split_strategy, training.max_epochs) == (tasks, split, epochs)
    assert (len(training.gpus), training.sync_batchnorm, training.precision) == (gpus, gpus > 1, "16-mixed")
    assert made.size == size and made.backbone == "resnet18"


#: settings of methods: those that hold at every place, and those of CIFAR-100 and of the larger images
WIDTHS = {
    "barlow": ("--output_dim 2048 --proj_hidden_dim 2048 --scale_loss 0.1 --lamb 0.005", "", ""),
    "byol": ("--output_dim 256 --proj_hidden_dim 4096 --base_tau_momentum 0.99 --final_tau_momentum 1.0",
             "--pred_hidden_dim 4096", "--pred_hidden_dim 8192"),
    "mocov2plus": ("--output_dim 128 --proj_hidden_dim 2048 --queue_size 65536 --temperature 0.2 "
                   "--base_tau_momentum 0.99 --final_tau_momentum 0.999", "", ""),
    "simclr": ("--proj_hidden_dim 2048 --temperature 0.2", "--output_dim 256", "--output_dim 128"),
    "supcon": ("--proj_hidden_dim 2048 --temperature 0.1", "--output_dim 256", "--output_dim 128"),
    "swav": ("--output_dim 128 --proj_hidden_dim 2048 --num_prototypes 3000 --queue_size 3840", "", ""),
    "vicreg": ("--output_dim 2048 --proj_hidden_dim 2048 --sim_loss_weight 25 --var_loss_weight 25 "
               "--cov_loss_weight 1", "", ""),
    "simsiam": ("--output_dim 2048 --proj_hidden_dim 2048 --pred_hidden_dim 512", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("place, method", [(place, method) for place, rows in TABLES.items() for method in rows])
def test_the_published_widths(place, method):
    both, small, large = WIDTHS[method]
    words = shlex.split(f"{both} {small if place == 'cifar' else large}")
    expected = dict(zip([word.removeprefix("--") for word in words[::2]], map(float, words[1::2]), strict=True))
    if method == "swav":
        queue, freeze = {"cifar": (50, 2), "domainnet": (50, 3)}.get(place, (100, 5))
        expected |= {"epoch_queue_starts": queue, "freeze_prototypes_epochs": freeze}
    values = plan(f"{place}/{method}").values
    assert {name: values[name] for name in expected} == expected
    probe = {"byol": 0.1, "swav": 0.1}
    if place == "cifar":
        probe |= dict.fromkeys(("barlow", "simclr", "supcon"), 0.1)
    assert values["classifier_lr"] == probe.get(method, 0.3)


#: brightness, contrast, saturation, hue; blur of both views; solarization of both; smallest crop
ASYMMETRIC = ((0.4, 0.4, 0.2, 0.1), (1.0, 0.1), (0.0, 0.2), 0.08)
STRONG = ((0.8, 0.8, 0.8, 0.2), (0.5, 0.5), (0.0, 0.0), 0.08)
VIEWS = {
    "barlow": ASYMMETRIC, "byol": ASYMMETRIC, "simclr": STRONG, "supcon": STRONG, "swav": STRONG,
    "mocov2plus": ((0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0.0, 0.0), 0.08),
    "vicreg": ((0.4, 0.4, 0.2, 0.1), (0.5, 0.5), (0.1, 0.1), 0.2),
    "simsiam": ((0.4, 0.4, 0.4, 0.1), (0.5, 0.5), (0.0, 0.0), 0.2),
}  # fmt: skip


@pytest.mark.parametrize("place, method", [(place, method) for place, rows in TABLES.items() for method in rows])
def test_the_published_views(place, method):
    jitter, blur, solarize, smallest = VIEWS[method]
    one, two = recipes = plan(f"{place}/{method}").recipes
    assert {(r.brightness, r.contrast, r.saturation, r.hue) for r in recipes} == {jitter}
    assert (one.blur_prob, two.blur_prob) == ((0, 0) if place == "cifar" else blur)
    assert (one.solarize_prob, two.solarize_prob) == solarize and one.scale == two.scale == (smallest, 1)


@pytest.mark.parametrize("method", KAIZEN)
def test_kaizen_as_published(method):
    made, values = plan(f"cifar/kaizen_{method}"), plan(f"cifar/kaizen_{method}").values
    vicreg = method == "vicreg"
    assert (made.method, made.strategy, made.distiller) == (method, "kaizen", TABLES["cifar"][method][4])
    assert (values["lr"], values["head_lr"], values["weight_decay"]) == (
        (0.3, 0.05, 1e-4) if vicreg else (1.0, 0.1, 1e-5)
    )
    assert (values["classifier_layers"], values["replay_proportion"], values["replay_batch_size"]) == ([1000], 0.01, 32)
    assert (values["soft_label_lamb"], values["soft_label_reduction"], values["classifier_reduction"]) == (
        2,
        "mean",
        "sum",
    )
    assert (values["distill_lamb"], values["output_dim"]) == ((25, 2048) if vicreg else (1, 256))
    assert values["proj_hidden_dim"] == (2048 if method in ("vicreg", "mocov2plus") else 4096)
    jitter, _, solarize, smallest = (*VIEWS["vicreg"],) if vicreg else ASYMMETRIC
    one, two = made.recipes
    assert {(r.brightness, r.contrast, r.saturation, r.hue) for r in made.recipes} == {jitter}
    assert (one.solarize_prob, two.solarize_prob) == solarize and one.scale == two.scale == (smallest, 1)
    assert (made.training.max_epochs, made.data.num_tasks, made.run.task_idx) == (500, 5, 0)
    assert (values["classifier_lr"], values["online_eval_data"]) == (0.1, "seen_tasks")


def test_lump_as_published():
    made, values = plan("cifar/simsiam_lump"), plan("cifar/simsiam_lump").values
    assert (made.method, made.strategy, made.memory, made.data.num_tasks) == ("simsiam", "lump", "reservoir", 20)
    assert (values["mem_size"], values["memory_insert"], values["alpha_lump"]) == (256, "every_epoch", 0.4)
    optimization = made.optimization
    found = (optimization.scaled_lr, optimization.weight_decay, optimization.momentum, optimization.scheduler)
    assert found == (0.03, 5e-4, 0.9, "none") and (made.training.max_epochs, made.training.batch_size) == (200, 256)


def test_ccl_as_published():
    made, values = plan("imagenet-100/class/mocov2plus_ccl"), plan("imagenet-100/class/mocov2plus_ccl").values
    assert (made.method, made.strategy, made.backbone, made.data.num_tasks) == ("mocov2plus", "ccl", "resnet50", 10)
    wanted = {
        "n_save": 20, "exemplar_views": 6, "extra_queue_size": 256, "extra_queue_weight": 0.1, "relation_weight": 0.1,
        "relation_teacher_temperature": 0.04, "relation_temperature": 0.07, "ccl_momentum": 0.996, "queue_size": 65536,
        "temperature": 0.2, "base_tau_momentum": 0.999, "final_tau_momentum": 0.999, "output_dim": 128,
    }  # fmt: skip
    assert {name: values[name] for name in wanted} == wanted
    optimization = made.optimization
    assert (optimization.scaled_lr, optimization.weight_decay, made.training.max_epochs) == (0.03, 1e-4, 200)
    assert 20 * made.data.benchmark.num_classes <= values["mem_size"]


@pytest.mark.parametrize("name", CONTINUAL)
def test_no_script_gives_a_flag_that_has_no_part(name):
    assert idle_notes(plan(name.removeprefix("continual/"))) == []
