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
from cassle.data.source import EXTENSIONS
from cassle.data.verified import CLEAN, QUARANTINE, Verified, stamps
from cassle.errors import ConfigError

SAVE_EVERY = 60.0  # seconds; a killed scan looks again at what it saw in the last of them
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
        """Yield numbers, kinds of reasons, what is odd about clean files, and where the lists are."""
        total, bad = len(self.verified), self.quarantined
        known = f"{self.looked_at} looked at, {total - self.looked_at} known from before"
        yield f"{self.folder}: {total} image files, {total - bad} clean, {bad} in quarantine ({known})"
        kinds = Counter(reason.partition(":")[0] for reason in self.verified.reasons.values())
        yield from (f"  quarantine {number:8}  {kind}" for kind, number in kinds.most_common())
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
    earlier = Verified.load(lists, folder)
    paths = [path for path, _ in found]
    stamped = stamps([os.path.join(folder, path) for path in paths], num_workers)
    verdicts = [earlier.get(path, stamp) for path, stamp in zip(paths, stamped, strict=True)]
    todo = [i for i, verdict in enumerate(verdicts) if verdict is None or verdict.reason.startswith(NOT_READABLE)]
    for i in todo:
        verdicts[i] = Verdict(found[i][1]) if found[i][1] else None
    files = [i for i in todo if verdicts[i] is None]
    saved = time.monotonic()

    def known() -> Verified:
        rows = zip(paths, stamped, verdicts, strict=True)
        return Verified.of(row for row in rows if row[2] is not None)

    def take(number: int, verdict: Verdict) -> None:
        nonlocal saved
        verdicts[files[number]] = verdict
        advance(number + 1, len(files))
        if time.monotonic() - saved > save_every:
            known().save(lists, folder)
            saved = time.monotonic()

    try:
        look([os.path.join(folder, paths[i]) for i in files], num_workers, take)
    finally:  # also when it is interrupted
        verified = known()
        verified.save(lists, folder)
    verified.write_lists(lists)
    return Report(verified, len(todo), folder, lists)


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
    """Return the image files (by suffix), relative to the folder and sorted, each with what is wrong with its name.

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
            yield path, "not fit for a list: a line break in the name" if {"\n", "\r"} & {*path} else ""


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
