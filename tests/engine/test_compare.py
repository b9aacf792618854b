"""Experiments side by side, against numbers that are computed here from their matrices."""

import csv
import json
import statistics

import pytest
import yaml

import cassle
from cassle.__main__ import main
from cassle.errors import DataError
from cassle.evaluation import report, stream_report
from cassle.evaluation.stream_report import Course

RANDOM = [0.2, 0.3]


def experiment(base, name, matrix, *, probes=("knn",), **settings):
    """Write what an experiment leaves, without training one."""
    folder = base / name
    folder.mkdir(parents=True)
    free = {"name": name, "experiment_dir": str(folder), "num_workers": len(name), "num_threads": len(name)}
    told = {**free, "method": "byol", "lr": 0.3, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(told))
    if matrix:
        results = report.assemble(dict.fromkeys(probes, matrix), dict.fromkeys(probes, RANDOM), {}, 2)
        (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Two methods of two seeds, one of another learning rate that is not through, one that has nothing yet."""
    for seed, best in ((1, 0.9), (2, 0.7)):
        experiment(tmp_path, f"byol{seed}", [[best, 0.4], [0.6, 0.8]], seed=seed)
        experiment(
            tmp_path,
            f"moco{seed}",
            [[best, 0.3], [best, 0.9]],
            seed=seed,
            method="mocov2plus",
            probes=("knn", "linear"),
        )
    experiment(tmp_path, "byol-lr", [[0.5, 0.5]], seed=1, lr=0.1)
    experiment(tmp_path, "empty", None, seed=3)
    return tmp_path


def test_a_record_is_a_group_of_seeds_and_a_probe(sweep):
    records = cassle.compare(sweep)
    assert [(r["method"], r["lr"], r["probe"], r["runs"], r["seeds"]) for r in records] == [
        ("byol", 0.1, "knn", 1, [1]), ("byol", 0.3, "knn", 2, [1, 2]), ("mocov2plus", 0.3, "knn", 2, [1, 2]),
        ("mocov2plus", 0.3, "linear", 2, [1, 2]),
    ]  # fmt: skip
    unfinished, byol, moco, _ = records
    assert unfinished["done"] == "1/2" and "done" not in byol
    assert unfinished["average_accuracy"] == 0.5 and "forgetting" not in unfinished
    assert byol["average_accuracy"] == pytest.approx(0.7) and byol["average_accuracy_std"] == pytest.approx(0)
    assert byol["forgetting"] == pytest.approx(0.2)
    assert byol["forgetting_std"] == pytest.approx(statistics.stdev([0.3, 0.1]))
    assert moco["average_accuracy"] == pytest.approx(0.85)
    assert moco["average_accuracy_std"] == pytest.approx(statistics.stdev([0.9, 0.8]))
    assert byol["forward_transfer"] == pytest.approx(0.1) and moco["forward_transfer"] == pytest.approx(0)
    assert not {"name", "experiment_dir", "num_workers", "seed"} & {name for record in records for name in record}


def test_an_experiment_that_is_named_twice_counts_once(sweep):
    assert cassle.compare(sweep / "byol1", sweep, sweep / "byol1") == [
        {**record} for record in cassle.compare(sweep / "byol1", *sorted(sweep.iterdir()))
    ]
    assert cassle.compare(sweep / "byol1", sweep / "byol1")[0]["runs"] == 1


def test_the_command_prints_a_table_a_probe_and_writes_everything(sweep, capsys, tmp_path):
    assert main(["compare", str(sweep), "--csv", str(tmp_path / "all.csv")]) == 0
    out = capsys.readouterr().out
    assert out.index("knn, %") < out.index("linear, %")
    rows = [line.split() for line in out.splitlines() if line.strip().startswith(("byol", "moco"))]
    assert " ".join(rows[1]).startswith("byol1 (2 runs) byol 0.3 - 70.0 ± 0.0 20.0 ± 14.1 10.0 ± 0.0 ")
    assert rows[0][:7] == ["byol-lr", "byol", "0.1", "1/2", "50.0", "-", "20.0"]
    written = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [float(row["average_accuracy"]) for row in written] == [r["average_accuracy"] for r in cassle.compare(sweep)]
    assert written[1]["seeds"] == "1 2"
    assert main(["compare", str(sweep), "--probe", "linear"]) == 0
    assert "knn" not in capsys.readouterr().out


def test_a_stream_beside_tasks(tmp_path):
    experiment(tmp_path, "tasks", [[0.5, 0.5], [0.6, 0.8]], seed=0)
    folder = experiment(tmp_path, "stream", None, seed=0, stream="class")
    course = Course(samples=[10, 20], begun=[1, 2], ends=[0, 1], total=2)
    rows = {"knn": [[0.5, 0.5], [0.6, 0.9]]}
    results = stream_report.assemble(rows, {"knn": RANDOM}, course, [], [], {})
    (folder / "results.json").write_text(json.dumps(results))
    stream, tasks = cassle.compare(tmp_path)
    assert stream["stream"] == "class" and tasks["stream"] is None
    assert (
        "done" not in stream
        and stream["final_accuracy"] == pytest.approx(0.75)
        and tasks["average_accuracy"] == pytest.approx(0.7)
    )
    assert main(["compare", str(tmp_path)]) == 0
    (folder / "results.json").write_text(json.dumps({**results, "num_evaluations": 3}))
    assert cassle.compare(folder)[0]["done"] == "2/3"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder / "nowhere", "no such folder"),
        (lambda folder: experiment(folder, "empty", None), "no results.json there"),
        (lambda folder: damaged(experiment(folder, "torn", [[0.5, 0.5]])), "damaged .* leave the folder out"),
    ],
)
def test_what_cannot_be_compared(damage, message, tmp_path):
    with pytest.raises(DataError, match=message):
        cassle.compare(damage(tmp_path))


def damaged(folder):
    (folder / "results.json").write_text('{"probes": ')
    return folder


def test_only_what_differs_in_its_seed_is_a_repetition(tmp_path):
    """Not the same seed again, nor other data or weights, nor what --overwrite has moved aside."""
    for number, (data, weights) in enumerate([("a", None), ("a", None), ("b", None), ("a", "w.pth")]):
        folder = experiment(tmp_path, f"run{number}", [[0.5, 0.5]], seed=1, data_dir=data, pretrained_model=weights)
        (folder / "split.json").write_text(json.dumps({"content_sha256": data * 64}))
    experiment(tmp_path, "run0.old-1", [[0.1, 0.1]], seed=2, data_dir="a")
    records = cassle.compare(tmp_path)
    assert [(r["runs"], r["data"], r["pretrained_model"]) for r in records] == [
        (1, "a" * 8, None), (1, "a" * 8, None), (1, "b" * 8, None), (1, "a" * 8, "w.pth"),
    ]  # fmt: skip
    assert cassle.compare(tmp_path / "run0.old-1")[0]["average_accuracy"] == 0.1


def test_a_probe_that_none_of_them_has(sweep, capsys):
    assert main(["compare", str(sweep), "--probe", "lineal"]) == 2
    assert "--probe lineal: not in these experiments; they have knn, linear." in capsys.readouterr().err
