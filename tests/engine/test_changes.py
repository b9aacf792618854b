"""Data that has changed since a run began: what it was and what it is now, in words; and a damaged record of it."""

import json

import pytest

from cassle.cli import main_continual
from cassle.data import source
from cassle.data.module import TaskData
from cassle.engine.changes import changes
from cassle.engine.folder import ExperimentFolder, fingerprint
from cassle.errors import CassleError, ConfigError

from . import command, run


def kept(root, folder, **settings):
    """Let the folder of an experiment keep the data as it is now, or compare."""
    data = TaskData(dataset="custom", data_dir=root, num_tasks=2, num_workers=1, **settings)
    manifest = data.load(8, say=lambda line: None).manifest
    ExperimentFolder(folder).keep(manifest, data.location.flags)
    return manifest


def refused(root, folder, **settings):
    with pytest.raises(ConfigError) as caught:
        kept(root, folder, **settings)
    first, *lines, last = caught.value.problems[0].splitlines()
    assert first.startswith(f"--data_dir {root}") and str(folder / "split.json") in first
    assert last == "Bring the old data back, or start anew with --overwrite."
    return [line.strip() for line in lines]


def test_nothing_has_changed(image_tree, tmp_path):
    root = image_tree()
    assert kept(root, tmp_path) == kept(root, tmp_path)


def test_more_images_of_one_part(image_tree, tmp_path, noise_image):
    root = image_tree()
    kept(root, tmp_path)
    noise_image(root / "val" / "dog" / "new.png")
    (line,) = refused(root, tmp_path)
    assert line.startswith("val: 4 images then, 5 now; task ") and line.endswith(" had 2, has 3")


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_other_content(part, engine, image_tree, tmp_path, noise_image):
    root = image_tree()
    kept(root, tmp_path, engine=engine)
    noise_image(root / part / "cat" / "0.png", size=(30, 30), seed=99)
    (line,) = refused(root, tmp_path, engine=engine, storage_size=8)
    assert line.startswith(f"{part}: {10 if part == 'train' else 4} images as before, but pixels, labels, names or ")


def test_a_file_that_does_not_decode_any_more(image_tree, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_DAMAGED", 0.2)
    root = image_tree()
    kept(root, tmp_path)
    (root / "train" / "dog" / "0.png").write_bytes(b"")
    (line,) = refused(root, tmp_path)
    assert line.startswith("train: 10 images then, 9 now; task ")
    assert line.endswith(" had 4, has 3; 0 that do not decode then, 1 now")


def test_other_classes(image_tree, tmp_path):
    root = image_tree()
    kept(root, tmp_path)
    for part in ("train", "val"):
        (root / part / "dog").rename(root / part / "cow")
    first, *_ = refused(root, tmp_path)
    assert first == "classes: 2 then, 2 now; 'cow' is new; 'dog' is gone"


def test_without_validation_images(image_tree, tmp_path):
    root, listed = image_tree(), tmp_path / "list.txt"
    listed.write_text("train/cat/0.png 0\ntrain/dog/0.png 1")
    kept(root, tmp_path, train_list=listed, val_list=listed)
    assert refused(root, tmp_path, train_list=listed)[-1] == "val: 2 images then, none now"


def test_a_list_is_named(image_tree, tmp_path):
    root = image_tree()
    lines = [f"train/cat/{i}.png 0" for i in (0, 2, 4)] + [f"train/dog/{i}.png 1" for i in (0, 2)]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(lines))
    kept(root, tmp_path, train_list=listed)
    listed.write_text("\n".join(lines[1:]))
    (line,) = refused(root, tmp_path, train_list=listed)
    assert line.startswith("train: 5 images then, 4 now")
    with pytest.raises(ConfigError, match=f"--data_dir {root}, --train_list {listed}: the data has changed"):
        kept(root, tmp_path, train_list=listed)


def test_what_earlier_versions_kept(image_tree, tmp_path, noise_image):
    root = image_tree()
    old = kept(root, tmp_path)
    record = tmp_path / "split.json"
    record.write_text(json.dumps({name: value for name, value in old.items() if name != "parts"}))
    assert kept(root, tmp_path) == old == json.loads(record.read_text())  # the same data, and completed
    record.write_text(json.dumps({name: value for name, value in old.items() if name != "parts"}))
    noise_image(root / "train" / "cat" / "0.png", seed=99)
    (line,) = refused(root, tmp_path)
    assert line.startswith("train or val: as many images as before, but pixels")
    noise_image(root / "train" / "cat" / "new.png")
    (line,) = refused(root, tmp_path)
    assert line.startswith("train: task ") and line.endswith("had 6, has 7")


def test_streams():
    old = {"dataset": "frames", "length": 30, "origins": 3, "content_sha256": "a"}
    assert changes(old, dict(old)) == []
    (line,) = changes(old, {**old, "content_sha256": "b"})
    assert line.startswith("stream: as long as before, but its files, their order")
    assert changes(old, {**old, "length": 40, "origins": 4, "content_sha256": "b"}) == [
        "samples of the stream: 30 then, 40 now", "videos, folders or classes: 3 then, 4 now",
    ]  # fmt: skip


def test_whatever_differs_is_said():
    """Nothing that differs may pass as the same."""
    old = {
        "dataset": "digits", "engine": "resident", "strategy": "class", "seed": 5, "num_tasks": 1, "classes": ["a"],
        "tasks": [{"task": 0, "contents": [0], "train": 3, "val": 1}], "sha256": "x", "content_sha256": "y",
    }  # fmt: skip
    for name, value in old.items():
        assert changes(old, {**old, name: "other" if isinstance(value, str) else type(value)()}), name
        assert changes({k: v for k, v in old.items() if k != name}, old), name
    assert changes(old, {**old, "seed": 6}) == ["seed: 5 then, 6 now"]


@pytest.mark.parametrize("content", ["", '{"tasks": ', "[]", '{"tasks": 3}', '{"tasks": [{"task": 0}]}'])
def test_a_damaged_record_is_one_error(content, image_tree, tmp_path):
    root = image_tree()
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(
        CassleError, match=rf"{tmp_path}/split.json: damaged \(.*or start anew with --overwrite"
    ) as error:
        kept(root, tmp_path)
    assert not isinstance(error.value, ConfigError)


def test_a_run_over_a_damaged_record(tmp_path, capsys):
    settings = {"method": "simclr", "max_epochs": 1, "disable_linear_eval": True, "num_threads": 1}
    run(tmp_path, **settings)
    (tmp_path / "job" / "split.json").write_text("{")
    assert main_continual(command(tmp_path, **settings)[2:]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/job/split.json: damaged (") and len(err.splitlines()) == 1


def test_a_list_that_has_moved_is_the_same_data(image_tree, tmp_path):
    root, listed = image_tree(), tmp_path / "list.txt"
    listed.write_text(
        "\n".join(f"train/{name}/{i}.png {label}" for label, name in enumerate(("cat", "dog")) for i in (0, 2))
    )
    settings = {
        "method": "simclr", "dataset": "custom", "data_dir": root, "size": 8, "max_epochs": 1, "batch_size": 2,
        "warmup_epochs": 0, "disable_linear_eval": True, "num_workers": 1,
    }  # fmt: skip
    expected = run(tmp_path, **settings, train_list=listed)
    moved = listed.rename(tmp_path / "elsewhere.txt")
    assert run(tmp_path, **settings, train_list=moved) == expected
    assert fingerprint({"prefetch": 4, "stream_file": "a"}) == fingerprint({"prefetch": 9, "stream_file": "b"})
