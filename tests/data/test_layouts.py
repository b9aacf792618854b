"""The folders of the larger benchmarks, on tiny trees; and what a benchmark knows without its data."""

import numpy as np
import pytest
import torch
import torchvision

from cassle.data import BENCHMARKS, STREAMED
from cassle.data.benchmarks import CUSTOM, DIGITS, DOMAINNET, IMAGENET, IMAGENET100, STL10, TINYIMAGENET, Location
from cassle.data.imagenet100 import CLASSES
from cassle.data.listed import DOMAINS
from cassle.data.module import TaskData
from cassle.errors import ConfigError, DataError


@pytest.fixture
def wnids(tmp_path):
    """Return a function that makes empty image files in class folders; nothing here decodes them."""

    def make(part: str, names, below: str = "", count: int = 1):
        for name in names:
            folder = tmp_path / part / name / below
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (folder / f"{name}_{i}.JPEG").touch()
        return tmp_path

    return make


# ImageNet and its parts ----------------------------------------------------------------------------------------------


def test_the_classes_of_imagenet100():
    assert len(set(CLASSES)) == 100 and list(CLASSES) == sorted(CLASSES)
    assert all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in CLASSES)
    assert CLASSES[0] == "n01558993" and CLASSES[-1] == "n13040303" and "n02869837" in CLASSES


def test_imagenet(wnids):
    wnids("train", ["n2", "n1"], count=2)
    root = wnids("val", ["n1", "n2"])
    train, val = (IMAGENET.read(Location(root), part) for part in ("train", "val"))
    assert train.classes == val.classes == ["n1", "n2"]
    assert train.source.targets.tolist() == [0, 0, 1, 1] and val.source.targets.tolist() == [0, 1]
    assert [path.name for path in val.source.paths] == ["n1_0.JPEG", "n2_0.JPEG"]
    with pytest.raises(DataError, match=r"(?s)2 classes in .*, 1000 expected.*Complete the data"):
        TaskData(dataset="imagenet", data_dir=root).parts()


@pytest.mark.parametrize("whole", [False, True])
def test_imagenet100_of_its_own_folders_or_of_a_whole_imagenet(wnids, whole):
    others = ["n00000001", "n99999999"] if whole else []
    wnids("imagenet-100/train", [*others, *CLASSES])
    root = wnids("imagenet-100/val", [*CLASSES, *others], count=2)
    data = TaskData(dataset="imagenet100", data_dir=root, train_dir="imagenet-100/train", val_dir="imagenet-100/val")
    train, val = data.parts()
    assert train.classes == list(CLASSES) and train.source.targets.tolist() == list(range(100))
    assert len(val.source.targets) == 200 and {path.parent.name for path in val.source.paths} == set(CLASSES)
    assert data.split().contents[0][:4] == [11, 22, 39, 23]  # CaSSLe's published order


def test_imagenet100_that_is_not_complete(wnids):
    root = wnids("train", CLASSES[:97])
    with pytest.raises(DataError, match=f"3 of the 100 classes .* are missing: {', '.join(CLASSES[97:])}. "):
        IMAGENET100.read(Location(root), "train")


@pytest.fixture
def tiny_imagenet(wnids):
    root = wnids("train", ["n1", "n2"], "images", count=2)
    (root / "val" / "images").mkdir(parents=True)
    for i in range(3):
        (root / "val" / "images" / f"val_{i}.JPEG").touch()
    (root / "val" / "val_annotations.txt").write_text("val_2.JPEG\tn1\t0\t0\t9\t9\nval_0.JPEG\tn2\t0\t0\t9\t9\n")
    return root


def test_tiny_imagenet(tiny_imagenet):
    train, val = (TINYIMAGENET.read(Location(tiny_imagenet), part) for part in ("train", "val"))
    assert train.classes == val.classes == ["n1", "n2"] and train.source.targets.tolist() == [0, 0, 1, 1]
    assert [path.name for path in val.source.paths] == ["val_2.JPEG", "val_0.JPEG"]
    assert val.source.targets.tolist() == [0, 1] and all(path.is_file() for path in val.source.paths)


def test_tiny_imagenet_with_a_foreign_class(tiny_imagenet):
    (tiny_imagenet / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn3\t0\t0\t9\t9\n")
    with pytest.raises(DataError, match=r"a WNID of .*train; found: .*n3"):
        TINYIMAGENET.read(Location(tiny_imagenet), "val")
    (tiny_imagenet / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val_annotations.txt: no such list"):
        TINYIMAGENET.read(Location(tiny_imagenet), "val")


def test_tiny_imagenet_with_sorted_validation_images(tiny_imagenet):
    (tiny_imagenet / "val" / "val_annotations.txt").unlink()
    (tiny_imagenet / "val" / "images").rename(tiny_imagenet / "val" / "n1")
    (tiny_imagenet / "val" / "n2" / "images").mkdir(parents=True)
    (tiny_imagenet / "val" / "n2" / "images" / "val_9.JPEG").touch()
    val = TINYIMAGENET.read(Location(tiny_imagenet), "val")
    assert val.source.targets.tolist() == [0, 0, 0, 1] and val.source.paths[3].name == "val_9.JPEG"


def test_names_with_a_dot_and_nested_folders(image_tree):
    root = image_tree({"cat": 2, "dog": 1}, suffixes=(".JPG",))
    (root / "train" / "cat" / "._0.JPG").write_bytes(b"macOS writes these beside files")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "cat" / "a").mkdir()
    (root / "train" / "dog" / "0.JPG").rename(root / "train" / "cat" / "a" / "2.JPG")
    (root / "train" / "dog" / "again").symlink_to(root / "train" / "dog")
    (root / "train" / "dog" / "3.jpeg").symlink_to(root / "train" / "cat" / "0.JPG")
    train = CUSTOM.read(Location(root), "train")
    assert [path.name for path in train.source.paths] == ["0.JPG", "1.JPG", "2.JPG", "3.jpeg"]
    assert train.source.targets.tolist() == [0, 0, 0, 1] and train.classes == ["cat", "dog"]


# DomainNet -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def domainnet(tmp_path, noise_image):
    for number, domain in enumerate(DOMAINS):
        for kind, count in (("train", 2 + number), ("test", 1)):
            lines = [f"{domain}/{name}/{kind}_{i}.jpg {label}" for i in range(count) for label, name in enumerate("ab")]
            (tmp_path / f"{domain}_{kind}.txt").write_text("\n".join(lines) + "\n")
            for line in lines:
                noise_image(tmp_path / line.split()[0], seed=number)
    return tmp_path


def test_domainnet(domainnet, monkeypatch):
    train, val = (DOMAINNET.read(Location(domainnet), part) for part in ("train", "val"))
    assert train.domains == ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")
    assert train.classes == val.classes == ["a", "b"]
    assert torch.bincount(train.source.domains).tolist() == [4, 6, 8, 10, 12, 14]
    assert val.source.domains.tolist() == [d for d in range(6) for _ in "ab"]
    assert val.source.targets.tolist() == [0, 1] * 6 and all(path.is_file() for path in train.source.paths)
    monkeypatch.setitem(BENCHMARKS._targets, "domainnet", "tests.data.test_layouts:TWO_CLASSES")
    data = TaskData(dataset="domainnet", data_dir=domainnet, split_strategy="domain", num_tasks=6)
    loaded = data.load(8)
    assert [len(index) for index in loaded.split.train] == [4, 6, 8, 10, 12, 14]
    assert loaded.split.contents == DOMAINS and loaded.skipped == []
    assert TaskData(dataset="domainnet", data_dir=domainnet, split_strategy="data", num_tasks=1).load(8)


TWO_CLASSES = type(DOMAINNET)(**{**vars(DOMAINNET), "num_classes": 2})


def test_one_domain(domainnet, monkeypatch):
    monkeypatch.setitem(BENCHMARKS._targets, "domainnet", "tests.data.test_layouts:TWO_CLASSES")
    settings = {"dataset": "domainnet", "data_dir": domainnet, "domain": "painting"}
    loaded = TaskData(**settings, split_strategy="domain", num_tasks=1).load(8)
    assert len(loaded.train.targets) == 8 and len(loaded.val.targets) == 2 and loaded.split.contents == ("painting",)
    assert loaded.train.domains.eq(0).all()
    digits = TaskData(domain="inverted", num_tasks=5)
    plain, train = DIGITS.read(Location(), "train"), digits.parts()[0]
    assert torch.equal(train.source.pixels, 255 - plain.source.pixels) and train.domains == ("inverted",)
    for name, message in (("digits", "must be one of plain, inverted,"), ("cifar10", "cifar10 has none")):
        with pytest.raises(ConfigError, match=f"--domain photo: {message}"):
            TaskData(dataset=name, domain="photo", data_dir=domainnet)


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("sketch_train.txt", None, "sketch_train.txt: no such list"),
        ("real_test.txt", "real/a/7.jpg 0\n", "real_test.txt: names .*real/a/7.jpg, which is not there"),
        ("real_test.txt", None, "real_test.txt: no such list"),
        ("real_test.txt", "real/a/1.jpg\n", "'DOMAIN/CLASS/IMAGE LABEL' expected; found: real/a/1.jpg"),
        ("real_test.txt", "real/c/1.jpg 2\n", "class 2 is in the val lists but not in the train lists"),
    ],
)  # fmt: skip
def test_lists_that_are_wrong(domainnet, file, text, message):
    (domainnet / file).unlink()
    if text:
        (domainnet / file).write_text(text)
    with pytest.raises(DataError, match=message):
        _ = [DOMAINNET.read(Location(domainnet), part) for part in ("train", "val")]


def test_the_number_of_domains_is_known_without_the_data():
    for name, tasks, message in (
        ("domainnet", 5, "has the 6 domains real, quickdraw, .*; use --num_tasks 6"),
        ("cifar100", 5, "has no domains; use --split_strategy class or data"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaskData(dataset=name, data_dir="nowhere", split_strategy="domain", num_tasks=tasks)
    assert TaskData(dataset="domainnet", data_dir="nowhere", split_strategy="domain", num_tasks=6)


# STL-10 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stl10(tmp_path, monkeypatch):
    """A tiny STL-10 in its binary format, whose checksums are not asked for."""
    folder = tmp_path / STL_FOLDER
    folder.mkdir()
    draws = np.random.default_rng(0)
    for kind, count in (("train", 4), ("unlabeled", 5), ("test", 3)):
        draws.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{kind}_X.bin")
        if kind != "unlabeled":
            (np.arange(count, dtype=np.uint8) + 1).tofile(folder / f"{kind}_y.bin")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    return tmp_path


STL_FOLDER = torchvision.datasets.STL10.base_folder


def test_stl10(stl10):
    data = TaskData(dataset="stl10", data_dir=stl10, split_strategy="data", num_tasks=3)
    train, val = data.parts()
    assert train.source.targets.tolist() == [0, 1, 2, 3, -1, -1, -1, -1, -1] and val.source.targets.tolist() == [
        0,
        1,
        2,
    ]
    assert train.source.pixels.shape == (9, 3, 96, 96) and train.source.pixels.is_contiguous()
    raw = np.fromfile(stl10 / STL_FOLDER / "train_X.bin", dtype=np.uint8).reshape(4, 3, 96, 96)
    assert np.array_equal(train.source.pixels[1, 0].numpy(), raw[1, 0].T)  # stored column by column
    assert train.classes == list("abcdefghij") and [len(index) for index in data.split().train] == [3, 3, 3]
    with pytest.raises(ConfigError, match="--split_strategy class: most training images of stl10 have no label"):
        TaskData(dataset="stl10", data_dir=stl10)
    assert STL10.num_train == 105_000


def test_stl10_that_is_not_there(tmp_path):
    data = TaskData(dataset="stl10", data_dir=tmp_path, split_strategy="data")
    with pytest.raises(DataError, match=f"(?s)no STL10 in torchvision's format there .{STL_FOLDER}/.*--download"):
        data.parts()


# What is known without the data --------------------------------------------------------------------------------------


def test_sizes_and_counts():
    known = {name: (b.image_size, b.num_classes, b.num_train) for name, b in BENCHMARKS.items() if name != "digits"}
    assert known == {
        "cifar10": (32, 10, 50_000), "cifar100": (32, 100, 50_000), "stl10": (96, 10, 105_000),
        "tinyimagenet": (64, 200, 100_000), "imagenet": (224, 1000, 1_281_167), "imagenet100": (224, 100, 126_689),
        "domainnet": (224, 345, None), "core50": (128, 50, 119_894),
        "core50_categories": (128, 10, 119_894), **dict.fromkeys((*STREAMED, "custom"), (224, None, None)),
    }  # fmt: skip
    assert {b.std for name, b in BENCHMARKS.items() if b.image_size == 224} == {(0.229, 0.224, 0.225)}


def test_other_statistics():
    data = TaskData(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
    assert (data.benchmark.mean, data.benchmark.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert TaskData(image_std=[0.5] * 3).benchmark.mean == DIGITS.mean == TaskData().benchmark.mean


@pytest.mark.parametrize("name", ["digits", "imagenet", "domainnet", "custom"])
def test_what_cannot_be_downloaded(name):
    with pytest.raises(ConfigError, match=f"--download: there is no download of {name}"):
        TaskData(dataset=name, data_dir="x", download=True)
