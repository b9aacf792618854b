"""Small commands beside training: ``python -m cassle list`` and ``python -m cassle export``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cassle.cli import guarded
from cassle.errors import ConfigError
from cassle.registry import did_you_mean

USAGE = """usage: python -m cassle COMMAND

  list [WHAT ...]             methods, distillers, strategies, memories, backbones, benchmarks: a line each
  export CHECKPOINT FILE      write the encoder of a final.ckpt as FILE.safetensors, with a card FILE.json
"""


def summary(component: Any) -> str:
    """Return the one line that a component says of itself: its summary, or the first line of its docstring."""
    return getattr(component, "summary", None) or inspect.getdoc(component).partition("\n")[0]


def rooms() -> dict[str, Mapping[str, Any]]:
    """Return the registries by the word that people use for them."""
    from cassle.data import BENCHMARKS
    from cassle.distill import DISTILLERS
    from cassle.memory import MEMORIES
    from cassle.methods import METHODS
    from cassle.nn import BACKBONES
    from cassle.strategies import STRATEGIES

    return {
        "methods": METHODS,
        "distillers": DISTILLERS,
        "strategies": STRATEGIES,
        "memories": MEMORIES,
        "backbones": BACKBONES,
        "benchmarks": BENCHMARKS,
    }


def lines(wanted: Sequence[str]) -> Iterator[str]:
    """Yield the lines of ``list``: all rooms, or those that are named.

    Raises:
        ConfigError: there is no such room.
    """
    registries = rooms()
    unknown = [word for word in wanted if word not in registries]
    if unknown:
        known = f"{did_you_mean(unknown[0], registries)} Known: {', '.join(registries)}."
        raise ConfigError(f"list {' '.join(unknown)}: unknown.{known}")
    for room in wanted or registries:
        yield f"{room} (--{registries[room].flag})"
        width = max(len(name) for name in registries[room])
        yield from (f"  {name:{width}}  {summary(registries[room][name])}" for name in registries[room])
        if room == "backbones":
            yield f"  {'timm/NAME':{width}}  any image model of timm (pip install cassle[timm])"
        yield ""


def _list(words: Sequence[str]) -> None:
    print("\n".join(lines(words)).rstrip())


def _export(words: Sequence[str]) -> None:
    from cassle.engine.export import export

    if {"-h", "--help"} & {*words}:
        print(USAGE, end="")
        return
    if len(words) != 2:
        raise ConfigError("export: takes two words, e.g. export experiments/NAME/task4/final.ckpt encoder.safetensors.")
    for path in export(Path(words[0]), Path(words[1])):
        print(path)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"list": _list, "export": _export}


def main(argv: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 2

    def command() -> int:
        if argv[0] not in COMMANDS:
            raise ConfigError(f"{argv[0]}: unknown command.{did_you_mean(argv[0], COMMANDS)}\n{USAGE}".rstrip())
        COMMANDS[argv[0]](argv[1:])
        sys.stdout.flush()
        return 0

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
