"""What is known of the image files of a folder, from an earlier look at them: by path, time of change and size.

In the folder of the lists, which is the folder itself or another one:

    cassle-clean.txt        a path a line, relative to the folder: also a list for ``--dataset list --stream_file``
    cassle-quarantine.txt   path, tab, reason
    cassle-verified.npz     both, with the times and sizes at which they held: only what changes is looked at again

Files of a run that lie elsewhere (a list may name them) stand in the last two, under their absolute paths.
"""

from __future__ import annotations

import os
import zipfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cassle.atomic import atomic_write, atomic_write_bytes
from cassle.data.inspection import Note, Verdict
from cassle.data.paths import texts_of
from cassle.data.quarantine import QUARANTINE, Told, lines_of
from cassle.errors import ConfigError

CLEAN, VERIFIED = "cassle-clean.txt", "cassle-verified.npz"
RULES = 1  # raised when `inspect` judges otherwise: then all files are looked at again
COLUMNS = {"mtimes": "q", "sizes": "q", "notes": "H"}  # and their types
BLOCK = 1024  # files whose times are read by one thread


#: when a file was changed last (nanoseconds) and its size (bytes); both -1 where the system does not tell
Stamp = tuple[int, int]


class Verified:
    """Verdicts by path (as :func:`names_in` gives it), each with the stamp of the file that it is about.

    Args:
        paths: sorted; names as the system gives them, whatever their encoding.
        mtimes: nanoseconds.
        sizes: bytes.
        notes: ``Note`` as integers.
        reasons: of those in quarantine only, by their position.
    """

    def __init__(
        self,
        paths: list[str],
        mtimes: Sequence[int],
        sizes: Sequence[int],
        notes: Sequence[int],
        reasons: dict[int, str],
    ) -> None:
        self.paths, self.mtimes, self.sizes, self.notes, self.reasons = paths, mtimes, sizes, notes, reasons
        self._next = 0  # files are mostly asked for in order: no table of a million names is needed
        self._said = {bits: Verdict("", Note(bits)) for bits in {*notes}}

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Stamp, Verdict]]) -> Verified:
        """Return what these rows say."""
        rows = sorted(rows, key=lambda row: row[0])
        reasons = {i: verdict.reason for i, (_, _, verdict) in enumerate(rows) if verdict.reason}
        paths, stamps, verdicts = zip(*rows, strict=True) if rows else ((), (), ())
        mtimes, sizes = [stamp[0] for stamp in stamps], [stamp[1] for stamp in stamps]
        return cls(list(paths), mtimes, sizes, [int(verdict.notes) for verdict in verdicts], reasons)

    def __len__(self) -> int:
        return len(self.paths)

    def get(self, path: str, stamp: Stamp) -> Verdict | None:
        """Return the verdict on a file, or None if there is none or it is about an earlier state of the file."""
        place = self._next
        if place >= len(self.paths) or self.paths[place] != path:
            place = bisect_left(self.paths, path)
            if place == len(self.paths) or self.paths[place] != path:
                return None
        self._next = place + 1
        if (self.mtimes[place], self.sizes[place]) != stamp:
            return None
        reason = self.reasons.get(place)
        return Verdict(reason) if reason else self._said[self.notes[place]]

    def rows(self) -> Iterator[tuple[str, Stamp, Verdict]]:
        """Yield path, stamp and verdict of every file."""
        for i, path in enumerate(self.paths):
            reason = self.reasons.get(i)
            verdict = Verdict(reason) if reason else self._said[self.notes[i]]
            yield path, (self.mtimes[i], self.sizes[i]), verdict

    def updated(self, rows: Iterable[tuple[str, Stamp, Verdict]]) -> Verified:
        """Return the same with these rows added, or in place of those on the same files."""
        new = {row[0]: row for row in rows}
        return Verified.of([*(row for row in self.rows() if row[0] not in new), *new.values()])

    @classmethod
    def load(cls, lists: Path, folder: Path, flag: str) -> Verified:
        """Return what the lists in ``lists`` say of ``folder``; nothing if there are none, or only unreadable ones.

        Args:
            lists: folder of the lists.
            folder: that they are about.
            flag: with which ``lists`` was given.

        Raises:
            ConfigError: they are about another folder.
        """
        try:
            with open(lists / VERIFIED, "rb") as opened, np.load(opened) as file:
                rules, about = int(file["rules"]), _texts(file["folder"])[0]
                paths, reasons = _texts(file["paths"]), _texts(file["reasons"])
                bad = file["bad"].tolist()
                columns = [array(kind, file[key].tobytes()) for key, kind in COLUMNS.items()]
        except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile):
            return cls.of([])
        if lists.resolve() != folder.resolve() and about != str(folder.resolve()):
            raise ConfigError(
                f"{flag} {lists}: holds the lists of {about}. Give another folder, or remove these lists."
            )
        if rules != RULES:
            return cls.of([])
        return cls(paths, *columns, dict(zip(bad, reasons, strict=True)))

    def save(self, lists: Path, folder: Path) -> None:
        """Write what is known; a file of an earlier time is replaced in one go."""
        columns = {
            "rules": np.array(RULES),
            "folder": _blob([str(folder.resolve())]),
            "paths": _blob(self.paths),
            **{key: np.array(getattr(self, key), dtype=kind) for key, kind in COLUMNS.items()},
            "bad": np.array(list(self.reasons), dtype=np.int64),
            "reasons": _blob(self.reasons.values()),
        }
        atomic_write(lists / VERIFIED, lambda file: np.savez(file, **columns))

    def write_clean(self, lists: Path) -> None:
        """Write the list of clean files, of those in the folder only."""
        clean = [path for i, path in enumerate(self.paths) if i not in self.reasons and not os.path.isabs(path)]
        _write(lists / CLEAN, clean)

    def write_lists(self, lists: Path) -> None:
        """Write both lists."""
        self.write_clean(lists)
        _write(lists / QUARANTINE, lines_of({self.paths[i]: reason for i, reason in self.reasons.items()}))


class Checked(NamedTuple):
    """What the lists say of the files that a benchmark found.

    Attributes:
        good: positions of the files that are not bad.
        quarantined: those that ``cassle-quarantine.txt`` names, as "path: reason", by position.
        damaged: the other bad ones, likewise; a run has found them, and nobody was told.
        unknown: those of ``good`` that were changed since, or never looked at.
        notes: what is odd about some of ``good``, by position.
        foreign: files that are clean, but not in ``good``, because the engine does not read their kind.
    """

    good: list[int]
    quarantined: dict[int, str]
    damaged: dict[int, str]
    unknown: list[int]
    notes: dict[int, Note]
    foreign: Sequence[str] = ()


def clean(folder: Path, paths: Sequence[Path], *, lists: Path | None = None, num_workers: int = 8) -> Checked:
    """Sort out the files of ``folder`` that are known to be bad, by the lists of ``python -m cassle verify folder``.

    An engine that a bad file would abort gives those that are ``unknown`` to :func:`cassle.data.verify.look`.

    Args:
        folder: that was verified.
        paths: files, in it or elsewhere.
        lists: folder of the lists; default: ``folder``.
        num_workers: threads that read times and sizes.

    Raises:
        ConfigError: the lists are about another folder.
    """
    folder, lists = Path(folder), Path(lists or folder)
    verified = Verified.load(lists, folder, "--verified_dir")
    texts = texts_of(paths)
    names = names_in(folder, texts) if len(verified) else texts
    told, checked = Told(lists), Checked([], {}, {}, [], {})
    for i, stamp in enumerate(stamps(texts, num_workers) if len(verified) else [None] * len(texts)):
        verdict = stamp and verified.get(names[i], stamp)
        if verdict and verdict.reason:
            bad = checked.quarantined if names[i] in told else checked.damaged
            bad[i] = f"{texts[i]}: {verdict.reason}"
            continue
        checked.good.append(i)
        if not verdict:
            checked.unknown.append(i)
        elif verdict.notes:
            checked.notes[i] = verdict.notes
    return checked


def names_in(folder: Path, texts: Sequence[str]) -> list[str]:
    """Return the names under which files are known: relative to the folder, of those elsewhere the absolute path.

    Whatever way leads there (``./a``, ``b/../a``), a file has one name; links are not followed for it.
    """
    here, given, root = os.getcwd(), os.path.join(folder, ""), os.path.join(os.path.abspath(folder), "")

    def name(text: str) -> str:
        inside = text.removeprefix(given)
        plain = len(inside) < len(text) and inside[:1] not in "./" and "/." not in inside and "//" not in inside
        return inside if plain else os.path.normpath(os.path.join(here, text)).removeprefix(root)  # six times slower

    return [name(text) for text in texts]


def stamps(paths: Sequence[str], num_workers: int) -> list[Stamp]:
    """Return the stamps of files: in threads, because a network filesystem takes its time for each."""

    def read(start: int) -> list[Stamp]:
        return [_stamp(path) for path in paths[start : start + BLOCK]]

    with ThreadPoolExecutor(max(num_workers, 1)) as pool:
        return [stamp for block in pool.map(read, range(0, len(paths), BLOCK)) for stamp in block]


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_mtime_ns, status.st_size


def _write(path: Path, lines: list[str]) -> None:
    atomic_write_bytes(path, os.fsencode("".join(f"{line}\n" for line in lines)))


def _blob(texts: Iterable[str]) -> np.ndarray:
    """Return texts as bytes, each ended by the one character that no path may hold."""
    return np.frombuffer(os.fsencode("".join(f"{text}\0" for text in texts)), dtype=np.uint8)


def _texts(blob: np.ndarray) -> list[str]:
    return os.fsdecode(blob.tobytes()).split("\0")[:-1]
