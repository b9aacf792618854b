"""What the benchmarks that train share: runs as commands that continue, and numbers over seeds."""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run(flags: Sequence[str]) -> int:
    """Run ``main_continual.py`` with these flags; print the command and the time it took; return its exit status.

    The same flags again continue a run that was killed, and leave a finished one as it is.
    """
    print(shlex.join(["python", "main_continual.py", *flags]), flush=True)
    start = time.time()
    code = subprocess.run([sys.executable, "main_continual.py", *flags], cwd=ROOT, check=False).returncode
    if not code:
        print(f"took {time.time() - start:.0f} s", flush=True)
    return code


def read_results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the content of ``results.json`` of those folders whose run went through all its tasks or its stream."""
    files = [folder / "results.json" for folder in folders]
    results = [json.loads(file.read_text()) for file in files if file.is_file()]
    return [result for result in results if _finished(result)]


def _finished(result: dict[str, Any]) -> bool:
    if "num_evaluations" in result:  # of a stream
        return len(result["samples"]) == result["num_evaluations"]
    return tasks_done(result) == result["num_tasks"]


def tasks_done(result: dict[str, Any]) -> int:
    """Return the number of rows of the accuracy matrices."""
    return min(len(probe["accuracy_matrix"]) for probe in result["probes"].values())


def over_seeds(values: Sequence[float]) -> str:
    """Return fractions as percent: mean ± half the range."""
    percent = [100 * value for value in values]
    return f"{statistics.fmean(percent):.1f} ± {(max(percent) - min(percent)) / 2:.1f}"
