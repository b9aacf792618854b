"""The files of a folder and of the folders below it, in the order in which people number them."""

from __future__ import annotations

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
        raise DataError(f"--{flag} {folder}: no such folder.")
    found = []
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names if not name.startswith(".")]
    return sorted(found, key=natural)


def natural(path: str) -> list[tuple]:
    """Return a key that sorts ``frame2`` before ``frame10``, a part of the path at a time; ties by the plain text."""
    parts = [
        [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", part) if piece]
        for part in path.split(os.sep)
    ]
    return [*map(tuple, parts), ((2, 0, path),)]
