"""Running a bash script of this project without a shell: its one kind of line is a Python command."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cassle.errors import ConfigError
from cassle.registry import did_you_mean

SLURM = ("--gpu", "--num_gpus", "--hours", "--requeue")  #: upstream's description of a job
PROGRAMS = ("main_continual.py", "main_linear.py")
SHOWN = 12  # names in an error
NAME = "[A-Za-z_][A-Za-z0-9_]*"
#: what a script is made of, in bash's grammar; the first that fits is taken
PIECE = re.compile(
    rf"""(?P<continued>\\[ \t\r]*\n)
    |(?P<end>\n)
    |(?P<blank>[ \t\r]+)
    |(?P<comment>(?<!\S)\#[^\n]*)
    |'(?P<single>[^']*)'
    |"(?P<double>(?:[^"\\]|\\.)*)"
    |\\(?P<escaped>.)
    |(?P<variable>\${NAME}|\$\{{{NAME}\}})
    |(?P<shell>[|&;<>()`]|\$\()
    |(?P<plain>[^\s'"\\$|&;<>()`]+)""",
    re.VERBOSE | re.DOTALL,
)
#: the same between double quotes
INSIDE = re.compile(
    rf"""\\(?P<escaped>[$`"\\])
    |(?P<continued>\\\n)
    |(?P<variable>\${NAME}|\$\{{{NAME}\}})
    |(?P<shell>`|\$\()
    |(?P<plain>[^$`\\]+|\\)""",
    re.VERBOSE,
)


def parse_script(path: Path, *, missing_ok: bool = False, environment: dict[str, str] | None = None) -> list[list[str]]:
    """Return the commands of a script as lists of words.

    As in a shell, ``$NAME`` and ``${NAME}`` are expanded except between single quotes, and ``~`` at the start of a word
    is the home folder. Unlike there, an expanded variable stays one word even if it holds blanks, and an unset one is
    an error.

    Args:
        path: the script: comments, ``export NAME=VALUE``, and commands ``python main_continual.py --flag value …``.
        missing_ok: leave unset variables as they are (to look at a script without its data).
        environment: where variables are looked up, and where those that the script sets are put; default: a copy of
            this process's.

    Raises:
        ConfigError: no such file; not text; something that needs a shell; an unset variable; no command.
    """
    if not path.is_file():
        raise ConfigError(f"--script {path}: {_instead_of(path)}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"--script {path}: is not text in UTF-8; give a bash script.") from None
    environment = dict(os.environ) if environment is None else environment
    commands = []
    try:
        for words in _lines(text, environment, missing_ok):
            while words and (words[0] == "export" or re.fullmatch(f"{NAME}=.*", words[0], re.DOTALL)):
                name, _, value = words.pop(0).partition("=")
                if name != "export":
                    environment[name] = value
            if words and words[0] != "set":
                commands.append(_command(words, path))
    except ValueError as error:
        raise ConfigError(f"--script {path}: {error}") from None
    if not commands:
        raise ConfigError(f"--script {path}: holds no command.")
    return commands


def _instead_of(path: Path) -> str:
    """Say of a path that is no file what can be found near it: scripts beside it, or the folders there are."""
    if path.is_dir():
        place, problem = path, "is a folder"
    else:
        place = next(above for above in path.absolute().parents if above.is_dir())
        problem = "no such file"
    try:
        entries = sorted(place.iterdir())
    except OSError:  # nobody may look
        return f"{problem}."
    scripts = [entry.name for entry in entries if entry.suffix == ".sh"]
    names = scripts or [f"{entry.name}/" for entry in entries if entry.is_dir() and entry.name[0] not in "._"]
    known = ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN)
    hint = did_you_mean(path.name, scripts) if scripts and place == path.absolute().parent else ""
    return f"{problem}.{hint} In {place}: {known or 'no script'}."


def _lines(text: str, environment: Mapping[str, str], missing_ok: bool) -> Iterator[list[str]]:
    """Yield the words of each line; its variables are looked up when it is reached, after the lines before it."""
    words: list[str] = []
    word: str | None = None  # the one that is being read
    for kind, span in _pieces(PIECE, text, (0, len(text))):
        if kind in ("blank", "continued", "comment", "end"):
            words += [] if word is None else [word]
            word = None
            if kind == "end":
                yield words
                words = []
            continue
        content = text[slice(*span)]
        if kind == "double":
            inner = [(sort, text[slice(*part)]) for sort, part in _pieces(INSIDE, text, span) if sort != "continued"]
            content = "".join(_value(c, environment, missing_ok) if sort == "variable" else c for sort, c in inner)
        elif kind == "variable":
            content = _value(content, environment, missing_ok)
            if not content and word is None:  # nothing, and no word either
                continue
        elif kind == "plain" and word is None:
            home = environment.get("HOME") or str(Path.home())
            content = re.sub(rf"^((?:{NAME}=)?)~(?=/|$)", lambda start, home=home: start[1] + home, content)
        word = (word or "") + content
    yield words if word is None else [*words, word]


def _pieces(grammar: re.Pattern, text: str, span: tuple[int, int]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the kind and the place of each piece of ``text`` in ``span``.

    Raises:
        ValueError: something that only a shell understands.
    """
    position, end = span
    while position < end:
        piece = grammar.match(text, position, end)
        if piece is None or piece.lastgroup == "shell":
            line = text[text.rfind("\n", 0, position) + 1 :].partition("\n")[0].strip()
            if piece is not None:
                raise ValueError(f"'{line}' needs a shell; only plain commands are run.")
            if text[position] == "$":
                raise ValueError(
                    f"'{line}': of the expansions with $ only $NAME and ${{NAME}} are made; write '\\$' for $."
                )
            raise ValueError(f"'{line}' cannot be read (No closing quotation).")
        yield piece.lastgroup, piece.span(piece.lastgroup)
        position = piece.end()


def _value(variable: str, environment: Mapping[str, str], missing_ok: bool) -> str:
    name = variable.strip("${}")
    if name not in environment and not missing_ok:
        raise ValueError(f"${name} is not set; export {name}=… first.")
    return environment.get(name, variable)


def _command(words: list[str], path: Path) -> list[str]:
    """Return a command with this interpreter and this project's program, whatever the script's own are called."""
    if not re.fullmatch(r"(.*/)?python[\d.]*", words[0]) or len(words) < 2:
        raise ConfigError(f"--script {path}: '{' '.join(words[:3])}' is not a command 'python main_continual.py …'.")
    program = Path(words[1]).name
    program = "main_continual.py" if program == "main_pretrain.py" else program
    if program not in PROGRAMS:
        raise ConfigError(f"--script {path}: runs {words[1]}; only {' and '.join(PROGRAMS)} are run.")
    return [sys.executable, str(Path(__file__).parents[2] / program), *words[2:]]


def taken(words: list[str], flag: str) -> tuple[list[str], str | None]:
    """Return the words without ``flag VALUE`` (or ``flag=VALUE``), and the value, None without the flag."""
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[:i] + words[i + 2 :], words[i + 1]
        if word.startswith(f"{flag}="):
            return words[:i] + words[i + 1 :], word.partition("=")[2]
    return words, None


def launch(argv: Sequence[str]) -> int:
    """Run the commands of ``--script``, with every other flag appended to each; returns the first bad exit code.

    The last command replaces this process: its signals, its output and its exit code are its own, and killing the
    launcher leaves no orphan behind.

    Raises:
        ConfigError: the script is missing or needs a shell.
    """
    words, script = taken(list(argv), "--script")
    words, mode = taken(words, "--mode")
    if mode not in (None, "normal"):
        raise ConfigError(
            f"--mode {mode}: jobs are not written in this version; put 'job_launcher.py --script …' into a job of your "
            "own. It may be stopped and queued again: the same command continues."
        )
    for flag in SLURM:
        words, value = taken(words, flag)
        if value is not None:
            print(f"Note: {flag} is not used: it describes jobs of --mode slurm.", file=sys.stderr)
    if script is None:
        stray = next((word for word in words if word.endswith(".sh")), "bash_files/continual/digits/barlow.sh")
        raise ConfigError(f"--script: missing; say which script is to be run: --script {stray}")
    environment = dict(os.environ)  # with what the script exports, e.g. CUDA_VISIBLE_DEVICES
    parsed = parse_script(Path(script), missing_ok="--dry_run" in words, environment=environment)
    commands = [[*command, *words] for command in parsed]
    for command in commands[:-1]:
        code = subprocess.run(command, check=False, env=environment).returncode
        if code:
            print(f"{shlex.join(command)}: failed with exit code {code}; nothing more is run.", file=sys.stderr)
            return code if code > 0 else 128 - code
    sys.stdout.flush()
    os.execve(commands[-1][0], commands[-1], environment)
