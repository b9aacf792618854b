"""The numbers and files of a stream: forgetting in its four forms, tables and pictures with labels and without."""

import io
import json

import pytest
from PIL import Image

from cassle.evaluation import stream_report
from cassle.evaluation.stream_report import Course, assemble, print_tables, since_end, summary, write

ROWS = [[0.8, 0.2, 0.1], [0.6, 0.6, 0.1], [0.4, 0.5, 0.5]]
COURSE = Course(samples=[100, 200, 300], begun=[1, 2, 3], ends=[0, 1, 2], total=3)
ALONG = [
    {"part": 0, "step": s, "samples": 10 * s, "skipped": s, "loss": 1.0 / s, "origins_in_batch": 1, "in_memory": 5,
     "origins_in_memory": min(s, 3), "uses_mean": 1.5, "uses_max": 4}
    for s in range(1, 31)
]  # fmt: skip


def test_summary():
    found = summary(ROWS, COURSE.begun, COURSE.ends)
    assert found["final_accuracy"] == pytest.approx(1.4 / 3)
    assert found["average_along_the_stream"] == pytest.approx((1.1 + 1.3 + 1.4) / 9)
    assert found["accuracy_so_far"] == pytest.approx([0.8, 0.6, 1.4 / 3])
    assert found["forgetting"] == pytest.approx((0.4 + 0.1 + 0) / 3)
    assert found["relative_forgetting"] == pytest.approx((0.5 + 0.1 / 0.6 + 0) / 3)
    assert found["forgetting_since_end"] == pytest.approx((0.4 + 0.1) / 2)  # the last split has just ended
    assert found["relative_forgetting_since_end"] == pytest.approx((0.5 + 0.1 / 0.6) / 2)
    assert [split["split"] for split in found["forgetting_of_splits"]] == [0, 1]


def test_the_table_of_forgetting():
    found = since_end(ROWS, 0, 0)
    assert found["absolute"] == pytest.approx([0.2, 0.4]) and found["relative"] == pytest.approx([0.25, 0.5])
    assert since_end([[0.0], [0.1]], 0, 0)["relative"] == [0.0]


def test_without_order_nothing_ends():
    found = summary(ROWS, [3, 3, 3], [None] * 3)
    assert found["forgetting_since_end"] is None and found["forgetting_of_splits"] == []
    assert found["accuracy_so_far"][0] == pytest.approx(1.1 / 3)
    assert summary(ROWS[:1], [1], [0])["forgetting"] is None


@pytest.mark.parametrize("labelled", [True, False])
def test_files_and_tables(labelled, tmp_path, capsys):
    rows, random = ({"knn": ROWS}, {"knn": [0.1, 0.1, 0.1]}) if labelled else ({}, {})
    results = assemble(rows, random, COURSE, ALONG, ["a.mp4: torn"], {"seed": 5})
    write(tmp_path, results, "a run")
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["skipped"] == ["a.mp4: torn"] and len(results["along"]) == 30
    lines = (tmp_path / "stream.csv").read_text().splitlines()
    assert lines[0].startswith("probe,samples,mean,so_far") and len(lines) == (5 if labelled else 1)
    picture = Image.open(io.BytesIO((tmp_path / "stream.png").read_bytes()))
    assert picture.width >= 600 and len(picture.convert("RGB").getcolors(10**6)) > 3
    print_tables(results, "a run")
    out = capsys.readouterr().out
    assert "300" in out and out.count("│") and ("random encoder" in out) == labelled
    assert ("46.7" in out) == labelled  # accuracy at the end


def test_the_same_results_give_the_same_picture(tmp_path):
    results = assemble({"knn": ROWS}, {"knn": [0.1] * 3}, COURSE, [], [], {})
    assert stream_report.picture(results, "t") == stream_report.picture(results, "t")
