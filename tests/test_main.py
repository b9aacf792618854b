"""``python -m cassle``: what is there, from its own docstrings."""

import inspect

import pytest

from cassle import BACKBONES, BENCHMARKS, DISTILLERS, MEMORIES, METHODS, STRATEGIES
from cassle.__main__ import main

ROOMS = {
    "methods": METHODS, "distillers": DISTILLERS, "strategies": STRATEGIES, "memories": MEMORIES,
    "backbones": BACKBONES, "benchmarks": BENCHMARKS,
}  # fmt: skip


def test_list_shows_everything_with_one_line_each(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for registry in ROOMS.values():
        for name, component in registry.items():
            own = [line for line in lines if line.split()[:1] == [name]]
            said = getattr(component, "summary", None) or inspect.getdoc(component).splitlines()[0]
            assert sum(line.endswith(said) for line in own) == 1 and len(said) > 10, name


@pytest.mark.parametrize("room", ROOMS)
def test_list_of_one_room(room, capsys):
    assert main(["list", room]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(lines) == len(ROOMS[room]) + (room == "backbones")  # and any model of timm


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["list", "methos"], 2, "Did you mean 'methods'?"),
        (["lst"], 2, "Did you mean 'list'?"),
        (["export", "one"], 2, "takes two words"),
        (["export", "none.ckpt", "out"], 1, "none.ckpt"),
        ([], 2, "usage:"),
        (["--help"], 0, "usage:"),
        (["export", "--help"], 0, "usage:"),
    ],
)
def test_what_is_typed_wrong(words, code, said, capsys):
    assert main(words) == code
    output = capsys.readouterr()
    assert said in output.out + output.err
