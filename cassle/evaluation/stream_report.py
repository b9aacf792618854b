"""The results of a stream: accuracy along it, forgetting, and what the memory held; files, picture, closing table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from cassle.atomic import atomic_write_bytes, atomic_write_text

Results = dict[str, Any]
SUMMARY = {
    "final_accuracy": "accuracy at the end, mean over the splits",
    "average_along_the_stream": "mean over the evaluations of the accuracy, mean over the splits",
    "forgetting": "F: mean_i max_p (A[p,i] - A[P,i]), over all splits",
    "relative_forgetting": "F / best: mean_i max_p (A[p,i] - A[P,i]) / max_p A[p,i]",
}


def summary(rows: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Return the numbers of one probe; ``rows[p][i]`` is the accuracy (a fraction) on split i at evaluation p."""
    best = [max(column) for column in zip(*rows, strict=True)]
    lost = [top - last for top, last in zip(best, rows[-1], strict=True)]
    return {
        "final_accuracy": fmean(rows[-1]),
        "average_along_the_stream": fmean(map(fmean, rows)),
        "forgetting": fmean(lost) if len(rows) > 1 else None,
        "relative_forgetting": fmean(x / top if top else 0.0 for x, top in zip(lost, best, strict=True))
        if len(rows) > 1
        else None,
    }


def assemble(
    rows: Mapping[str, Sequence[Sequence[float]]],
    random: Mapping[str, Sequence[float]],
    samples: Sequence[int],
    protocol: Mapping[str, Any],
    num_evaluations: int,
) -> Results:
    """Return ``{"protocol", "num_evaluations", "samples", "probes": {name: {"random", "accuracy", ...}}}``.

    Args:
        rows: for each probe a row of accuracies per evaluation, one per split.
        random: of the untrained encoder.
        samples: that had arrived at each evaluation.
        protocol: how it was evaluated.
        num_evaluations: how many there are when the stream is over.
    """
    probes = {}
    for name, matrix in rows.items():
        own = [list(map(float, row)) for row in matrix]
        probes[name] = {"random": list(map(float, random[name])), "accuracy": own, **summary(own)}
    head = {"protocol": dict(protocol), "num_evaluations": num_evaluations, "samples": list(samples)}
    return {**head, "probes": probes}


def write(folder: Path, results: Results, title: str) -> None:
    """Write results.json, stream.csv and stream.png, each atomically; the same results give the same bytes."""
    picture = curves_png(results, title)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    splits = len(next(iter(results["probes"].values()))["random"])
    writer.writerow(["probe", "samples", "mean", *(f"split{i}" for i in range(splits))])
    for name, probe in results["probes"].items():
        for samples, row in zip([0, *results["samples"]], [probe["random"], *probe["accuracy"]], strict=False):
            writer.writerow([name, samples, *(f"{value:.6f}" for value in (fmean(row), *row))])
    atomic_write_text(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    atomic_write_text(folder / "stream.csv", text.getvalue())
    atomic_write_bytes(folder / "stream.png", picture)


def curves_png(results: Results, title: str) -> bytes:
    """Draw the accuracy along the stream, a panel per probe: the mean, and each split in a lighter line; percent."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        probes = results["probes"]
        figure = Figure(figsize=(4 * len(probes), 3.2), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, fontsize=11)
        for axes, (name, probe) in zip(figure.subplots(1, len(probes), squeeze=False)[0], probes.items(), strict=True):
            rows = [probe["random"], *probe["accuracy"]]
            x = [0, *results["samples"]][: len(rows)]
            for split in range(len(rows[0])):
                axes.plot(x, [100 * row[split] for row in rows], color="#9ecae1", linewidth=1)
            axes.plot(x, [100 * fmean(row) for row in rows], color="#08519c", marker="o", linewidth=2)
            axes.set_title(f"{name}: accuracy (%)", fontsize=10)
            axes.set_xlabel("samples of the stream", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def print_table(results: Results, title: str) -> None:
    """Print the accuracy at every evaluation, and the summary, in percent."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title)
    table.add_column("accuracy, mean over the splits (%)")
    probes = results["probes"]
    for name in probes:
        table.add_column(name, justify="right")
    table.add_row("random encoder", *(f"{100 * fmean(p['random']):.1f}" for p in probes.values()))
    for number, samples in enumerate(results["samples"]):
        table.add_row(
            f"after {samples} samples", *(f"{100 * fmean(p['accuracy'][number]):.1f}" for p in probes.values())
        )
    for name, words in SUMMARY.items():
        table.add_row(escape(words), *("-" if p[name] is None else f"{100 * p[name]:.1f}" for p in probes.values()))
    Console().print(table)
