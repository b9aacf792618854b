"""An experiment on two processes: trains, saves in mid-epoch without a deadlock, stops together, continues."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cassle import processes

ROOT = Path(__file__).parents[2]
FLAGS = """
    --method byol --distiller auto --backbone tiny --width 4 --num_tasks 2 --max_epochs 2 --batch_size 32
    --output_dim 16 --proj_hidden_dim 16 --pred_hidden_dim 16 --distill_proj_hidden_dim 16
    --disable_linear_eval --few_labels 0 --num_threads 1 --accelerator cpu --devices 2 --strategy ddp
    --checkpoint_minutes 0
"""
COMMAND = [sys.executable, "main_continual.py", *FLAGS.split()]


def start(folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, "--experiment_dir", str(folder)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


@pytest.mark.timeout(400)
def test_sigterm_to_one_of_two_processes_stops_both_and_the_run_continues_to_equal_numbers(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    finish(start(undisturbed))

    stopped = tmp_path / "stopped"
    process = start(stopped)
    deadline = time.monotonic() + 120
    while not (stopped / "task0" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output

    finish(start(stopped))
    for name in ("results.json", "task0/metrics.csv", "task1/metrics.csv"):
        assert (stopped / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert len(json.loads((stopped / "results.json").read_text())["probes"]["knn"]["accuracy_matrix"]) == 2


@pytest.mark.parametrize(
    "environment, processes_, per_node, expected",
    [
        ({}, 1, 1, 0),
        ({"SLURM_PROCID": "3"}, 1, 1, 0),  # four independent runs under one srun
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, 4, 2, 3),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 8, 4, 5),
        ({"LOCAL_RANK": "1"}, 2, 2, 1),
        ({"NODE_RANK": "1"}, 4, 2, 2),
    ],
)
def test_rank_before_any_process_group(monkeypatch, environment, processes_, per_node, expected):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.rank(processes_, per_node) == expected
