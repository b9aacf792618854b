"""The files of a folder and of the folders below it, in the order in which people number them."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from cassle.errors import DataError


def files_below(folder: Path, flag: str = "data_dir") -> list[str]:
    """Return the paths of all files, relative to the folder, folder by folder in natural order.

    Files and folders whose names begin with a dot are left out; links to folders are not followed.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        near = nearest_to(folder)
        raise DataError(f"--{flag} {folder}: no such folder.{f' Did you mean {near}?' if near else ''}")
    found = []
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names if not name.startswith(".")]
    return sorted(found, key=natural)


def nearest_to(folder: Path) -> Path | None:
    """Return the folder beside a missing one whose name is most like it; None without one."""
    place = folder.absolute().parent
    try:
        names = [entry.name for entry in os.scandir(place) if entry.is_dir()]
    except OSError:
        return None
    close = difflib.get_close_matches(folder.name, names, n=1)
    return folder.with_name(close[0]) if close else None


def natural(path: str) -> list[tuple]:
    """Return a key that sorts ``frame2`` before ``frame10``, a part of the path at a time; ties by the plain text."""
    parts = [
        [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", part) if piece]
        for part in path.split(os.sep)
    ]
    return [*map(tuple, parts), ((2, 0, path),)]
