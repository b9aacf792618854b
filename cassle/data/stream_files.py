"""Streams of image files: in the order of a list, or in the order of a folder of frames."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cassle.checks import Count, out_of_range
from cassle.data.file_list import read_list
from cassle.data.orders import Order, in_order
from cassle.data.source import EXTENSIONS, decode
from cassle.data.streams import Chunk, IndexedStream, digest_of, gather
from cassle.data.tree import files_below
from cassle.errors import ConfigError, DataError

LOOKED_AT = 64  # files that are looked at before anything is trained, evenly spread


class FileListStream(IndexedStream):
    """Image files in the order of a list: a text, ``path [label]`` a line, or a ``.npy`` array of names.

    What a line may be stands at ``file_list.TextList`` and ``file_list.NameArray``. The labels are the origins too.
    Of a text, eight bytes a line stay in memory.

    Args:
        file: the list.
        root: folder that its paths are relative to; None: the folder of the list.
        order: makes the order of so many lines; default: as they are listed, once.
        side: side in pixels to which images are cut (the shorter side is resized, the centre is kept).
        subsample: read the first of every so many lines only.
        num_workers: threads that decode.

    Raises:
        ConfigError: a number out of its range.
        DataError: the list is missing, empty, has a bad line (named by its number), or its files are not there or do
            not decode, not one of those that are looked at.
    """

    def __init__(
        self,
        file: str | Path,
        root: str | Path | None = None,
        order: Callable[[int], Order] = in_order,
        *,
        side: Count,
        subsample: Count = 1,
        num_workers: Count = 4,
    ) -> None:
        problems = out_of_range(FileListStream, locals())
        if problems:
            raise ConfigError(problems.values())
        self.file, self.side, self.num_workers = Path(file), side, num_workers
        self.root = self.file.parent if root is None else Path(root)
        self.list = read_list(self.file, subsample)
        self._look()
        self.num_origins = self.list.num_classes or None
        with self.file.open("rb") as content:
            self.digest = hashlib.file_digest(content, "sha256").hexdigest()
        super().__init__(order(len(self.list)))

    def _look(self) -> None:
        some = [self.root / row.name for row in self.list.rows(list(_spread(len(self.list))))]
        there = [path for path in some if path.is_file()]
        if not there:
            labels = "" if self.list.num_classes else ", and labels are integers" if " " in some[0].name else ""
            raise DataError(
                f"{self.file}: no file of the {len(some)} lines that were looked at is there, e.g. {some[0]}. Give the "
                f"folder that the paths are relative to (now {self.root}){labels}."
            )
        _look_for_an_image(there, self.side, str(self.file))

    def read(self, start: int, count: int) -> Chunk:
        """Return the images at stream positions [start, start + count) that decode."""
        rows = self.list.rows(self.index(start, count).tolist())
        paths = [self.root / row.name for row in rows]
        targets = torch.tensor([row.label for row in rows], dtype=torch.int64)
        return _decoded(start, paths, targets, targets, self.side, self.num_workers)


class FolderStream(IndexedStream):
    """A folder of frames, in the natural order of their paths (``frame_2.jpg`` before ``frame_10.jpg``).

    The first folder below is the origin of a frame; frames that lie in ``folder`` itself have the origin ".". There are
    no labels. Other files than images (by suffix) are passed over.

    Args:
        folder: of images, at any depth.
        order: makes the order of so many frames; default: as they are sorted, once.
        side: side in pixels to which images are cut (the shorter side is resized, the centre is kept).
        num_workers: threads that decode.

    Raises:
        ConfigError: a number out of its range.
        DataError: there is no such folder, no image in it, or none that decodes of those that are looked at.
    """

    def __init__(
        self, folder: str | Path, order: Callable[[int], Order] = in_order, *, side: Count, num_workers: Count = 4
    ) -> None:
        problems = out_of_range(FolderStream, locals())
        if problems:
            raise ConfigError(problems.values())
        self.folder, self.side, self.num_workers = Path(folder), side, num_workers
        self.paths = [path for path in files_below(self.folder) if Path(path).suffix.lower() in EXTENSIONS]
        if not self.paths:
            raise DataError(f"--data_dir {folder}: no images ({', '.join(sorted(EXTENSIONS))}) in it or below.")
        some = [self.folder / self.paths[i] for i in _spread(len(self.paths))]
        _look_for_an_image(some, side, f"--data_dir {folder}")
        first = [path.split(os.sep)[0] if os.sep in path else "." for path in self.paths]
        self.origin_names = tuple(dict.fromkeys(first))
        numbers = {name: number for number, name in enumerate(self.origin_names)}
        self._origins = torch.tensor([numbers[name] for name in first])
        self.num_origins = len(self.origin_names)
        self.digest = digest_of(self.paths)
        super().__init__(order(len(self.paths)))

    def read(self, start: int, count: int) -> Chunk:
        """Return the frames at stream positions [start, start + count) that decode."""
        index = self.index(start, count)
        paths = [self.folder / self.paths[i] for i in index.tolist()]
        return _decoded(start, paths, torch.full_like(index, -1), self._origins[index], self.side, self.num_workers)


def _spread(number: int) -> range:
    return range(0, number, -(-number // LOOKED_AT))


def _look_for_an_image(paths: Sequence[Path], side: int, source: str) -> None:
    """Decode until the first success.

    Raises:
        DataError: there is none.
    """
    image, reason = torch.empty((3, side, side), dtype=torch.uint8), ""
    for path in paths:
        found = decode(path, image, side)
        if not found:
            return
        reason = reason or f"{path}: {found}"
    raise DataError(
        f"{source}: not one of the {len(paths)} files that were looked at decodes, e.g. {reason}. Repair them, or give "
        "others."
    )


def _decoded(start: int, paths: list[Path], targets: Tensor, origins: Tensor, side: int, num_workers: int) -> Chunk:
    def make(path: Path, out: Tensor) -> str:
        reason = decode(path, out, side)
        return f"{path}: {reason}" if reason else ""

    positions, pixels, good, skipped = gather(start, paths, make, side=side, num_workers=num_workers)
    return Chunk(positions, pixels, targets[good], origins[good], skipped)
