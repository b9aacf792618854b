"""The accuracy matrix's summaries against numbers worked out by hand, and their properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.evaluation.metrics import (
    accuracy_per_task,
    average_accuracy,
    continual_accuracy,
    final_accuracy,
    forgetting,
    forward_transfer,
    percent,
)

FULL = [
    [0.8, 0.3, 0.2],
    [0.6, 0.9, 0.4],
    [0.5, 0.7, 0.6],
]
RANDOM = [0.1, 0.2, 0.1]


def test_full_run_by_hand():
    # A = (0.5 + 0.7 + 0.6) / 3 = 0.6
    assert average_accuracy(FULL) == pytest.approx(0.6)
    # F = ((0.8 - 0.5) + (0.9 - 0.7)) / 2 = 0.25
    assert forgetting(FULL) == pytest.approx(0.25)
    # FT = ((A[0,1] - R[1]) + (A[1,2] - R[2])) / 2 = ((0.3 - 0.2) + (0.4 - 0.1)) / 2 = 0.2
    assert forward_transfer(FULL, RANDOM) == pytest.approx(0.2)


def test_kaizens_numbers_by_hand():
    matrix = [[0.8, 0.0], [0.4, 0.6]]
    assert final_accuracy(matrix) == pytest.approx(0.5)
    # CA = (0.8 + (0.4 + 0.6) / 2) / 2
    assert continual_accuracy(matrix) == pytest.approx(0.65)
    assert forgetting(matrix) == pytest.approx(0.4)
    # CA = (0.8 + (0.6 + 0.9) / 2 + (0.5 + 0.7 + 0.6) / 3) / 3
    assert continual_accuracy(FULL) == pytest.approx((0.8 + 0.75 + 0.6) / 3)
    assert final_accuracy(FULL) == average_accuracy(FULL)


def test_best_moment_may_be_before_the_task_was_trained():
    # Task 0 is best after task 1 (0.9), task 1 is best after task 0 (0.7): F = ((0.9 - 0.6) + (0.7 - 0.5)) / 2
    matrix = [[0.8, 0.7, 0.1], [0.9, 0.4, 0.1], [0.6, 0.5, 0.1]]
    assert forgetting(matrix) == pytest.approx(0.25)


def test_unfinished_run_uses_the_seen_tasks():
    two = FULL[:2]
    assert average_accuracy(two) == pytest.approx((0.6 + 0.9) / 2)  # not task 2
    assert forgetting(two) == pytest.approx(0.8 - 0.6)  # only task 0
    assert forward_transfer(two, RANDOM) == pytest.approx(0.2)  # rows 0 and 1 exist: tasks 1 and 2
    assert final_accuracy(two) is None  # there is no last row yet
    assert continual_accuracy(two) == pytest.approx((0.8 + 0.75) / 2)
    one = FULL[:1]
    assert average_accuracy(one) == 0.8
    assert forgetting(one) is None
    assert forward_transfer(one, RANDOM) == pytest.approx(0.1)  # only task 1


def test_percents_have_no_negative_zero():
    assert [percent(value) for value in (-1e-5, 0.0, -0.0004, -0.0006, 0.95012)] == [
        "0.0",
        "0.0",
        "0.0",
        "-0.1",
        "95.0",
    ]


def test_one_task_has_neither_forgetting_nor_transfer():
    assert average_accuracy([[0.7]]) == 0.7
    assert forgetting([[0.7]]) is None
    assert forward_transfer([[0.7]], [0.1]) is None


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([], "empty"),
        ([[]], "empty"),
        ([[0.1, 0.2], [0.1]], "row 1: 1 accuracies for 2 tasks"),
        ([[0.1], [0.2]], "2 rows for 1 tasks"),
        ([[55.0]], "fraction"),
        ([[math.nan]], "fraction"),
    ],
)
def test_wrong_matrices_are_named(matrix, says):
    for metric in (
        average_accuracy,
        final_accuracy,
        continual_accuracy,
        forgetting,
        lambda m: forward_transfer(m, [0.1]),
    ):
        with pytest.raises(ValueError, match=says):
            metric(matrix)


def test_wrong_random_row_is_named():
    with pytest.raises(ValueError, match="random encoder: 1 accuracies for 3 tasks"):
        forward_transfer(FULL, [0.1])


fraction = st.floats(0, 1, width=32)
matrices = st.integers(1, 6).flatmap(
    lambda tasks: st.lists(st.lists(fraction, min_size=tasks, max_size=tasks), min_size=1, max_size=tasks)
)
quick = settings(max_examples=60)


@quick
@given(matrices)
def test_forgetting_is_a_fraction_and_zero_when_nothing_ever_falls(matrix):
    value = forgetting(matrix)
    assert value is None or 0 <= value <= 1
    rising = [list(row) for row in zip(*(sorted(column) for column in zip(*matrix, strict=True)), strict=True)]
    assert forgetting(rising) in (None, 0)


@quick
@given(matrices)
def test_bounds_and_transfer_of_a_random_encoder(matrix):
    seen = matrix[-1][: len(matrix)]
    below = [row[: t + 1] for t, row in enumerate(matrix)]
    assert min(map(min, below)) - 1e-12 <= continual_accuracy(matrix) <= max(map(max, below)) + 1e-12
    assert min(seen) <= average_accuracy(matrix) + 1e-12
    assert average_accuracy(matrix) <= max(seen) + 1e-12
    # An encoder that stays at its random row transfers nothing and forgets nothing.
    frozen = [matrix[0]] * len(matrix)
    assert forward_transfer(frozen, matrix[0]) in (None, 0)
    assert forgetting(frozen) in (None, 0)


@quick
@given(matrices, st.randoms(use_true_random=False))
def test_old_tasks_are_interchangeable(matrix, random):
    # A and F do not depend on which of the old tasks is which.
    last = len(matrix) - 1
    order = random.sample(range(last), last) + list(range(last, len(matrix[0])))
    shuffled = [[row[i] for i in order] for row in matrix]
    assert average_accuracy(shuffled) == average_accuracy(matrix)
    assert forgetting(shuffled) == forgetting(matrix)


def test_accuracy_per_task_by_hand():
    predictions = torch.tensor([0, 1, 1, 3, 2, 2])
    targets = torch.tensor([0, 1, 0, 3, 3, 2])
    tasks = torch.tensor([0, 0, 0, 1, 1, 1])
    assert accuracy_per_task(predictions, targets, tasks, 2) == [2 / 3, 2 / 3]
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    assert accuracy_per_task(predictions[order], targets[order], tasks[order], 2) == [2 / 3, 2 / 3]
    assert accuracy_per_task(targets, targets, torch.tensor([2, 2, 0, 1, 1, 1]), 3) == [1, 1, 1]


def test_accuracy_per_task_names_what_is_wrong():
    zeros = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="no sample of task 1 of 2"):
        accuracy_per_task(zeros, zeros, zeros, 2)
    with pytest.raises(ValueError, match=r"0\.\.2; give ids in 0\.\.1"):
        accuracy_per_task(zeros, zeros, torch.tensor([0, 1, 2]), 2)
    with pytest.raises((ValueError, TypeCheckError), match=r"one length|Type-check"):
        accuracy_per_task(zeros, zeros[:2], zeros, 1)
