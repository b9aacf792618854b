"""Imports only go down, and `import cassle` costs nothing."""

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cassle

PACKAGE = Path(cassle.__file__).parent
#: from the top to the bottom; a layer may import from itself and from the layers below
LAYERS = (
    "__main__",
    "cli",
    "spelling",
    "kaizen_spelling",
    "engine",
    "evaluation",
    "strategies",
    "distill",
    "methods",
    "memory",
    "data",
    ("nn", "optim"),
    "losses",
    ("registry", "randomness", "atomic", "processes", "locks"),
    ("errors", "checks"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in ([layer] if isinstance(layer, str) else layer)}


def imports(source: str) -> Iterator[str]:
    """Yield every module of cassle that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "cassle")
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError("relative import")
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cassle":
            # `from cassle import data` and `from cassle.data import crop` name modules, not attributes
            below = PACKAGE / Path(*node.module.split(".")[1:])
            for alias in node.names:
                is_module = (below / alias.name).is_dir() or (below / f"{alias.name}.py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def upward(module: str, source: str) -> list[str]:
    """Return the imports of a module that go up: to a higher layer, or across two layers of the same height."""
    mine = module.split(".")[1]
    found = []
    for target in imports(source):
        theirs = target.split(".")[1] if "." in target else None
        if theirs is None:
            found.append(target)  # `import cassle` inside cassle: the public names are for people
        elif theirs != mine and RANK[theirs] <= RANK[mine]:
            found.append(target)
    return found


MODULES = {
    ".".join(("cassle", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    assert upward(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("cassle.data.module", "from cassle.engine.plan import Plan"),
        ("cassle.losses.byol", "def f():\n    import cassle.nn.heads"),
        ("cassle.nn.heads", "from cassle.optim.build import Optimization"),
        ("cassle.methods.base", "from cassle import distill"),
        ("cassle.errors", "from cassle.registry import did_you_mean"),
        ("cassle.engine.plan", "import cassle"),
    ],
)
def test_an_upward_import_is_caught(module, source):
    assert upward(module, source)


@pytest.mark.parametrize(
    "module, source",
    [
        ("cassle.engine.plan", "from cassle.data import module\nimport cassle.errors\nimport torch"),
        ("cassle.nn.heads", "from cassle.nn import state"),
    ],
)
def test_a_downward_import_is_not(module, source):
    assert upward(module, source) == []


def test_every_module_has_a_layer():
    assert {module.split(".")[1] for module in MODULES} <= set(RANK)


def test_no_room_for_odds_and_ends():
    assert [path for path in PACKAGE.rglob("*.py") if path.stem in ("utils", "util", "misc", "helpers", "common")] == []


def test_scripts_are_short():
    scripts = [PACKAGE.parent / name for name in ("job_launcher.py", "main_continual.py", "main_linear.py")]
    assert all(len(script.read_text().splitlines()) <= 60 for script in scripts)


def python(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=PACKAGE.parent)
    return time.perf_counter() - start


def test_importing_cassle_is_light():
    here = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
    heavy = "heavy = {'torch', 'numpy', 'pytorch_lightning', 'jsonargparse', 'yaml'} & set(sys.modules); "
    heavy += "assert not heavy, heavy"
    bare = min(python("import sys") for _ in range(2))
    # 0.1 s is the aim; five times that still tells a light import from one that loads torch (seconds)
    assert min(python(f"{here}import cassle; {heavy}") for _ in range(2)) - bare < 0.5


def test_public_names_resolve():
    assert {name for name in dir(cassle) if getattr(cassle, name) is None} == set()
    assert {"simclr", "barlow_twins", "byol", "lejepa"} <= set(cassle.METHODS)
    with pytest.raises(AttributeError, match="nonsense"):
        cassle.nonsense  # noqa: B018
