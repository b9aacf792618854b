"""What is said of a folder that is not laid out as its benchmark: the tree expected, the tree found, the way out."""

import os
import shutil

import pytest

from cassle.data import BENCHMARKS, STREAMED
from cassle.data.found import found_tree
from cassle.data.imagenet100 import CLASSES
from cassle.data.listed import DOMAINS
from cassle.data.module import TaskData
from cassle.data.tree import files_below
from cassle.errors import DataError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def imagenet100(root):
    touch(*(root / part / name / "1.JPEG" for part in ("train", "val") for name in CLASSES))


def domainnet(root):
    for name in DOMAINS:
        touch(root / name / "ant" / "1.jpg")
        for kind in ("train", "test"):
            (root / f"{name}_{kind}.txt").write_text(f"{name}/ant/1.jpg 0\n")


@pytest.fixture
def said(tmp_path):
    """Return a function to what is said of a data set in a folder, whose paths begin below ``tmp_path``."""

    def read(dataset, root, **settings) -> str:
        settings = {"split_strategy": "data", "num_tasks": 2, **settings}
        with pytest.raises(DataError) as caught:
            TaskData(dataset=dataset, data_dir=root, **settings).parts()
        return str(caught.value).replace(str(tmp_path), "")

    return read


def test_a_whole_message(tmp_path, said):
    root = tmp_path / "data"
    touch(root / "notes.txt", *(root / f"d{n}" / "x" for n in range(9)))
    touch(*(root / "imgs" / f"{n}.jpg" for n in range(30)))
    assert said("custom", root) == (
        "/data/train: no such folder.\n"
        "  expected:\n"
        "    /data/\n"
        "      train/\n"
        "        CLASS/                      a folder for each class, any names\n"
        "          IMAGE.jpg\n"
        "      val/                          the same folders\n"
        "        CLASS/\n"
        "          IMAGE.jpg\n"
        "  found:\n"
        "    /data/\n" + "".join(f"      d{n}/\n        x\n" for n in range(6)) + "      … 4 more folders\n"
        "      notes.txt\n"
        "Name the folder with --train_dir, or use --no_labels for images without classes."
    )


def flat_val(root):
    shutil.rmtree(root / "val")
    touch(*(root / "val" / f"ILSVRC2012_val_{n:08}.JPEG" for n in range(1234)))


def tars(root):
    shutil.rmtree(root / "train")
    touch(*(root / "train" / f"{name}.tar" for name in CLASSES))


@pytest.mark.parametrize(
    "damage, settings, pieces",
    [
        (flat_val, {}, ["/data/val: 1,234 images and no class folders in it.", "val/\n", "… 1,232 more files",
                        "the files of ILSVRC2012_img_val.tar", "ImageNet('/data', 'val')"]),
        (tars, {}, ["/data/train: no class folders in it.", "n01558993.tar", "ILSVRC2012_img_train.tar"]),
        (lambda root: (root / "val").rename(root / "validation"), {},
         ["/data/val: no such folder.", "      validation/\n", "Name the folder with --val_dir, below --data_dir"]),
        (lambda root: [shutil.rmtree(root / "train" / name) for name in CLASSES[:9]], {},
         ["/data/train: 9 of the 100 classes of ImageNet-100 (the CMC list) are missing: n01558993,", "….\n",
          "… 89 more folders", "--dataset custom for another list of classes."]),
        (lambda root: [(root / "val" / name / "1.JPEG").unlink() for name in CLASSES[:2]], {},
         ["/data/val: 2 class folders without images: n01558993, n01692333.", "Fill or remove them."]),
        (lambda root: imagenet100(root.parent / "data" / "imagenet-100"),
         {"train_dir": "fit"}, ["/data/fit: no such folder.", "      fit/                        100 class folders"]),
        (lambda root: shutil.rmtree(root), {}, ["--data_dir /data: no such folder.", "no folder /data; there is"]),
    ],
)  # fmt: skip
def test_imagenet100(tmp_path, said, damage, settings, pieces):
    root = tmp_path / "data"
    imagenet100(root)
    damage(root)
    text = said("imagenet100", root, **settings)
    for piece in pieces:
        assert piece in text
    assert "\n  expected:\n    /data/\n" in text and "\n  found:\n" in text


def test_a_misspelt_folder(tmp_path, said):
    (tmp_path / "mini").mkdir()
    (tmp_path / "other").mkdir()
    for dataset in ("custom", "cifar10"):
        assert said(dataset, tmp_path / "minni").splitlines()[-1] == "Did you mean --data_dir /mini?"
        assert "Did you mean" not in said(dataset, tmp_path / "unlike")
    with pytest.raises(DataError, match=r"--data_dir .*/minni: no such folder\. Did you mean .*/mini\?$"):
        files_below(tmp_path / "minni")


def test_the_folder_above_or_below_is_suggested(tmp_path, said):
    root = tmp_path / "data"
    imagenet100(root / "in" / "imagenet-100")
    domainnet(root / "domainnet")
    (root / "cifar" / "cifar-10-batches-py").mkdir(parents=True)
    touch(root / "core" / "core50_128x128" / "s1" / "o1" / "C_01_01_000.png")
    for dataset, place, meant in (
        ("imagenet100", root, "/data/in/imagenet-100"),
        ("imagenet100", root / "in", "/data/in/imagenet-100"),
        ("imagenet100", root / "in" / "imagenet-100" / "train", "/data/in/imagenet-100"),
        ("domainnet", root, "/data/domainnet"),
        ("domainnet", root / "domainnet" / "clipart", "/data/domainnet"),
        ("cifar10", root, "/data/cifar"),
        ("cifar10", root / "cifar" / "cifar-10-batches-py", "/data/cifar"),
        ("core50", root / "core" / "core50_128x128", "/data/core"),
        ("custom", root, "/data/in/imagenet-100"),
    ):
        assert said(dataset, place).splitlines()[-1] == f"Did you mean --data_dir {meant}?", (dataset, place)
    # upstream's scripts name the folders below a common one
    upstream = {"train_dir": "imagenet-100/train", "val_dir": "imagenet-100/val"}
    text = said("imagenet100", root / "in" / "imagenet-100", **upstream)
    assert text.endswith("Did you mean --data_dir /data/in?")
    assert "imagenet-100/train/                        100 class folders" in text
    assert TaskData(dataset="imagenet100", data_dir=root / "in", **upstream).parts()


def test_the_other_benchmarks(tmp_path, said):
    root = tmp_path / "data"
    touch(*(root / part / name / "1.JPEG" for part in ("train", "val") for name in ("a", "b")))
    for dataset, pieces in (
        ("imagenet", ["2 classes in /data, 1000 expected.", "train/                        1,000 class folders"]),
        ("tinyimagenet", ["2 classes in /data, 200 expected.", "        val_annotations.txt         lines IMAGE<tab>"]),
        ("domainnet", ["/data/real_train.txt: no such list.", "clipart_train.txt             and one of each other"]),
        ("core50", ["core50_128x128/s1/o1: no such folder.", "o1/                       50 objects, o1 to o50"]),
        ("core50_categories", ["core50_128x128/s1/o1: no such folder."]),
        ("stl10", ["no STL10 in torchvision's format there (stl10_binary/)", "train_X.bin, train_y.bin, unlabeled_X"]),
        ("cifar100", ["cifar-100-python/\n        train, test, meta", "or add --download."]),
    ):
        text = said(dataset, root)
        for piece in (*pieces, "\n  found:\n    /data/\n      train/\n        a/\n          1.JPEG\n        b/\n"):
            assert piece in text, (dataset, text)
    shutil.rmtree(root / "val" / "b")
    touch(root / "val" / "c" / "1.JPEG")
    text = said("custom", root)
    assert text.startswith("Class folders differ between train and val; only in --train_dir train: b;")
    (root / "empty").mkdir()
    text = said("custom", root / "empty", no_labels=True)
    assert "no images (.bmp, .gif" in text and "      IMAGE.jpg        any names, also in folders" in text


def test_every_benchmark_in_a_folder_has_its_tree():
    for name, benchmark in BENCHMARKS.items():
        if name not in STREAMED and benchmark.needs_data_dir:
            lines = benchmark.layout.strip("\n").splitlines()
            assert lines and not lines[0].startswith(" ") and all(len(line) <= 100 for line in lines), name


def test_folders_that_cannot_be_read_or_are_empty(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "empty").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found_tree(tmp_path)[1:] == ["  closed/", "    (Permission denied)", "  empty/", "    (nothing)"]
