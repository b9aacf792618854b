"""The words of a command line, in today's or upstream's spelling, as flat values by setting."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cassle import kaizen_spelling
from cassle.data import BENCHMARKS, STREAMED
from cassle.distill import DISTILLERS
from cassle.engine.settings import ALIASES
from cassle.errors import ConfigError
from cassle.kaizen_spelling import asked
from cassle.methods import METHODS

CONTINUES = "the same command again continues a run by itself, from its last checkpoint"
#: upstream flags that ask for what is always done; named in a note when they are given
SETTLED = {
    "save_checkpoint": "checkpoints are always saved",
    "auto_resume_training": CONTINUES, "auto_resume": CONTINUES, "auto_resumer_max_hours": CONTINUES,
    "terminate_on_nan": "a non-finite loss always stops the run",
    "encode_indexes_into_labels": "batches always carry the sample indexes",
    "multiple_trainloader_mode": "an epoch is as long as the task's data",
    "distiller_library": "there is one library of distillers",
    "norm_last_layer": "DINO's last layer always consists of unit vectors",
}  # fmt: skip
UMAP = "there are no UMAP plots in this version; leave the flag out."
#: upstream flags that cannot be had, or for which there is something else
REPLACED = {
    "resume_from_checkpoint": "give the same command again: a run continues by itself.",
    "auto_umap": UMAP, "auto_umap_dir": UMAP, "auto_umap_frequency": UMAP,
    "clip_grad": "give --trainer.gradient_clip_val, which clips the norm of the whole gradient.",
    "debug_augmentations": "views are not written to files in this version; leave the flag out.",
    "semi_supervised": "a probe with few labels is part of every evaluation; --few_labels sets them per class.",
    "no_distill": "leave --distiller out, then nothing is distilled.",
    "no_continual_learning": "every task continues from the one before; leave the flag out.",
    "online_evaluation_classifier_layers": "the online probe is one linear layer; leave the flag out.",
    "feature_extractor_distill_no_predictior": "distillers have their predictor; leave the flag out.",
}  # fmt: skip
#: options of PL 1.5's Trainer that today's Trainer has as well
TRAINER = {
    "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark", "log_every_n_steps", "profiler",
    "detect_anomaly", "limit_val_batches", "val_check_interval",
}  # fmt: skip
#: PL 1.5 spellings of a value
PRECISIONS = {"16": "16-mixed", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}
SMALL_CROPS = 6  # upstream's --multicrop: 2 large and 6 small views
NUMBER = re.compile(r"[-+]?(\d|\.\d)")


def read_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Return the flags of a command line as flat values; texts are typed later, by the signatures.

    Accepts ``--flag value``, ``--flag=value``, bare ``--flag`` (true), space-separated lists, and ``--trainer.NAME v``.

    Raises:
        ConfigError: a word belongs to no flag.
    """
    values: dict[str, Any] = {}
    words = list(argv)
    stray = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            stray.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        taken = [text] if equals else []
        while not equals and words and (not words[0].startswith("-") or NUMBER.match(words[0])):
            taken.append(words.pop(0))
        values[name.replace("-", "_")] = _value(taken)
    if stray:
        raise ConfigError(f"{' '.join(stray)}: belongs to no flag; flags begin with two dashes.")
    return _grouped(values)


def _value(taken: list[str]) -> Any:
    if not taken:
        return True
    if len(taken) > 1:
        return [_value([text]) for text in taken]
    return None if taken[0].lower() in ("none", "null") else taken[0]


def _grouped(values: dict[str, Any]) -> dict[str, Any]:
    """Collect ``trainer.NAME`` flags into one dictionary."""
    trainer = {name.removeprefix("trainer."): v for name, v in values.items() if name.startswith("trainer.")}
    rest = {name: v for name, v in values.items() if not name.startswith("trainer.")}
    if trainer:
        rest["trainer"] = {n: yaml.safe_load(v) if isinstance(v, str) else v for n, v in trainer.items()}
    return rest


def upstream_spelling(values: dict[str, Any], note: Callable[[str], object]) -> tuple[dict[str, Any], list[str]]:
    """Translate the flags and values of CaSSLe's, Kaizen's and PL 1.5's command lines.

    Args:
        values: settings by name.
        note: takes a line for each flag that is not needed.

    Returns:
        The settings in today's spelling, and one sentence for each wish that cannot be had.

    Raises:
        ConfigError: a component's name is written in another way, or a setting is given under two names.
    """
    values, problems = dict(values), []
    _refuse_misspelt(values)
    if str(values.get("strategy", "")).startswith(("auto", "ddp")):  # Lightning's word for it
        values["trainer_strategy"] = values.pop("strategy")
    kaizen_spelling.translate(values, problems, note)
    if "crop_size" in values:  # solo-learn's
        if "size" in values:
            raise ConfigError("--crop_size and --size: are the same flag; give one.")
        values["size"] = values.pop("crop_size")
    if str(values.get("norm_last_layer")).lower() == "false":
        problems.append(f"--norm_last_layer {values.pop('norm_last_layer')}: {SETTLED['norm_last_layer']}.")
    for name, reason in SETTLED.items():
        if values.pop(name, None) is not None:
            note(f"Note: --{name} is not needed: {reason}.")
    for name, reason in REPLACED.items():
        if asked(values.pop(name, None)):
            problems.append(f"--{name}: {reason}")
    if asked(values.pop("supervised", None)):
        if values.get("method") == "simclr":
            values["method"] = "supcon"
        else:
            problems.append("--supervised: makes --method simclr to supcon; there is no other supervised method.")
    if asked(values.pop("online", None)):  # the continual-SSL library's mode, the classes of one task after another's
        values.setdefault("stream", "none" if values.get("dataset") in STREAMED else "class")
    if asked(values.pop("dali", None)) and values.setdefault("engine", "dali") != "dali":
        problems.append(f"--dali and --engine {values['engine']}: contradict each other; give one of them.")
    if asked(values.pop("use_teacher_weight", None)):  # CCL's
        values["network"] = "teacher"
    if asked(values.pop("multicrop", None)):
        values.setdefault("num_small_crops", SMALL_CROPS)
    if isinstance(values.get("num_crops_per_aug"), list):  # solo-learn's: one number for each augmentation
        values["num_crops_per_aug"] = sum(int(n) for n in values["num_crops_per_aug"] if str(n).isdecimal())
    if options := {name: values.pop(name) for name in TRAINER & values.keys()}:
        typed = {name: yaml.safe_load(value) if isinstance(value, str) else value for name, value in options.items()}
        values["trainer"] = {**typed, **values.get("trainer", {})}
    if values.get("accelerator") in ("ddp", "dp", "ddp2", "ddp_spawn"):
        values["trainer_strategy"], values["accelerator"] = "ddp", "auto"
    if "precision" in values:
        values["precision"] = PRECISIONS.get(str(values["precision"]), values["precision"])
    if "gpus" in values and values["gpus"] is not None:
        gpus = values["gpus"]
        values["gpus"] = [
            word for part in (gpus if isinstance(gpus, list) else [gpus]) for word in str(part).split(",")
        ]
    if values.get("split_strategy") == "domain" and "num_tasks" not in values:  # as upstream's linear scripts
        known = BENCHMARKS[values["dataset"]].domains if values.get("dataset") in BENCHMARKS else ()
        if count := 1 if values.get("domain") else len(known):
            values["num_tasks"] = count
    return values, problems


def _refuse_misspelt(values: dict[str, Any]) -> None:
    """Refuse a component's name that differs from a known one in capitals and underscores only."""

    def squeezed(name: str) -> str:
        return re.sub(r"[-_]", "", name).lower()

    problems = []
    for registry in (METHODS, DISTILLERS, BENCHMARKS):
        name = str(values.get(registry.flag))
        meant = [known for known in registry if squeezed(known) == squeezed(name)]
        if meant and name not in registry:
            problems.append(f"--{registry.flag} {name}: unknown. Did you mean '{meant[0]}'?")
    if problems:
        raise ConfigError(problems)


def collect(argv: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Return the settings of a command line over those of ``--config``, and which of the run modes were asked for.

    Raises:
        ConfigError: the file is missing or is not a mapping, or a word belongs to no flag, or to a mode.
    """
    values = read_flags(argv)
    modes = {mode for mode in ("help", "print_config", "dry_run") if mode in values and _switch(mode, values.pop(mode))}
    config = values.pop("config", None)
    if config is not None:
        if not isinstance(config, str):
            raise ConfigError("--config: takes one YAML file.")
        below = _read_config(Path(config))
        if all(isinstance(part.get("trainer"), dict) for part in (below, values)):
            values["trainer"] = {**below["trainer"], **values["trainer"]}
        over = {ALIASES.get(name, name) for name in values}
        values = {**{name: value for name, value in below.items() if ALIASES.get(name, name) not in over}, **values}
    return values, modes


def _switch(mode: str, value: Any) -> bool:
    """Return whether a flag of a run mode is on."""
    if value is True or str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    words = " ".join(value) if isinstance(value, list) else value
    raise ConfigError(f"--{mode} {words}: must be true or false; e.g. --{mode} alone, which is true.")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: is not text in UTF-8; give a YAML file.") from None
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold a mapping of flags to values.")
    return {str(name).replace("-", "_"): value for name, value in content.items()}
