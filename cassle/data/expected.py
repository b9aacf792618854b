"""Which images a run will read, as far as that is known before it decodes any: by the lists of those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cassle.data.inspection import Note
from cassle.data.source import FileSource, Source, refuse_damage
from cassle.data.splits import Split
from cassle.data.verified import clean
from cassle.errors import CassleError

if TYPE_CHECKING:
    from cassle.data.module import TaskData


class Expected(NamedTuple):
    """What will be read.

    Attributes:
        train: the training images.
        split: which of them belong to which task, and likewise of the validation images.
        lines: what is left out, and what is not known, for people.
        problems: why the run will not start, one sentence each.
    """

    train: Source
    split: Split
    lines: list[str]
    problems: list[str]


def expected(data: TaskData, engine: str | None) -> Expected:
    """Return what an engine will read of a data set; no file is opened, only times and sizes are looked at.

    Args:
        data: the data set.
        engine: name of the engine; None where it is not known.

    Raises:
        DataError: folders or files are missing.
        ConfigError: the data cannot be cut into tasks.
    """
    lines: list[str] = []
    problems: list[str] = []
    whole = [part and part.source for part in data.parts()]
    known = list(whole)
    for place, what in enumerate(("training", "validation")):
        if isinstance(whole[place], FileSource):
            try:
                known[place] = _readable(data, whole[place], what, engine, lines)
            except CassleError as error:
                problems.append(str(error))
    try:
        split = data.split(*known)
    except CassleError as error:  # of what is left
        problems.append(str(error))
        known, split = whole, data.split()
    return Expected(known[0], split, lines, problems)


def _readable(data: TaskData, source: FileSource, what: str, engine: str | None, lines: list[str]) -> FileSource:
    """Return the files that an engine will read, and add what there is to say of the others."""
    number, workers = len(source.paths), max(data.num_workers, 1)
    checked = clean(data.location.data_dir, source.paths, lists=data.verified_dir, num_workers=workers)
    lost, bad = len(checked.quarantined), list(checked.damaged.values())
    if lost:
        lines.append(f"Left out: {lost} of {number} {what} images, which are in quarantine.")
    if engine not in ("workers", "dali"):  # the resident one reads what Pillow lets pass, too
        if bad:
            lines.append(
                f"Left out: up to {len(bad)} of {number} {what} images, which did not decode in an earlier run; the "
                "engine resident tries every file."
            )
        return source.without(checked.quarantined)
    refuse_damage(bad, number - lost)
    foreign = {i for i, notes in checked.notes.items() if notes & Note.NOT_DALI} if engine == "dali" else set()
    if bad:
        lines.append(f"Left out: {len(bad)} of {number} {what} images, which did not decode in an earlier run.")
    if foreign:
        lines.append(f"Left out: {len(foreign)} of {number} {what} images, which dali does not read.")
    if checked.unknown:
        lines.append(
            f"Not looked at yet: {len(checked.unknown)} of {number} {what} images; the run will decode each once "
            "before it begins, and leave out what does not decode."
        )
    return source.only([i for i in checked.good if i not in foreign])
