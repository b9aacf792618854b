"""CORe50 (Lomonaco & Maltoni 2017): 50 objects in eleven sessions, each a clip of about 300 frames of 128×128."""

from __future__ import annotations

from pathlib import Path

from cassle.data.layouts import images_below
from cassle.data.location import LayoutError, Location, Part, files_part
from cassle.data.splits import SHARED

FOLDER = "core50_128x128"
TEST = (3, 7, 10)  # the published test sessions
TRAIN = tuple(session for session in range(1, 12) if session not in TEST)
SESSIONS = tuple(f"s{session}" for session in TRAIN)
CATEGORIES = (
    "plug adapter", "mobile phone", "scissors", "light bulb", "can", "glasses", "ball", "marker", "cup",
    "remote control",
)  # fmt: skip
OBJECTS = 50
LIKE = OBJECTS // len(CATEGORIES)  # objects of a category, numbered one after the other


def read_core50(location: Location, part: str) -> Part:
    """Read the 50 objects: the domains are the eight training sessions.

    By domain, sessions 3, 7 and 10 validate every task; with ``--held_out``, the last frames of every clip do, each
    those of its own session.
    """
    return _read(location, part, [f"o{number}" for number in range(1, OBJECTS + 1)], 1)


def read_core50_categories(location: Location, part: str) -> Part:
    """Read the ten categories of five objects each; the rest as :func:`read_core50`."""
    return _read(location, part, list(CATEGORIES), LIKE)


def _read(location: Location, part: str, classes: list[str], like: int) -> Part:
    within = bool(location.domains and location.held_out)
    paths, targets, domains = [], [], []
    for session in TRAIN if part == "train" or within else TEST:
        domain = TRAIN.index(session) if session in TRAIN else SHARED
        for number in range(OBJECTS):
            clip = _clip(location.data_dir / FOLDER / f"s{session}" / f"o{number + 1}")
            if within:
                cut = round(len(clip) * (1 - location.held_out))
                clip = clip[:cut] if part == "train" else clip[cut:]
            paths += clip
            targets += [number // like] * len(clip)
            domains += [domain] * len(clip)
    return files_part(paths, targets, classes, domains, SESSIONS)


def _clip(folder: Path) -> list[str]:
    """Return the frames of a session and an object in their order.

    Raises:
        LayoutError: there are none.
    """
    frames = images_below(folder) if folder.is_dir() else []
    if not frames:
        what = "no frames in it" if folder.is_dir() else "no such folder"
        raise LayoutError(f"{folder}: {what}.", "All eleven sessions and 50 objects are needed; check --data_dir.")
    return frames
