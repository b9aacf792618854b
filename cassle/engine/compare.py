"""Runs side by side: what they were told differently, and what came of it, in the mean over seeds."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from cassle.engine.folder import FREE, SUMS
from cassle.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

Record = dict[str, Any]
MOVED_ASIDE = re.compile(r"\.old-\d+$")
REPEATED = {"seed"}  # runs that differ in nothing else are repetitions
#: what is compared, by its name in results.json: of tasks, and of streams
METRICS = {
    "average_accuracy": "A", "forgetting": "F", "forward_transfer": "FT", "final_accuracy": "at the end",
    "continual_accuracy": "CA", "average_along_the_stream": "along the stream",
}  # fmt: skip
OWN = ("probe", "runs", "seeds", "folders", "done")  # values of a record that are neither settings nor metrics
CHOICES = ("dataset", "method", "distiller", "strategy", "memory", "backbone")
MOST_COLUMNS = 4  # settings that are shown beside the numbers


class Run(NamedTuple):
    """A run on disk: its folder, its settings, the content of its ``results.json``, and the hash of its data."""

    folder: Path
    settings: dict[str, Any]
    results: dict[str, Any]
    data: str

    @property
    def done(self) -> str:
        """Tasks, or evaluations of a stream, that are done of how many."""
        if "num_tasks" not in self.results:
            return f"{len(self.results['samples'])}/{self.results['num_evaluations']}"
        first = next(iter(self.results["probes"].values()))
        return f"{len(first['accuracy_matrix'])}/{self.results['num_tasks']}"

    @property
    def told(self) -> dict[str, Any]:
        """The settings that determine the results but for the seed, and what tells its data from other data."""
        free = FREE - {"pretrained_model"} | SUMS | REPEATED
        told = {name: value for name, value in self.settings.items() if name not in free and value is not None}
        return told | ({"data": self.data[:8]} if self.data else {})


def compare(*folders: str | Path) -> list[Record]:
    """Return a record per probe and group of runs that differ in their seed alone: what a table, a DataFrame, takes.

    A record holds the settings in which the groups differ, ``probe``, ``runs`` (how many), ``seeds``, ``folders``,
    and of every metric the mean over the runs and, of two runs or more, the sample standard deviation
    (``forgetting``, ``forgetting_std``, …; fractions). Of runs that are not finished it holds ``done``.

    Args:
        folders: experiments, or folders that hold some, at any depth; those without a finished task are left out.

    Raises:
        DataError: a folder that does not exist, a file that is damaged, or no results at all.
    """
    places = {place.resolve(): place for folder in folders for place in _experiments(Path(folder))}
    runs = [run for place in places.values() if (run := _read(place)) is not None]
    if not runs:
        raise DataError(
            f"compare {' '.join(map(str, folders))}: no results.json there; give folders of experiments that have "
            "finished a task, e.g. experiments/*."
        )
    groups = _groups(runs)
    shown = differing([alike[0].told for alike in groups])
    return [
        {**{name: alike[0].told.get(name) for name in shown}, **record}
        for alike in groups
        for record in _records(alike)
    ]


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs that differ in their seed alone, together; no group has a seed twice."""
    groups: dict[tuple[str, int], list[Run]] = {}
    seen: Counter[str] = Counter()
    for run in runs:
        told = json.dumps(run.told, sort_keys=True)
        one = f"{run.settings.get('seed')} {told}"
        groups.setdefault((told, seen[one]), []).append(run)
        seen[one] += 1
    return list(groups.values())


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that are not the same in all."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in settings}) > 1]


def _experiments(folder: Path) -> list[Path]:
    """Return the folders of experiments at or below a folder; what --overwrite moved aside only if it is named."""
    if not folder.is_dir():
        raise DataError(f"compare {folder}: no such folder; give folders of experiments, e.g. experiments/*.")
    if (folder / "config.yaml").is_file():
        return [folder]
    return sorted(path.parent for path in folder.rglob("config.yaml") if not MOVED_ASIDE.search(path.parent.name))


def _read(place: Path) -> Run | None:
    """Return a run, None of one that has finished no task or has nothing to be evaluated with."""
    if not (place / "results.json").is_file():
        return None
    try:
        settings = yaml.safe_load((place / "config.yaml").read_text())
        results = json.loads((place / "results.json").read_text())
        split = place / "split.json"
        data = json.loads(split.read_text()).get("content_sha256", "") if split.is_file() else ""
        return Run(place, dict(settings), results, data) if results["probes"] else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DataError(
            f"compare {place}: config.yaml, results.json or split.json is damaged ({error}); restore it, or leave the "
            "folder out."
        ) from error


def _records(alike: Sequence[Run]) -> Iterator[Record]:
    """Yield a record for every probe that one of the runs has."""
    for probe in dict.fromkeys(name for run in alike for name in run.results["probes"]):
        having = [run for run in alike if probe in run.results["probes"]]
        record: Record = {
            "probe": probe, "runs": len(having), "seeds": [run.settings.get("seed") for run in having],
            "folders": [str(run.folder) for run in having],
        }  # fmt: skip
        if len(done := {run.done for run in having}) > 1 or not _is_finished(having[0]):
            record["done"] = ", ".join(sorted(done))
        for metric in METRICS:
            values = [run.results["probes"][probe].get(metric) for run in having]
            if all(value is not None for value in values):
                record[metric] = fmean(values)
                record.update({f"{metric}_std": stdev(values)} if len(values) > 1 else {})
        yield record


def _is_finished(run: Run) -> bool:
    done, _, total = run.done.partition("/")
    return done == total


def report(records: Sequence[Record]) -> Iterator[Table | str]:
    """Yield a table per probe, a row per group, metrics in percent; and what there was no room for, in a line."""
    told = [name for name in columns(records) if name not in OWN and name.removesuffix("_std") not in METRICS]
    shared = [name for name in told if all(record.get(name) is not None for record in records)]
    # What only some methods know follows from the choice of the method.
    chosen = [name for name in told if name in CHOICES]
    shown = [*chosen, *(name for name in shared if name not in chosen)][:MOST_COLUMNS]
    for probe in dict.fromkeys(record["probe"] for record in records):
        yield _table(probe, [record for record in records if record["probe"] == probe], shown)
    if left := [name for name in told if name not in shown]:
        yield f"Different too: {', '.join(left)} (--csv FILE has them)."


def _table(probe: str, rows: Sequence[Record], settings: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    rows = [_as_of_tasks(row) for row in rows]
    metrics = [metric for metric in METRICS if metric != "final_accuracy" and any(metric in row for row in rows)]
    extra = [name for name in ("done",) if any(name in row for row in rows)]
    out = Table(title=f"{probe}, %", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in ["experiment", *settings, *extra]:
        longest = max(len(_word(row.get(name))) for row in rows)
        out.add_column(name, overflow="fold", min_width=min(16, max(len(name), longest)))
    for metric in metrics:
        out.add_column(METRICS[metric], justify="right", no_wrap=True)
    for row in rows:
        told = [_named(row), *(_word(row.get(name)) for name in [*settings, *extra])]
        out.add_row(*told, *(_percent(row, metric) for metric in metrics))
    return out


def _as_of_tasks(row: Record) -> Record:
    """Return a record whose A is, of a stream, the accuracy at its end: that is what A is of tasks."""
    ends = {name.replace("average", "final"): name for name in ("average_accuracy", "average_accuracy_std")}
    return {**{name: row[end] for end, name in ends.items() if end in row}, **row}


def _named(row: Record) -> str:
    """Return the name of the first of the runs, and how many there are."""
    return Path(row["folders"][0]).name + (f" ({row['runs']} runs)" if row["runs"] > 1 else "")


def columns(records: Sequence[Record]) -> list[str]:
    """Return the names of all values of the records, in their order."""
    return list(dict.fromkeys(name for record in records for name in record))


def as_csv(records: Sequence[Record]) -> str:
    """Return the records as CSV: accuracies as fractions, seeds and folders separated by spaces."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns(records), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _word(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)


def _percent(row: Record, metric: str) -> str:
    if metric not in row:
        return "-"
    spread = f" ± {100 * row[f'{metric}_std']:.1f}" if f"{metric}_std" in row else ""
    return f"{round(100 * row[metric], 1) + 0.0:.1f}{spread}"  # no -0.0
