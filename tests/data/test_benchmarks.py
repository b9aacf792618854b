"""Where data sets come from, and what is said when they are not there."""

import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision

from cassle.data import BENCHMARKS
from cassle.data.benchmarks import CIFAR10, CIFAR100, CUSTOM, DIGITS, Location
from cassle.data.engines import choose
from cassle.data.module import TaskData
from cassle.data.renderings import RENDERINGS
from cassle.data.room import room_for, room_unasked
from cassle.errors import ConfigError, DataError


def test_all_digits_are_there_once():
    train, val = (DIGITS.read(Location(), part) for part in ("train", "val"))
    assert len(train.source.targets) + len(val.source.targets) == 1797
    assert len(val.source.targets) == 450 and train.classes == val.classes == [str(i) for i in range(10)]
    pixels = torch.cat([train.source.pixels, val.source.pixels]).flatten(1)
    from sklearn.datasets import load_digits

    gray = torch.from_numpy(load_digits().images).flatten(1)
    assert sorted(map(tuple, (pixels[:, :64].float() * 16 / 255).round().int().tolist())) == sorted(
        map(tuple, gray.int().tolist())
    )
    assert torch.equal(pixels[:, :64], pixels[:, 128:])
    assert (torch.bincount(val.source.targets) >= 43).all()  # stratified


def test_the_statistics_of_the_digits():
    pixels = DIGITS.read(Location(), "train").source.pixels.float() / 255
    assert pixels.mean().item() == pytest.approx(DIGITS.mean[0], abs=2e-3)
    assert pixels.std().item() == pytest.approx(DIGITS.std[0], abs=2e-3)


def test_five_domains_of_digits():
    plain, domains = DIGITS.read(Location(), "val"), DIGITS.read(Location(domains=True), "val")
    assert domains.domains == ("plain", "inverted", "coloured", "noisy", "outlined") == tuple(RENDERINGS)
    assert domains.source.pixels.shape == (5 * 450, 3, 8, 8) and domains.source.pixels.dtype == torch.uint8
    assert torch.equal(torch.bincount(domains.source.domains), torch.full((5,), 450))
    assert torch.equal(domains.source.targets, plain.source.targets.repeat(5))
    parts = domains.source.pixels.split(450)
    assert torch.equal(parts[0], plain.source.pixels) and torch.equal(parts[1], 255 - plain.source.pixels)
    assert len({part.float().mean().item() for part in parts}) == 5
    again = DIGITS.read(Location(domains=True), "val")
    assert torch.equal(again.source.pixels, domains.source.pixels)


def test_a_run_over_domains():
    data = TaskData(split_strategy="domain")
    split = data.split()
    assert [len(index) for index in split.train] == [1347] * 5 and split.contents[2] == "coloured"
    with pytest.raises(ConfigError, match="--num_tasks 3"):
        TaskData(split_strategy="domain", num_tasks=3).split()


# Folders of images ---------------------------------------------------------------------------------------------------


def custom(root, **settings) -> TaskData:
    return TaskData(**{"dataset": "custom", "data_dir": root, "num_tasks": 2, **settings})


def test_a_tree_of_class_folders(image_tree):
    root = image_tree()
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "list.csv").write_text("no class")
    loaded = custom(root).load(size=8)
    assert loaded.classes == ["cat", "dog"] and loaded.skipped == []
    assert loaded.train.targets.tolist() == [0] * 6 + [1] * 4 and loaded.val.targets.tolist() == [0, 0, 1, 1]
    assert loaded.train.pixels.shape == (10, 3, 8, 8)
    assert loaded.manifest["dataset"] == "custom"
    assert sorted((task["train"], task["val"]) for task in loaded.manifest["tasks"]) == [(4, 2), (6, 2)]


def test_the_manifest_sees_the_pixels(image_tree, noise_image):
    root = image_tree()
    before = custom(root).load(size=8).manifest
    assert custom(root).load(size=8).manifest == before
    noise_image(root / "train" / "cat" / "0.png", seed=99)
    after = custom(root).load(size=8).manifest
    assert after["sha256"] == before["sha256"] and after["content_sha256"] != before["content_sha256"]


def test_a_flat_folder_without_labels(tmp_path, noise_image):
    for i in range(5):
        noise_image(tmp_path / f"{i}.png", seed=i)
    data = custom(tmp_path, no_labels=True, split_strategy="data")
    loaded = data.load(size=8)
    assert loaded.train.targets.tolist() == [-1] * 5 and loaded.val is None and loaded.classes == []
    assert [len(index) for index in loaded.split.train] == [3, 2]
    assert loaded.skipped == []


def test_a_flat_train_folder_is_preferred(tmp_path, noise_image):
    noise_image(tmp_path / "train" / "a.jpg")
    noise_image(tmp_path / "outside.png")
    part = CUSTOM.read(Location(tmp_path, no_labels=True), "train")
    assert [path.name for path in part.source.paths] == ["a.jpg"]


def test_other_names_of_the_folders(image_tree):
    root = image_tree()
    (root / "train").rename(root / "fit")
    (root / "val").rename(root / "test")
    train, val = custom(root, train_dir="fit", val_dir="test").parts()
    assert len(train.source.paths) == 10 and len(val.source.paths) == 4


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda root: root.rename(root.with_name("elsewhere")), "--data_dir .*images: no such folder"),
        (lambda root: (root / "train").rename(root / "fit"), r"(?s)train: no such folder.*found:.*fit/.*--train_dir"),
        (lambda root: (root / "val").rename(root / "test"), r"(?s)val: no such folder.*found:.*test/.*--val_dir"),
        (lambda root: (root / "val" / "dog").rename(root / "dog"), r"only in --train_dir train: dog\."),
        (lambda root: (root / "val" / "dog").rename(root / "val" / "cow"), "train: dog; only in --val_dir val: cow"),
        (lambda root: (root / "train" / "empty").mkdir(), "class folders without images: empty"),
        (lambda root: [(root / "train" / c).rename(root / c) for c in ("cat", "dog")], "no class folders in it"),
    ],
)
def test_what_is_missing_is_named(image_tree, damage, message):
    root = image_tree()
    damage(root)
    with pytest.raises(DataError, match=message):
        custom(root).parts()


def test_a_flat_folder_without_images(tmp_path):
    with pytest.raises(DataError, match=r"no images .*.png"):
        custom(tmp_path, no_labels=True, split_strategy="data").parts()


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError) as caught:
        TaskData(dataset="cifar10", no_labels=True, num_tasks=0)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert (
        "needs --data_dir" in text
        and "--num_tasks 0" in text
        and "--no_labels" in text
        and "split_strategy data" in text
    )


def test_damaged_images_leave_the_split(image_tree):
    root = image_tree({"cat": 100, "dog": 100})
    bad = root / "train" / "cat" / "0.png"
    bad.write_bytes(bad.read_bytes()[:40])
    loaded = custom(root).load(size=8)
    assert len(loaded.skipped) == 1 and loaded.skipped[0].startswith(str(bad))
    members = torch.cat(loaded.split.train)
    assert torch.equal(members.sort().values, torch.arange(199))
    for index, ids in zip(loaded.split.train, loaded.split.contents, strict=True):
        assert set(loaded.train.targets[index].tolist()) == set(ids)


# Memory --------------------------------------------------------------------------------------------------------------


def test_data_that_does_not_fit_is_refused(image_tree, monkeypatch):
    data = custom(image_tree(size=(40, 40)), storage_size=32)
    assert data.num_bytes(224) == 14 * 3 * 32**2
    free, here = 14 * 3 * 32**2 * 2, torch.device("cpu")
    assert choose(data, 224, here, free).name == "resident"
    assert choose(data, 224, here, free // 8).name == "workers"
    data.engine = "resident"
    with pytest.raises(
        DataError, match=r"4.3e-05 GB of pixels at --storage_size 32 .* 1.08e-05 GB; .*--storage_size 15 or less"
    ):
        choose(data, 224, here, free // 8)
    assert choose(custom(data.location.data_dir, storage_size=15), 224, here, free // 8).name == "resident"
    monkeypatch.setattr("cassle.data.room.free_memory", lambda: 1000)
    with pytest.raises(DataError, match="--storage_size"):
        data.load(224)


def test_on_a_gpu_the_training_wants_memory_too(image_tree, monkeypatch):
    data, gpu = custom(image_tree(size=(40, 40)), storage_size=32), torch.device("cuda")
    needed = data.num_bytes(224)
    monkeypatch.setattr("cassle.data.room.free_memory", lambda: 3 * needed)
    monkeypatch.setattr("cassle.data.room.whole_memory", lambda: 6 * needed)

    def chosen(free, processes=1, **how):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (int(free * needed), int(4 * free * needed)))
        return choose(data, 224, gpu, room_for(gpu, processes), room_unasked(gpu, processes), **how)

    assert chosen(2.1).name == "resident" != chosen(1.9).name
    assert chosen(0.6, 2).name == "resident" != chosen(0.4, 2).name  # of several, half of all there is
    assert chosen(1.9, begun="resident").name == "resident"
    assert "room for 4.09e-05 GB beside the training" in chosen(1.9).line
    data.engine = "resident"
    assert chosen(1.9).name == "resident"
    with pytest.raises(DataError, match="do not fit"):
        chosen(1.05)


def test_an_engine_that_a_run_began_with(image_tree, monkeypatch):
    """What is said must be possible: another engine or another size would be another run."""
    data, here = custom(image_tree(size=(40, 40)), storage_size=32), torch.device("cpu")
    enough = 2 * data.num_bytes(224)
    monkeypatch.setattr("cassle.data.engines.has_dali", lambda: False)
    assert choose(data, 224, here, enough, begun="workers").line == "Engine: workers; as this experiment began."
    for data.engine in ("auto", "resident"):
        with pytest.raises(DataError, match=r"free some, or .*--overwrite starts anew") as caught:
            choose(data, 224, here, enough // 8, begun="resident")
        assert "--engine" not in str(caught.value) and "or less" not in str(caught.value)
    for data.engine in ("auto", "dali"):
        with pytest.raises(ConfigError) as caught:
            choose(data, 224, here, enough, begun="dali")
        assert all("--overwrite starts anew" in problem for problem in caught.value.problems)
        assert "use --engine" not in str(caught.value) and "use --dali_device" not in str(caught.value)


def test_what_is_said_of_workers_and_a_stream(image_tree):
    data, here = custom(image_tree(size=(40, 40)), storage_size=32), torch.device("cpu")
    for data.engine in ("auto", "workers"):
        said = {stream: choose(data, 224, here, 1, stream=stream).line for stream in (False, True)}
        assert "threads" not in said[False]
        assert said[True].endswith("; of a stream, threads decode each batch as it arrives.")


def test_the_storage_size(image_tree):
    root = image_tree(size=(40, 40))
    assert custom(root).storage_side(32) == 37  # 8/7
    assert custom(root).storage_side(224) == 40  # never magnified
    assert custom(root, storage_size=64).storage_side(224) == 64  # unless asked for


def test_arrays_are_kept_at_their_own_side():
    message = "--storage_size 4: images of digits lie in arrays and are kept at their own side; leave the flag out."
    with pytest.raises(ConfigError) as caught:
        TaskData(dataset="digits", storage_size=4)
    assert caught.value.problems == [message]
    data = TaskData(dataset="digits")
    assert data.storage_side(224) == data.load(224).train.pixels.shape[-1] == 8
    with pytest.raises(DataError, match=r"pixels at side 8 do not fit.* GB; free some, or use a machine") as caught:
        choose(data, 224, torch.device("cpu"), 1000)
    assert "--storage_size" not in str(caught.value) and "--engine" not in str(caught.value)


# CIFAR ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small data set in torchvision's CIFAR format, whose checksums are not asked for."""

    def make(kind, key: str, classes: list[str]):
        folder = tmp_path / kind.base_folder
        folder.mkdir()
        rows = np.arange(4 * 3072).reshape(4, 3072).astype(np.uint8)
        for name in ("train_file", "test_file"):
            content = {
                "data": rows if name == "train_file" else rows[::-1][:2],
                key: [0, 1, 1, 0][: 4 if "train" in name else 2],
            }
            (folder / name).write_bytes(pickle.dumps(content))
        (folder / "names").write_bytes(pickle.dumps({"names": classes}))
        monkeypatch.setattr(kind, "train_list", [["train_file", None]])
        monkeypatch.setattr(kind, "test_list", [["test_file", None]])
        monkeypatch.setattr(kind, "meta", {"filename": "names", "key": "names", "md5": None})
        return Location(tmp_path), rows

    return make


@pytest.mark.parametrize(
    "benchmark, kind, key",
    [(CIFAR10, torchvision.datasets.CIFAR10, "labels"), (CIFAR100, torchvision.datasets.CIFAR100, "fine_labels")],
)
def test_cifar_in_torchvisions_format(cifar, benchmark, kind, key):
    location, rows = cifar(kind, key, ["plane", "car"])
    train, val = benchmark.read(location, "train"), benchmark.read(location, "val")
    assert train.classes == ["plane", "car"] and train.source.targets.tolist() == [0, 1, 1, 0]
    assert torch.equal(train.source.pixels, torch.from_numpy(rows).reshape(4, 3, 32, 32))
    assert val.source.pixels.shape == (2, 3, 32, 32) and val.source.targets.tolist() == [0, 1]
    assert train.source.pixels.is_contiguous()


@pytest.mark.parametrize("name, folder", [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_cifar_that_is_not_there(tmp_path, name, folder):
    with pytest.raises(DataError, match=f"(?s)--data_dir .*{folder}.*--download"):
        TaskData(dataset=name, data_dir=tmp_path).parts()


def test_real_images_from_files(shared_data, tmp_path):
    archive = shared_data / "cifar10.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    with tarfile.open(archive, "r|xz") as stream:  # a stream: only the beginning is decompressed
        members = (m for m in stream if m.isfile())
        for _, member in zip(range(200), members, strict=False):
            stream.extract(member, tmp_path, filter="data")
    root = tmp_path / "cifar10"
    part = next(p for p in ("train", "val") if (root / p).is_dir())
    for missing in {"train", "val"} - {part}:
        (root / missing).symlink_to(root / part)
    classes = sorted(p.name for p in (root / part).iterdir())
    loaded = custom(root, num_tasks=len(classes)).load(size=32)
    assert loaded.skipped == [] and loaded.classes == classes and len(loaded.train.targets) == 200
    assert loaded.train.pixels.shape[1:] == (3, 32, 32)
    assert 40 < loaded.train.pixels.float().mean() < 200 and loaded.train.pixels.float().std() > 20


def test_every_benchmark_is_complete():
    for name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        assert benchmark.summary and benchmark.image_size > 0
        assert all(0 < m < 1 for m in benchmark.mean) and all(0 < s < 1 for s in benchmark.std)
