"""From a command line, in today's or upstream's spelling, to a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cassle.errors import CassleError, ConfigError
from cassle.processes import launched_rank, let_the_first_speak
from cassle.spelling import collect, upstream_spelling

#: flags of upstream's SGD training of a linear head
SOLVED = {
    "optimizer", "lr", "lars", "exclude_bias_n_norm", "weight_decay", "scheduler", "lr_decay_steps", "batch_size",
    "max_epochs", "precision", "name", "project", "entity", "wandb", "offline", "classifier_lr", "method",
    "accelerator", "strategy", "memory", "trainer_strategy", "sync_batchnorm", "experiment_dir",
    "base_experiment_dir", "checkpoint_dir", "checkpoint_frequency", "check_val_every_n_epoch", "devices", "num_nodes",
    "trainer",
}  # fmt: skip


#: flags of who makes the views of a training
UNSEEN = {"engine", "dali_device"}


def guarded(command: Callable[[], int]) -> int:
    """Run a command; a user's mistake is printed as it is, without a traceback."""
    try:
        return command()
    except ConfigError as error:
        if error.everywhere and launched_rank() > 0:
            let_the_first_speak()
            return 2
        lines = [f"  {problem}".replace("\n", "\n  ") for problem in error.problems]
        print("\n".join([f"{len(lines)} problem{'s' * (len(lines) > 1)}:", *lines]), file=sys.stderr)
        return 2
    except CassleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough, e.g. `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Interrupted. The same command continues the run.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _of_wandb(error):
            raise
        reason = " ".join(str(error).split())
        print(
            f"error: --wandb: Weights & Biases refuses ({reason}); run 'wandb login' first, or give --offline to keep "
            "the log in the experiment's folder, or leave --wandb out.",
            file=sys.stderr,
        )
        return 1


def _of_wandb(error: Exception) -> bool:
    wandb = sys.modules.get("wandb")  # if it was not imported, the error is not its own
    return wandb is not None and isinstance(error, wandb.errors.Error)


def _command(argv: Sequence[str], run: Callable[[dict[str, Any], set[str]], None], show: Callable[..., None]) -> int:
    """Read a command line, then show the help or run; returns the exit code."""

    def command() -> int:
        values, modes = collect(["--help" if word == "-h" else word for word in argv])
        if "help" in modes or not argv:
            show(values)
            sys.stdout.flush()
        else:
            run(values, modes)
        return 0

    return guarded(command)


def main_continual(argv: Sequence[str]) -> int:
    """Train over a sequence of tasks; returns the exit code."""
    return _command(argv, _train, _train_help)


def main_linear(argv: Sequence[str]) -> int:
    """Probe a checkpoint offline; returns the exit code."""
    return _command(argv, _probe, _probe_help)


def _train(values: dict[str, Any], modes: set[str]) -> None:
    from cassle.engine.plan import Plan

    values, problems = upstream_spelling(values, _note)
    for name in ("mean", "std"):
        if name in values:
            values[f"image_{name}"] = values.pop(name)
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
    from cassle.engine.linear import evaluate_checkpoint, missing_here, problems_of, schema, wrong_settings
    from cassle.engine.offline import results_beside
    from cassle.engine.settings import canonical_names, plain

    values, problems = upstream_spelling(canonical_names(values), _note)
    for name in sorted(SOLVED & values.keys()):
        values.pop(name)
        _note(
            f"Note: --{name} is not used: features are extracted once, and the probes are solved, not trained by SGD."
        )
    for name in sorted(UNSEEN & values.keys()):
        values.pop(name)
        name = {"engine": "engine (--dali)"}.get(name, name)
        _note(f"Note: --{name} is not used: there is one evaluation view of each image, made by --num_workers threads.")
    if "gpus" in values:
        values["device"] = f"cuda:{gpus[0]}" if (gpus := values.pop("gpus")) else "cpu"
    checkpoint = values.get("pretrained_feature_extractor")
    if "domain" in values and isinstance(checkpoint, str):  # the probes of each domain in a file of their own
        values.setdefault("output", str(results_beside(Path(checkpoint), f"linear-{values['domain']}.json")))
    if modes & {"print_config", "dry_run"}:
        refused = [*([] if "dry_run" in modes else problems), *wrong_settings(values)]
        if refused:
            raise ConfigError(refused)
        print(_yaml(plain(schema(values).resolve(values))), end="")
        if "dry_run" in modes:
            problems += missing_here(values)
        print("".join(f"warning: {problem}\n" for problem in problems), end="")
    elif problems:
        raise ConfigError([*problems, *problems_of(values)])
    else:
        evaluate_checkpoint(values)


def _note(line: str) -> None:
    print(line, file=sys.stderr)  # stdout may be a configuration that is kept


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False)


def _problems(build: Callable[[], object]) -> list[str]:
    try:
        build()
    except ConfigError as error:
        return error.problems
    return []


def _train_help(values: dict[str, Any]) -> None:
    """Print the settings of the chosen method, distiller and backbone, grouped by component."""
    from cassle.engine.choice import choose, schema_for
    from cassle.engine.settings import canonical_names

    _print_help(
        schema_for(choose(canonical_names(values))).parser,
        "main_continual.py",
        "Train an encoder on a sequence of tasks and evaluate it after each. The same command continues a run that was "
        "stopped. The flags of method, distiller and backbone are those of the ones named on this command line: try "
        "--method byol --distiller auto --help.",
    )


def _probe_help(values: dict[str, Any]) -> None:
    """Print the settings of an offline evaluation."""
    from cassle.engine.linear import schema

    _print_help(
        schema(values).parser,
        "main_linear.py",
        "Probe the encoder of a checkpoint, or of every task in an experiment's folder: features are extracted once, "
        "then kNN, ridge and linear probes give an accuracy for every task. Without --dataset it is the data that the "
        "checkpoint was trained on.",
    )


def _print_help(parser: Any, program: str, description: str) -> None:
    parser.usage = f"{program} [--config FILE] [--print_config] [--dry_run] [--FLAG VALUE ...]"
    parser.description = (
        f"{description} --config FILE reads flags from YAML; --print_config prints all of them; --dry_run tells what "
        "would be run. A flag of {true,false} that stands alone is true; lists are given with spaces."
    )
    # jsonargparse's append spelling goes: here lists are given with spaces
    text = re.sub(r", --\w+\+ [A-Z_]+", "", parser.format_help())
    print(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text))
