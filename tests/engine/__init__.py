"""What the tests of the engine share: a run small enough to be repeated, and what must be equal about two of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cassle.data.resident import ResidentLoader
from cassle.engine.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
#: two tasks of two epochs of three steps
TINY = {
    "backbone": "tiny", "width": 4, "num_tasks": 2, "max_epochs": 2, "batch_size": 192, "warmup_epochs": 1,
    "proj_hidden_dim": 16, "output_dim": 8, "few_labels": 0, "linear_max_iter": 3, "accelerator": "cpu",
}  # fmt: skip
STEPS = 3  # per epoch
BYOL = {"method": "byol", "pred_hidden_dim": 16}
DISTILLED = {"distiller": "auto", "distill_proj_hidden_dim": 16}


class Killed(BaseException):
    """Stands for a sudden end: nothing in the library catches it or saves anything because of it."""


def run(base: Path, **settings: Any) -> dict:
    """Run a tiny experiment in ``base/job`` and return its results; a setting that is None is left out."""
    settings = {**TINY, "name": "job", "base_experiment_dir": base, "say": lambda line: None, **settings}
    return Experiment(**{name: value for name, value in settings.items() if value is not None}).run()


def command(base: Path, **settings: Any) -> list[str]:
    """Return the command line that does the same as :func:`run` in a process of its own."""
    settings = {**TINY, "name": "job", "base_experiment_dir": base, **settings}
    return [sys.executable, "main_continual.py", *(str(w) for k, v in settings.items() for w in (f"--{k}", v))]


def start(base: Path, **settings: Any) -> subprocess.Popen[str]:
    """Start :func:`command`, with as many threads as this process has; its lines come as they are printed."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        command(base, **settings),
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read lines until one holds ``text``; return them."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    process.stdout.close()
    process.wait()
    raise AssertionError(f"ended without '{text}': {''.join(lines)}")


def weights(folder: Path, task: int) -> dict[str, bytes]:
    """Return every tensor of a task's final checkpoint as bytes."""
    content = torch.load(folder / f"task{task}" / "final.ckpt", weights_only=True)
    parts = {"model": content["state_dict"], **content["probes"]}
    return {
        f"task{task} {part} {k}": v.numpy().tobytes() for part, tensors in parts.items() for k, v in tensors.items()
    }


def outcome(folder: Path, tasks: int = 2) -> dict[str, bytes]:
    """Return by name everything that must be byte-equal between two runs."""
    found = {name: (folder / name).read_bytes() for name in ("results.json", "accuracy_matrix.csv", "report.html")}
    for task in range(tasks):
        found |= weights(folder, task)
        found[f"task{task}/metrics.csv"] = (folder / f"task{task}" / "metrics.csv").read_bytes()
    return found


def assert_equal(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Compare two outcomes; name what differs, not the bytes."""
    different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    assert not different, f"different: {different[:8]}"


def kill_at_batch(monkeypatch, task: int, step: int) -> None:
    """Let the run die when it makes batch ``step`` (from 0, over all epochs) of ``task``."""
    make = ResidentLoader._make

    def dying(loader, number, index):
        if (loader.task, number) == (task, step):
            raise Killed
        return make(loader, number, index)

    monkeypatch.setattr(ResidentLoader, "_make", dying)
