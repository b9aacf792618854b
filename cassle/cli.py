"""From a command line, in today's or upstream's spelling, to a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cassle.errors import CassleError, ConfigError

#: upstream flags that ask for what is always done; named in a note when they are given
SETTLED = {
    "save_checkpoint": "checkpoints are always saved",
    "terminate_on_nan": "a non-finite loss always stops the run",
    "dali_device": "the resident engine makes the views",
    "encode_indexes_into_labels": "batches always carry the sample indexes",
    "multiple_trainloader_mode": "an epoch is as long as the task's data",
}
#: upstream flags for which there is something else
REPLACED = {
    "resume_from_checkpoint": "give the same command again: a run continues by itself.",
    "dali": "there is no DALI engine in this version; leave the flag out to use the resident engine.",
    "auto_umap": "there are no UMAP plots in this version; leave the flag out.",
    "multicrop": "multi-crop is not part of this version; leave the flag out.",
}
#: flags of upstream's SGD training of a linear head
SOLVED = {
    "optimizer", "lr", "lars", "exclude_bias_n_norm", "weight_decay", "scheduler", "lr_decay_steps", "batch_size",
    "max_epochs", "precision", "name", "project", "entity", "wandb", "offline", "classifier_lr", "method",
    "accelerator", "strategy", "sync_batchnorm", "experiment_dir", "base_experiment_dir", "checkpoint_dir",
}  # fmt: skip
#: PL 1.5 spellings of a value
PRECISIONS = {"16": "16-mixed", "32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}
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
    import yaml

    trainer = {name.removeprefix("trainer."): v for name, v in values.items() if name.startswith("trainer.")}
    rest = {name: v for name, v in values.items() if not name.startswith("trainer.")}
    if trainer:
        rest["trainer"] = {n: yaml.safe_load(v) if isinstance(v, str) else v for n, v in trainer.items()}
    return rest


def upstream_spelling(values: dict[str, Any], note: Callable[[str], object]) -> tuple[dict[str, Any], list[str]]:
    """Translate the flags and values of CaSSLe's and PL 1.5's command lines; return them and what cannot be had."""
    values, problems = dict(values), []
    for name, reason in SETTLED.items():
        if values.pop(name, None) is not None:
            note(f"Note: --{name} is not needed: {reason}.")
    for name, reason in REPLACED.items():
        if values.pop(name, None) is not None:
            problems.append(f"--{name}: {reason}")
    if values.get("accelerator") in ("ddp", "dp", "ddp2", "ddp_spawn"):
        values["strategy"], values["accelerator"] = "ddp", "auto"
    if "precision" in values:
        values["precision"] = PRECISIONS.get(str(values["precision"]), values["precision"])
    if "gpus" in values and values["gpus"] is not None:
        gpus = values["gpus"]
        values["gpus"] = [
            word for part in (gpus if isinstance(gpus, list) else [gpus]) for word in str(part).split(",")
        ]
    if values.pop("supervised", None):
        problems.append("--supervised: supervised contrastive learning is not part of this version.")
    return values, problems


def collect(argv: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Return the settings of a command line over those of ``--config``, and which of the run modes were asked for.

    Raises:
        ConfigError: the file is missing or is not a mapping, or a word belongs to no flag.
    """
    values = read_flags(argv)
    modes = {mode for mode in ("help", "print_config", "dry_run") if values.pop(mode, None) not in (None, "false")}
    config = values.pop("config", None)
    if config is not None:
        if not isinstance(config, str):
            raise ConfigError("--config: takes one YAML file.")
        below = _read_config(Path(config))
        if all(isinstance(part.get("trainer"), dict) for part in (below, values)):
            values["trainer"] = {**below["trainer"], **values["trainer"]}
        values = {**below, **values}
    return values, modes


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold a mapping of flags to values.")
    return {str(name).replace("-", "_"): value for name, value in content.items()}


def _guarded(command: Callable[[], int]) -> int:
    """Run a command; a user's mistake is printed as it is, without a traceback."""
    try:
        return command()
    except ConfigError as error:
        lines = [line if line.startswith(" ") else f"  {line}" for line in error.problems]
        print("\n".join([f"{len(lines)} problem{'s' * (len(lines) > 1)}:", *lines]), file=sys.stderr)
        return 2
    except CassleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command continues the run.", file=sys.stderr)
        return 130


def _command(argv: Sequence[str], run: Callable[[dict[str, Any], set[str]], None], show: Callable[..., None]) -> int:
    """Read a command line, then show the help or run; returns the exit code."""

    def command() -> int:
        values, modes = collect(["--help" if word == "-h" else word for word in argv])
        if "help" in modes:
            show(values)
        else:
            run(values, modes)
        return 0

    return _guarded(command)


def main_continual(argv: Sequence[str]) -> int:
    """Train over a sequence of tasks; returns the exit code."""
    return _command(argv, _train, _train_help)


def main_linear(argv: Sequence[str]) -> int:
    """Probe a checkpoint offline; returns the exit code."""
    return _command(argv, _probe, _probe_help)


def _train(values: dict[str, Any], modes: set[str]) -> None:
    from cassle.engine.plan import Plan

    values, problems = upstream_spelling(values, _note)
    if problems and "dry_run" not in modes:
        raise ConfigError([*problems, *_problems(lambda: Plan(values))])
    if "print_config" in modes:
        print(_yaml(Plan(values).config()), end="")
    elif "dry_run" in modes:
        from cassle.engine.dry_run import describe

        describe(Plan(values), warnings=problems)
    else:
        from cassle.engine.experiment import Experiment

        Experiment(**values).run()


def _probe(values: dict[str, Any], modes: set[str]) -> None:
    from cassle.engine.linear import evaluate_checkpoint, schema
    from cassle.engine.settings import ALIASES, plain

    values, problems = upstream_spelling(values, _note)
    for name in sorted(SOLVED & values.keys()):
        values.pop(name)
        _note(
            f"Note: --{name} is not used: features are extracted once, and the probes are solved, not trained by SGD."
        )
    if problems and "dry_run" not in modes:
        raise ConfigError(problems)
    if "gpus" in values:
        values["device"] = f"cuda:{gpus[0]}" if (gpus := values.pop("gpus")) else "cpu"
    if modes & {"print_config", "dry_run"}:
        values = {ALIASES.get(name, name): value for name, value in values.items()}
        print(_yaml(plain(schema().resolve(values))), end="")
        print("".join(f"warning: {problem}\n" for problem in problems), end="")
    else:
        evaluate_checkpoint(values)


def _note(line: str) -> None:
    print(line, file=sys.stderr)  # stdout may be a configuration that is kept


def _yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False)


def _problems(build: Callable[[], object]) -> list[str]:
    try:
        build()
    except ConfigError as error:
        return error.problems
    return []


def _train_help(values: dict[str, Any]) -> None:
    """Print the settings of the chosen method, distiller and backbone, grouped by component."""
    from cassle.engine.plan import choose, schema_for
    from cassle.engine.settings import ALIASES

    _print_help(
        schema_for(*choose({ALIASES.get(name, name): value for name, value in values.items()})).parser,
        "main_continual.py",
        "Train an encoder on a sequence of tasks and evaluate it after each. The same command continues a run that was "
        "stopped. The flags of method, distiller and backbone are those of the ones named on this command line: try "
        "--method byol --distiller auto --help.",
    )


def _probe_help(values: dict[str, Any]) -> None:
    """Print the settings of an offline evaluation."""
    from cassle.engine.linear import schema

    _print_help(
        schema().parser,
        "main_linear.py",
        "Probe the encoder of a checkpoint: features are extracted once, then kNN, ridge and linear probes give an "
        "accuracy for every task. Without --dataset it is the data that the checkpoint was trained on.",
    )


def _print_help(parser: Any, program: str, description: str) -> None:
    parser.usage = f"{program} [--config FILE] [--print_config] [--dry_run] [--FLAG VALUE ...]"
    parser.description = (
        f"{description} --config FILE reads flags from YAML; --print_config prints all of them; --dry_run tells what "
        "would be run."
    )
    # jsonargparse's append spelling goes: here lists are given with spaces
    print(re.sub(r", --\w+\+ [A-Z_]+", "", parser.format_help()))
