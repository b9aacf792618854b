"""The results of a stream: accuracy along it, forgetting, and what the memory held; files and closing tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from cassle.atomic import atomic_write_bytes, atomic_write_text
from cassle.evaluation.metrics import percent
from cassle.evaluation.stream_plot import picture

if TYPE_CHECKING:
    from rich.console import Console

Results = dict[str, Any]
Rows = Sequence[Sequence[float]]
SUMMARY = {
    "final_accuracy": "accuracy at the end, mean over the splits",
    "average_along_the_stream": "mean over the evaluations of the accuracy, mean over the splits",
    "forgetting": "F: mean_i max_p (A[p,i] - A[P,i])",
    "relative_forgetting": "F / best: mean_i max_p (A[p,i] - A[P,i]) / max_p A[p,i]",
    "forgetting_since_end": "mean_i (A[e_i,i] - A[P,i]), e_i: the end of split i",
    "relative_forgetting_since_end": "the same, / A[e_i,i]",
}
ROWS = 10  # of the printed table along the stream


class Course(NamedTuple):
    """The evaluations of a stream.

    Attributes:
        samples: that had arrived at each evaluation so far.
        begun: how many splits had begun at each; of a stream without order, all.
        ends: for each split, the number of the evaluation at its end; None where there is none.
        total: evaluations when the stream is over.
    """

    samples: list[int]
    begun: list[int]
    ends: list[int | None]
    total: int


def summary(rows: Rows, begun: Sequence[int], ends: Sequence[int | None]) -> dict[str, Any]:
    """Return the numbers of one probe.

    Args:
        rows: ``rows[p][i]``, the accuracy (a fraction) on split i at evaluation p.
        begun: see ``Course``.
        ends: see ``Course``.
    """
    best = [max(column) for column in zip(*rows, strict=True)]
    several = len(rows) > 1
    since = [since_end(rows, i, end) for i, end in enumerate(ends) if end is not None and end < len(rows) - 1]
    return {
        "accuracy_so_far": [fmean(row[: max(number, 1)]) for row, number in zip(rows, begun, strict=True)],
        "final_accuracy": fmean(rows[-1]),
        "average_along_the_stream": fmean(map(fmean, rows)),
        "forgetting": fmean(_drops(best, rows[-1])) if several else None,
        "relative_forgetting": fmean(_drops(best, rows[-1], relative=True)) if several else None,
        "forgetting_since_end": fmean(split["absolute"][-1] for split in since) if since else None,
        "relative_forgetting_since_end": fmean(split["relative"][-1] for split in since) if since else None,
        "forgetting_of_splits": since,
    }


def since_end(rows: Rows, split: int, end: int) -> dict[str, Any]:
    """Return what one split lost since the evaluation at its end, at each later one (Purushwalkam et al. 2022, Sec. 6).

    Their table does not say whether it is absolute or relative to the accuracy at the end, so both are given.
    """
    then, later = rows[end][split], [row[split] for row in rows[end + 1 :]]
    reference = [then] * len(later)
    return {"split": split, "absolute": _drops(reference, later), "relative": _drops(reference, later, relative=True)}


def _drops(before: Sequence[float], after: Sequence[float], *, relative: bool = False) -> list[float]:
    pairs = zip(before, after, strict=True)
    return [(a - b) / a if relative and a else 0.0 if relative else a - b for a, b in pairs]


def assemble(
    rows: Mapping[str, Rows],
    random: Mapping[str, Sequence[float]],
    course: Course,
    along: Sequence[Mapping[str, float]],
    skipped: Sequence[str],
    protocol: Mapping[str, Any],
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Results:
    """Return ``{"protocol", *about, "num_evaluations", "samples", "skipped", "along", "probes"}``.

    Args:
        rows: for each probe a row of accuracies per evaluation, one per split; empty without labels.
        random: of the untrained encoder.
        course: the evaluations.
        along: the rows of the table along the stream (``metrics.csv`` of all parts).
        skipped: what did not decode.
        protocol: how it was trained and evaluated.
        about: further entries that tell the run from others.
    """
    probes = {}
    for name, matrix in rows.items():
        own = [list(map(float, row)) for row in matrix]
        numbers = summary(own, course.begun, course.ends)
        probes[name] = {"random": list(map(float, random[name])), "accuracy": own, **numbers}
    head = {"protocol": dict(protocol), **about, "num_evaluations": course.total, "samples": course.samples}
    return {**head, "skipped": list(skipped), "along": [dict(row) for row in along], "probes": probes}


def write(folder: Path, results: Results, title: str) -> None:
    """Write results.json, stream.csv and stream.png, each atomically; the same results give the same bytes."""
    image = picture(results, title)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    splits = max((len(probe["random"]) for probe in results["probes"].values()), default=0)
    writer.writerow(["probe", "samples", "mean", "so_far", *(f"split{i}" for i in range(splits))])
    for name, probe in results["probes"].items():
        samples = [0, *results["samples"]]
        so_far = [fmean(probe["random"]), *probe["accuracy_so_far"]]
        for where, seen, row in zip(samples, so_far, [probe["random"], *probe["accuracy"]], strict=True):
            writer.writerow([name, where, *(f"{value:.6f}" for value in (fmean(row), seen, *row))])
    atomic_write_text(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    atomic_write_text(folder / "stream.csv", text.getvalue())
    atomic_write_bytes(folder / "stream.png", image)


def print_tables(results: Results, title: str, console: Console | None = None) -> None:
    """Print what the memory and the batches held along the stream; and, with labels, the accuracies in percent."""
    from rich.console import Console

    console = console or Console()
    tables = [_along(results["along"], title)]
    if results["probes"]:
        tables.append(_accuracies(results, title))
    for table in tables:
        console.print(table)
    if results["skipped"]:
        skipped = results["skipped"]
        console.print(f"Skipped, {len(skipped)} files:", *skipped[:10], "…" if len(skipped) > 10 else "", sep="\n  ")


def _along(rows: Sequence[Mapping[str, float]], title: str) -> Any:
    from rich.table import Table

    columns = {
        "step": "step", "samples": "samples", "skipped": "skipped", "loss": "loss", "in_memory": "in memory",
        "origins_in_memory": "origins in memory", "origins_in_batch": "origins in batch", "uses_mean": "uses, mean",
        "uses_max": "uses, most",
    }  # fmt: skip
    table = Table(title=f"{title}: along the stream (origin: video, class or folder)")
    there = [name for name in columns if any(name in row for row in rows)]
    for name in there:
        table.add_column(columns[name], justify="right")
    last = len(rows) - 1
    for number in sorted({round(last * i / (ROWS - 1)) for i in range(ROWS)}) if rows else ():
        row = rows[number]
        table.add_row(*("-" if name not in row else f"{row[name]:.10g}" if _whole(row[name]) else f"{row[name]:.2f}"
                        for name in there))  # fmt: skip
    return table


def _whole(value: float) -> bool:
    return float(value).is_integer()


def _accuracies(results: Results, title: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table, probes = Table(title=f"{title}: accuracy (%)"), results["probes"]
    table.add_column("mean over the splits")
    for name in probes:
        table.add_column(name, justify="right")
    table.add_row("random encoder", *(f"{100 * fmean(p['random']):.1f}" for p in probes.values()))
    for number, samples in enumerate(results["samples"]):
        means = (f"{100 * fmean(p['accuracy'][number]):.1f}" for p in probes.values())
        table.add_row(f"after {samples} samples", *means)
    for name, words in SUMMARY.items():
        if any(p[name] is not None for p in probes.values()):
            table.add_row(escape(words), *(percent(p[name]) for p in probes.values()))
    return table
