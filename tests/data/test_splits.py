"""Splits: the published class orders, and what must hold for every split."""

from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cassle.data.splits import class_order, data_split, split_by_class, split_by_data, split_by_domain
from cassle.errors import ConfigError

# CaSSLe's class lists for 100 classes in 5 tasks (CIFAR-100 label ids, ImageNet-100 sorted folders).
CLASSES_100_5 = [
    [11, 22, 39, 23, 42, 30, 78, 81, 64, 20, 29, 79, 15, 69, 86, 63, 55, 53, 73, 68],
    [89, 67, 58, 97, 96, 92, 37, 14, 75, 51, 54, 7, 3, 6, 50, 40, 45, 4, 83, 98],
    [27, 12, 8, 99, 60, 87, 28, 5, 84, 34, 82, 16, 72, 49, 59, 31, 71, 35, 66, 76],
    [61, 17, 36, 62, 13, 2, 38, 94, 80, 19, 25, 18, 0, 1, 46, 74, 85, 91, 52, 77],
    [21, 33, 32, 88, 93, 70, 44, 47, 26, 57, 90, 95, 48, 65, 43, 10, 9, 56, 24, 41],
]
NONE = torch.empty(0, dtype=torch.int64)
divided = st.integers(1, 12).flatmap(
    lambda tasks: st.tuples(st.just(tasks), st.integers(1, 10).map(lambda c: c * tasks))
)


def test_the_published_class_order():
    assert class_order(100, 5) == CLASSES_100_5
    assert class_order(10, 5) == [[1, 4], [9, 6], [3, 5], [0, 2], [8, 7]]


def test_another_number_of_tasks_cuts_the_same_order():
    assert list(chain(*class_order(100, 10))) == list(chain(*CLASSES_100_5))


def test_the_published_data_split():
    parts = data_split(50_000, 5)
    assert parts[0][:5].tolist() == [37542, 44491, 216, 43688, 41558]
    assert [len(part) for part in parts] == [10_000] * 5


@given(divided, st.integers(0, 2**31))
def test_classes_are_partitioned_equally(sizes, seed):
    tasks, classes = sizes
    order = class_order(classes, tasks, seed)
    assert sorted(chain(*order)) == list(range(classes))
    assert {len(ids) for ids in order} == {classes // tasks}
    assert order == class_order(classes, tasks, seed)


@given(st.integers(1, 9), st.integers(0, 200), st.integers(0, 2**31))
def test_samples_are_partitioned_and_the_remainder_goes_to_task_0(tasks, extra, seed):
    samples = tasks + extra
    parts = data_split(samples, tasks, seed)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(samples))
    assert [len(part) for part in parts] == [samples // tasks + samples % tasks] + [samples // tasks] * (tasks - 1)
    assert all(torch.equal(a, b) for a, b in zip(parts, data_split(samples, tasks, seed), strict=True))


@given(divided, st.integers(0, 2**31), st.data())
def test_every_sample_goes_to_the_task_of_its_class(sizes, seed, data):
    tasks, classes = sizes
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), max_size=60)), dtype=torch.int64)
    split = split_by_class(labels, labels.flip(0), classes, tasks, seed)
    assert torch.equal(torch.cat(split.train).sort().values, torch.arange(len(labels)))
    for index, ids in zip(split.train, split.contents, strict=True):
        assert set(labels[index].tolist()) <= set(ids)
    tasks_of_val = split.val_tasks(len(labels))
    for label, task in zip(labels.flip(0).tolist(), tasks_of_val.tolist(), strict=True):
        assert label in split.contents[task]


def test_the_manifest_tells_splits_apart():
    labels = torch.arange(40) % 10
    names = [str(i) for i in range(10)]

    def digest(**changes):
        given_ = {"labels": labels, "tasks": 5, "seed": 5, **changes}
        return split_by_class(given_["labels"], labels, 10, given_["tasks"], given_["seed"]).manifest(names)["sha256"]

    hashes = [digest(), digest(seed=6), digest(tasks=2), digest(labels=labels[1:]), digest(labels=labels.flip(0))]
    assert len(set(hashes)) == len(hashes)
    assert digest() == hashes[0]


def test_the_manifest_is_plain_data():
    labels = torch.tensor([0, 1, 2, 3, 3])
    manifest = split_by_class(labels, labels[:4], 4, 2, 5).manifest(["a", "b", "c", "d"])
    order = class_order(4, 2)
    assert manifest["classes"] == ["a", "b", "c", "d"] and manifest["seed"] == 5 and manifest["num_tasks"] == 2
    assert [task["contents"] for task in manifest["tasks"]] == order
    assert [task["train"] for task in manifest["tasks"]] == [2 + (3 in ids) for ids in order]
    assert [task["val"] for task in manifest["tasks"]] == [2, 2]


def test_default_seeds():
    labels = torch.arange(10)
    assert split_by_class(labels, labels, 10, 5).seed == 5
    assert split_by_data(10, 0, 2).seed == 42
    assert torch.equal(split_by_data(10, 0, 2).train[0], data_split(10, 2, 42)[0])


def test_without_a_validation_set():
    split = split_by_data(10, 0, 3)
    assert [len(index) for index in split.val] == [0, 0, 0] and split.contents[0] == "part 1 of 3"
    assert split_by_class(torch.arange(4), NONE, 4, 2).val_tasks(0).tolist() == []


def test_domains_come_in_the_order_of_the_benchmark():
    domains = torch.tensor([2, 0, 1, 0])
    split = split_by_domain(domains, domains[:2], ["real", "sketch", "clipart"], 3)
    assert [index.tolist() for index in split.train] == [[1, 3], [2], [0]]
    assert split.contents == ("real", "sketch", "clipart") and split.seed is None
    assert split.val_tasks(3).tolist() == [2, 0, -1]


def test_tasks_that_do_not_divide_the_classes():
    with pytest.raises(ConfigError, match=r"--num_tasks 3: does not divide the 10 classes; use one of 1, 2, 5, 10."):
        class_order(10, 3)


@pytest.mark.parametrize("tasks", [0, 11])
def test_more_tasks_than_samples(tasks):
    with pytest.raises(ConfigError, match=f"--num_tasks {tasks}: cannot cut 10 samples; use 1 to 10."):
        data_split(10, tasks)


def test_domains_that_are_not_there():
    with pytest.raises(ConfigError, match="use --num_tasks 2"):
        split_by_domain(NONE, NONE, ["real", "sketch"], 3)
    with pytest.raises(ConfigError, match="use --split_strategy class or data"):
        split_by_domain(NONE, NONE, [], 3)
