"""Benchmarks that lists describe: DomainNet, and any images with a list of one's own."""

from __future__ import annotations

import os
from pathlib import Path

from cassle.data.file_list import FileList, Row, TextList, read_list
from cassle.data.found import folders_in
from cassle.data.layouts import read_folder, refuse_missing
from cassle.data.location import LayoutError, Location, Part, files_part
from cassle.errors import DataError

#: DomainNet's domains in the order in which CaSSLe trains on them
DOMAINS = ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")


def read_domainnet(location: Location, part: str) -> Part:
    """Read DomainNet: lists ``DOMAIN_train.txt`` and ``DOMAIN_test.txt`` of lines ``DOMAIN/CLASS/IMAGE LABEL``."""
    root = location.data_dir
    train = [row for name in DOMAINS for row in _domain(root, name, "train")]
    names = {label: os.path.basename(os.path.dirname(path)) for path, label in reversed(train)}
    classes = [names.get(label, f"class {label}") for label in range(max(names, default=-1) + 1)]
    kind = "train" if part == "train" else "test"
    rows = [_domain(root, name, kind) for name in DOMAINS]
    targets = [label for found in rows for _, label in found]
    if max(targets, default=0) >= len(classes):
        raise DataError(f"{root}: class {max(targets)} is in the {part} lists but not in the train lists.")
    paths = [[os.path.join(root, path) for path, _ in found] for found in rows]
    for name, found, listed in zip(DOMAINS, paths, rows, strict=True):
        refuse_missing(found, str(root / f"{name}_{kind}.txt"), _meant(root, listed[0].name))
    domains = [domain for domain, found in enumerate(rows) for _ in found]
    return files_part([path for found in paths for path in found], targets, classes, domains, DOMAINS)


def _domain(root: Path, domain: str, kind: str) -> list[Row]:
    """Return the paths, relative to ``root``, and labels in the list of a domain."""
    file = root / f"{domain}_{kind}.txt"
    if not file.is_file():
        raise LayoutError(f"{file}: no such list.", "Check --data_dir.")
    found = TextList(file)
    if not found.labelled:
        raise DataError(f"{file}, line 1: 'DOMAIN/CLASS/IMAGE LABEL' expected; found: {found.rows([0])[0].name}.")
    return found.rows(range(len(found)))


def read_custom(location: Location, part: str) -> Part | None:
    """Read images of one's own: in folders, or as ``--train_list`` and ``--val_list`` name them."""
    if location.train_list is None:
        return read_folder(location, part)
    file = location.train_list if part == "train" else location.val_list
    if file is None:
        return None
    train = read_list(location.train_list)
    if part == "val" and train.num_classes == 0:
        raise DataError(f"--val_list {file}: {location.train_list} has no labels to evaluate with; leave it out.")
    found = train if part == "train" else read_list(file)
    rows = found.rows(range(len(found)))
    labels = [row.label for row in rows]
    (_check_train if part == "train" else _check_val)(file, labels, train)
    paths = [os.path.join(location.data_dir, row.name) for row in rows]
    first = rows[0].name
    refuse_missing(paths, str(file), _meant(location.data_dir, first), f"{first}    as it is in the list\n")
    return files_part(paths, labels, [str(label) for label in range(train.num_classes)])


def list_problems(name: str, location: Location) -> list[str]:
    """Return what contradicts the lists of a data set, one sentence each."""
    lists = (("train_list", location.train_list), ("val_list", location.val_list))
    given = [f"--{flag} {file}" for flag, file in lists if file]
    if not given:
        return []
    problems = []
    if name != "custom":
        problems.append(f"{given[0]}: is for --dataset custom; {name} has its own parts.")
    if location.train_list is None:
        problems.append(f"{given[0]}: needs --train_list too.")
    if location.no_labels:
        problems.append("--no_labels: is for folders; a list tells by its lines whether there are labels.")
    for part, folder in (("train", location.train_dir), ("val", location.val_dir)):
        if folder != part:
            problems.append(f"--{part}_dir {folder}: not used with lists, whose paths are relative to --data_dir.")
    return problems


def _check_train(file: Path, labels: list[int], train: FileList) -> None:
    missing = sorted({*range(train.num_classes)} - {*labels})
    if missing:
        shown = f"{', '.join(map(str, missing[:8]))}{'…' * (len(missing) > 8)}"
        raise DataError(
            f"--train_list {file}: labels up to {train.num_classes - 1}, but no image of class {shown}; number the "
            "classes from 0, without gaps."
        )


def _check_val(file: Path, labels: list[int], train: FileList) -> None:
    for number, label in enumerate(labels):
        if not 0 <= label < train.num_classes:
            raise DataError(
                f"--val_list {file}, line {number + 1}: {f'class {label}' if label >= 0 else 'no label'}; the classes "
                f"of --train_list are 0 to {train.num_classes - 1}."
            )


def _meant(root: Path, name: str) -> str:
    """Return what to do about files that are not there, with the folder in which the first of a list is."""
    near = [root.absolute().parent, *(root / folder for folder in folders_in(root)[:200])]
    meant = next((place for place in near if (place / name).is_file()), None)
    return f"Did you mean --data_dir {meant}?" if meant else "Paths are relative to --data_dir; check it."
