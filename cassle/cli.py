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
        values["gpus"] = [word for part in (gpus if isinstance(gpus, list) else [gpus]) for word in str(part).split(",")]
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
    if "-h" in argv:
        modes.add("help")
    config = values.pop("config", None)
    if config is not None:
        values = {**_read_config(Path(config)), **values}
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


def main_continual(argv: Sequence[str]) -> int:
    """Train over a sequence of tasks; returns the exit code."""

    def command() -> int:
        values, modes = collect([word for word in argv if word != "-h"])
        if "help" in modes or "-h" in argv:
            return _help(values)
        values, problems = upstream_spelling(values, print)
        from cassle.engine.plan import Plan

        if problems and "dry_run" not in modes:
            raise ConfigError([*problems, *_problems(lambda: Plan(values))])
        if "print_config" in modes:
            import yaml

            print(yaml.safe_dump(Plan(values).config(), sort_keys=False), end="")
            return 0
        if "dry_run" in modes:
            from cassle.engine.dry_run import describe

            describe(Plan(values), warnings=problems)
            return 0
        from cassle.engine.experiment import Experiment

        Experiment(**values).run()
        return 0

    return _guarded(command)


def _problems(build: Callable[[], object]) -> list[str]:
    try:
        build()
    except ConfigError as error:
        return error.problems
    return []


def _help(values: dict[str, Any]) -> int:
    """Print the settings of the chosen method, distiller and backbone, grouped by component."""
    from cassle.engine.plan import choose, schema_for

    parser = schema_for(*choose(values)).parser
    parser.usage = "main_continual.py [--config FILE] [--print_config] [--dry_run] [--FLAG VALUE ...]"
    parser.description = (
        "Train an encoder on a sequence of tasks and evaluate it after each. The same command continues a run that was "
        "stopped. The flags of method, distiller and backbone are those of the ones named on this command line: try "
        "--method byol --distiller auto --help. --config FILE reads flags from YAML; --print_config prints all of them; "
        "--dry_run tells what would be run."
    )
    text = parser.format_help()
    text = re.sub(r", --\w+\+ [A-Z_]+", "", text)  # jsonargparse's append spelling: lists are given with spaces here
    print(text)
    return 0
