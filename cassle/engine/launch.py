"""Running a bash script of this project without a shell: its one kind of line is a Python command."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cassle.errors import ConfigError

PROGRAMS = ("main_continual.py", "main_linear.py")
SHELL = re.compile(r"[|&;<>`]|\$\(")
VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def parse_script(path: Path, *, missing_ok: bool = False, environment: dict[str, str] | None = None) -> list[list[str]]:
    """Return the commands of a script as lists of words; only ``$VARS`` are expanded.

    Args:
        path: the script: comments, ``export NAME=VALUE``, and commands ``python main_continual.py --flag value …``.
        missing_ok: leave unset variables as they are (to look at a script without its data).
        environment: where variables are looked up, and where those that the script sets are put; default: a copy of
            this process's.

    Raises:
        ConfigError: no such file; something that needs a shell; an unset variable; no command.
    """
    if not path.is_file():
        raise ConfigError(f"--script {path}: no such file.")
    text = re.sub(r"\\\s*\n", " ", path.read_text())
    environment = dict(os.environ) if environment is None else environment
    commands = []
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:  # an open quotation
            raise ConfigError(f"--script {path}: '{line.strip()}' cannot be read ({error}).") from None
        if not words or words[0] == "set":
            continue
        if SHELL.search(re.sub(r"#.*", "", line)):
            raise ConfigError(f"--script {path}: '{line.strip()}' needs a shell; only plain commands are run.")
        words = [_expand(word, environment, path, missing_ok) for word in words]
        while words and (words[0] == "export" or re.fullmatch(r"\w+=.*", words[0])):
            name, _, value = words.pop(0).partition("=")
            if name != "export":
                environment[name] = value
        if words:
            commands.append(_command(words, path))
    if not commands:
        raise ConfigError(f"--script {path}: holds no command.")
    return commands


def _expand(word: str, environment: dict[str, str], path: Path, missing_ok: bool) -> str:
    def value(match: re.Match) -> str:
        name = match.group(1)
        if name in environment:
            return environment[name]
        if missing_ok:
            return match.group(0)
        raise ConfigError(f"--script {path}: ${name} is not set; export {name}=… first.")

    return VARIABLE.sub(value, word)


def _command(words: list[str], path: Path) -> list[str]:
    """Return a command with this interpreter and this project's program, whatever the script's own are called."""
    if not re.fullmatch(r"(.*/)?python[\d.]*", words[0]) or len(words) < 2:
        raise ConfigError(f"--script {path}: '{' '.join(words[:3])}' is not a command 'python main_continual.py …'.")
    program = Path(words[1]).name
    program = "main_continual.py" if program == "main_pretrain.py" else program
    if program not in PROGRAMS:
        raise ConfigError(f"--script {path}: runs {words[1]}; only {' and '.join(PROGRAMS)} are run.")
    return [sys.executable, str(Path(__file__).parents[2] / program), *words[2:]]


def launch(argv: Sequence[str]) -> int:
    """Run the commands of ``--script``, with every other flag appended to each; returns the first bad exit code.

    The last command replaces this process: its signals, its output and its exit code are its own, and killing the
    launcher leaves no orphan behind.

    Raises:
        ConfigError: the script is missing or needs a shell.
    """
    words, script = list(argv), None
    for i, word in enumerate(words):
        if word == "--script" and i + 1 < len(words):
            script, words = Path(words[i + 1]), words[:i] + words[i + 2 :]
            break
        if word.startswith("--script="):
            script, words = Path(word.partition("=")[2]), words[:i] + words[i + 1 :]
            break
    if script is None:
        raise ConfigError("--script: missing; give a file of bash_files/, e.g. bash_files/continual/digits/barlow.sh.")
    environment = dict(os.environ)  # with what the script exports, e.g. CUDA_VISIBLE_DEVICES
    parsed = parse_script(script, missing_ok="--dry_run" in words, environment=environment)
    commands = [[*command, *words] for command in parsed]
    for command in commands[:-1]:
        code = subprocess.run(command, check=False, env=environment).returncode
        if code:
            print(f"{shlex.join(command)}: failed with exit code {code}; nothing more is run.", file=sys.stderr)
            return code if code > 0 else 128 - code
    sys.stdout.flush()
    os.execve(commands[-1][0], commands[-1], environment)
