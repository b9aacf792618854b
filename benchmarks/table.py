"""What the benchmarks share: interleaved repeats, medians, and a table of plain text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def interleaved(measures: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Any]]:
    """Run every measure once to warm up, then all in turns: a busy machine slows each of them alike.

    Args:
        measures: name to a function that returns one number, or several.
        repeats: counted rounds.

    Returns:
        For each name its numbers, one a round.
    """
    numbers: dict[str, list[Any]] = {name: [] for name in measures}
    for turn in range(-1, repeats):
        for name, measure in measures.items():
            number = measure()
            if turn >= 0:
                numbers[name].append(number)
    return numbers


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of neighbouring measurements."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows of cells under the first one, the header; numbers go to the right, words to the left."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    right = [all(row[column][:1].isdigit() for row in texts[1:]) for column in range(len(texts[0]))]
    for number, row in enumerate(texts):
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def verdict(what: str, value: float, target: float, *, least: bool) -> bool:
    """Print whether ``value`` is at least (or at most) ``target``; return it."""
    good = value >= target if least else value <= target
    print(f"{what}: {value:.2f}, {'at least' if least else 'at most'} {target:g} wanted: {'ok' if good else 'MISSED'}")
    return good
