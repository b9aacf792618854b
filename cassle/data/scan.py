"""Files that an engine may read: what was never looked at is looked at before a run, once, and written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cassle.data.inspection import Note
from cassle.data.paths import take, texts_of
from cassle.data.quarantine import Told
from cassle.data.verified import Checked, clean, names_in
from cassle.data.verify import LOCK, Report, look, record, verify
from cassle.errors import DataError
from cassle.locks import held

Say = Callable[[str], object]


def scan(folder: Path, lists: Path | None, num_workers: int) -> Report:
    """Verify a folder, with a progress bar where somebody is watching; of several processes one after the other.

    Raises:
        ConfigError: no such folder, no images in it, or no place for the lists.
        CassleError: the lists could not be written.
    """
    with bar() as advance:
        return verify(folder, lists, num_workers=num_workers, advance=advance)


def readable(
    folder: Path, paths: Sequence[Path], *, lists: Path | None = None, num_workers: int, dali: bool, say: Say
) -> Checked:
    """Return which files an engine may read; nothing in it is unknown any more.

    Of several processes that ask, the first one looks and the others read what it wrote.

    Args:
        folder: of the data set.
        paths: its files.
        lists: folder of the lists of ``python -m cassle verify folder``; default: ``folder``.
        num_workers: threads that decode.
        dali: leave out what DALI does not read, too.
        say: takes lines for people.

    Raises:
        ConfigError: the lists are about another folder.
        CassleError: the lists could not be written, or DALI reads none of the files.
    """
    checked = clean(folder, paths, lists=lists, num_workers=num_workers)
    if checked.unknown:
        checked = _looked_at(folder, paths, lists or folder, checked, num_workers, say)
    if not dali:
        return checked
    foreign = {i for i, notes in checked.notes.items() if notes & Note.NOT_DALI}
    good = [i for i in checked.good if i not in foreign]
    if foreign and not good:
        raise DataError(f"--engine dali: reads none of the {len(paths)} images ({paths[0]}, …). Use --engine workers.")
    return checked._replace(good=good, foreign=[str(paths[i]) for i in sorted(foreign)])


def in_quarantine(
    folder: Path, paths: Sequence[Path], *, lists: Path | None = None, num_workers: int, say: Say
) -> dict[int, str]:
    """Return the files that ``cassle-quarantine.txt`` names and that are bad, as "path: reason", by position.

    For an engine that decodes all files anyhow; only those that are named are looked up, or at, if they have changed.

    Args:
        folder: see :func:`readable`.
        paths: likewise.
        lists: likewise.
        num_workers: likewise.
        say: likewise.

    Raises:
        ConfigError: the lists are about another folder.
        CassleError: the lists could not be written.
    """
    told = Told(lists or folder)
    named = [i for i, name in enumerate(names_in(folder, texts_of(paths))) if name in told] if told else []
    if not named:
        return {}
    bad = readable(folder, take(paths, named), lists=lists, num_workers=num_workers, dali=False, say=say)
    return {named[i]: line for i, line in bad.quarantined.items()}


def _looked_at(
    folder: Path, paths: Sequence[Path], lists: Path, before: Checked, num_workers: int, say: Say
) -> Checked:
    new = f"{len(before.unknown)} files of {folder} are new or have changed since they were looked at"
    if os.access(lists, os.W_OK | os.X_OK):
        with held(lists / LOCK, wait=True):
            checked = clean(folder, paths, lists=lists, num_workers=num_workers)
            if checked.unknown:
                say(f"{new}: every one is decoded now, once (as python -m cassle verify does).")
                with bar() as advance:
                    record(folder, lists, [paths[i] for i in checked.unknown], num_workers, advance)
                checked = clean(folder, paths, lists=lists, num_workers=num_workers)
    else:
        say(
            f"{new}, and {lists} cannot be written: they are decoded at every start. Write the lists elsewhere once, "
            f"python -m cassle verify {folder} --out LISTS, and give --verified_dir LISTS."
        )
        checked = before
    return _with_the_rest(folder, paths, lists, checked, num_workers) if checked.unknown else checked


def _with_the_rest(folder: Path, paths: Sequence[Path], lists: Path, checked: Checked, num_workers: int) -> Checked:
    """Look at what is in no list: it cannot be written, or a file has changed once more."""
    with bar() as advance:
        files = [paths[i] for i in checked.unknown]
        verdicts = look(files, num_workers, lambda number, verdict: advance(number + 1, len(files)))
    found = dict(zip(checked.unknown, verdicts, strict=True))
    told, names = Told(lists), names_in(folder, texts_of(paths))
    bad = {i: f"{paths[i]}: {verdict.reason}" for i, verdict in found.items() if verdict.reason}
    quarantined = {i: line for i, line in bad.items() if names[i] in told}
    good = [i for i in checked.good if i not in found or not found[i].reason]
    notes = {i: verdict.notes for i, verdict in found.items() if verdict.notes and not verdict.reason}
    return Checked(
        good,
        {**checked.quarantined, **quarantined},
        {**checked.damaged, **{i: line for i, line in bad.items() if i not in quarantined}},
        [],
        {**checked.notes, **notes},
    )


@contextmanager
def bar() -> Iterator[Callable[[int, int], object]]:
    """Show a progress bar on a terminal; what is yielded takes the number that is done, and of how many."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        shown = progress.add_task("looking for files", total=None)
        yield lambda done, total: progress.update(shown, description="decoding", completed=done, total=total)
