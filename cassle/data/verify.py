"""Look once at every image file of a folder, and write down which can be read: ``python -m cassle verify``."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cassle.data.inspection import NOT_READABLE, SAID, Verdict, inspect
from cassle.data.paths import texts_of
from cassle.data.quarantine import QUARANTINE, in_print
from cassle.data.source import EXTENSIONS
from cassle.data.verified import CLEAN, Stamp, Verified, names_in, stamps
from cassle.errors import ConfigError
from cassle.locks import held

LOCK = ".cassle-verify.lock"  # whoever writes the lists holds it
SAVE_EVERY = 60.0  # seconds; a killed scan looks again at what it saw in the last of them
UNFIT = "not fit for a list: a line break in the name"
SHOWN = 5  # files in quarantine that are named
BLOCK = 64  # files that a thread looks at before it takes the next ones


@dataclass(frozen=True)
class Report:
    """What a scan found.

    Attributes:
        verified: the verdicts.
        looked_at: number of files that were looked at now; the others were known from before.
        folder: that was scanned.
        lists: folder of the lists.
    """

    verified: Verified
    looked_at: int
    folder: Path
    lists: Path

    @property
    def quarantined(self) -> int:
        """Number of files in quarantine."""
        return len(self.verified.reasons)

    def lines(self) -> Iterator[str]:
        """Yield numbers, kinds of reasons, the first bad files, what is odd about the others, and the lists."""
        total, bad, reasons = len(self.verified), self.quarantined, self.verified.reasons
        known = f"{self.looked_at} looked at, {total - self.looked_at} known from before"
        yield f"{self.folder}: {total} image files, {total - bad} clean, {bad} in quarantine ({known})"
        kinds = Counter(reason.partition(":")[0] for reason in reasons.values())
        yield from (f"  quarantine {number:8}  {kind}" for kind, number in kinds.most_common())
        first = [f"    {in_print(self.verified.paths[i])}: {reasons[i]}" for i in [*reasons][:SHOWN]]
        yield from [*first, f"    … and {bad - SHOWN} more"] if bad > SHOWN else first
        notes = Counter(self.verified.notes)
        for note, words in SAID.items():
            number = sum(count for bits, count in notes.items() if bits & note)
            if number:
                yield f"  clean      {number:8}  {words}"
        yield f"lists: {self.lists / CLEAN}, {self.lists / QUARANTINE}"


def verify(
    folder: Path,
    lists: Path | None = None,
    *,
    num_workers: int = 4,
    advance: Callable[[int, int], object] = lambda done, total: None,
    save_every: float = SAVE_EVERY,
) -> Report:
    """Scan a folder and those below it, links followed; look at what is new or changed; write the lists.

    Args:
        folder: of images, at any depth.
        lists: folder for the lists; default: ``folder``.
        num_workers: threads that decode.
        advance: is called with the number of files looked at, and the number to look at.
        save_every: seconds between two times of writing down what is known.

    Raises:
        ConfigError: no such folder, no images in it, or no place for the lists.
        CassleError: the lists could not be written (a full disk).
    """
    lists = lists or folder
    found = _found(folder)
    _prepare(lists)
    names = [name for name, _ in found]
    with held(lists / LOCK, wait=True):
        earlier = Verified.load(lists, folder, "--out")
        rows, todo, refused = _elsewhere(earlier, folder, {*names}), [], 0
        paths = [os.path.join(folder, name) for name in names]
        for (name, fault), path, stamp in zip(found, paths, stamps(paths, num_workers), strict=True):
            verdict = earlier.get(name, stamp)
            if verdict is not None and not verdict.reason.startswith(NOT_READABLE):
                rows.append((name, stamp, verdict))
            elif fault:
                rows.append((name, stamp, Verdict(fault)))
                refused += 1
            else:
                todo.append((name, stamp, path))
        verified = _extended(Verified.of(rows), todo, lists, folder, num_workers, advance, save_every)
        verified.write_lists(lists)
    return Report(verified, len(todo) + refused, folder, lists)


def record(
    folder: Path, lists: Path, paths: Sequence[Path], num_workers: int, advance: Callable[[int, int], object]
) -> None:
    """Look at these files only, and add what is found to what is known; the caller holds ``lists / LOCK``.

    Where there are lists, that of clean files is brought up to date; the quarantine is what :func:`verify` has told of.

    Args:
        folder: that the lists are about.
        lists: folder of the lists, which exists.
        paths: files, in ``folder`` or elsewhere.
        num_workers: threads that decode.
        advance: is called with the number of files looked at, and the number to look at.

    Raises:
        ConfigError: the lists are about another folder.
        CassleError: the lists could not be written (a full disk).
    """
    known, texts = Verified.load(lists, folder, "--verified_dir"), texts_of(paths)
    todo = list(zip(names_in(folder, texts), stamps(texts, num_workers), texts, strict=True))
    verified = _extended(known, todo, lists, folder, num_workers, advance, SAVE_EVERY)
    if (lists / CLEAN).is_file():
        verified.write_clean(lists)


def _extended(
    known: Verified,
    todo: Sequence[tuple[str, Stamp, str]],
    lists: Path,
    folder: Path,
    num_workers: int,
    advance: Callable[[int, int], object],
    save_every: float,
) -> Verified:
    """Look at files, given as name, stamp and path; save what is known then, and now and then before."""
    rows: list[tuple[str, Stamp, Verdict]] = []
    saved = time.monotonic()

    def take(number: int, verdict: Verdict) -> None:
        nonlocal saved
        name, stamp, _ = todo[number]
        rows.append((name, stamp, Verdict(UNFIT) if {"\n", "\r"} & {*name} else verdict))
        advance(number + 1, len(todo))
        if time.monotonic() - saved > save_every:
            known.updated(rows).save(lists, folder)
            saved = time.monotonic()

    try:
        look([path for *_, path in todo], num_workers, take)
    finally:  # also when it is interrupted
        verified = known.updated(rows)
        verified.save(lists, folder)
    return verified


def _elsewhere(earlier: Verified, folder: Path, names: set[str]) -> list[tuple[str, Stamp, Verdict]]:
    """Return what is known of files that a walk does not meet: those elsewhere, or of another suffix; if it holds."""
    rows = [row for row in earlier.rows() if row[0] not in names and not row[2].reason.startswith(NOT_READABLE)]
    now = stamps([os.path.join(folder, row[0]) for row in rows], num_workers=8)
    return [row for row, stamp in zip(rows, now, strict=True) if row[1] == stamp]


def look(
    paths: Sequence[str | Path],
    num_workers: int = 4,
    take: Callable[[int, Verdict], object] = lambda number, verdict: None,
) -> list[Verdict]:
    """Decode files in threads and return a verdict for each; ``take`` gets each as well, as soon as it is there.

    Threads, because Pillow lets go of Python while it reads and decodes; what they find needs no copying.
    """
    size = max(1, min(BLOCK, len(paths) // (4 * num_workers)))
    verdicts: list[Verdict] = []
    pool = ThreadPoolExecutor(num_workers)
    try:
        with warnings.catch_warnings():  # Pillow's, on what gets a verdict anyway; set for all threads at once
            warnings.simplefilter("ignore")
            blocks = (paths[start : start + size] for start in range(0, len(paths), size))
            for block in pool.map(lambda block: [inspect(path) for path in block], blocks):
                for verdict in block:
                    take(len(verdicts), verdict)
                    verdicts.append(verdict)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for what has not begun
    return verdicts


def _found(folder: Path) -> list[tuple[str, str]]:
    """Return the image files (by suffix), relative to the folder and sorted; of what cannot be read, with why.

    Raises:
        ConfigError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"verify {folder}: no such folder.")
    found = sorted(_walk(os.fspath(folder), "", frozenset()))
    if not found:
        raise ConfigError(f"verify {folder}: no images ({', '.join(sorted(EXTENSIONS))}) in it or below.")
    return found


def _walk(place: str, name: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield what is below a folder; links are followed, as classes of a benchmark may be links, but never back up."""
    try:
        status = os.stat(place)
        here = (status.st_dev, status.st_ino)
        with os.scandir(place) as listing:
            entries = [] if here in above else list(listing)
    except OSError as error:
        if not name:
            raise ConfigError(f"verify {place}: cannot be read ({error.strerror}).") from error
        yield name, f"{NOT_READABLE}: {error.strerror} (a folder: nothing in it was looked at)"
        return
    for entry in entries:
        path = os.path.join(name, entry.name)
        if _is_folder(entry):
            yield from _walk(entry.path, path, above | {here})
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield path, ""


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _prepare(lists: Path) -> None:
    """Make the folder of the lists.

    Raises:
        ConfigError: nothing can be written there.
    """
    try:
        lists.mkdir(parents=True, exist_ok=True)
        refused = "" if os.access(lists, os.W_OK | os.X_OK) else "not writable"
    except OSError as error:
        refused = error.strerror
    if refused:
        raise ConfigError(f"{lists}: no place for the lists ({refused}). Name another folder with --out.")
