"""How image files lie in the folders of a benchmark: trees of class folders, annotation lists, domain lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cassle.data.source import EXTENSIONS, ArraySource, FileSource
from cassle.errors import DataError

#: DomainNet's domains in the order in which CaSSLe trains on them
DOMAINS = ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")


@dataclass(frozen=True)
class Location:
    """Where a benchmark is looked for: the values of the flags of the same names.

    ``fetch`` tells whether ``--download`` may be followed now; a dry run only looks.
    """

    data_dir: Path | None = None
    train_dir: str = "train"
    val_dir: str = "val"
    download: bool = False
    no_labels: bool = False
    domains: bool = False
    fetch: bool = True

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
        """Return the samples of one domain, as a part that has only this domain."""
        chosen = (self.source.domains == self.domains.index(name)).nonzero().flatten()
        targets, ids = self.source.targets[chosen], torch.zeros_like(chosen)
        if isinstance(self.source, ArraySource):
            source = ArraySource(self.source.pixels[chosen], targets, ids)
        else:
            source = FileSource([self.source.paths[i] for i in chosen.tolist()], targets, ids)
        return Part(source, self.classes, (name,))


def read_folder(location: Location, part: str) -> Part | None:
    """Read an ImageFolder tree ``train/CLASS/*.jpg``, ``val/CLASS/*.jpg``; or a flat folder without labels."""
    root = location.data_dir
    if not root.is_dir():
        raise DataError(f"--data_dir {root}: no such folder.")
    folder = location.folder(part)
    if location.no_labels:
        if part == "val":
            return None
        folder = folder if folder.is_dir() else root
        paths = _images_in(folder)
        if not paths:
            raise DataError(f"--data_dir {folder}: no images ({', '.join(sorted(EXTENSIONS))}) in this folder.")
        return _files(paths, [-1] * len(paths), [])
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. Expected {folder}/CLASS/IMAGE; found: {_content(root)}. "
            f"Name the folder with {_flag(part)}, or use --no_labels for a flat folder of images."
        )
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f"{folder}: no class folders in it; expected {folder}/CLASS/IMAGE (or use --no_labels).")
    return _tree(folder, classes)


def read_imagenet(location: Location, part: str) -> Part:
    """Read ImageNet: ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``."""
    return _tree(*_wnids(location, part, "1000 folders like n01440764"))


def read_imagenet100(location: Location, part: str) -> Part:
    """Read the 100 classes of CMC's list, from a folder that holds only them or from a whole ImageNet."""
    from cassle.data.imagenet100 import CLASSES

    folder, found = _wnids(location, part, "the 100 folders of the CMC list, from n01558993 to n13040303")
    missing = sorted(set(CLASSES) - set(found))
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of the 100 classes of ImageNet-100 (the CMC list) are missing: "
            f"{', '.join(missing[:8])}. Give these folders, or use --dataset custom for another list of classes."
        )
    return _tree(folder, list(CLASSES))


def read_tinyimagenet(location: Location, part: str) -> Part:
    """Read Tiny ImageNet as it is published: ``train/WNID/images/*.JPEG``, ``val/images``, ``val_annotations.txt``."""
    train, classes = _wnids(location, "train", "200 folders like n01443537, with WNID/images/*.JPEG")
    if part == "train":
        return _tree(train, classes, "images")
    val = location.folder("val")
    annotations = val / "val_annotations.txt"
    rows = [line.split("\t") for line in _lines(annotations, f"{val}/val_annotations.txt and {val}/images/*.JPEG")]
    ids = {wnid: label for label, wnid in enumerate(classes)}
    odd = [row for row in rows if len(row) < 2 or row[1] not in ids]
    if odd:
        raise DataError(f"{annotations}: 'IMAGE<tab>WNID…' expected, with a WNID of {train}; found: {odd[0]}.")
    return _files([val / "images" / row[0] for row in rows], [ids[row[1]] for row in rows], classes)


def read_domainnet(location: Location, part: str) -> Part:
    """Read DomainNet: lists ``DOMAIN_train.txt`` and ``DOMAIN_test.txt`` of lines ``DOMAIN/CLASS/IMAGE LABEL``."""
    root = location.data_dir
    train = [row for name in DOMAINS for row in _listed(root, name, "train")]
    names = {label: Path(path).parent.name for path, label in reversed(train)}
    classes = [names.get(label, f"class {label}") for label in range(max(names, default=-1) + 1)]
    per_domain = [_listed(root, name, "train" if part == "train" else "test") for name in DOMAINS]
    rows = [(root / path, label, domain) for domain, found in enumerate(per_domain) for path, label in found]
    paths, targets, domains = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    if max(targets, default=0) >= len(classes):
        raise DataError(f"{root}: class {max(targets)} is in the {part} lists but not in the train lists.")
    return _files(paths, targets, classes, domains, DOMAINS)


def _listed(root: Path, domain: str, kind: str) -> list[tuple[str, int]]:
    """Return the paths, relative to ``root``, and labels in the list of a domain."""
    file, found = root / f"{domain}_{kind}.txt", []
    for line in _lines(file, f"{root}/DOMAIN_{kind}.txt for the domains {', '.join(DOMAINS)}, and their images"):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal():
            raise DataError(f"{file}: 'DOMAIN/CLASS/IMAGE LABEL' expected; found: {line}.")
        found.append((path, int(label)))
    return found


def _files(
    paths: list[Path],
    targets: list[int],
    classes: list[str],
    domains: Sequence[int] | None = None,
    names: tuple[str, ...] = (),
) -> Part:
    labels = torch.tensor(targets, dtype=torch.int64)
    ids = torch.zeros_like(labels) if domains is None else torch.tensor(domains, dtype=torch.int64)
    return Part(FileSource(paths, labels, ids), classes, names)


def _tree(folder: Path, classes: list[str], below: str = "") -> Part:
    """Return the images of ``folder/CLASS/below``.

    Raises:
        DataError: classes without images.
    """
    paths, targets, empty = [], [], []
    for label, name in enumerate(classes):
        place = folder / name / below
        members = _images_in(place) if place.is_dir() else []
        paths += members
        targets += [label] * len(members)
        empty += [] if members else [str(Path(name) / below)]
    if empty:
        raise DataError(f"{folder}: class folders without images: {', '.join(empty[:8])}. Fill or remove them.")
    return _files(paths, targets, classes)


def _wnids(location: Location, part: str, expected: str) -> tuple[Path, list[str]]:
    """Return the folder of a part and its class folders, sorted.

    Raises:
        DataError: there are none.
    """
    folder = location.folder(part)
    classes = _subfolders(folder) if folder.is_dir() else []
    if not classes:
        raise DataError(
            f"{folder}: no class folders there. Expected {expected}; found: "
            f"{_content(folder if folder.is_dir() else location.data_dir)}. Name the folder with {_flag(part)}, "
            f"below --data_dir {location.data_dir}."
        )
    return folder, classes


def _lines(file: Path, expected: str) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(
            f"{file}: no such list. Expected {expected}; found: {_content(file.parent)}. Check --data_dir."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())


def _subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def _content(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else ["no such folder"]
    return ", ".join([*names[:8], *(["…"] if len(names) > 8 else [])]) or "nothing"


def _flag(part: str) -> str:
    return "--train_dir" if part == "train" else "--val_dir"


def read_stream(location: Location, part: str) -> Part | None:
    """Refuse: what exists as a stream only has no parts.

    Raises:
        DataError: always.
    """
    raise DataError("--dataset video, frames and list are streams: they have no training and validation part.")
