"""Small commands beside training: ``python -m cassle list``, ``compare``, ``export`` and ``verify``."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cassle.atomic import atomic_write_text
from cassle.cli import guarded
from cassle.errors import ConfigError
from cassle.registry import did_you_mean

USAGE = """usage: python -m cassle COMMAND

  list [WHAT ...]             methods, distillers, strategies, memories, backbones, benchmarks: a line each
  compare FOLDER ...          experiments side by side: A, F, FT of every probe, mean and deviation over seeds
  export CHECKPOINT FILE      write the encoder of a final.ckpt as FILE.safetensors, with a card FILE.json
  verify DIR                  decode every image below DIR once: lists of the clean ones, and of the others with reasons
"""
COMPARE = """Put experiments side by side: a row for each, the settings in which they differ, and for every probe the \
average accuracy A, forgetting F, forward transfer FT and continual accuracy CA (docs/metrics.md). Runs that differ in \
nothing but their seed are one row, with the mean and the sample standard deviation. Experiments that have finished no \
task are left out."""
WIDTH = 140  # columns that a table may have at least: a narrower one breaks words
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
        hint = _room_of(unknown[0], registries) or did_you_mean(unknown[0], registries)
        raise ConfigError(f"list {' '.join(unknown)}: no such list.{hint} There are: {', '.join(registries)}.")
    for room in wanted or registries:
        yield f"{room} (--{registries[room].flag})"
        width = max(len(name) for name in registries[room])
        yield from (f"  {name:{width}}  {summary(registries[room][name])}" for name in registries[room])
        if room == "backbones":
            yield f"  {'timm/NAME':{width}}  any image model of timm (pip install cassle[timm])"
        yield ""


def _room_of(name: str, registries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say of a component in which list it is, and how its flags are shown; nothing if there is no such component."""
    room = next((room for room, registry in registries.items() if name in registry), None)
    if room is None:
        return ""
    flag = registries[room].flag
    alone = flag in ("method", "backbone")  # whatever else is chosen
    flags = f"; 'main_continual.py --{flag} {name} --help' shows its flags" if alone else ""
    return f" It is one of the {room}: give 'list {room}'{flags}."


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


def _compare(words: Sequence[str]) -> None:
    from rich.console import Console

    from cassle.engine.compare import as_csv, compare, report

    parser = _Words("python -m cassle compare", description=COMPARE, add_help=False, allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="experiments, or folders that hold some")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write everything there, as fractions")
    parser.add_argument("--probe", metavar="NAME", nargs="+", help="only these, e.g. knn linear; default: all")
    if {"-h", "--help"} & {*words}:
        parser.print_help()
        return
    given = parser.parse_args(words)
    records = compare(*given.folders)
    known = dict.fromkeys(record["probe"] for record in records)
    if unknown := [name for name in given.probe or () if name not in known]:
        raise ConfigError(f"--probe {' '.join(unknown)}: not in these experiments; they have {', '.join(known)}.")
    records = [record for record in records if not given.probe or record["probe"] in given.probe]
    console = Console()
    console.width = max(console.width, WIDTH)
    for part in report(records):
        console.print(part, highlight=False)
    if given.csv:
        atomic_write_text(given.csv, as_csv(records))
        print(given.csv)


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


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": _list,
    "compare": _compare,
    "export": _export,
    "verify": _verify,
}


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
