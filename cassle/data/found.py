"""What lies in a folder and what should, as two small trees; and where the tree that was meant might be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cassle.data.location import LayoutError, Location
from cassle.data.tree import nearest_to

SHOWN = (6, 2, 1)  # entries of a kind that are shown: in the folder itself, one level down, two levels down
NEAR = 200  # folders that are searched for the tree that was meant


def explain(error: LayoutError, expected: str, location: Location) -> str:
    """Return the text of an error: the problem, the tree expected, the tree found, and what to do.

    Args:
        error: what the reader of a benchmark says.
        expected: the benchmark's tree below --data_dir, two blanks a level, folders with a slash at their end.
        location: where it was looked for.
    """
    root = location.data_dir
    expected = _named(error.expected or expected, location)
    lines = [error.problem, "  expected:", f"    {root}/", *(f"      {line}" for line in expected)]
    lines += ["  found:", *(f"    {line}" for line in found_tree(root))]
    tops = [line.split()[0].rstrip("/") for line in expected if not line.startswith((" ", "…"))]
    meant = _meant(root, tops)
    if meant is not None:
        lines.append(f"Did you mean --data_dir {meant}?")
    elif error.fix:
        lines.append(error.fix)
    return "\n".join(lines)


def found_tree(folder: Path) -> list[str]:
    """Return the first entries of a folder and of those below it, a line each, with the numbers of the others."""
    if not folder.is_dir():
        above = next((place for place in folder.absolute().parents if place.is_dir()), Path("/"))
        return [f"no folder {folder}; there is", f"{above}/", *_lines(above, 1, 2)]
    return [f"{folder}/", *_lines(folder, 1, 0)]


def _lines(folder: Path, indent: int, level: int) -> Iterator[str]:
    space = "  " * indent
    try:
        folders, files = entries(folder)
    except OSError as error:
        yield f"{space}({error.strerror})"
        return
    shown = SHOWN[level] if level or indent > 1 else SHOWN[0]
    if not folders and not files:
        yield f"{space}(nothing)"
    for number, name in enumerate(folders[:shown]):
        yield f"{space}{name}/"
        if level < 2 and (level == 0 or number == 0):
            yield from _lines(folder / name, indent + 1, level + 1)
    if len(folders) > shown:
        yield f"{space}… {_counted(len(folders) - shown, 'more folder')}"
    yield from (f"{space}{name}" for name in files[:shown])
    if len(files) > shown:
        yield f"{space}… {_counted(len(files) - shown, 'more file')}"


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the files in a folder, each sorted; without those that begin with a dot.

    Raises:
        OSError: it cannot be read.
    """
    folders, files = [], []
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it is not there or cannot be read."""
    try:
        return entries(folder)[0]
    except OSError:
        return []


def _named(expected: str, location: Location) -> list[str]:
    """Return the lines of a tree with the folders of --train_dir and --val_dir."""
    lines = []
    for line in expected.strip("\n").splitlines():
        for name, flag in (("train/", location.train_dir), ("val/", location.val_dir)):
            if line.startswith(name):
                line = f"{flag}/{line.removeprefix(name)}"
        lines.append(line)
    return lines


def _meant(root: Path, tops: list[str]) -> Path | None:
    """Return the folder that is meant with ``root``.

    It is one near it that holds what was expected in it, the one above, or up to three below; or if there is no
    ``root``, one beside it of almost its name.
    """
    if not tops or _holds(root, tops):
        return None
    above = [root.absolute().parent] if root.name else []
    children = [root / name for name in folders_in(root)[:NEAR]]
    below = [child / name for child in children[:20] for name in folders_in(child)[:20]]
    deep = [child / name for child in below[:20] for name in folders_in(child)[:20]]  # Kaggle's ILSVRC/Data/CLS-LOC
    holding = next((place for place in [*above, *children, *below, *deep] if _holds(place, tops)), None)
    return holding or (None if root.is_dir() else nearest_to(root))


def _holds(folder: Path, names: list[str]) -> bool:
    return all((folder / name).exists() for name in names)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
