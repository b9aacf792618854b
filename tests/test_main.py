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
        (["list", "methos"], 2, "Did you mean 'methods'? There are: methods, distillers, "),
        (["list", "simclr"], 2, "one of the methods: give 'list methods'; 'main_continual.py --method simclr --help'"),
        (["list", "er"], 2, "no such list. It is one of the strategies: give 'list strategies'. There are:"),
        (["lst"], 2, "Did you mean 'list'?"),
        (["export", "one"], 2, "takes two words"),
        (["export", "none.ckpt", "out"], 1, "none.ckpt"),
        ([], 2, "usage:"),
        (["--help"], 0, "usage:"),
        (["export", "--help"], 0, "usage:"),
        (["verify", "--help"], 0, "folder for the lists, if not DIR itself"),
        (["verify"], 2, "verify: the following arguments are required: DIR"),
        (["verify", "a", "b"], 2, "unrecognized arguments: b"),
        (["verify", "a", "--num_workers", "0"], 2, "--num_workers 0: must be at least 1"),
        (["verify", "a", "--num_workers", "x"], 2, "invalid int value: 'x'"),
        (["verify", "no/such"], 2, "verify no/such: no such folder"),
    ],
)
def test_what_is_typed_wrong(words, code, said, capsys):
    assert main(words) == code
    output = capsys.readouterr()
    assert said in output.out + output.err


def test_verify(image_tree, tmp_path, capsys):
    """Nothing but the report where nobody watches; the exit status tells what was found."""
    folder = image_tree()
    words = ["verify", str(folder), "--num_workers", "2"]
    assert main(words) == 0
    output = capsys.readouterr()
    assert "14 image files, 14 clean, 0 in quarantine (14 looked at, 0 known" in output.out and output.err == ""
    (folder / "train" / "cat" / "0.png").write_bytes(b"")
    assert main(words) == 1
    output = capsys.readouterr()
    assert (
        "1 in quarantine (1 looked at, 13 known" in output.out and "\n    train/cat/0.png: empty file\n" in output.out
    )
    assert main([*words, "--out", str(tmp_path / "lists")]) == 1
    assert (tmp_path / "lists" / "cassle-quarantine.txt").read_text() == "train/cat/0.png\tempty file\n"


def test_verify_where_no_lists_can_be_written(image_tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["verify", str(image_tree()), "--out", str(tmp_path / "file")]) == 2
    assert "no place for the lists" in capsys.readouterr().err
