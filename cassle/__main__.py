"""Small commands beside training: ``python -m cassle list``, ``export`` and ``verify``."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cassle.cli import guarded
from cassle.errors import ConfigError
from cassle.registry import did_you_mean

USAGE = """usage: python -m cassle COMMAND

  list [WHAT ...]             methods, distillers, strategies, memories, backbones, benchmarks: a line each
  export CHECKPOINT FILE      write the encoder of a final.ckpt as FILE.safetensors, with a card FILE.json
  verify DIR                  decode every image below DIR once: lists of the clean ones, and of the others with reasons
"""
VERIFY = """Decode every image file below DIR, and write two lists: the clean files (cassle-clean.txt), and a \
quarantine of those that are empty, truncated, damaged, no image, or gray with more than 8 bits, each with its reason \
(cassle-quarantine.txt). Nothing is changed or moved. Training leaves out what is in quarantine, with every engine. \
The same command again looks only at files that are new or have changed since; a scan that was stopped goes on. Exit \
status: 0 if all files are clean, 1 if some are in quarantine, 2 if nothing could be scanned."""


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


class _Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.split()[-1]}: {message}; see --help.")


def _verify(words: Sequence[str]) -> int:
    from cassle.data.scan import scan

    parser = _Words("python -m cassle verify", description=VERIFY, add_help=False, allow_abbrev=False)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of images, at any depth; links are followed")
    parser.add_argument("--out", metavar="DIR2", type=Path, help="folder for the lists, if not DIR itself")
    parser.add_argument(
        "--num_workers", metavar="N", type=int, default=os.cpu_count(), help="threads; default: a core each"
    )
    if {"-h", "--help"} & {*words}:
        parser.print_help()
        return 0
    given = parser.parse_args(words)
    if given.num_workers < 1:
        raise ConfigError(f"--num_workers {given.num_workers}: must be at least 1; e.g. 4.")
    report = scan(given.folder, given.out, given.num_workers)
    print("\n".join(report.lines()))
    return 1 if report.quarantined else 0


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {"list": _list, "export": _export, "verify": _verify}


def main(argv: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 2

    def command() -> int:
        if argv[0] not in COMMANDS:
            raise ConfigError(f"{argv[0]}: unknown command.{did_you_mean(argv[0], COMMANDS)}\n{USAGE}".rstrip())
        status = COMMANDS[argv[0]](argv[1:])
        sys.stdout.flush()
        return status or 0

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
