"""Whether a killed run loses anything: ``python benchmarks/resume.py --kills 20``, and with another ``--job``.

One run is left alone. Then runs of the same settings are killed with SIGKILL at moments drawn uniformly over that
run's whole duration (counted from its first line of output, so that a kill hits the work and not the imports), and
continued by the same command, to be killed again at a moment of what is left, up to three times; then the next folder,
until there were enough kills. A quarter of the kills wait, after their moment, for a checkpoint that is just being
written (on a disk made slow for them). Each finished folder is compared with the undisturbed one, byte by byte: all
that every ``final.ckpt`` holds (weights, the online probe; of a stream the memory with its images and features, the
optimizer, the position), ``results.json``, the results as CSV and PNG, every ``metrics.csv``.

The jobs save after every step (``--checkpoint_minutes 0``), so they are short: three tasks of scikit-learn's digits
with a distiller (tasks); a stream of them in class order whose images are kept in a MinRed memory, with a warm-up,
three updates for every batch and four evaluations (stream); or two tasks of JPEG files at 96 pixels with replay, which
worker processes or DALI decode (workers, dali).
Exits 1 on any difference, and when a continued run fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from table import print_table
from trees import imagenet_tree, pictures

ROOT = Path(__file__).resolve().parent.parent
COMMON = {
    "backbone": "tiny", "width": 8, "batch_size": 64, "proj_hidden_dim": 64, "output_dim": 32, "few_labels": 0,
    "linear_max_iter": 20, "checkpoint_minutes": 0, "num_threads": 1, "accelerator": "cpu", "name": "job",
}  # fmt: skip
FILES_JOB = {
    "method": "simclr", "dataset": "custom", "size": 96, "num_tasks": 2, "max_epochs": 2, "warmup_epochs": 1,
    "batch_size": 24, "strategy": "er", "mem_size": 48, "replay_batch_size": 8, "num_workers": 2,
}  # fmt: skip
JOBS = {
    "tasks": {
        "method": "byol", "distiller": "auto", "split_strategy": "data", "num_tasks": 3, "max_epochs": 2,
        "warmup_epochs": 1, "distill_proj_hidden_dim": 32,
    },
    "stream": {
        "method": "simsiam", "stream": "class", "strategy": "minred", "payload": "true", "mem_size": 192,
        "memory_warm_up": 192, "num_updates": 3, "replay_batch_size": 48, "lr": 0.1, "eval_at": [25, 50, 75, 100],
    },
    "workers": {**FILES_JOB, "engine": "workers"},
    "dali": {**FILES_JOB, "engine": "dali", "dali_device": "cpu"},
}  # fmt: skip
LAST_PHASE = "writing the results"
KILLS_A_RUN, SHARE_WHILE_SAVING = 3, 0.25
#: the program as on a disk that takes a twentieth of a second longer per file: time to be killed while saving
SLOW_DISK = """
import os, runpy, sys, time
fsync = os.fsync
os.fsync = lambda file: (fsync(file), time.sleep(0.05))[0]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FILES = ("results.json", "accuracy_matrix.csv", "accuracy_matrix.png", "report.html", "stream.csv", "stream.png")
Settings = Mapping[str, Any]


class Run:
    """A process of the job, from its first line of output on.

    Args:
        settings: of the job.
        folder: of the experiment.
        slow_disk: write as slowly as a bad disk.
    """

    def __init__(self, settings: Settings, folder: Path, *, slow_disk: bool = False) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        settings = {**settings, "base_experiment_dir": folder.parent, "experiment_dir": folder.name}
        words = [*(["-c", SLOW_DISK] if slow_disk else []), "main_continual.py"]
        for name, value in settings.items():
            words += [f"--{name}", *(value if isinstance(value, list) else [value])]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, words)], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        while not self.log.stat().st_size and self.process.poll() is None:
            time.sleep(0.01)
        self.start = time.monotonic()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end for at most so long; tell whether the run has ended."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_for_saving(self) -> bool:
        """Wait until a checkpoint is being written; tell whether the run has ended instead."""
        while self.process.poll() is None:
            if any(self.folder.glob("task*/.*.ckpt.tmp")):
                return False
            time.sleep(0.002)
        return True

    def kill(self) -> str:
        """Kill the process; return the phase that it was in."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.phase()

    def phase(self) -> str:
        """Tell from what lies in the folder where the run was."""
        if writing := sorted(path.name for path in self.folder.rglob(".*.tmp")):
            return f"writing {writing[0].removeprefix('.').removesuffix('.tmp')}"
        ledger = self.folder / "ledger.json"
        tasks = json.loads(ledger.read_text())["tasks"] if ledger.is_file() else []
        if not tasks:
            return "evaluating the random encoder"
        for number, task in enumerate(tasks):
            if task["status"] == "trained":
                return f"evaluating task {number}"
            if task["status"] == "pending":
                steps = self.folder / f"task{number}" / "last.ckpt"
                return f"training task {number}" if steps.exists() else f"before the first step of task {number}"
        return LAST_PHASE


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of everything that must be equal."""
    import torch

    for path in (folder / name for name in FILES):
        if path.is_file():
            yield path.name, path.read_bytes()
    for task in sorted(folder.glob("task*")):
        yield f"{task.name}/metrics.csv", (task / "metrics.csv").read_bytes()
        checkpoint = torch.load(task / "final.ckpt", weights_only=True)
        for part in ("state_dict", "probes", "carried"):
            yield from leaves(checkpoint.get(part), f"{task.name}/{part}")


def leaves(value: Any, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield what lies in nested dictionaries and lists: tensors as their bytes, the rest as it is written."""
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{name}/{key}")
    else:
        yield name, value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="at least so many (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--job", choices=JOBS, default="tasks")
    parser.add_argument("--method", help="default: byol, of a stream simsiam")
    parser.add_argument("--distiller", help="of tasks: auto (default), none, or a name")
    args = parser.parse_args()
    given = {name: value for name in ("method", "distiller") if (value := getattr(args, name))}
    with tempfile.TemporaryDirectory() as folder:
        settings = {**COMMON, **JOBS[args.job], **given}
        if "engine" in settings:
            tree = imagenet_tree(Path(folder) / "images", pictures(120), classes=6, per_class=20)
            settings["data_dir"] = tree
        return kill_and_compare(args, settings, Path(folder))


def kill_and_compare(args: argparse.Namespace, settings: Settings, base: Path) -> int:
    """Do what the module says below ``base``; return the exit code."""
    reference = Run(settings, base / "reference")
    reference.wait()
    duration = time.monotonic() - reference.start
    if reference.process.returncode:
        print(reference.log.read_text())
        return 1
    expected = dict(contents(reference.folder))
    facts = f"{duration:.1f} s from the first line, {len(expected)} items compared, seed {args.seed}"
    way = settings.get("distiller") or f"{settings['strategy']}, {args.job}"
    print(f"{settings['method']} + {way}: {facts}", flush=True)
    draws, rows, chain, bad = random.Random(args.seed), [], 0, 0
    while len(rows) < args.kills:
        kills, left = [], duration
        while True:
            enough = len(kills) == KILLS_A_RUN or (kills and kills[-1][-1] == LAST_PHASE)
            moment = None if enough else draws.uniform(0, max(left, duration / 5))
            at_saving = moment is not None and draws.random() < SHARE_WHILE_SAVING
            run = Run(settings, base / f"run{chain}", slow_disk=at_saving)
            if run.wait(moment) or (at_saving and run.wait_for_saving()):
                break
            elapsed = time.monotonic() - run.start
            left -= elapsed
            kills.append([chain, f"{elapsed:.2f}", "while saving" if at_saving else "random", run.kill()])
        if not kills and not at_saving:
            duration = time.monotonic() - run.start  # the machine is faster now than it was
        if run.process.returncode:
            print(run.log.read_text())
            return 1
        found = dict(contents(run.folder))
        different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        bad += bool(different)
        outcome = f"differs: {', '.join(different[:3])}" if different else "equal"
        rows += [[len(rows) + n + 1, *kill, outcome] for n, kill in enumerate(kills)]
        chain += 1
    print_table([("kill", "run", "at second", "chosen", "phase", "the run in the end"), *rows])
    print(f"\n{len(rows)} kills in {chain} runs: {'all equal' if not bad else f'{bad} runs DIFFER'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
