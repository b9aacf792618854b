"""From a command line, in today's or upstream's spelling, to settings, or to all that is wrong with them."""

import json
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from cassle.cli import guarded, main_continual, main_linear
from cassle.engine.choice import Choice, schema_for
from cassle.engine.plan import Plan
from cassle.errors import ConfigError
from cassle.methods import METHODS
from cassle.nn import BACKBONES
from cassle.spelling import collect, read_flags, upstream_spelling

# Small enough to build a model in a moment.
SMALL = "--backbone tiny --output_dim 8 --proj_hidden_dim 8 --batch_size 16 --max_epochs 1"


def run(capsys, line: str, main=main_continual) -> tuple[int, str, str]:
    code = main(shlex.split(line))
    out, err = capsys.readouterr()
    return code, out, err


def problems(capsys, line: str) -> str:
    """Return what a refused command line is told, having checked that nothing else is printed."""
    code, out, err = run(capsys, line)
    assert code == 2 and out == "", (code, out)
    assert int(err.split()[0]) == len([line for line in err.splitlines()[1:] if line.startswith("  --")])
    return err


# Reading words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, values",
    [
        ("", {}),
        ("--lars", {"lars": True}),
        ("--lars --lr 0.3 --overwrite", {"lars": True, "lr": "0.3", "overwrite": True}),
        ("--gaussian_prob 0.0 0.2", {"gaussian_prob": ["0.0", "0.2"]}),
        ("--min_lr -1 --x -.5 --y -1e-3 --z +2", {"min_lr": "-1", "x": "-.5", "y": "-1e-3", "z": "+2"}),
        ("--name=a=b --lars", {"name": "a=b", "lars": True}),
        ("--name=", {"name": ""}),
        ("--batch-size 3", {"batch_size": "3"}),
        ("--lr 1 --lr 2", {"lr": "2"}),
        ("--distiller none --gpus null", {"distiller": None, "gpus": None}),
        ("--trainer.limit_train_batches 3 --trainer.profiler simple --trainer.barebones",
         {"trainer": {"limit_train_batches": 3, "profiler": "simple", "barebones": True}}),
        ("--trainer.overfit_batches 0.5 --lars", {"lars": True, "trainer": {"overfit_batches": 0.5}}),
        ("--name 'two words'", {"name": "two words"}),
    ],
)  # fmt: skip
def test_reading_flags(line, values):
    assert read_flags(shlex.split(line)) == values


def test_words_that_belong_to_no_flag():
    with pytest.raises(ConfigError, match=r"^digits -x: belongs to no flag"):
        read_flags(["digits", "--lars", "-x"])


@pytest.mark.parametrize(
    "line, gpus", [("--gpus 0,1", [0, 1]), ("--gpus 0 1", [0, 1]), ("--gpus 0", [0]), ("--gpus=2", [2])]
)
def test_gpus(line, gpus):
    values, wrong = upstream_spelling(read_flags(line.split()), print)
    assert wrong == [] and Plan(values).values["gpus"] == gpus


def test_run_modes_are_no_settings():
    assert collect(["--dry_run", "--lars"]) == ({"lars": True}, {"dry_run"})
    assert collect(["--dry_run", "false", "--print_config"]) == ({}, {"print_config"})
    assert collect(["--dry_run", "False", "--help", "True"]) == ({}, {"help"})


# Upstream's scripts --------------------------------------------------------------------------------------------------

COMMON = (
    "--encoder resnet18 --optimizer sgd --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm "
    "--scheduler warmup_cosine --brightness 0.4 --contrast 0.4 --saturation 0.2 --hue 0.1 --split_strategy class "
    "--num_tasks 5 --project ever-learn --entity unitn-mhug --wandb --save_checkpoint --checkpoint_dir x"
)
CIFAR = (
    f"{COMMON} --dataset cifar100 --data_dir $DATA --max_epochs 500 --gpus 0 --precision 16 --batch_size 256 "
    "--num_crops 2"
)
ASYMMETRIC = "--gaussian_prob 0.0 0.0 --solarization_prob 0.0 0.2"
IMAGENET = (
    f"{COMMON} --dataset custom --data_dir $DATA --train_dir imagenet-100/train --val_dir imagenet-100/val "
    "--max_epochs 400 --gpus 0,1 --accelerator ddp --sync_batchnorm --precision 16 --batch_size 128 --num_workers 5 "
    "--check_val_every_n_epoch 9999 --dali_device gpu --encode_indexes_into_labels "
    "--gaussian_prob 1.0 0.1 --solarization_prob 0.0 0.2 "
    "--min_scale 0.08 --size 224"
)
UPSTREAM = {
    "cifar barlow": f"{CIFAR} {ASYMMETRIC} --method barlow_twins --lr 0.3 --classifier_lr 0.1 --weight_decay 1e-4 "
    "--name b --scale_loss 0.1 --proj_hidden_dim 2048 --output_dim 2048 --distiller decorrelative --num_workers 4",
    "cifar byol": f"{CIFAR} {ASYMMETRIC} --method byol --lr 1.0 --classifier_lr 0.1 --weight_decay 1e-5 --name b "
    "--output_dim 256 --proj_hidden_dim 4096 --pred_hidden_dim 4096 --base_tau_momentum 0.99 --final_tau_momentum 1.0 "
    "--momentum_classifier --distiller predictive --pretrained_model $PRETRAINED_PATH --task_idx 1",
    "cifar simclr": f"{CIFAR} {ASYMMETRIC} --method simclr --lr 0.4 --weight_decay 1e-5 --name s --temperature 0.2 "
    "--proj_hidden_dim 2048 --output_dim 256 --distiller contrastive --distill_temperature 0.2",
    "imagenet barlow": f"{IMAGENET} --method barlow_twins --lr 0.4 --weight_decay 1e-4 --scale_loss 0.1 --name b",
    "imagenet byol": f"{IMAGENET} --method byol --lr 0.6 --weight_decay 1e-5 --pred_hidden_dim 8192 "
    "--proj_hidden_dim 4096 --name b",
    "imagenet simclr": f"{IMAGENET} --method simclr --lr 0.4 --temperature 0.2 --disable_knn_eval --name s "
    "--checkpoint_frequency 2",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_upstreams_flags_are_understood(name):
    notes = []
    values, wrong = upstream_spelling(read_flags(shlex.split(UPSTREAM[name])), notes.append)
    assert wrong == []
    plan = Plan(values)
    assert plan.values["lars"] is True and plan.values["eta_lars"] == 0.02 and plan.values["precision"] == "16-mixed"
    assert plan.values["gaussian_prob"] == ([1.0, 0.1] if "imagenet" in name else [0.0, 0.0])
    assert plan.backbone == "resnet18" and str(plan.values["experiment_dir"]) == "x" and plan.wandb is not None
    assert any("--save_checkpoint is not needed" in note for note in notes)
    if "imagenet" in name:
        assert (
            plan.values["trainer_strategy"] == "ddp"
            and plan.values["accelerator"] == "auto"
            and plan.values["gpus"] == [0, 1]
        )
        assert plan.optimization.images_per_step == 256 and plan.size == 224


def test_what_cannot_be_had_is_said(capsys):
    err = problems(capsys, "--auto_umap --supervised --resume_from_checkpoint a.ckpt --lrr 3")
    for part in (
        "--auto_umap:",
        "--supervised:",
        "give the same command again",
        "'lr'?",
    ):
        assert part in err


@pytest.mark.parametrize(
    "given, wanted",
    [("16", "16-mixed"), ("32", "32-true"), ("bf16", "bf16-mixed"), (16, "16-mixed"), ("64-true", "64-true")],
)
def test_precisions(given, wanted):
    assert upstream_spelling({"precision": given}, print)[0] == {"precision": wanted}


# Mistakes ------------------------------------------------------------------------------------------------------------


def test_all_mistakes_are_told_at_once(capsys):
    err = problems(capsys, "--lrr 1 --batch_size many --optimizer sdg --lars --num_tasks 0 --name a/b --hue 0.9")
    assert err.startswith("6 problems:")
    assert "--lrr: unknown. Did you mean 'lr'?" in err
    assert "--batch_size many: must be an integer." in err
    assert "--optimizer sdg: must be one of ['sgd', 'adam', 'adamw']." in err
    assert "--num_tasks 0: must be at least 1; e.g. 5." in err
    assert "--name a/b: must be a plain name without path separators" in err
    assert "--hue 0.9" in err


def test_what_is_on_anyway_is_not_turned_round(capsys):
    err = problems(capsys, "--knn_eval --online_eval --linear_eval false --optimizer lars")
    for name in ("knn_eval", "online_eval", "linear_eval"):
        assert f"--{name}: unknown. By default it is on; --disable_{name} turns it off.\n" in err
    assert "--optimizer lars: must be one of ['sgd', 'adam', 'adamw']. There is a flag --lars.\n" in err
    assert "By default it is off; --disable_online_eval false turns it on" in problems(
        capsys, "--online_eval --stream class --num_tasks 5"
    )


def test_values_for_one_view(capsys):
    err = problems(capsys, "--num_crops 1 --gaussian_prob 0.0 0.0")
    assert "--gaussian_prob 0.0 0.0: 2 values for 1 view; give 1 value (--num_crops 1).\n" in err


def test_resuming_needs_no_flag(capsys):
    flags = ("auto_resume_training", "auto_resume", "auto_resumer_max_hours")
    line = f"{SMALL} --auto_resume_training --auto_resume --auto_resumer_max_hours 36 --print_config"
    code, out, err = run(capsys, line)
    assert code == 0 and not {*flags} & {*yaml.safe_load(out)}
    for name in flags:
        assert f"Note: --{name} is not needed: the same command again continues a run by itself" in err


@pytest.mark.parametrize(
    "flags, enabled",
    [
        ("", False),
        ("--wandb", True),
        ("--offline", True),
        ("--wandb --offline", True),
        ("--wandb false --offline", False),
    ],
)
def test_offline_is_a_way_to_log(flags, enabled):
    wandb = Plan({**collect(f"{SMALL} {flags}".split())[0]}).wandb
    assert (wandb.enabled, wandb.offline) == (enabled, "--offline" in flags)


def test_contradictions_are_told_with_the_rest(capsys):
    err = problems(
        capsys,
        "--lars --optimizer adam --task_idx -1 --max_epochs 0 --num_crops 3 --gaussian_prob 1.0 2.0 --dateset digits",
    )
    assert "--lars: works with --optimizer sgd" in err and "--task_idx -1: must be at least 0" in err
    assert "--max_epochs 0" in err and "--gaussian_prob 1.0 2.0: 2 values for 3 views" in err and "'dataset'?" in err


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            "--method barlow",
            "--method barlow: unknown. Did you mean 'barlow_twins'? Known: simclr, supcon, mocov2plus,",
        ),
        ("--distiller predictve --method byol", "--distiller predictve: unknown. Did you mean 'predictive'?"),
        ("--backbone resnet81", "--backbone resnet81: unknown. Did you mean 'resnet18'?"),
        ("--encoder resnet81", "--backbone resnet81: unknown."),
        ("--dataset cifar01", "--dataset cifar01: unknown. Did you mean 'cifar"),
        (
            "--method byol --distiller knowledge",
            "--distiller knowledge: needs prototypes, which swav, ",
        ),
    ],
)
def test_a_wrong_choice_is_told_with_the_rest(capsys, flags, message):
    err = problems(
        capsys, f"{flags} --lrr 1 --batch_size many --lars --optimizer adam --base_tau_momentum 0.9 --name a/b"
    )
    assert message in err
    assert "--lrr: unknown. Did you mean 'lr'?" in err and "--batch_size many: must be an integer." in err
    assert "--lars: works with" in err and "--name a/b" in err
    assert "base_tau_momentum" not in err or "byol" not in flags  # another method's flag may be right once the name is


@pytest.mark.parametrize(
    "line, message",
    [
        ("--method simclr --scale_loss 3", "--scale_loss: belongs to --method barlow_twins, not simclr."),
        ("--distill_lamb 2", "--distill_lamb: needs --distiller."),
        ("--distill_temperature 2", "--distill_temperature: needs --distiller contrastive or knowledge."),
        ("--method byol --distiller auto --distill_gather",
         "--distill_gather: belongs to --distiller contrastive or decorrelative, not predictive."),
        ("--backbone resnet50 --width 2", "--width: belongs to --backbone tiny, not resnet50."),
        ("--wdith 2", "--wdith: unknown."),
    ],
)  # fmt: skip
def test_a_flag_of_another_choice(capsys, line, message):
    assert problems(capsys, line).splitlines()[1:] == [f"  {message}"]


@pytest.mark.parametrize(
    "line, refused",
    [
        ("--lr 0 --weight_decay -1 --momentum 1 --eta_lars 0 --warmup_epochs -1 --warmup_start_lr -1 --min_lr -1", 7),
        ("--scheduler step --lr_decay_steps 5 --lr_decay_gamma 0 --lr .inf", 2),
        ("--output_dim 0 --proj_hidden_dim 0 --lamb -1 --scale_loss .nan --stem_padding -1", 5),
        ("--distiller auto --distill_lamb -1 --distill_proj_hidden_dim 0 --distill_barlow_lamb -1 "
         "--distill_scale_loss -1", 4),
        ("--method simclr --temperature 0 --distiller auto --distill_temperature 0", 2),
        ("--method byol --pred_hidden_dim 0 --base_tau_momentum 1.5 --final_tau_momentum -0.1", 3),
        ("--backbone tiny --width 0 --stem_stride 0", 2),
        ("--storage_size 0 --num_workers -1 --split_seed -1 --num_tasks 0", 4),
        ("--split_seed 9223372036854775808", 1),
    ],
)  # fmt: skip
def test_values_out_of_range_are_told_before_a_model_is_built(capsys, line, refused):
    lines = problems(capsys, line).splitlines()[1:]
    assert len(lines) == refused
    assert all(": must be " in said and ("; e.g. " in said or "; or leave the flag out." in said) for said in lines)


def test_a_setting_under_two_names(capsys):
    err = problems(capsys, "--encoder tiny --backbone tiny --checkpoint_dir a --experiment_dir b")
    assert "--encoder and --backbone: are the same flag; give one of them." in err
    assert "--checkpoint_dir and --experiment_dir: are the same flag" in err
    assert "--arch and --encoder: are the same flag" in problems(capsys, "--arch tiny --encoder tiny")
    assert "are the same flag" in problems(capsys, "--encoder tiny --backbone tiny --help")


@pytest.mark.parametrize(
    "line, message",
    [
        ("--trainer 3", "--trainer 3: must be options by their names, --trainer.NAME VALUE."),
        ("--gaussian_prob x", "--gaussian_prob x: must be one or more numbers."),
        ("--gpus 0,x", "--gpus 0 x: must be one or more integers."),
        ("--name a b", "--name a b: must be text."),
        ("--lr none", "--lr none: must be a number."),
        ("--lr", "--lr: needs a value; it must be a number."),
        ("--overwrite stray", "--overwrite stray: must be true or false."),
        ("--dry_run stray", "--dry_run stray: must be true or false; e.g. --dry_run alone, which is true."),
        ("--help a b", "--help a b: must be true or false; e.g. --help alone, which is true."),
    ],
)
def test_wrong_types_are_told_in_plain_words(capsys, line, message):
    assert problems(capsys, line).splitlines()[1:] == [f"  {message}"]


@pytest.mark.parametrize("line", ["--scheduler step --lr_decay_steps 5", "--gpus 0"])
def test_one_value_for_a_list(capsys, line):
    code, out, _ = run(capsys, f"{line} --print_config")
    assert code == 0 and yaml.safe_load(out)[line.split()[-2].strip("-")] == [int(line.split()[-1])]


@pytest.mark.parametrize("name", ["a/b", "..", ".", "/tmp/x", ""])
def test_names_with_separators(capsys, name):
    assert "must be a plain name" in problems(capsys, f"--name={name}")


def test_trainer_options(capsys):
    err = problems(capsys, "--trainer.devices 2 --trainer.gradient_clip 1 --trainer.max_epochs 3")
    assert "--trainer.devices: set by cassle; use --devices" in err and "--trainer.max_epochs: set by cassle" in err
    assert "--trainer.gradient_clip: unknown. Did you mean 'gradient_clip_val'?" in err
    values, _ = collect(["--trainer.gradient_clip_val", "0.5"])
    assert Plan(values).training.options == {"gradient_clip_val": 0.5}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "main, more", [(main_continual, SMALL), (main_linear, "--pretrained_feature_extractor a.ckpt")]
)
def test_a_gpu_that_is_not_there(capsys, tmp_path, main, more):
    line = f"--gpus 0 {more} " + (f"--base_experiment_dir {tmp_path}" if main is main_continual else "")
    code, _, err = run(capsys, line, main)
    assert code == 2 and "no such CUDA device (0 found)" in err and "cpu" in err.lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags, message",
    [("1", "--task_idx 1: needs --pretrained_model CHECKPOINT"), ("4", "--task_idx 4: must be 0, or 1")],
)
def test_a_task_that_cannot_be_the_first_stops_a_run(capsys, tmp_path, flags, message):
    line = f"{SMALL} --base_experiment_dir {tmp_path} --task_idx {flags}"
    assert message in problems(capsys, line)
    code, out, _ = run(capsys, f"{line} --dry_run")
    assert code == 0 and f"warning: {message}" in out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["image_", ""])
def test_statistics_of_the_images(capsys, prefix):
    code, out, _ = run(capsys, f"--{prefix}mean 0.1 0.2 0.3 --{prefix}std 1 1 2 --print_config")
    assert code == 0 and yaml.safe_load(out)["image_mean"] == [0.1, 0.2, 0.3]
    recipe = Plan(yaml.safe_load(out)).eval_recipe
    assert (recipe.mean, recipe.std) == ((0.1, 0.2, 0.3), (1, 1, 2))
    assert "give three positive numbers" in problems(capsys, f"--{prefix}std 1 1 0")


def test_missing_data_stops_a_run_before_it_leaves_a_trace(capsys, tmp_path):
    line = f"--dataset custom --data_dir {tmp_path}/nowhere --base_experiment_dir {tmp_path}/e {SMALL} --num_tasks 2"
    assert "nowhere: no such folder" in problems_anywhere(capsys, line)
    assert not (tmp_path / "e").exists()


def problems_anywhere(capsys, line: str) -> str:
    code, _, err = run(capsys, line)
    assert code != 0
    return err


def test_a_number_of_tasks_that_does_not_divide_the_classes(capsys, tmp_path):
    err = problems_anywhere(capsys, f"--num_tasks 3 --base_experiment_dir {tmp_path} {SMALL}")
    assert "--num_tasks 3: does not divide the 10 classes; use one of 1, 2, 5, 10." in err


# Configuration files, help and dry runs ------------------------------------------------------------------------------


def test_flags_stand_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "lr: 0.1\nencoder: tiny\nbatch-size: 7\ntrainer: {log_every_n_steps: 2, profiler: simple}\n"
    )
    values, _ = collect(["--config", str(tmp_path / "c.yaml"), "--lr", "0.2", "--trainer.log_every_n_steps", "3"])
    plan = Plan(values)
    assert plan.values["lr"] == 0.2 and plan.values["batch_size"] == 7 and plan.backbone == "tiny"
    assert plan.training.options == {"log_every_n_steps": 3, "profiler": "simple"}
    assert Plan(collect(["--config", str(tmp_path / "c.yaml"), "--backbone", "resnet18"])[0]).backbone == "resnet18"
    (tmp_path / "c.yaml").write_text("backbone: tiny")
    assert Plan(collect(["--config", str(tmp_path / "c.yaml"), "--encoder", "resnet18"])[0]).backbone == "resnet18"


@pytest.mark.parametrize(
    "content, message",
    [(None, "cannot be read"), ("- 1\n", "must hold a mapping"), ("a: [", "cannot be read"), ("lrr: 1", "'lr'?")],
)
def test_files_that_are_wrong(capsys, tmp_path, content, message):
    if content is not None:
        (tmp_path / "c.yaml").write_text(content)
    code, _, err = run(capsys, f"--config {tmp_path}/c.yaml --print_config")
    assert code == 2 and message in err


def test_a_configuration_that_is_not_text(capsys, tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"lr: \xff\xfe")
    assert "c.yaml: is not text in UTF-8; give a YAML file." in problems(capsys, f"--config {tmp_path}/c.yaml")


def test_config_without_a_file(capsys):
    assert "--config: takes one YAML file" in problems(capsys, "--config --lars")


@pytest.mark.parametrize(
    "line",
    [
        "--method byol --distiller auto --lars --gaussian_prob 0.0 0.2 --trainer.log_every_n_steps 2 "
        "--data_dir a/b --dataset cifar10",
        "--method simclr --encoder tiny --gpus 0,1 --precision 16 --accelerator ddp "
        "--scheduler step --lr_decay_steps 60 80 "
        "--size 16 --save_checkpoint",
        "",
    ],
)
def test_a_printed_configuration_is_the_same_configuration(capsys, tmp_path, line):
    code, printed, _ = run(capsys, f"{line} --print_config")
    assert code == 0
    (tmp_path / "c.yaml").write_text(printed)
    assert run(capsys, f"--config {tmp_path}/c.yaml --print_config")[1] == printed
    config = yaml.safe_load(printed)
    assert json.loads(json.dumps(config)) == config and len(config) > 60
    values, _ = collect(["--config", str(tmp_path / "c.yaml")])
    assert Plan(upstream_spelling(values, print)[0]).config() == config


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_flag_is_explained(method, backbone):
    schema = schema_for(Choice(method, METHODS[method].auto_distiller, backbone=backbone))
    actions = [action for action in schema.parser._actions if action.dest not in ("help", "print_config")]
    assert {action.dest for action in actions} >= set(schema.names)
    for action in actions:
        assert action.help and len(action.help) > 8, action.dest
    text = schema.parser.format_help()
    for name in schema.names:
        entry = " ".join(text.split(f"\n  --{name} ", 1)[1].split("\n  --", 1)[0].split())
        assert "(type: " in entry and "default: " in entry, entry


def test_help_is_that_of_the_chosen_components(capsys):
    code, out, _ = run(capsys, "--method byol --distiller auto --encoder tiny --help")
    assert code == 0
    assert "flag of {true,false} that stands alone is true" in " ".join(out.split())
    for title in (
        "Run:",
        "Data:",
        "Augmentation:",
        "Backbone tiny:",
        "Method byol, distiller predictive:",
        "Optimization:",
        "Training:",
    ):
        assert f"\n{title}\n" in out
    assert (
        "--base_tau_momentum" in out
        and "--distill_lamb" in out
        and "--stem_stride" in out
        and "--temperature" not in out
    )
    assert run(capsys, "-h")[0] == 0
    code, out, _ = run(capsys, "--help", main_linear)
    assert code == 0 and "--pretrained_feature_extractor" in out and "--knn_k" in out


def test_a_dry_run_describes_the_run(capsys, tmp_path):
    code, out, _ = run(capsys, f"--dry_run {SMALL} --distiller auto --base_experiment_dir {tmp_path}")
    assert code == 0 and "warning" not in out
    assert "distiller: decorrelative" in out and "# Tasks (digits, split by class)" in out
    assert "task 0: 272 images, 17 steps of 16; [1, 4]" in out
    assert "# Model\ntiny: 0.09 M parameters; barlow_twins:" in out and "time: about" in out and "disk:" in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_what_is_missing_here(capsys, tmp_path):
    line = (
        f"--dry_run {SMALL} --dataset custom --data_dir {tmp_path}/nowhere --size 8 "
        f"--pretrained_model {tmp_path}/no.ckpt --task_idx 1 --dali --num_tasks 2"
    )
    code, out, err = run(capsys, line)
    assert code == 0 and err == ""
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert (
        len(warnings) == 3
        and "--dali_device gpu: the training runs on the CPU" in warnings[0]
        and "no.ckpt: no such file" in warnings[1]
        and "nowhere" in warnings[2]
    )
    assert "time: unknown without the data" in out


def test_a_dry_run_still_refuses_mistakes(capsys):
    assert "'lr'?" in problems(capsys, "--dry_run --lrr 3")
    assert "--lars: works with" in problems(capsys, "--dry_run --lars --optimizer adam")


def test_offline_flags_of_upstream(capsys):
    line = "--lr 0.1 --optimizer sgd --encoder tiny --precision 16 --pretrained_feature_extractor a.ckpt --print_config"
    code, out, err = run(capsys, line, main_linear)
    assert code == 0 and "Note: --lr is not used" in err
    config = yaml.safe_load(out)  # the notes are not part of the configuration
    assert config["backbone"] == "tiny" and config["pretrained_feature_extractor"] == "a.ckpt"
    code, _, err = run(capsys, "--dataset digits", main_linear)
    assert code == 2 and "--pretrained_feature_extractor: missing" in err
    code, _, err = run(capsys, "--pretrained_feature_extractor nowhere.ckpt", main_linear)
    assert code == 2 and "nowhere.ckpt: no such file" in err


@pytest.mark.parametrize("more, told", [("", 3), ("--dry_run", 2), ("--print_config", 2), ("--device cuda:99", 4)])
def test_all_offline_mistakes_are_told_at_once(capsys, more, told):
    line = f"--foo 3 --knn_k 0 --pretrained_feature_extractor nowhere.ckpt {more}"
    code, out, err = run(capsys, line, main_linear)
    assert (code, out) == (2, "") and err.startswith(f"{told} problems:"), err
    assert "--foo: unknown." in err and "--knn_k 0: " in err and ("nowhere.ckpt: no such file." in err) == (told > 2)


def test_offline_flags_under_two_names(capsys):
    code, _, err = run(capsys, "--encoder tiny --backbone tiny", main_linear)
    assert code == 2 and "--encoder and --backbone: are the same flag" in err


@pytest.mark.parametrize("module, code", [(True, 1), (False, None)])
def test_wandb_refuses(capsys, monkeypatch, module, code):
    class Refused(Exception):
        pass

    def refuse() -> int:
        raise Refused("api_key not configured (no-tty).\n  call wandb login")

    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    if not module:
        with pytest.raises(Refused):
            guarded(refuse)
        return
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(errors=SimpleNamespace(Error=Refused)))
    assert guarded(refuse) == code
    err = capsys.readouterr().err
    assert err.startswith(
        "error: --wandb: Weights & Biases refuses (api_key not configured (no-tty). call wandb login)"
    )
    assert "--offline" in err and len(err.splitlines()) == 1


def test_none_is_a_word_where_it_is_one():
    (values, _) = collect(["--scheduler", "none", "--name", "None"])
    made = Plan(values)
    assert made.optimization.scheduler == "none" and made.run.name is None
