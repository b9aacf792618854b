"""CORe50: its sessions, objects and categories, and what validates the tasks."""

import shutil

import pytest
import torch

from cassle.data.benchmarks import CORE50, CORE50_CATEGORIES, Location
from cassle.data.core50 import CATEGORIES
from cassle.data.module import TaskData
from cassle.data.recipe import Recipe
from cassle.errors import ConfigError, DataError
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.protocol import Evaluation
from cassle.nn.tiny import TinyConvNet

FRAMES = 4
TRAIN = ("s1", "s2", "s4", "s5", "s6", "s8", "s9", "s11")


@pytest.fixture(scope="module")
def core50(tmp_path_factory):
    """All folders of CORe50, four frames of noise in each; an object looks the same in all sessions."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("core")
    for number in range(1, 51):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{number}.png")
        for session in range(1, 12):
            folder = root / "core50_128x128" / f"s{session}" / f"o{number}"
            folder.mkdir(parents=True)
            for frame in range(FRAMES):
                (folder / f"C_{session:02}_{number:02}_{frame:03}.png").hardlink_to(root / f"{number}.png")
    return root


def core(root, **settings) -> TaskData:
    return TaskData(**{"dataset": "core50", "data_dir": root, "split_strategy": "domain", "num_tasks": 8, **settings})


def test_sessions_and_objects(core50):
    train, val = CORE50.parts("core50", Location(core50))
    assert train.domains == TRAIN == CORE50.domains and train.classes == [f"o{n}" for n in range(1, 51)]
    assert len(train.source.paths) == 8 * 50 * FRAMES and len(val.source.paths) == 3 * 50 * FRAMES
    for part in (train, val):
        for path, target, domain in zip(part.source.paths, part.source.targets, part.source.domains, strict=True):
            _, session, number, _ = path.stem.split("_")
            assert int(number) == target + 1
            assert f"s{int(session)}" == TRAIN[domain] if domain >= 0 else int(session) in (3, 7, 10)
    frames = [path.name for path in train.source.paths[:5]]
    assert frames == [*(f"C_01_01_{n:03}.png" for n in range(FRAMES)), "C_01_02_000.png"]


def test_categories(core50):
    train, val = CORE50_CATEGORIES.parts("core50_categories", Location(core50))
    assert train.classes == val.classes == list(CATEGORIES) and len(CATEGORIES) == 10
    assert torch.bincount(val.source.targets).tolist() == [3 * 5 * FRAMES] * 10
    numbers = [int(path.parent.name[1:]) for path in val.source.paths]
    assert val.source.targets.tolist() == [(number - 1) // 5 for number in numbers]


def test_new_classes_and_random_parts(core50):
    split = core(core50, split_strategy="class", num_tasks=5).split()
    assert [len(task) for task in split.contents] == [10] * 5 and [len(i) for i in split.val] == [3 * 10 * FRAMES] * 5
    assert not split.knows_domains and not split.shares_val
    assert [len(i) for i in core(core50, split_strategy="data", num_tasks=4).split().val] == [150] * 4


def test_by_domain_all_tasks_share_the_published_test_sessions(core50):
    images = core(core50).load(8)
    split = images.split
    assert split.contents == TRAIN and [len(index) for index in split.train] == [50 * FRAMES] * 8
    assert split.shares_val and split.num_val_tasks == 1 and [len(index) for index in split.val] == [600] * 8
    assert split.val_tasks(600).eq(0).all() and split.manifest([])["tasks"][7]["val"] == 600
    torch.manual_seed(0)
    backbone = TinyConvNet(8, width=4).eval()
    evaluation = Evaluation(few_labels=0, disable_linear_eval=True, knn_k=1)
    recipe = Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    rows = accuracy_rows(backbone, images, recipe, evaluation)
    assert rows["knn"] == [1.0] * 8  # the objects look the same in every session
    assert list(rows) == ["knn", "ridge"] and len(rows["ridge"]) == 8 and len({*rows["ridge"]}) == 1
    data = core(core50)
    assert data.shares_val and not data.knows_domains and not core(core50, held_out=0.5).shares_val


def test_held_out_frames_validate_their_own_session(core50):
    images = core(core50, held_out=0.25).load(8)
    split = images.split
    assert [len(index) for index in split.train] == [150] * 8 and [len(index) for index in split.val] == [50] * 8
    assert split.knows_domains and torch.equal(split.val_tasks(400), torch.arange(8).repeat_interleave(50))
    train, val = core(core50, held_out=0.25).parts()
    assert {path.stem[-3:] for path in val.source.paths} == {"003"}
    assert not {*train.source.paths} & {*val.source.paths}


def test_one_session(core50):
    train, val = core(core50, domain="s4", num_tasks=1).parts()
    assert {path.parts[-3] for path in train.source.paths} == {"s4"} and train.domains == ("s4",)
    assert len(val.source.paths) == 600
    assert [len(index) for index in core(core50, domain="s4", num_tasks=1).split().val] == [600]


def test_what_is_missing(core50, tmp_path):
    shutil.copytree(core50, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "core50_128x128" / "s7" / "o13")
    with pytest.raises(DataError, match=r"(?s)s7/o13: no such folder.*expected:.*11 sessions.*found:.*s1/"):
        core(tmp_path / "copy").parts()
    for settings in ({"held_out": 1.0}, {"held_out": 0.2, "split_strategy": "data"}):
        with pytest.raises(
            ConfigError, match=r"--held_out .*: is for CORe50 with --split_strategy domain, and below 1"
        ):
            core(core50, **settings)
    with pytest.raises(ConfigError, match=r"--held_out 0\.2: is for CORe50"):
        TaskData(held_out=0.2, split_strategy="domain")
