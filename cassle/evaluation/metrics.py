"""The accuracy matrix and the numbers that summarise it (CaSSLe, Fini et al. 2022; FA and CA: Kaizen, 2024).

``matrix[t][i]`` is the accuracy (a fraction) on task i of the encoder as it was after task t, both counted from 0;
``random[i]`` is that of the same encoder before any training. A run that has finished t of T tasks has t rows of T
columns, and its seen tasks are the first t.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from jaxtyping import Int
from torch import Tensor

Row = Sequence[float]
Matrix = Sequence[Row]


def check_row(name: str, row: Row, num_tasks: int) -> None:
    """Raise ValueError unless ``row`` holds ``num_tasks`` fractions in 0..1 (a percentage is the usual mistake)."""
    if len(row) != num_tasks:
        raise ValueError(f"{name}: {len(row)} accuracies for {num_tasks} tasks; give one per task.")
    for task, value in enumerate(row):
        if not 0.0 <= value <= 1.0:  # also false for NaN
            raise ValueError(f"{name}, task {task}: accuracy {value!r}; give a fraction between 0 and 1.")


def check_matrix(matrix: Matrix) -> int:
    """Return the number of tasks T of an accuracy matrix of 1..T rows; raise ValueError when it is not one."""
    if not matrix or not matrix[0]:
        raise ValueError("accuracy matrix: it is empty; evaluate at least one task first.")
    num_tasks = len(matrix[0])
    if len(matrix) > num_tasks:
        raise ValueError(f"accuracy matrix: {len(matrix)} rows for {num_tasks} tasks; give one row per finished task.")
    for t, row in enumerate(matrix):
        check_row(f"accuracy matrix, row {t}", row, num_tasks)
    return num_tasks


def percent(fraction: float) -> str:
    """Return a fraction in percent with one decimal; what rounds to nothing has no sign."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}"  # -0.0 + 0.0 is 0.0


def average_accuracy(matrix: Matrix) -> float:
    """Mean of the last row: ``A = mean_i A[T-1, i]``, over the seen tasks when the run is unfinished.

    Raises:
        ValueError: not an accuracy matrix of fractions.
    """
    check_matrix(matrix)
    return fmean(matrix[-1][: len(matrix)])


def final_accuracy(matrix: Matrix) -> float | None:
    """Mean of the last row over all tasks: ``FA = mean_i A[T-1, i]``; None while the run is unfinished.

    With tasks of equal size it is the accuracy on the whole validation set; of a finished run it is A.

    Raises:
        ValueError: not an accuracy matrix of fractions.
    """
    return average_accuracy(matrix) if len(matrix) == check_matrix(matrix) else None


def continual_accuracy(matrix: Matrix) -> float:
    """Mean over time of what was seen so far: ``CA = mean_t mean_{i<=t} A[t, i]``, over the rows that exist.

    Raises:
        ValueError: not an accuracy matrix of fractions.
    """
    check_matrix(matrix)
    return fmean(fmean(row[: t + 1]) for t, row in enumerate(matrix))


def forgetting(matrix: Matrix) -> float | None:
    """Mean loss since the best moment: ``F = mean_{i<T-1} max_t (A[t, i] - A[T-1, i])``; None after one task.

    The maximum is over all rows, also those before task i was trained, so F is never negative. In an unfinished run
    the mean is over the seen tasks before the last row.

    Raises:
        ValueError: not an accuracy matrix of fractions.
    """
    check_matrix(matrix)
    last = len(matrix) - 1
    if last == 0:
        return None
    return fmean(max(row[i] for row in matrix) - matrix[last][i] for i in range(last))


def forward_transfer(matrix: Matrix, random: Row) -> float | None:
    """What the tasks before i gave to it: ``FT = mean_{i>=1} (A[i-1, i] - R[i])``; None when there is one task.

    In an unfinished run the mean is over the tasks i whose row i-1 exists, that is the seen ones and the next one.

    Raises:
        ValueError: not an accuracy matrix of fractions, or a random row of another length.
    """
    num_tasks = check_matrix(matrix)
    check_row("random encoder", random, num_tasks)
    tasks = range(1, min(len(matrix), num_tasks - 1) + 1)
    return fmean(matrix[i - 1][i] - random[i] for i in tasks) if tasks else None


def accuracy_per_task(
    predictions: Int[Tensor, " n"], targets: Int[Tensor, " n"], task_of_sample: Int[Tensor, " n"], num_tasks: int
) -> list[float]:
    """Return for each task the fraction of its samples whose class was predicted.

    Raises:
        ValueError: the lengths differ, a task id is outside 0..num_tasks-1, or a task has no sample.
    """
    predictions, targets, tasks = (x.detach().cpu() for x in (predictions, targets, task_of_sample))
    if not predictions.shape == targets.shape == tasks.shape or tasks.dim() != 1:
        shapes = ", ".join(str(tuple(x.shape)) for x in (predictions, targets, tasks))
        raise ValueError(f"predictions, targets, task_of_sample: shapes {shapes}; give three vectors of one length.")
    if tasks.numel() and not 0 <= int(tasks.min()) <= int(tasks.max()) < num_tasks:
        raise ValueError(f"task_of_sample: {int(tasks.min())}..{int(tasks.max())}; give ids in 0..{num_tasks - 1}.")
    total = torch.bincount(tasks, minlength=num_tasks).tolist()
    correct = torch.bincount(tasks[predictions == targets], minlength=num_tasks).tolist()
    if empty := [task for task, count in enumerate(total) if count == 0]:
        raise ValueError(f"validation set: no sample of task {empty[0]} of {num_tasks}; evaluate on all tasks' data.")
    return [hit / count for hit, count in zip(correct, total, strict=True)]
