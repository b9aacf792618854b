"""Folders of real JPEGs, as small as wanted, laid out as the large benchmarks are: for benchmarks and for tests.

The pictures are those of an archive of CIFAR-10 as JPEG files (``cifar10/train/CLASS/NNNN.jpg``), scaled up to varied
sizes, or pieces of photographs; a part of them is gray or CMYK, as in ImageNet.
"""

from __future__ import annotations

import io
import random
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

from PIL import Image

from benchmarks.pillow_oracle import photographs
from cassle.data.listed import DOMAINS

SMALLEST, LARGEST = 90, 180  # sides in pixels
GRAY_EVERY, CMYK_EVERY = 7, 11
DOMAIN_LABELS = (0, 1, 2, 344)  # of DomainNet's 345 classes


Images = Sequence[Image.Image]


def pictures(count: int, archive: Path | None = None) -> list[Image.Image]:
    """Return pictures: of ten classes in turn if they come from an archive of CIFAR-10, else pieces of photographs."""
    if archive is None:
        return [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in photographs(count, 32)]
    found: dict[str, list[Image.Image]] = {}
    with tarfile.open(archive) as file:
        for member in file:
            name = Path(member.name)
            of_class = found.setdefault(name.parent.name, []) if name.parent.parent.name == "train" else None
            if of_class is not None and name.suffix == ".jpg" and len(of_class) < -(-count // 10):
                of_class.append(Image.open(io.BytesIO(file.extractfile(member).read())).copy())
    return [image for row in zip(*found.values(), strict=True) for image in row][:count]


def save(image: Image.Image, path: Path, number: int) -> None:
    """Write a picture at a size of its own, drawn by its number; now and then gray or CMYK."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = random.Random(number)
    size = draws.randint(SMALLEST, LARGEST), draws.randint(SMALLEST, LARGEST)
    mode = "CMYK" if number % CMYK_EVERY == 0 else "L" if number % GRAY_EVERY == 0 else "RGB"
    image.resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, "JPEG", quality=90)


def imagenet_tree(folder: Path, images: Images, *, classes: int, per_class: int, val_share: int = 4) -> Path:
    """Write ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``, each ``val_share``-th of a class in val; return it."""
    for number in range(classes * per_class):
        label, place = number % classes, number // classes
        part = "val" if place % val_share == 0 else "train"
        wnid = f"n{label:08}"
        save(images[number % len(images)], folder / part / wnid / f"{wnid}_{place}.JPEG", number)
    return folder


def domainnet_tree(folder: Path, images: Images, *, per_class: int, val_share: int = 4) -> Path:
    """Write DomainNet's folders and lists, with images of only four of its classes; return the folder."""
    for domain_id, domain in enumerate(DOMAINS):
        rows: dict[str, list[str]] = {"train": [], "test": []}
        for number in range(len(DOMAIN_LABELS) * per_class):
            label, place = DOMAIN_LABELS[number % len(DOMAIN_LABELS)], number // len(DOMAIN_LABELS)
            path = f"{domain}/class_{label}/{domain}_{label:03}_{place:06}.jpg"
            save(images[(number + 5 * domain_id) % len(images)], folder / path, number + 97 * domain_id)
            rows["test" if place % val_share == 0 else "train"].append(f"{path} {label}")
        for part, lines in rows.items():
            (folder / f"{domain}_{part}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def digits_tree(folder: Path) -> Path:
    """Write scikit-learn's digits as JPEGs of 32 pixels, ``train/DIGIT/NNNN.jpg`` and ``val/…``; return the folder."""
    from cassle.data.arrays import read_digits
    from cassle.data.location import Location

    for part in ("train", "val"):
        source = read_digits(Location(), part).source
        for number, (pixels, label) in enumerate(zip(source.pixels, source.targets.tolist(), strict=True)):
            path = folder / part / str(label) / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=95)
    return folder
