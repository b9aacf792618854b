"""The result files: their schema, that they are the same bytes each time, and what happens when the disk refuses."""

import csv
import errno
import io
import json
import os

import matplotlib.image
import pytest
from rich.console import Console

from cassle import atomic
from cassle.atomic import atomic_write_bytes, atomic_write_text
from cassle.errors import CassleError
from cassle.evaluation.heatmap import colour_scale
from cassle.evaluation.protocol import Evaluation
from cassle.evaluation.report import SUMMARY, assemble, print_table, table, write

FILES = ["accuracy_matrix.csv", "accuracy_matrix.png", "report.html", "results.json"]
ROWS = {
    "knn": [[0.8, 0.3, 0.2], [0.6, 0.9, 0.4], [0.5, 0.7, 0.6]],
    "ridge_10_labels": [[0.7, 0.1, 0.1], [0.7, 0.8, 0.1], [0.7, 0.8, 1 / 3]],
}
RANDOM = {"knn": [0.1, 0.2, 0.1], "ridge_10_labels": [0.1, 0.1, 0.1]}
PROTOCOL = {"head": "one probe, no task id <all>", "probes": {"knn": "k=20", "ridge_10_labels": "[bold]"}}


@pytest.fixture
def results():
    return assemble(ROWS, RANDOM, PROTOCOL, 3)


def test_schema(results):
    assert set(results) == {"protocol", "num_tasks", "probes"}
    assert results["protocol"] == PROTOCOL and results["num_tasks"] == 3
    knn = results["probes"]["knn"]
    assert set(knn) == {"random", "accuracy_matrix", *SUMMARY}
    assert knn["random"] == RANDOM["knn"] and knn["accuracy_matrix"] == ROWS["knn"]
    assert knn["average_accuracy"] == pytest.approx(0.6)
    assert knn["forgetting"] == pytest.approx(0.25)
    assert knn["forward_transfer"] == pytest.approx(0.2)
    assert knn["final_accuracy"] == knn["average_accuracy"]
    assert knn["continual_accuracy"] == pytest.approx((0.8 + 0.75 + 0.6) / 3)
    assert results["probes"]["ridge_10_labels"]["forgetting"] == 0


def test_where_tasks_share_their_validation_samples_there_is_no_forward_transfer(tmp_path):
    protocol, row = Evaluation().describe(shared_val=True), [[t / 10] * 3 for t in range(1, 4)]
    results = assemble({"knn": row}, {"knn": [0.1] * 3}, protocol, 3)
    assert results["probes"]["knn"]["forward_transfer"] is None and results["probes"]["knn"]["forgetting"] == 0
    (line,) = [line for line in printed(results).splitlines() if line.startswith(" FT: forward transfer")]
    assert line.split()[-1] == "n/a"
    write(tmp_path, results, "shared")
    assert "<td>n/a</td>" in (tmp_path / "report.html").read_text()
    assert assemble({"knn": row}, {"knn": [0.1] * 3}, PROTOCOL, 3)["probes"]["knn"]["forward_transfer"] is not None


def test_wrong_rows_are_named():
    with pytest.raises(ValueError, match="probe knn: no row of the random encoder"):
        assemble(ROWS, {}, PROTOCOL, 3)
    with pytest.raises(ValueError, match="probe knn: rows of 3 accuracies; give 4"):
        assemble(ROWS, RANDOM, PROTOCOL, 4)
    with pytest.raises(ValueError, match="empty"):
        assemble({"knn": []}, RANDOM, PROTOCOL, 3)
    with pytest.raises(ValueError, match="no probe"):
        assemble({}, RANDOM, PROTOCOL, 3)


def test_files_are_complete_and_the_same_bytes_each_time(tmp_path, results):
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 17}):  # a user's matplotlibrc has no say
        write(tmp_path / "a", results, "a run")
    write(tmp_path / "b", assemble(ROWS, RANDOM, PROTOCOL, 3), "a run")
    write(tmp_path / "b", assemble(ROWS, RANDOM, PROTOCOL, 3), "a run")  # over the old ones
    assert sorted(os.listdir(tmp_path / "a")) == sorted(os.listdir(tmp_path / "b")) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "results.json").read_text()) == results


def test_one_task_is_null_in_json(tmp_path):
    write(tmp_path, assemble({"knn": [[0.5]]}, {"knn": [0.1]}, PROTOCOL, 1), "one")
    knn = json.loads((tmp_path / "results.json").read_text())["probes"]["knn"]
    assert knn["forgetting"] is None and knn["forward_transfer"] is None
    assert "n/a" in (tmp_path / "report.html").read_text()


def test_csv_holds_the_exact_matrix(tmp_path, results):
    write(tmp_path, results, "a run")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "accuracy_matrix.csv").read_text())))
    assert len(lines) == 2 * 4
    assert [line["after_task"] for line in lines[:4]] == ["random", "0", "1", "2"]
    assert [float(lines[-1][f"task{i}"]) for i in range(3)] == ROWS["ridge_10_labels"][-1]


@pytest.mark.parametrize(("tasks", "done"), [(1, 1), (5, 2), (24, 3)])
def test_picture_opens_for_any_number_of_tasks(tmp_path, tasks, done):
    rows = [[0.0] * tasks] * done  # all zero: an empty colour scale
    write(tmp_path, assemble({"knn": rows}, {"knn": rows[0]}, PROTOCOL, tasks), "many")
    data = (tmp_path / "accuracy_matrix.png").read_bytes()
    assert b"Software" not in data and b"tIME" not in data
    assert min(matplotlib.image.imread(io.BytesIO(data)).shape[:2]) > 150


@pytest.mark.parametrize(
    ("values", "wanted"),
    [((0.95, 0.99), (90, 100)), ((0.63, 0.99), (60, 100)), ((0.0,), (0, 10)), ((1.0,), (90, 100)), ((0.5,), (50, 60))],
)
def test_the_colours_begin_at_the_tens_below_the_values(values, wanted):
    assert colour_scale(values) == wanted


def test_no_transfer_is_not_negative(results):
    results["probes"]["knn"]["forward_transfer"] = -1e-9
    line = next(line for line in printed(results).splitlines() if "FT: forward transfer" in line)
    assert line.split()[-2:] == ["0.0", "0.0"]


def test_html_is_self_contained_and_escaped(tmp_path, results):
    write(tmp_path, results, "lamb <b> & co")
    page = (tmp_path / "report.html").read_text()
    assert "lamb &lt;b&gt; &amp; co" in page and "no task id &lt;all&gt;" in page
    assert 'src="data:image/png;base64,' in page and "http" not in page
    assert "<td>60.0</td><td>25.0</td><td>20.0</td>" in page


def printed(results, width=80):
    out = io.StringIO()
    print_table(results, "a run [seed 0]", Console(file=out, width=width))
    return out.getvalue()


def test_table_says_everything_in_80_columns(results):
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "a run [seed 0]" in text and "ridge_10_labels: [bold]" in text  # brackets are not markup
    assert text.index("ridge_10_labels: [bold]") < text.index("a run [seed 0]")  # the numbers end what is printed
    lines = {line[:23].strip(): line.split()[-2:] for line in text.splitlines() if line.strip()}
    assert lines["task 0"] == ["50.0", "70.0"]
    assert lines["random encoder, mean"] == ["13.3", "10.0"]
    assert lines["A: average accuracy"] == ["60.0", "61.1"]
    assert lines["F: forgetting"] == ["25.0", "0.0"]
    assert lines["FT: forward transfer"] == ["20.0", "0.0"]
    assert lines["FA: final accuracy"] == ["60.0", "61.1"]
    assert lines["CA: continual accuracy"] == ["71.7", "68.7"]
    assert "no task id" in text


def test_table_of_four_probes_and_ten_tasks_is_not_cut():
    names = ["knn", "ridge", "ridge_100_labels", "linear"]
    rows = {name: [[0.123] * 10] * 4 for name in names}
    text = printed(assemble(rows, {name: [0.1] * 10 for name in names}, PROTOCOL, 10))
    assert all(name in text for name in names) and "…" not in text
    assert text.count("12.3") == 4 * (4 * 10 + 12) and "task 9 (not seen yet)" in text  # matrices, last row, A and CA
    assert max(len(line) for line in text.splitlines()) <= 80
    assert table(assemble(rows, {name: [0.1] * 10 for name in names}, PROTOCOL, 10), "t").row_count == 16


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Make the folder writable")]
)
@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_refusing_disk_keeps_the_old_file(tmp_path, results, monkeypatch, code, says, function):
    write(tmp_path, results, "a run")
    old = {name: (tmp_path / name).read_bytes() for name in FILES}

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, function, refuse)
    with pytest.raises(CassleError, match=f"results.json: not written .*{says}"):
        write(tmp_path, results, "another title")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == old


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == []


def test_atomic_write_makes_folders_and_names_a_file_in_the_way(tmp_path):
    atomic_write_text(tmp_path / "deep" / "er" / "x.txt", "ä\n")
    assert (tmp_path / "deep" / "er" / "x.txt").read_bytes() == "ä\n".encode()
    with pytest.raises(CassleError, match=r"x\.txt/y: not written"):
        atomic_write_text(tmp_path / "deep" / "er" / "x.txt" / "y", "1")


def test_probes_that_are_aware_of_domains_have_a_table_of_their_own():
    rows = {**ROWS, "knn_domain_aware": [[0.9, 0.4, 0.3], [0.8, 1.0, 0.5], [0.7, 0.9, 1.0]]}
    random = {**RANDOM, "knn_domain_aware": [0.2, 0.2, 0.2]}
    results = assemble(rows, random, PROTOCOL, 3)
    aware = results["probes"]["knn_domain_aware"]
    assert aware["forgetting"] == pytest.approx((0.2 + 0.1) / 2) and aware["forward_transfer"] == pytest.approx(0.25)
    out = io.StringIO()
    print_table(results, "run", Console(file=out, width=80))
    first, second = out.getvalue().split("run, domain-aware")
    head = next(line for line in first.splitlines() if line.strip().startswith("accuracy (%)  "))
    assert head.split()[2:] == ["knn", "ridge_10_labels"] and "60.0" in first.split("run")[-1]
    assert "ridge" not in second and "86.7" in second  # A of the aware probe
    assert max(len(line) for line in out.getvalue().splitlines()) <= 80
