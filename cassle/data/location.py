"""Where a benchmark is looked for, what is found there, and the error for a tree that is not the expected one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cassle.data.paths import Paths, take
from cassle.data.source import ArraySource, FileSource
from cassle.data.splits import SHARED
from cassle.errors import DataError


@dataclass(frozen=True)
class Location:
    """Where a benchmark is looked for: the values of the flags of the same names.

    ``domains`` tells whether the data is cut by domain. ``fetch`` tells whether ``--download`` may be followed now; a
    dry run only looks.
    """

    data_dir: Path | None = None
    train_dir: str = "train"
    val_dir: str = "val"
    download: bool = False
    no_labels: bool = False
    domains: bool = False
    fetch: bool = True
    train_list: Path | None = None
    val_list: Path | None = None
    held_out: float = 0.0

    @property
    def flags(self) -> str:
        """The flags that say where it is, with their values."""
        given = {"data_dir": self.data_dir, "train_list": self.train_list, "val_list": self.val_list}
        return ", ".join(f"--{name} {value}" for name, value in given.items() if value is not None) or "--dataset"

    def folder(self, part: str) -> Path:
        """Return the folder of ``train`` or ``val``."""
        return self.data_dir / (self.train_dir if part == "train" else self.val_dir)


@dataclass(frozen=True)
class Part:
    """One part (train or val) of a benchmark: its source and the names of its classes and domains."""

    source: ArraySource | FileSource
    classes: list[str]
    domains: tuple[str, ...] = ()

    def of_domain(self, name: str) -> Part:
        """Return the samples of one domain, and those of all, as a part that has only this domain."""
        wanted = torch.tensor([self.domains.index(name), SHARED])
        chosen = torch.isin(self.source.domains, wanted).nonzero().flatten()
        targets, ids = self.source.targets[chosen], torch.zeros_like(chosen)
        if isinstance(self.source, ArraySource):
            source = ArraySource(self.source.pixels[chosen], targets, ids)
        else:
            source = FileSource(take(self.source.paths, chosen.tolist()), targets, ids)
        return Part(source, self.classes, (name,))


def files_part(
    paths: list[str],
    targets: Sequence[int],
    classes: list[str],
    domains: Sequence[int] | None = None,
    names: tuple[str, ...] = (),
) -> Part:
    """Return a part of image files.

    Args:
        paths: one file per image.
        targets: class id of each, -1 without a label.
        classes: names of the classes.
        domains: domain id of each; None without domains.
        names: of the domains.
    """
    labels = torch.tensor(targets, dtype=torch.int64)
    ids = torch.zeros_like(labels) if domains is None else torch.tensor(domains, dtype=torch.int64)
    return Part(FileSource(Paths(paths), labels, ids), classes, names)


class LayoutError(DataError):
    """Files that do not lie as the benchmark has them; ``Benchmark.part`` adds the tree expected and the tree found.

    Args:
        problem: what is wrong, a sentence.
        fix: what to do about it.
        expected: tree that is expected, where it is not the benchmark's own.
    """

    def __init__(self, problem: str, fix: str = "", *, expected: str | None = None) -> None:
        super().__init__(f"{problem} {fix}".strip())
        self.problem, self.fix, self.expected = problem, fix, expected
