"""Upstream's scripts, rebuilt from the tables of their flags, pass a dry run as they are.

CaSSLe publishes 52 scripts that pre-train and 23 that evaluate, Kaizen four. What is missing on this machine (data,
GPUs, checkpoints) or in this version (DALI) is a warning of the dry run.
"""

import subprocess
import sys

import pytest

from cassle.cli import main_continual, main_linear
from cassle.engine.launch import parse_script
from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.spelling import collect, upstream_spelling
from tests.conftest import REPOSITORY

LARS = "--optimizer sgd --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm --scheduler warmup_cosine"
SGD = "--optimizer sgd --scheduler cosine"
WANDB = "--project ever-learn --entity unitn-mhug --wandb"
JITTER = "--brightness 0.4 --contrast 0.4 --saturation 0.2 --hue 0.1"
STRONG = "--brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2"
MOCO_JITTER = "--brightness 0.4 --contrast 0.4 --saturation 0.4 --hue 0.1"
VICREG = "--proj_hidden_dim 2048 --output_dim 2048 --sim_loss_weight 25.0 --var_loss_weight 25.0 --cov_loss_weight 1.0"
SWAV = "--proj_hidden_dim 2048 --queue_size 3840 --output_dim 128 --num_prototypes 3000"
BYOL = "--output_dim 256 --proj_hidden_dim 4096 --base_tau_momentum 0.99 --final_tau_momentum 1.0"
BARLOW = "--proj_hidden_dim 2048 --output_dim 2048 --scale_loss 0.1"
DISTILLERS = {
    "barlow": "decorrelative", "byol": "predictive", "mocov2plus": "contrastive", "simclr": "contrastive",
    "supcon": "contrastive", "swav": "knowledge", "vicreg": "predictive_mse",
}  # fmt: skip
NAMES = {"barlow": "barlow_twins", "supcon": "simclr"}  # what --method says, where it is not the script's name

CIFAR = {
    "barlow": f"--num_tasks 5 --task_idx 0 {LARS} --lr 0.3 --classifier_lr 0.1 --weight_decay 1e-4 --num_workers 4 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.0 0.2 {BARLOW} --save_checkpoint",
    "byol": f"--num_tasks 2 --task_idx 0 {LARS} --lr 1.0 --classifier_lr 0.1 --weight_decay 1e-5 --num_workers 5 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.0 0.2 {BYOL} --pred_hidden_dim 4096 "
    "--momentum_classifier --save_checkpoint",
    "simclr": f"--num_tasks 2 --task_idx 0 {LARS} --lr 0.4 --classifier_lr 0.1 --weight_decay 1e-5 --num_workers 5 "
    f"{STRONG} --gaussian_prob 0.0 0.0 --temperature 0.2 --proj_hidden_dim 2048 --output_dim 256 --save_checkpoint",
    "swav": "--num_tasks 2 --task_idx 0 --optimizer sgd --lars --grad_clip_lars --eta_lars 0.02 "
    "--scheduler warmup_cosine --lr 0.6 --min_lr 0.0006 --classifier_lr 0.1 --weight_decay 1e-6 --num_workers 3 "
    f"{STRONG} --gaussian_prob 0.0 0.0 {SWAV} --epoch_queue_starts 50 --freeze_prototypes_epochs 2",
    "vicreg": f"--num_tasks 5 --task_idx 1 {LARS} --lr 0.3 --weight_decay 1e-4 --num_workers 3 --min_scale 0.2 "
    f"{JITTER} --gaussian_prob 0.0 0.0 --solarization_prob 0.1 {VICREG} --save_checkpoint",
}
LARGE = {
    "barlow": f"{LARS} --lr 0.4 --weight_decay 1e-4 {JITTER} --gaussian_prob 1.0 0.1 --solarization_prob 0.0 0.2 "
    f"{BARLOW}",
    "byol": f"{LARS} --lr 0.6 --classifier_lr 0.1 --weight_decay 1e-5 {JITTER} --gaussian_prob 1.0 0.1 "
    f"--solarization_prob 0.0 0.2 {BYOL} --pred_hidden_dim 8192",
    "mocov2plus": f"{SGD} --lr 0.4 --classifier_lr 0.3 --weight_decay 1e-4 {MOCO_JITTER} --proj_hidden_dim 2048 "
    "--queue_size 65536 --temperature 0.2 --base_tau_momentum 0.99 --final_tau_momentum 0.999",
    "simclr": f"{LARS} --lr 0.4 --weight_decay 1e-4 {STRONG} --temperature 0.2 --proj_hidden_dim 2048",
    "supcon": f"{LARS} --lr 0.4 --weight_decay 1e-4 {STRONG} --temperature 0.1 --proj_hidden_dim 2048 --supervised",
    "swav": f"{LARS} --lr 0.8 --min_lr 0.0006 --classifier_lr 0.1 --weight_decay 1e-6 {STRONG} {SWAV}",
    "vicreg": f"{LARS} --lr 0.4 --weight_decay 1e-4 --min_scale 0.2 {JITTER} --solarization_prob 0.1 {VICREG}",
}  # fmt: skip
LINEAR_LR = {
    "barlow": 0.1, "byol": 3.0, "mocov2plus": 3.0, "simclr": 1.0, "supcon": 1.0, "swav": 0.15, "vicreg": 0.3,
    "simsiam": 30.0,
}  # fmt: skip
DOMAINS = ("quickdraw", "clipart", "infograph", "painting", "real", "sketch")


def script(program: str, flags: str) -> str:
    """Return a command in upstream's layout: a flag with its values on each line."""
    lines = [f"--{flag.strip()}" for flag in f" {flags}".split(" --") if flag.strip()]
    return f"python3 {program} \\\n" + " \\\n".join(f"    {line}" for line in lines) + "\n"


def cifar(method: str, distill: bool) -> str:
    flags = CIFAR[method]
    if distill:  # here upstream's number of tasks is right
        flags = flags.replace("--num_tasks 2", "--num_tasks 5").replace("--task_idx 0", "--task_idx 1")
    return script(
        "main_continual.py",
        "--dataset cifar100 --encoder resnet18 --data_dir $DATA_DIR --split_strategy class --max_epochs 500 --gpus 0 "
        f"--precision 16 --batch_size 256 {flags} --name {method}-cifar100 {WANDB} --method "
        f"{NAMES.get(method, method)}{_distilled(method) if distill else ''}",
    )


def imagenet100(method: str, split: str, distill: bool) -> str:
    more = " --momentum_classifier" * (method in ("byol", "mocov2plus") and (split == "class") != distill)
    more += {"swav": " --epoch_queue_starts 100 --freeze_prototypes_epochs 5"}.get(method, "")
    return script(
        "main_continual.py",
        "--dataset imagenet100 --encoder resnet18 --data_dir $DATA_DIR --train_dir imagenet-100/train "
        f"--val_dir imagenet-100/val --split_strategy {split} --max_epochs 400 --num_tasks 5 --task_idx {int(distill)} "
        "--gpus 0,1 --accelerator ddp --sync_batchnorm --num_workers 5 --precision 16 --batch_size 128 "
        f"{LARGE[method]}{more} --dali --check_val_every_n_epoch 9999 --name {method}-imagenet100-5T {WANDB} "
        f"--save_checkpoint --method {NAMES.get(method, method)}{_distilled(method) if distill else ''}",
    )


def domainnet(method: str, distill: bool) -> str:
    more = " --momentum_classifier" * (method in ("byol", "mocov2plus"))
    if method == "swav":
        queue, freeze = (100, 5) if distill else (50, 3)
        more = f" --epoch_queue_starts {queue} --freeze_prototypes_epochs {freeze}"
    more += " --offline" * (method == "barlow" and distill)
    last = _distilled(method) if distill else ""
    return script(
        "main_continual.py",
        "--dataset domainnet --encoder resnet18 --data_dir $DATA_DIR/domainnet --split_strategy domain "
        f"--max_epochs 200 --num_tasks 6 --task_idx {int(distill)} --gpus 0,1,2,3 --accelerator ddp --sync_batchnorm "
        f"--num_workers 5 --precision 16 --batch_size {256 if method == 'byol' and distill else 64} {LARGE[method]}"
        f"{more} --dali --name {method}-domainnet {WANDB} --save_checkpoint --check_val_every_n_epoch 9999 "
        f"--disable_knn_eval --method {NAMES.get(method, method)}{last.replace('predictive_mse', 'predictiveMSE')}",
    )


def _distilled(method: str) -> str:
    return f" --distiller {DISTILLERS[method]} --pretrained_model $PRETRAINED_PATH"


def linear(method: str, data: str, workers: int, name: str) -> str:
    return script(
        "main_linear.py",
        f"{data} --encoder resnet18 --max_epochs 100 --gpus 0 --precision 16 --optimizer sgd --scheduler step "
        f"--lr {LINEAR_LR[method]} --lr_decay_steps 60 80 --weight_decay 0 --batch_size 256 --num_workers {workers} "
        f"--dali --name {method}-{name}-linear-eval --pretrained_feature_extractor $PRETRAINED_PATH {WANDB} "
        "--save_checkpoint",
    )


def linear_imagenet100(method: str, split: str) -> str:
    data = "--dataset imagenet100 --data_dir $DATA_DIR --train_dir imagenet-100/train --val_dir imagenet-100/val"
    return linear(method, f"{data} --split_strategy class --num_tasks 5", 10, f"imagenet100-5T_{split}")


def linear_domainnet(method: str) -> str:
    data = "--dataset domainnet --data_dir $DATA_DIR/domainnet --split_strategy domain"
    wanted = {"all": data, **{domain: f"{data} --domain {domain}" for domain in DOMAINS}}
    return "\n".join(f"# {n}\n{linear(method, flags, 8, f'domainnet_{n}')}" for n, flags in wanted.items())


CONTINUAL = {
    **{f"cifar {m} {d}": cifar(m, d) for m in CIFAR for d in (False, True)},
    **{
        f"imagenet-100 {split} {m} {d}": imagenet100(m, split, d)
        for m in LARGE for split in ("class", "data") for d in (False, True)
    },
    **{f"domainnet {m} {d}": domainnet(m, d) for m in LARGE for d in (False, True)},
    # an earlier state of it: no --task_idx 1, and two tasks
    "cifar swav True, earlier": f"{cifar('swav', False).rstrip()} {_distilled('swav')}",
}  # fmt: skip
LINEAR = {
    **{f"imagenet-100 {s} {m}": linear_imagenet100(m, s) for m in LINEAR_LR for s in ("class", "data")},
    **{f"domainnet {m}": linear_domainnet(m) for m in LARGE},
}

# Kaizen ---------------------------------------------------------------------------------------------------------------

KAIZEN_COMMON = (
    "--dataset cifar100 --encoder resnet18 --data_dir $DATA_DIR --split_strategy class --num_tasks 5 --gpus 0 "
    f"--precision 16 {LARS} --min_lr 0.0 --online_eval_classifier_lr 0.1 --batch_size 256 --brightness 0.4 "
    "--contrast 0.4 --saturation 0.2 --hue 0.1 --gaussian_prob 0.0 0.0 --disable_knn_eval --entity unitn-mhug --wandb "
    "--offline --save_checkpoint --classifier_training True --classifier_stop_gradient True --classifier_layers 1000 "
    "--distiller_library factory --distiller_classifier soft_label --classifier_distill_lamb 2.0 "
    "--classifier_distill_no_predictior True --replay True --replay_proportion 0.01 --replay_batch_size 32 "
    "--online_evaluation True --online_evaluation_training_data_source seen_tasks --global_seed 5 --split_seed 5"
)
MOMENTUM = "--solarization_prob 0.0 0.2 --output_dim 256 --lr 1.0 --classifier_lr 0.1 --weight_decay 1e-5"
KAIZEN = {
    "byol": f"--max_epochs 500 --task_idx 0 {MOMENTUM} --proj_hidden_dim 4096 --pred_hidden_dim 4096 --num_workers 2 "
    "--base_tau_momentum 0.99 --final_tau_momentum 1.0 --momentum_classifier --distiller predictive "
    "--feature_extractor_distill_lamb 1 --project ever-learn-2",
    "mocov2plus": f"--max_epochs 2 --task_idx 0 {MOMENTUM} --proj_hidden_dim 2048 --temperature 0.2 --num_workers 2 "
    "--queue_size 65536 --base_tau_momentum 0.99 --final_tau_momentum 0.999 --momentum_classifier "
    "--distiller contrastive --feature_extractor_distill_lamb 1 --project ever-learn",
    "simclr": f"--max_epochs 500 --task_idx 1 {MOMENTUM} --proj_hidden_dim 4096 --pred_hidden_dim 4096 --num_workers 3 "
    "--base_tau_momentum 0.99 --final_tau_momentum 1.0 --momentum_classifier --distiller contrastive "
    "--feature_extractor_distill_lamb 1 --pretrained_model /home/them/task0.ckpt --project ever-learn-2",
    "vicreg": f"--max_epochs 500 --task_idx 4 --lr 0.3 --classifier_lr 0.05 --weight_decay 1e-4 --min_scale 0.2 "
    f"--solarization_prob 0.1 0.1 {VICREG} --num_workers 2 --distiller predictive_mse "
    "--feature_extractor_distill_lamb 25 --pretrained_model /home/them/task3.ckpt --project ever-learn-2",
}


def kaizen(method: str) -> str:
    return script("main_continual.py", f"{KAIZEN_COMMON} --name {method}-distill --method {method} {KAIZEN[method]}")


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
    assert ("--dali" in "".join(warnings)) == ("cifar" not in name)
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
        assert warnings[0].startswith("--dali") and "Note: --lr is not used" in err
        assert any("$PRETRAINED_PATH: no such file" in line for line in warnings)
        assert all(line.startswith((*HERE, "--pretrained_feature", "--device")) for line in warnings), warnings
    if "domainnet" in name:
        assert "domain: sketch\n" in out and "num_tasks: 1\n" in out and "output: linear-sketch.json" in out


@pytest.mark.parametrize("method", KAIZEN)
def test_a_script_of_kaizen(tmp_path, method):
    (words,) = commands(tmp_path, kaizen(method))
    plan, warnings = dry(words)
    assert all(w.startswith(HERE) or "Kaizen's" in w for w in warnings), warnings
    assert len([w for w in warnings if "Kaizen's replay" in w]) == 3
    assert len([w for w in warnings if "Kaizen's classifier" in w]) == 7
    values = plan.values
    assert (values["classifier_lr"], values["seed"], values["online_eval_data"]) == (0.1, 5, "seen_tasks")
    assert values["distill_lamb"] == (25 if method == "vicreg" else 1) and plan.method == method


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
    assert "warning: --dali: there is no DALI engine in this version" in done.stdout


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
        ("--online_evaluation True --replay False --dali False --supervised False", {}),
        ("--global_seed 1 --split_seed 2", {"seed": "1", "split_seed": "2"}),
        ("--gradient_clip_val 0.5 --trainer.profiler simple",
         {"trainer": {"gradient_clip_val": 0.5, "profiler": "simple"}}),
        ("--dataset domainnet --split_strategy domain",
         {"dataset": "domainnet", "split_strategy": "domain", "num_tasks": 6}),
        ("--dataset digits --split_strategy domain --domain noisy",
         {"dataset": "digits", "split_strategy": "domain", "domain": "noisy", "num_tasks": 1}),
        ("--distiller_library factory", {}),
    ],
)  # fmt: skip
def test_translations(line, values):
    assert spelt(line)[:2] == (values, [])


@pytest.mark.parametrize(
    "line",
    ["--auto_umap_dir x", "--auto_umap_frequency 2", "--debug_augmentations", "--semi_supervised 0.1",
     "--no_distill True", "--no_continual_learning True", "--classifier_loss_weight 2",
     "--replay_memory_bank_size 9", "--supervised",
     "--online_evaluation_classifier_layers 10", "--feature_extractor_distill_no_predictior True",
     "--classifier_distill_temperature 0.1"],
)  # fmt: skip
def test_wishes_that_cannot_be_had(line):
    values, problems, _ = spelt(line)
    assert values == {} and len(problems) == 1 and problems[0].startswith(f"{line.split()[0]}: ")


def test_a_rate_of_kaizens_classifier_is_not_that_of_the_probe():
    values, problems, _ = spelt("--classifier_lr 0.05 --online_eval_classifier_lr 0.1")
    assert values == {"classifier_lr": "0.1"} and problems == [
        "--classifier_lr: Kaizen's classifier is not in this version; leave the flag out."
    ]


@pytest.mark.parametrize("line", ["--global_seed 1 --seed 2", "--crop_size 3 --size 4"])
def test_a_setting_in_two_spellings(line):
    with pytest.raises(ConfigError, match=r"are the same flag; give one\."):
        spelt(line)


@pytest.mark.parametrize("flag, meant", [("--method BarlowTwins", "barlow_twins"), ("--dataset CIFAR100", "cifar100")])
def test_names_in_another_spelling(flag, meant):
    with pytest.raises(ConfigError, match=f"{flag}: unknown. Did you mean '{meant}'.$"):
        spelt(flag)
