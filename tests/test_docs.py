"""What the documentation shows is what runs."""

import re
import sys
import types
from pathlib import Path

import cassle
from cassle.engine import choice

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


def test_every_file_that_the_readme_links_to_is_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
