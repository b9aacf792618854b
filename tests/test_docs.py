"""What the documentation shows is what runs."""

import re
import sys
import types
from pathlib import Path

import pytest

import cassle
from cassle.data import STREAMED
from cassle.data.module import TaskData
from cassle.engine import choice
from cassle.errors import DataError

ROOT = Path(__file__).parents[1]


def test_the_method_of_the_architecture_page_trains(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "architecture.md").read_text()
    source = next(block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "class TiCo" in block)
    module = types.ModuleType("cassle.methods.tico")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "tico.py"  # jsonargparse reads the signature's source
    path.write_text(source)
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(cassle.METHODS._targets, "tico", "cassle.methods.tico:TiCo")
    for cached in (choice.model_class, choice.schema_for, choice.known_settings):
        cached.cache_clear()
    results = cassle.Experiment(
        method="tico", distiller="auto", backbone="tiny", width=4, num_tasks=2, max_epochs=1, batch_size=256,
        output_dim=16, proj_hidden_dim=16, distill_proj_hidden_dim=16, rho=2.0, few_labels=0,
        disable_linear_eval=True, experiment_dir=tmp_path / "run",
    ).run()  # fmt: skip
    assert len(results["probes"]["knn"]["accuracy_matrix"]) == 2
    header = (tmp_path / "run" / "task1" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"agreement", "contrast", "distill"} <= set(header)


def test_the_benchmark_of_the_data_page_is_one(tmp_path, monkeypatch, noise_image):
    page = (ROOT / "docs" / "data.md").read_text()
    source = next(block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "PACS = " in block)
    module = types.ModuleType("cassle.data.pacs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "pacs.py", "exec"), module.__dict__)
    monkeypatch.setitem(cassle.BENCHMARKS._targets, "pacs", "cassle.data.pacs:PACS")
    pacs = {"dataset": "pacs", "split_strategy": "domain", "num_tasks": 4}
    for number in range(10 * 28):
        domain, kind = module.DOMAINS[number % 4], module.CLASSES[number // 4 % 7]
        noise_image(tmp_path / "pacs" / domain / kind / f"{number}.jpg", seed=number)
    images = TaskData(**pacs, data_dir=tmp_path / "pacs").load(8)
    assert [len(part) for part in images.split.train] == [56] * 4 and [len(part) for part in images.split.val] == [
        14
    ] * 4
    assert images.split.contents == module.DOMAINS and images.eval_border == 1 and images.split.knows_domains
    with pytest.raises(
        DataError, match=r"(?s)expected:.*7 class folders.*found:.*pacs/.*Did you mean --data_dir .*/pacs"
    ):
        TaskData(**pacs, data_dir=tmp_path).parts()


def test_the_table_of_the_data_page():
    page = (ROOT / "docs" / "data.md").read_text()
    rows = [row.split("|") for row in page.splitlines() if row.startswith("| `") and row.count("|") == 8]
    told = {name.strip(" `"): row for row in rows[1:] for name in row[1].split(",")}
    assert {*told} == {*cassle.BENCHMARKS} - {*STREAMED}
    for name, row in told.items():
        benchmark = cassle.BENCHMARKS[name]
        whole = "all of it" if benchmark.eval_border == 1 else f"{benchmark.eval_resize}, centre {benchmark.image_size}"
        assert int(row[4]) == benchmark.image_size and row[5].strip() == whole, name
        if benchmark.num_train and name != "core50_categories":
            assert name == "stl10" or f"{benchmark.num_train:,} / " in row[3], name
        assert str(benchmark.num_classes or "any") in row[2].replace(",", "") or "," in row[2], name


def test_every_file_that_the_readme_links_to_is_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
