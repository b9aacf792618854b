"""Scripts are parsed, not run by a shell."""

import subprocess
import sys
from pathlib import Path

import pytest

from cassle.engine import launch
from cassle.engine.launch import parse_script
from cassle.errors import ConfigError
from tests.conftest import REPOSITORY

PYTHON, MAIN = sys.executable, str(REPOSITORY / "main_continual.py")


@pytest.fixture
def script(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "script.sh"
        path.write_text(text)
        return path

    return write


def test_lines_comments_and_quotes(script):
    text = """#!/usr/bin/env bash
# python main_continual.py --no
set -e

python3 main_continual.py \\
    --name "two words"   --lars \\
  --gaussian_prob 0.0 0.2 # the end
"""
    expected = [PYTHON, MAIN, "--name", "two words", "--lars", "--gaussian_prob", "0.0", "0.2"]
    assert parse_script(script(text)) == [expected]


def test_carriage_returns_and_trailing_blanks_after_the_backslash(script):
    assert parse_script(script("python main_continual.py \\  \n  --lars\n")) == [[PYTHON, MAIN, "--lars"]]


def test_variables(script, monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/my data")
    monkeypatch.delenv("NOT_SET", raising=False)
    environment = {"DATA_DIR": "/my data"}
    text = "export SEED=3 OTHER=${DATA_DIR}/b\nNAME=x$SEED\n"
    text += "LR=1 python main_continual.py --a $DATA_DIR/c --b ${SEED} --c $OTHER --d $NAME"
    expected = [[PYTHON, MAIN, "--a", "/my data/c", "--b", "3", "--c", "/my data/b", "--d", "x3"]]
    assert parse_script(script(text)) == expected
    assert parse_script(script(text), environment=environment) == expected
    assert environment == {"DATA_DIR": "/my data", "SEED": "3", "OTHER": "/my data/b", "NAME": "x3", "LR": "1"}
    with pytest.raises(ConfigError, match=r"\$NOT_SET is not set; export NOT_SET=… first"):
        parse_script(script("python main_continual.py --a $NOT_SET"))
    assert parse_script(script("python main_continual.py --a $NOT_SET"), missing_ok=True)[0][-1] == "$NOT_SET"


def test_several_commands_and_other_names(script):
    text = "python3.11 main_pretrain.py --a\n/usr/bin/python ./main_linear.py --b"
    assert parse_script(script(text)) == [[PYTHON, MAIN, "--a"], [PYTHON, str(REPOSITORY / "main_linear.py"), "--b"]]


@pytest.mark.parametrize(
    "line",
    ["python main_continual.py --a | tee log", "python main_continual.py; rm -rf x", "python main_continual.py && true",
     "python main_continual.py > log", "python main_continual.py --a `date`", "python main_continual.py --a $(date)",
     "python main_continual.py &", "python main_continual.py --name 'x # y' | cat",
     "python main_continual.py --name \"$(date)\"", "python main_continual.py # no\npython main_continual.py --a >x"],
)  # fmt: skip
def test_what_needs_a_shell_is_refused(script, line):
    with pytest.raises(ConfigError, match="needs a shell; only plain commands are run"):
        parse_script(script(line))


@pytest.mark.parametrize(
    "text, message",
    [
        ("rm -rf x", "is not a command 'python main_continual.py …'"),
        ("python", "is not a command"),
        ("python other.py --a", "runs other.py; only main_continual.py and main_linear.py"),
        ("# nothing", "holds no command"),
        ("python main_continual.py --name 'open", "cannot be read .No closing quotation"),
        ("python main_continual.py --a ${A:-b}", r"only \$NAME and \$\{NAME\} are made"),
        ('python main_continual.py --a "${A:-b}"', r"only \$NAME and"),
        ('python main_continual.py "$@"', r"only \$NAME and"),
        ("python main_continual.py --a $1 --b $?", r"only \$NAME and"),
        ("python main_continual.py \\\n# --a \\\n  --b", "'--b' is not a command"),
    ],
)
def test_other_content_is_refused(script, text, message):
    with pytest.raises(ConfigError, match=message):
        parse_script(script(text))


@pytest.mark.parametrize(
    "text, words",
    [
        ("'a;b|c' \"x & y\" '$(date)' '`'", ["a;b|c", "x & y", "$(date)", "`"]),
        ('\'$A\' "$A" \\$A "\\$A" $A.${A}x', ["$A", "1", "$A", "$A", "1.1x"]),
        ("a'b c'\"d e\"f a#b 'x # y' '' # no", ["ab cd ef", "a#b", "x # y", ""]),
        ("~/x ~ a~/b '~/x' \\~ --d=~/x", ["/home/me/x", "/home/me", "a~/b", "~/x", "~", "--d=~/x"]),
        ('$EMPTY a$EMPTY "$EMPTY"', ["a", ""]),
        ('\'two\nlines\' "three\\\nlines" back\\ slash "c:\\d"', ["two\nlines", "threelines", "back slash", "c:\\d"]),
    ],
)
def test_quotes_and_expansions_are_those_of_bash(script, text, words):
    environment = {"A": "1", "EMPTY": "", "HOME": "/home/me"}
    assert parse_script(script(f"python main_continual.py {text}\n"), environment=environment)[0][2:] == words
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}\n"], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\0")[:-1] == words


def test_the_home_folder_in_an_assignment(script):
    text = "export DATA_DIR=~/data\npython main_continual.py --data_dir $DATA_DIR"
    assert parse_script(script(text), environment={"HOME": "/h"})[0][-1] == "/h/data"


def test_a_script_that_is_not_text(tmp_path):
    (tmp_path / "script.sh").write_bytes(b"python main_continual.py --name \xff")
    with pytest.raises(ConfigError, match=r"script.sh: is not text in UTF-8"):
        parse_script(tmp_path / "script.sh")


def test_a_missing_script(tmp_path):
    with pytest.raises(ConfigError, match=r"--script .*no.sh: no such file"):
        launch.launch(["--script", str(tmp_path / "no.sh")])
    with pytest.raises(ConfigError, match="--script: missing"):
        launch.launch(["--lars"])
    with pytest.raises(ConfigError, match=r"--script: missing; .*--script a/mine\.sh$"):
        launch.launch(["a/mine.sh", "--lars"])


def test_a_missing_script_names_what_is_there(tmp_path):
    for path in ("digits/barlow.sh", "digits/byol.sh", "digits/notes.txt", "cifar/simclr.sh"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for given, said in (
        ("digits/barlo.sh", f"no such file. Did you mean 'barlow.sh'? In {tmp_path}/digits: barlow.sh, byol.sh."),
        ("digts/barlow.sh", f"no such file. In {tmp_path}: cifar/, digits/."),
        ("cifar", f"is a folder. In {tmp_path}/cifar: simclr.sh."),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_script(tmp_path / given)
        assert str(caught.value) == f"--script {tmp_path / given}: {said}"


@pytest.fixture
def started(monkeypatch):
    """Record the commands that would be started; each but the last returns the next of ``codes``."""
    calls, codes = [], []

    def run(command, check, env):
        calls.append((command, env))
        return subprocess.CompletedProcess(command, codes.pop(0))

    monkeypatch.setattr(launch.subprocess, "run", run)
    monkeypatch.setattr(launch.os, "execve", lambda program, command, env: calls.append((command, env)))
    return calls, codes


@pytest.mark.parametrize("spelling", [["--script", "{}"], ["--script={}"]])
def test_further_flags_go_to_every_command(script, started, spelling):
    calls, codes = started
    codes.append(0)
    path = str(script("export CUDA_VISIBLE_DEVICES=3\npython main_continual.py --lr 1\npython main_linear.py"))
    launch.launch(["--seed", "7", *[word.format(path) for word in spelling], "--experiment_dir", "d"])
    assert [command[2:] for command, _ in calls] == [
        ["--lr", "1", "--seed", "7", "--experiment_dir", "d"],
        ["--seed", "7", "--experiment_dir", "d"],
    ]
    assert {env["CUDA_VISIBLE_DEVICES"] for _, env in calls} == {"3"}


@pytest.mark.parametrize("code, expected", [(2, 2), (-9, 137)])
def test_a_failed_command_stops_the_script(script, started, capsys, code, expected):
    calls, codes = started
    codes.append(code)
    assert launch.launch(["--script", str(script("python main_continual.py --a\npython main_linear.py"))]) == expected
    assert len(calls) == 1 and f"exit code {code}; nothing more is run" in capsys.readouterr().err


def test_the_exit_code_of_a_real_run(script, tmp_path):
    """One process for all: the launcher, the last command in its place, its message and its code."""
    path = script("python main_continual.py --trainer")
    command = [PYTHON, "job_launcher.py", "--script", str(path), "--config", str(tmp_path / "no.yaml")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and "no.yaml: cannot be read" in done.stderr, done.stderr


def test_the_projects_own_scripts_can_be_read():
    scripts = sorted((REPOSITORY / "bash_files").rglob("*.sh"))
    assert scripts and all(parse_script(path, missing_ok=True) for path in scripts)


def test_upstreams_description_of_a_job(script, started, capsys):
    calls, _ = started
    path = str(script("python main_continual.py --lr 1"))
    launch.launch(["--script", path, "--mode", "normal", "--num_gpus", "2", "--hours=20"])
    assert [command[2:] for command, _ in calls] == [["--lr", "1"]]
    assert "--num_gpus is not used" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"--mode slurm: jobs are not written .* continues"):
        launch.launch(["--script", path, "--mode", "slurm"])
