"""Tasks from a list of files: what a line may be, and what is said of the others."""

import numpy as np
import pytest

from cassle.data.module import TaskData
from cassle.errors import ConfigError, DataError

LINES = ["a b/0.png 1", "c/1.png 0", "c/2.png 1", "a b/3.png 0", "c/4.png 2", "c/5.png 3"]


@pytest.fixture
def listed(tmp_path, noise_image):
    """Return a function that writes lists beside the folder of the images, and describes the data."""
    for number, line in enumerate(LINES):
        noise_image(tmp_path / "images" / line.rsplit(" ", 1)[0], seed=number)

    def make(train=LINES, val=LINES[2:], **settings) -> TaskData:
        given = {}
        for name, lines in (("train_list", train), ("val_list", val)):
            if lines is not None:
                given[name] = tmp_path / f"{name}.txt"
                given[name].write_text("\n".join(lines) + "\n")
        return TaskData(**{"dataset": "custom", "data_dir": tmp_path / "images", "num_tasks": 2, **given, **settings})

    return make


def test_paths_labels_and_tasks(listed, tmp_path):
    data = listed()
    train, val = data.parts()
    assert train.classes == val.classes == ["0", "1", "2", "3"]
    assert train.source.targets.tolist() == [1, 0, 1, 0, 2, 3] and val.source.targets.tolist() == [1, 0, 2, 3]
    assert train.source.paths[0] == tmp_path / "images" / "a b" / "0.png"
    loaded = data.load(8)
    assert loaded.train.pixels.shape == (6, 3, 8, 8) and loaded.skipped == []
    assert sorted(c for classes in loaded.split.contents for c in classes) == [0, 1, 2, 3]
    assert sum(len(index) for index in loaded.split.train) == 6 and sum(len(index) for index in loaded.split.val) == 4


def test_without_labels_or_a_validation_list(listed):
    bare = [line.rsplit(" ", 1)[0] for line in LINES]
    data = listed(bare, None, split_strategy="data")
    loaded = data.load(8)
    assert loaded.val is None and loaded.classes == [] and loaded.train.targets.tolist() == [-1] * 6
    assert [len(index) for index in loaded.split.train] == [3, 3]
    assert listed(LINES, None).parts()[1] is None
    with pytest.raises(DataError, match=r"--val_list .*: .*train_list.txt has no labels to evaluate with"):
        listed(bare, split_strategy="data").parts()
    with pytest.raises(DataError, match=r"6 of 6 training images of --dataset custom have no label; .*strategy data"):
        listed(bare, None, split_strategy="class").parts()


def test_a_list_that_is_an_array(listed, tmp_path):
    np.save(tmp_path / "names.npy", np.array([line.rsplit(" ", 1)[0] for line in LINES], dtype="S20"))
    data = listed(None, None, train_list=tmp_path / "names.npy", split_strategy="data")
    assert [path.name for path in data.parts()[0].source.paths] == [f"{n}.png" for n in range(6)]


def test_some_images_without_a_label(listed):
    some = [*LINES[:5], "c/5.png -1"]
    data = listed(some, LINES[:5], split_strategy="data")
    assert data.parts()[0].source.targets.tolist() == [1, 0, 1, 0, 2, -1] and len(data.parts()[0].classes) == 3
    with pytest.raises(DataError, match=r"1 of 6 training images .* have no label; use --split_strategy data"):
        listed(some, LINES[:5], num_tasks=3).parts()


@pytest.mark.parametrize(
    "train, val, message",
    [
        ([*LINES[:3], "c/4.png"], None, "train_list.txt, line 4: no label at its end, though line 1 has one"),
        ([*LINES[:2], "", *LINES[2:]], None, "train_list.txt, line 3: empty"),
        ([], None, "train_list.txt.*empty"),
        ([*LINES, "c/5.png 6"], None, "--train_list .*: labels up to 6, but no image of class 4, 5; number"),
        (LINES, ["c/4.png 4"], r"--val_list .*, line 1: class 4; the classes of --train_list are 0 to 3"),
        (LINES, ["c/4.png 3", "c/4.png -1"], "--val_list .*, line 2: no label; the classes"),
        (LINES, ["c/4.png"], "--val_list .*, line 1: no label; the classes"),
        ([*LINES, "c/9.png 0"], None, r"train_list.txt: names .*c/9.png, which is not there"),
        (["images/" + line for line in LINES], None, r"names .*images/images/a b/0.png(?s:.*)Did you mean --data_dir "),
        ([line.removeprefix("a b/") for line in LINES], None, r"names .*images/0.png(?s:.*)Did you mean .*/a b\?"),
        ([f"x/{line}" for line in LINES], None, r"(?s)as it is in the list.*Paths are relative to --data_dir"),
    ],
)  # fmt: skip
def test_lists_that_are_wrong(listed, train, val, message):
    with pytest.raises(DataError, match=message):
        listed(train, val).parts()


def test_settings_that_contradict_the_lists(listed, tmp_path):
    for settings, message in (
        ({"dataset": "imagenet"}, "--train_list .*: is for --dataset custom; imagenet has its own parts"),
        ({"train_list": None}, "--val_list .*: needs --train_list too"),
        ({"no_labels": True, "split_strategy": "data"}, "--no_labels: is for folders; a list tells by its lines"),
        ({"val_dir": "test"}, "--val_dir test: not used with lists"),
    ):
        with pytest.raises(ConfigError, match=message):
            listed(**settings)
    with pytest.raises(DataError, match=r"nowhere\.txt: the list cannot be read"):
        listed(train_list=tmp_path / "nowhere.txt").parts()


def test_a_list_as_a_stream_points_here(tmp_path):
    with pytest.raises(DataError, match="For tasks from a list give --dataset custom --train_list FILE"):
        TaskData(dataset="list", data_dir=tmp_path).parts()
