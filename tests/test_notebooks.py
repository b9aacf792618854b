"""The notebooks run: every code cell, in order, in one namespace."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace = {}
    for source in cells:
        text = "".join(source).replace("max_epochs=10", "max_epochs=1")
        exec(compile(text, str(path), "exec"), namespace)
    assert (tmp_path / "experiments" / "barlow_twins-decorrelative-digits" / "results.json").is_file()
    assert len(namespace["rows"]["knn"]) == 5
