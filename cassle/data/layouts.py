"""Benchmarks whose class is the folder of an image: ImageNet and its parts, Tiny ImageNet, any ImageFolder."""

from __future__ import annotations

import os
from pathlib import Path

from cassle.data.found import entries, folders_in
from cassle.data.location import LayoutError, Location, Part, files_part
from cassle.data.source import EXTENSIONS
from cassle.errors import DataError

SUFFIXES = tuple(EXTENSIONS)
FLAT = "IMAGE.jpg        any names, also in folders; or all of it in train/\n"


def read_folder(location: Location, part: str) -> Part | None:
    """Read an ImageFolder tree ``train/CLASS/*.jpg``, ``val/CLASS/*.jpg``; or any folder of images without labels."""
    if location.no_labels:
        if part == "val":
            return None
        folder = location.folder(part)
        folder = folder if folder.is_dir() else location.data_dir
        paths = images_below(folder) if folder.is_dir() else []
        if not paths:
            known = ", ".join(sorted(EXTENSIONS))
            raise LayoutError(f"{folder}: no images ({known}) there.", "Check --data_dir.", expected=FLAT)
        return files_part(paths, [-1] * len(paths), [])
    fix = f"Name the folder with {_flag(part)}, or use --no_labels for images without classes."
    return class_tree(*class_folders(location, part, fix))


def read_imagenet(location: Location, part: str) -> Part:
    """Read ImageNet: ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``."""
    return class_tree(*class_folders(location, part, _sorting(location, part)))


def read_imagenet100(location: Location, part: str) -> Part:
    """Read the 100 classes of CMC's list, from a folder that holds only them or from a whole ImageNet."""
    from cassle.data.imagenet100 import CLASSES

    folder, found = class_folders(location, part, _sorting(location, part))
    missing = sorted(set(CLASSES) - set(found))
    if missing:
        raise LayoutError(
            f"{folder}: {len(missing)} of the 100 classes of ImageNet-100 (the CMC list) are missing: "
            f"{', '.join(missing[:8])}{'…' * (len(missing) > 8)}.",
            "Give these folders, or use --dataset custom for another list of classes.",
        )
    return class_tree(folder, list(CLASSES))


def read_tinyimagenet(location: Location, part: str) -> Part:
    """Read Tiny ImageNet as it is published, or with its validation images sorted into folders like the others."""
    train, classes = class_folders(location, "train", f"Name the folder with {_flag('train')}.")
    if part == "train":
        return class_tree(train, classes)
    val = location.folder("val")
    annotations = val / "val_annotations.txt"
    if not annotations.is_file():
        if folders_in(val) == classes:
            return class_tree(val, classes)
        raise LayoutError(f"{annotations}: no such list.", f"Check --data_dir and {_flag('val')}.")
    rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8", errors="replace").splitlines() if line]
    ids = {wnid: label for label, wnid in enumerate(classes)}
    for number, row in enumerate(rows):
        if len(row) < 2 or row[1] not in ids:
            raise DataError(
                f"{annotations}, line {number + 1}: 'IMAGE<tab>WNID…' expected, with a WNID of {train}; found: {row}."
            )
    paths = [os.path.join(val, "images", row[0]) for row in rows]
    refuse_missing(paths, str(annotations))
    return files_part(paths, [ids[row[1]] for row in rows], classes)


def class_folders(location: Location, part: str, fix: str) -> tuple[Path, list[str]]:
    """Return the folder of a part and its class folders, sorted.

    Raises:
        LayoutError: there are none.
    """
    folder = location.folder(part)
    if not location.data_dir.is_dir():
        raise LayoutError(f"--data_dir {location.data_dir}: no such folder.", "Check --data_dir.")
    if not folder.is_dir():
        raise LayoutError(f"{folder}: no such folder.", fix)
    classes, files = entries(folder)
    if not classes:
        images = sum(name.lower().endswith(SUFFIXES) for name in files)
        raise LayoutError(f"{folder}: {f'{images:,} images and ' if images else ''}no class folders in it.", fix)
    return folder, classes


def class_tree(folder: Path, classes: list[str]) -> Part:
    """Return the images below ``folder/CLASS``, class by class.

    Raises:
        LayoutError: classes without images.
    """
    paths, targets, empty = [], [], []
    for label, name in enumerate(classes):
        members = images_below(folder / name)
        paths += members
        targets += [label] * len(members)
        empty += [] if members else [name]
    if empty:
        shown = f"{', '.join(empty[:8])}{'…' * (len(empty) > 8)}"
        raise LayoutError(f"{folder}: {len(empty)} class folders without images: {shown}.", "Fill or remove them.")
    return files_part(paths, targets, classes)


def images_below(folder: str | Path) -> list[str]:
    """Return the image files of a folder by name, then those of the folders below, as torchvision's ImageFolder does.

    Files and folders whose names begin with a dot are left out; below ``folder``, links to folders are not followed.
    """
    names, below = [], []
    with os.scandir(folder) as found:  # it tells files from folders without another look at each
        for entry in found:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                names.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
    images = [os.path.join(folder, name) for name in sorted(names)]
    for name in sorted(below):
        images += images_below(os.path.join(folder, name))
    return images


def refuse_missing(paths: list[str], source: str, fix: str = "Check --data_dir.", expected: str | None = None) -> None:
    """Raise LayoutError unless files that a list names are there: the first, every thousandth and the last."""
    for number in dict.fromkeys([*range(0, len(paths), 1000), len(paths) - 1] if paths else []):
        if not os.path.isfile(paths[number]):
            raise LayoutError(f"{source}: names {paths[number]}, which is not there.", fix, expected=expected)


def read_stream(location: Location, part: str) -> Part | None:
    """Refuse: what exists as a stream only has no parts.

    Raises:
        DataError: always.
    """
    raise DataError(
        "--dataset video, frames, list and iterator are streams: they have no training and validation part. For tasks "
        "from a list give --dataset custom --train_list FILE --val_list FILE."
    )


def _sorting(location: Location, part: str) -> str:
    """Return how to make ImageNet's class folders out of its archives."""
    folder, root = location.folder(part), location.data_dir
    names = entries(folder)[1] if folder.is_dir() else []
    if not any(name.lower().endswith((*SUFFIXES, ".tar")) for name in names):
        return f"Name the folder with {_flag(part)}, below --data_dir {root}."
    return (
        f"These are the files of ILSVRC2012_img_{part}.tar as they lie in it. To sort them into {folder}/WNID, remove "
        f"{folder}, put the tar and ILSVRC2012_devkit_t12.tar.gz into {root}, and let torchvision unpack them: "
        f"python -c \"from torchvision.datasets import ImageNet; ImageNet('{root}', '{part}')\""
    )


def _flag(part: str) -> str:
    return "--train_dir" if part == "train" else "--val_dir"
