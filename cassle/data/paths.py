"""Paths of very many files: a million of them as texts take a third of the memory and a tenth of the time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class Paths(Sequence[Path]):
    """A sequence of paths that are kept as texts; a ``Path`` is made when one is asked for.

    Args:
        texts: the paths.
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, which: int | slice) -> Path | Paths:
        found = self.texts[which]
        return Paths(found) if isinstance(which, slice) else Path(found)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None


def take(paths: Sequence[Path], positions: Sequence[int]) -> Paths:
    """Return the paths at these positions."""
    texts = texts_of(paths)
    return Paths([texts[position] for position in positions])


def texts_of(paths: Sequence[Path | str]) -> list[str]:
    """Return paths as texts, of ``Paths`` without making any."""
    return paths.texts if isinstance(paths, Paths) else [os.fspath(path) for path in paths]
