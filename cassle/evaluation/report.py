"""The results of a run: one dictionary, four files that say the same, and the closing table."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cassle.atomic import atomic_write_bytes, atomic_write_text
from cassle.evaluation.heatmap import heatmap_png
from cassle.evaluation.metrics import (
    Matrix,
    Row,
    average_accuracy,
    continual_accuracy,
    final_accuracy,
    forgetting,
    forward_transfer,
    percent,
)
from cassle.evaluation.protocol import AWARE, SHARED_VAL

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Results = dict[str, Any]
WIDEST = 10  # tasks whose accuracies fit a row of 80 columns; longer matrices are in the CSV file and the picture
SUMMARY = {
    "average_accuracy": "A: average accuracy, mean_i A[T,i]",
    "forgetting": "F: forgetting, mean_{i<T} max_t (A[t,i] − A[T,i])",
    "forward_transfer": "FT: forward transfer, mean_{i≥2} (A[i−1,i] − R[i])",
    "final_accuracy": "FA: final accuracy, A once all tasks are seen",
    "continual_accuracy": "CA: continual accuracy, mean_t mean_{i≤t} A[t,i]",
}


def assemble(
    rows: Mapping[str, Matrix],
    random: Mapping[str, Row],
    protocol: Mapping[str, Any],
    num_tasks: int,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Results:
    """Return ``{"protocol", *about, "num_tasks", "probes": {name: {"random", "accuracy_matrix", …}}}``.

    All accuracies are fractions; the summary of an unfinished run is as :mod:`cassle.evaluation.metrics` says. Where
    all tasks have the same validation samples there is no forward transfer: None.

    Args:
        rows: for each probe the rows of its accuracy matrix, one per finished task.
        random: for each probe the row of the untrained encoder.
        protocol: as :meth:`cassle.evaluation.protocol.Evaluation.describe` returns it.
        num_tasks: number of tasks of the whole run.
        about: ``settings``, ``not_default`` and ``tasks`` of the run, as ``cassle.engine.identity`` returns them.

    Raises:
        ValueError: a probe without rows or random row, a row of another length, or an accuracy outside 0..1.
    """
    probes = {}
    for name, matrix in rows.items():
        if name not in random:
            raise ValueError(f"probe {name}: no row of the random encoder; evaluate it with the same probes.")
        if matrix and len(matrix[0]) != num_tasks:
            raise ValueError(f"probe {name}: rows of {len(matrix[0])} accuracies; give {num_tasks}, one per task.")
        probes[name] = {
            "random": [float(value) for value in random[name]],
            "accuracy_matrix": [[float(value) for value in row] for row in matrix],
            "average_accuracy": average_accuracy(matrix),
            "forgetting": forgetting(matrix),
            "forward_transfer": None if SHARED_VAL in protocol else forward_transfer(matrix, random[name]),
            "final_accuracy": final_accuracy(matrix),
            "continual_accuracy": continual_accuracy(matrix),
        }
    if not probes:
        raise ValueError("rows: no probe; give the rows of at least one.")
    return {"protocol": dict(protocol), **about, "num_tasks": num_tasks, "probes": probes}


def write(folder: str | Path, results: Results, title: str) -> None:
    """Write results.json, accuracy_matrix.csv, accuracy_matrix.png and report.html, each atomically.

    The same results give the same bytes.

    Raises:
        CassleError: a file could not be written; the files already there stay whole.
    """
    folder = Path(folder)
    picture = heatmap_png(results, title)
    page = _html(results, title, picture)  # everything is made before anything is replaced
    atomic_write_text(
        folder / "results.json", json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    atomic_write_text(folder / "accuracy_matrix.csv", _csv(results))
    atomic_write_bytes(folder / "accuracy_matrix.png", picture)
    atomic_write_text(folder / "report.html", page)


def table(results: Results, title: str) -> Table:
    """Return the closing table: a column per probe; rows: last accuracies (percent), random mean, A, F, FT, FA, CA."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    probes = results["probes"].values()
    done = len(next(iter(probes))["accuracy_matrix"])
    out = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    out.add_column("accuracy (%)", overflow="fold")
    for name in results["probes"]:
        out.add_column(name, justify="right", overflow="fold")
    for task in range(results["num_tasks"]):
        name = f"task {task}" + ("" if task < done else " (not seen yet)")
        values = [f"{100 * probe['accuracy_matrix'][-1][task]:.1f}" for probe in probes]
        out.add_row(name, *values, style="" if task < done else "dim", end_section=task == results["num_tasks"] - 1)
    out.add_row("random encoder, mean", *(_percent(fmean(p["random"])) for p in probes))
    for key, words in SUMMARY.items():
        name = words.split(",")[0]
        out.add_row(name, *(_percent(probe[key]) for probe in probes), style="bold")
    return out


def matrix_table(results: Results, probe: str) -> Table:
    """Return the accuracy matrix of a probe in percent: a row per finished task, above them the random encoder's."""
    from rich.table import Table

    out = Table(box=None, padding=(0, 1, 0, 0))
    out.add_column("after", no_wrap=True)
    for task in range(results["num_tasks"]):
        out.add_column(f"t{task}", justify="right", no_wrap=True)
    numbers = results["probes"][probe]
    out.add_row("random", *(_percent(value) for value in numbers["random"]), style="dim")
    for after, row in enumerate(numbers["accuracy_matrix"]):
        out.add_row(f"task {after}", *(_percent(value) for value in row))
    return out


def print_table(results: Results, title: str, console: Console | None = None) -> None:
    """Print the protocol, the matrices (where they fit a terminal) and, last, :func:`table`, in 80 columns."""
    from rich.console import Console

    console = console or Console()
    for name, words in _flat(results["protocol"]):
        console.print(f"{name}: {words}", markup=False, highlight=False, style="dim")
    console.print()
    if results["num_tasks"] <= WIDEST:
        for probe in results["probes"]:
            console.print(f"{probe}: accuracy (%) on each task", markup=False, highlight=False, style="bold")
            console.print(matrix_table(results, probe))
            console.print()
    for probes, heading in _tables(results, title):
        console.print(table({**results, "probes": probes}, heading))


def _tables(results: Results, title: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the probes of each closing table and its title: those that are aware of domains have one of their own."""
    aware = {name.removesuffix(AWARE): probe for name, probe in results["probes"].items() if name.endswith(AWARE)}
    yield {name: probe for name, probe in results["probes"].items() if not name.endswith(AWARE)}, title
    if aware:
        yield aware, f"{title}, domain-aware"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else percent(value)


def _flat(protocol: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, str(value)


def _csv(results: Results) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["probe", "after_task", *(f"task{i}" for i in range(results["num_tasks"]))])
    for name, probe in results["probes"].items():
        for after, row in [("random", probe["random"]), *enumerate(probe["accuracy_matrix"])]:
            writer.writerow([name, after, *map(repr, row)])
    return out.getvalue()


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}th,td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child{text-align:left}dt{font-weight:600}img{max-width:100%}"
)


def _html(results: Results, title: str, picture: bytes) -> str:
    title = html.escape(title)
    head = "".join(f"<th>{html.escape(words.split(':')[0])}</th>" for words in SUMMARY.values())
    body = ""
    for name, probe in results["probes"].items():
        cells = "".join(f"<td>{_percent(probe[key])}</td>" for key in SUMMARY)
        cells += f"<td>{_percent(fmean(probe['random']))}</td>"
        body += f"<tr><th>{html.escape(name)}</th>{cells}</tr>\n"
    formulas = "".join(f"<li>{html.escape(words)}</li>" for words in SUMMARY.values())
    done = len(next(iter(results["probes"].values()))["accuracy_matrix"])
    image = base64.b64encode(picture).decode()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p>{done} of {results["num_tasks"]} tasks finished; all numbers in percent.</p>
<table><tr><th>probe</th>{head}<th>random encoder</th></tr>
{body}</table>
<ul>{formulas}</ul>
<h2>Accuracy on each task after each task</h2>
<img alt="accuracy matrices" src="data:image/png;base64,{image}">
<h2>Protocol</h2>
<dl>{_listed(_flat(results["protocol"]))}</dl>
{_settings(results)}</body></html>
"""


def _listed(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(words)}</dd>\n" for name, words in entries)


def _settings(results: Results) -> str:
    """Return what is known of the run: what was chosen, and the tasks; the defaults are in ``results.json``."""
    if "settings" not in results:
        return ""
    chosen = [(name, str(results["settings"][name])) for name in results["not_default"]]
    tasks = [
        (f"task {number}", ", ".join(content) if isinstance(content, list) else str(content))
        for number, content in enumerate(results["tasks"] or [])
    ]
    rest = "<p>All others that results depend on are the defaults; results.json has them.</p>\n"
    return f"<h2>Settings</h2>\n<dl>{_listed(chosen)}</dl>\n{rest}<h2>Tasks</h2>\n<dl>{_listed(tasks)}</dl>\n"
