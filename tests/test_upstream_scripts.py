"""Upstream's scripts, rebuilt from the tables of their flags, pass a dry run as they are.

CaSSLe publishes 52 scripts that pre-train and 23 that evaluate, Kaizen four. What is missing on this machine (data,
GPUs, checkpoints) or in this version (DALI) is a warning of the dry run.
"""

import subprocess
import sys

import pytest

from cassle import kaizen_spelling, spelling
from cassle.cli import main_continual, main_linear
from cassle.engine.choice import Choice, schema_for
from cassle.engine.launch import parse_script
from cassle.engine.plan import Plan
from cassle.engine.settings import ALIASES
from cassle.errors import ConfigError
from cassle.spelling import collect, upstream_spelling
from tests.conftest import REPOSITORY
from tests.upstream import CONTINUAL, DISTILLERS, KAIZEN, LINEAR, NAMES, cifar, kaizen

# Passing -------------------------------------------------------------------------------------------------------------

#: how the warnings begin that one of upstream's scripts may get
HERE = ("--gpus", "--dali", "--data_dir $DATA_DIR", "$DATA_DIR", "--pretrained_model", "--task_idx")


def commands(tmp_path, text: str) -> list[list[str]]:
    path = tmp_path / "script.sh"
    path.write_text(text)
    return [words[2:] for words in parse_script(path, missing_ok=True, environment={})]


def dry(words: list[str]) -> tuple[Plan, list[str]]:
    """Return the plan and the warnings of a dry run, without what a dry run measures."""
    values, wishes = upstream_spelling(collect(words)[0], lambda line: None)
    plan = Plan(values)
    return plan, [*wishes, *plan.missing_here()]


def test_the_number_of_scripts():
    assert len(CONTINUAL) == 52 + 1 and len(LINEAR) == 23 and len(KAIZEN) == 4


@pytest.mark.parametrize("name", [name for name in CONTINUAL if name != "domainnet vicreg True"])
def test_a_script_that_trains(tmp_path, name):
    (words,) = commands(tmp_path, CONTINUAL[name])
    plan, warnings = dry(words)
    assert all(warning.startswith(HERE) for warning in warnings), warnings
    assert plan.data.engine == ("auto" if "cifar" in name else "dali")
    data, size = plan.data, plan.optimization.images_per_step
    assert size == (1024 if name == "domainnet byol True" else 256) and plan.training.precision == "16-mixed"
    assert plan.optimization.lars is ("mocov2plus" not in name) and plan.optimization.momentum == 0.9
    assert plan.method == ("supcon" if "supcon" in name else NAMES.get(name.split()[-2], plan.method))
    assert plan.distiller == (DISTILLERS[next(m for m in DISTILLERS if m in name)] if "True" in name else None)
    assert (data.split_strategy, data.num_tasks) == (
        ("domain", 6) if "domainnet" in name else ("data" if " data " in name else "class", data.num_tasks)
    )
    assert plan.size == (32 if "cifar" in name else 224)


@pytest.mark.parametrize("name", LINEAR)
def test_a_script_that_evaluates(tmp_path, capsys, name):
    found = commands(tmp_path, LINEAR[name])
    assert len(found) == (7 if "domainnet" in name else 1)
    for words in found:
        assert main_linear([*words, "--dry_run"]) == 0
        out, err = capsys.readouterr()
        warnings = [line.removeprefix("warning: ") for line in out.splitlines() if line.startswith("warning: ")]
        assert "Note: --engine (--dali) is not used" in err and "Note: --lr is not used" in err
        assert any("$PRETRAINED_PATH: no such file" in line for line in warnings)
        assert all(line.startswith((*HERE, "--pretrained_feature", "--device")) for line in warnings), warnings
    if "domainnet" in name:
        assert "domain: sketch\n" in out and "num_tasks: 1\n" in out and "output: linear-sketch.json" in out


#: what the four scripts have in common
KAIZEN_VALUES = {
    "classifier_training": True, "classifier_layers": [1000], "classifier_stop_gradient": True, "soft_label": True,
    "soft_label_lamb": 2.0, "soft_label_predictor": False, "replay_proportion": 0.01, "replay_batch_size": 32,
    "soft_label_reduction": "mean", "classifier_reduction": "sum", "mem_size": 2000, "memory": "first_k",
}  # fmt: skip


@pytest.mark.parametrize("method", KAIZEN)
def test_a_script_of_kaizen(tmp_path, method):
    (words,) = commands(tmp_path, kaizen(method))
    plan, warnings = dry(words)
    assert all(w.startswith(HERE) for w in warnings), warnings
    values = plan.values
    assert (values["classifier_lr"], values["seed"], values["online_eval_data"]) == (0.1, 5, "seen_tasks")
    assert values["distill_lamb"] == (25 if method == "vicreg" else 1) and plan.method == method
    assert plan.strategy == "kaizen" and {name: values[name] for name in KAIZEN_VALUES} == KAIZEN_VALUES
    assert values["head_lr"] == (0.05 if method == "vicreg" else 0.1)


def test_a_task_that_cannot_be_the_first_is_a_warning(tmp_path):
    warnings = dry(commands(tmp_path, kaizen("vicreg"))[0])[1]
    assert len([w for w in warnings if w.startswith("--task_idx 4")]) == 1
    warnings = dry(commands(tmp_path, cifar("vicreg", False))[0])[1]  # upstream forgets the checkpoint of task 0
    assert len([w for w in warnings if w.startswith("--task_idx 1") and "--pretrained_model" in w]) == 1


def test_an_unknown_distiller_is_refused_even_in_a_dry_run(tmp_path, capsys):
    (words,) = commands(tmp_path, CONTINUAL["domainnet vicreg True"])
    assert main_continual([*words, "--dry_run"]) == 2
    assert "--distiller predictiveMSE: unknown. Did you mean 'predictive_mse'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cifar vicreg False", "cifar swav True, earlier"])
def test_the_whole_dry_run(tmp_path, capsys, name):
    (words,) = commands(tmp_path, CONTINUAL[name])
    assert main_continual([*words, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "warning: --data_dir $DATA_DIR: no CIFAR100" in out and "time: about" in out
    assert main_continual(words) != 0  # a real run is refused
    assert not (REPOSITORY / "experiments" / words[words.index("--name") + 1]).exists()


def test_the_whole_way_through_the_launcher(tmp_path):
    path = tmp_path / "linear.sh"
    path.write_text(LINEAR["imagenet-100 data simsiam"])
    command = [sys.executable, "job_launcher.py", "--script", str(path), "--dry_run"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Note: --engine (--dali) is not used" in done.stderr


# Single flags --------------------------------------------------------------------------------------------------------


def spelt(line: str) -> tuple[dict, list[str], list[str]]:
    notes = []
    values, problems = upstream_spelling(collect(line.split())[0], notes.append)
    return values, problems, notes


@pytest.mark.parametrize(
    "line, values",
    [
        ("--method simclr --supervised", {"method": "supcon"}),
        ("--multicrop", {"num_small_crops": 6}),
        ("--multicrop --num_small_crops 4", {"num_small_crops": "4"}),
        ("--num_crops_per_aug 1 1 --crop_size 32", {"num_crops_per_aug": 2, "size": "32"}),
        ("--feature_extractor_distill_lamb 3 --feature_extractor_distill_temperature 0.1",
         {"distill_lamb": "3", "distill_temperature": "0.1"}),
        ("--online_eval_classifier_lr 0.2", {"classifier_lr": "0.2"}),
        ("--classifier_lr 0.2", {"classifier_lr": "0.2"}),
        ("--online_evaluation False", {"disable_online_eval": True}),
        ("--online_evaluation True --replay False --dali False --supervised False --clip_grad 0", {}),
        ("--global_seed 1 --split_seed 2", {"seed": "1", "split_seed": "2"}),
        ("--gradient_clip_val 0.5 --trainer.profiler simple",
         {"trainer": {"gradient_clip_val": 0.5, "profiler": "simple"}}),
        ("--dataset domainnet --split_strategy domain",
         {"dataset": "domainnet", "split_strategy": "domain", "num_tasks": 6}),
        ("--dataset digits --split_strategy domain --domain noisy",
         {"dataset": "digits", "split_strategy": "domain", "domain": "noisy", "num_tasks": 1}),
        ("--distiller_library factory", {}),
        ("--classifier_training False --replay False", {}),
        ("--classifier_training True",
         {"strategy": "kaizen", "classifier_training": True, "soft_label": False, "soft_label_lamb": 1.0,
          "head_lr": 0.3, "soft_label_predictor": True, "replay_batch_size": 0}),
        ("--replay True --replay_memory_bank_size 9",
         {"strategy": "kaizen", "classifier_training": False, "replay_proportion": 1.0, "mem_size": "9"}),
        ("--strategy kaizen --classifier_training False --classifier_lr 0.1 --distiller_classifier none",
         {"strategy": "kaizen", "classifier_training": "False", "classifier_lr": "0.1", "soft_label": False}),
        ("--strategy kaizen --replay False --classifier_distill_lamb 3",
         {"strategy": "kaizen", "replay_batch_size": 0, "soft_label_lamb": "3"}),
        ("--strategy er --replay_batch_size 9", {"strategy": "er", "replay_batch_size": "9"}),
    ],
)  # fmt: skip
def test_translations(line, values):
    assert spelt(line)[:2] == (values, [])


@pytest.mark.parametrize(
    "line",
    ["--auto_umap_dir x", "--auto_umap_frequency 2", "--debug_augmentations", "--semi_supervised 0.1",
     "--no_distill True", "--clip_grad 3", "--no_continual_learning True", "--supervised",
     "--online_evaluation_classifier_layers 10", "--feature_extractor_distill_no_predictior True",
     "--classifier_distill_temperature 0.1"],
)  # fmt: skip
def test_wishes_that_cannot_be_had(line):
    values, problems, _ = spelt(line)
    assert values == {} and len(problems) == 1 and problems[0].startswith(f"{line.split()[0]}: ")


#: upstream's own flags of methods and distillers, by today's name of the component
METHOD_FLAGS = {
    "barlow_twins": "lamb scale_loss", "byol": "pred_hidden_dim base_tau_momentum final_tau_momentum",
    "deepclusterv2": "temperature num_prototypes kmeans_iters", "mocov2plus": "temperature queue_size",
    "dino": "num_prototypes freeze_last_layer student_temperature teacher_temperature warmup_teacher_temperature "
    "warmup_teacher_temperature_epochs", "nnclr": "temperature queue_size pred_hidden_dim",
    "ressl": "temperature_q temperature_k queue_size", "simclr": "temperature", "simsiam": "pred_hidden_dim",
    "swav": "queue_size temperature num_prototypes sk_epsilon sk_iters freeze_prototypes_epochs epoch_queue_starts",
    "vicreg": "sim_loss_weight var_loss_weight cov_loss_weight",
    "wmse": "whitening_iters whitening_size whitening_eps",
}  # fmt: skip
DISTILLER_FLAGS = {
    "contrastive": "temperature", "knowledge": "temperature", "predictive": "", "predictive_mse": "",
    "decorrelative": "barlow_lamb scale_loss",
}  # fmt: skip
#: and those that do not depend on either
FLAGS = (
    "dataset data_dir train_dir val_dir dali dali_device no_labels semi_supervised num_tasks task_idx split_strategy "
    "distiller multicrop num_crops num_small_crops brightness contrast saturation hue gaussian_prob solarization_prob "
    "min_scale size debug_augmentations encoder zero_init_residual batch_size lr classifier_lr weight_decay "
    "num_workers optimizer lars grad_clip_lars eta_lars exclude_bias_n_norm scheduler lr_decay_steps min_lr "
    "warmup_start_lr warmup_epochs name project entity wandb offline disable_knn_eval knn_k encode_indexes_into_labels "
    "pretrained_model save_checkpoint checkpoint_dir checkpoint_frequency auto_umap auto_umap_dir auto_umap_frequency "
    "momentum_classifier max_epochs gpus accelerator sync_batchnorm precision accumulate_grad_batches norm_last_layer "
    "check_val_every_n_epoch resume_from_checkpoint clip_grad supervised gradient_clip_val profiler deterministic"
)


def test_every_flag_of_upstream_is_known():
    translated = {
        *spelling.SETTLED,
        *spelling.REPLACED,
        *kaizen_spelling.RENAMED,
        "crop_size",
        *spelling.TRAINER,
        "supervised",
        "multicrop",
        "dali",
    }
    known = {*schema_for(Choice("simclr")).names, *translated, *ALIASES}
    assert set(FLAGS.split()) <= known
    for method, flags in METHOD_FLAGS.items():
        assert {"output_dim", "proj_hidden_dim", *flags.split()} <= set(schema_for(Choice(method)).names)
    for distiller, flags in DISTILLER_FLAGS.items():
        wanted = {f"distill_{flag}" for flag in ("lamb", "proj_hidden_dim", *flags.split())}
        assert wanted <= set(schema_for(Choice("swav", distiller)).names)
    assert not translated & {*schema_for(Choice("simclr")).names}


def test_dali_and_another_engine_contradict():
    assert spelt("--dali")[0]["engine"] == "dali" and spelt("--dali --engine dali")[1] == []
    (problem,) = spelt("--dali --engine workers")[1]
    assert problem.startswith("--dali and --engine workers: contradict")


@pytest.mark.parametrize("line, told", [("--norm_last_layer True", 0), ("--norm_last_layer False", 1)])
def test_the_last_layer_of_dino(line, told):
    values, problems, notes = spelt(line)
    assert values == {} and len(problems) == told and len(notes) == 1 - told
    assert all("unit vectors" in sentence for sentence in (*problems, *notes))


def test_a_rate_of_kaizens_classifier_is_not_that_of_the_probe():
    both = "--classifier_lr 0.05 --online_eval_classifier_lr 0.1"
    values, problems, notes = spelt(both)
    assert (values, problems) == ({"classifier_lr": "0.1"}, []) and notes == [
        "Note: --head_lr is not used: no classifier is trained (--classifier_training)."
    ]
    values, problems, notes = spelt(f"{both} --classifier_training True")
    assert (values["classifier_lr"], values["head_lr"], problems, notes) == ("0.1", "0.05", [], [])


def test_another_distiller_of_kaizens_classifier_cannot_be_had():
    problems = spelt("--classifier_training True --distiller_classifier contrastive")[1]
    assert len(problems) == 1 and problems[0].startswith("--distiller_classifier contrastive: ")


@pytest.mark.parametrize("line", ["--global_seed 1 --seed 2", "--crop_size 3 --size 4"])
def test_a_setting_in_two_spellings(line):
    with pytest.raises(ConfigError, match=r"are the same flag; give one\."):
        spelt(line)


@pytest.mark.parametrize("flag, meant", [("--method BarlowTwins", "barlow_twins"), ("--dataset CIFAR100", "cifar100")])
def test_names_in_another_spelling(flag, meant):
    with pytest.raises(ConfigError, match=f"{flag}: unknown. Did you mean '{meant}'.$"):
        spelt(flag)
