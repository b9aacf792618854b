"""The quarantine that ``python -m cassle verify`` writes: whoever ran it was told of these files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

QUARANTINE = "cassle-quarantine.txt"


def lines_of(reasons: Mapping[str, str]) -> list[str]:
    """Return the lines of the list: name, tab, reason; a line is a file, whatever its name."""
    return [f"{_shown(name)}\t{reason}" for name, reason in reasons.items()]


class Told:
    """The files that the list in a folder names: every engine leaves them out, and they are no damage.

    Only ``verify`` writes the list. What a run finds by itself is not in it: nobody has decided to do without.

    Args:
        lists: the folder; without a list nothing is told.
    """

    def __init__(self, lists: Path) -> None:
        try:
            lines = os.fsdecode((lists / QUARANTINE).read_bytes()).split("\n")
        except OSError:
            lines = []
        self._names = {line.rpartition("\t")[0] for line in lines if line}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __contains__(self, name: str) -> bool:
        return _shown(name) in self._names


def in_print(name: str) -> str:
    """Return a name that may be printed: in one line, and without what is no text."""
    return _shown(name).encode(errors="backslashreplace").decode()


def _shown(name: str) -> str:
    return name.replace("\n", "\\n").replace("\r", "\\r")
