"""How long a user waits before anything happens: ``python benchmarks/startup.py``.

``import cassle`` must not import torch (the names are handed out lazily), and the launcher's ``--help`` must not build
the parser of a whole run. Both are medians of fresh interpreters, in turns with a bare one; the import is what it adds
to the bare interpreter.

Exits 1 when the import takes more than 0.1 s, or the help more than 2 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table import interleaved, print_table, verdict

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import cassle": ["-c", "import cassle"],
    "job_launcher.py --help": ["job_launcher.py", "--help"],
    "main_continual.py --help": ["main_continual.py", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall-clock time of a fresh interpreter with ``arguments``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="fresh interpreters per command (default 5)")
    repeats = parser.parse_args().repeats
    runs = interleaved({name: lambda words=words: seconds(words) for name, words in COMMANDS.items()}, repeats)
    median = {name: statistics.median(values) for name, values in runs.items()}
    rows = [(name, f"{median[name]:.3f}", f"{min(runs[name]):.3f}", f"{max(runs[name]):.3f}") for name in COMMANDS]
    print_table([("fresh interpreter, seconds", "median", "fastest", "slowest"), *rows])
    added = statistics.median(
        with_it - bare for with_it, bare in zip(runs["import cassle"], runs["bare interpreter"], strict=True)
    )
    print()
    good = [
        verdict("import cassle, seconds over a bare interpreter", added, 0.1, least=False),
        verdict("job_launcher.py --help, seconds", median["job_launcher.py --help"], 2.0, least=False),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
