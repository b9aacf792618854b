"""Lists of image files: a text, ``path [label]`` a line, or an array of fixed-width names; of any length."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cassle.errors import DataError

BLOCK = 1 << 16  # names of an array that are checked at a time
NOT_TEXT = "the name is not UTF-8"


class Row(NamedTuple):
    """A line of a list: the file as it is written there, and its class id (-1 without one)."""

    name: str
    label: int


class FileList:
    """The rows of a list that was checked from its first line to its last; only where they begin is kept in memory.

    Attributes:
        num_classes: largest label + 1; 0 in a list without labels.
    """

    num_classes: int = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def rows(self, numbers: list[int]) -> list[Row]:
        """Return the rows of these numbers, counted from 0 among those that are kept."""
        raise NotImplementedError


class TextList(FileList):
    """A text file with one ``path`` or ``path label`` a line; lines without anything may stand at its end.

    The label is the last word of the line, an integer of at most nine digits or -1; what stands before it is the path,
    which may hold spaces. The first line decides whether the list has labels; then every line has one, or none has.

    Args:
        file: the list, in UTF-8.
        subsample: keep the first of every so many lines.

    Raises:
        DataError: a missing or empty list, or a bad line, which is named by its number.
    """

    def __init__(self, file: Path, subsample: int = 1) -> None:
        self.file = file
        starts, labelled, empty, largest, after = array("q"), None, None, -1, 0
        with _opened(file) as lines:
            for number, line in enumerate(lines):
                at, after = after, after + len(line)
                label = _label(line)
                if labelled is None:
                    labelled = label is not None
                if line.isspace():
                    empty = number if empty is None else empty
                    continue  # at the end of the list it does no harm
                if empty is not None:
                    raise DataError(f"{file}, line {empty + 1}: empty. Correct or remove this line.")
                if (label is None) is labelled or not line.isascii() or b"\0" in line:
                    self._check(number, line.strip(), label, labelled)
                if labelled:
                    largest = max(largest, label)
                if number % subsample == 0:
                    starts.append(at)
        if not starts:
            raise DataError(f"{file}: an empty list; a line for each image is expected: path [label].")
        self.labelled, self.num_classes, self._starts = labelled, largest + 1, starts

    def _check(self, number: int, content: bytes, label: int | None, labelled: bool) -> None:
        shown, problem = content[:100].decode(errors="replace"), ""
        if b"\0" in content or not _is_text(content):
            problem = NOT_TEXT
        elif labelled and label is None:
            problem = "no label at its end, though line 1 has one"
        elif not labelled and label is not None:
            problem = "ends with a label, though line 1 has none"
        if problem:
            raise DataError(f"{self.file}, line {number + 1}: {problem}: {shown!r}. Correct or remove this line.")

    def __len__(self) -> int:
        return len(self._starts)

    def rows(self, numbers: list[int]) -> list[Row]:
        """Return the rows of these numbers, counted from 0 among those that are kept."""
        return list(self._rows(numbers))

    def _rows(self, numbers: list[int]) -> Iterator[Row]:
        with _opened(self.file) as lines:
            for number in numbers:
                lines.seek(self._starts[number])
                line = lines.readline()
                label = _label(line) if self.labelled else None
                name = line.strip() if label is None else line.rsplit(None, 1)[0].strip()
                yield Row(name.decode(errors="replace"), -1 if label is None else label)


class NameArray(FileList):
    """A ``.npy`` file of fixed-width names (dtype ``S120``, for example), which stays on disk.

    Args:
        file: the array, of one dimension.
        subsample: keep the first of every so many names.

    Raises:
        DataError: a missing, empty or other array, or a bad name, which is named by its row, counted from 1.
    """

    def __init__(self, file: Path, subsample: int = 1) -> None:
        with _opened(file):
            pass  # the error for a missing file is that of the other lists
        try:
            names = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{file}: no array that numpy reads ({error}); save it with numpy.save.") from error
        if not isinstance(names, np.ndarray) or names.dtype.kind != "S" or names.ndim != 1:
            kind = f"{names.dtype} {names.shape}" if isinstance(names, np.ndarray) else type(names).__name__
            raise DataError(f"{file}: {kind}; one dimension of fixed-width byte names is expected, e.g. dtype S120.")
        if not len(names):
            raise DataError(f"{file}: an empty list; one name for each image is expected.")
        for start in range(0, len(names), BLOCK):
            self._check(file, np.asarray(names[start : start + BLOCK]), start)
        self._names = names[::subsample]

    @staticmethod
    def _check(file: Path, block: np.ndarray, start: int) -> None:
        for place in (block == b"").nonzero()[0][:1]:
            raise DataError(f"{file}, row {start + place + 1}: an empty name. Correct or remove it.")
        codes = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), -1)
        for place in (codes >= 128).any(axis=1).nonzero()[0]:
            if not _is_text(bytes(block[place])):
                raise DataError(f"{file}, row {start + place + 1}: {NOT_TEXT}. Correct or remove it.")

    def __len__(self) -> int:
        return len(self._names)

    def rows(self, numbers: list[int]) -> list[Row]:
        """Return the rows of these numbers, counted from 0 among those that are kept."""
        return [Row(bytes(self._names[number]).decode(), -1) for number in numbers]


def read_list(file: Path, subsample: int = 1) -> FileList:
    """Open a list of either kind: an array if its name ends in ``.npy``, else a text."""
    return (NameArray if file.suffix == ".npy" else TextList)(file, subsample)


def _opened(file: Path):
    try:
        return open(file, "rb")
    except OSError as error:
        raise DataError(f"{file}: the list cannot be read ({error.strerror}). Give the path of a list.") from error


def _label(line: bytes) -> int | None:
    """Return the label at the end of a line: at most nine digits, or -1, behind a path; None without one."""
    words = line.rsplit(None, 1)
    if len(words) == 2 and ((words[1].isdigit() and len(words[1]) <= 9) or words[1] == b"-1"):
        return int(words[1])
    return None


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
