"""An experiment on two processes: every way to start it, every way to lose a process, and always the same numbers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cassle import processes
from cassle.cli import main_continual
from cassle.engine.trainer import Training

from .two_started import assert_same_training, ended, start_as_srun_does, wait_for

ROOT = Path(__file__).parents[2]
WORDS = """
    --method byol --distiller auto --strategy er --mem_size 64 --replay_batch_size 16 --backbone tiny --width 4
    --num_tasks 2 --max_epochs 2 --batch_size 32 --output_dim 16 --proj_hidden_dim 16 --pred_hidden_dim 16
    --distill_proj_hidden_dim 16 --disable_linear_eval --few_labels 0 --num_threads 1 --accelerator cpu --devices 2
    --trainer_strategy ddp --sync_batchnorm
"""
FLAGS = WORDS.split()
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def flags(folder: Path, minutes: int) -> list[str]:
    return [*FLAGS, "--experiment_dir", str(folder), "--checkpoint_minutes", str(minutes)]


def start(folder: Path, *launcher: str, minutes: int = 0) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *launcher, "main_continual.py", *flags(folder, minutes)], cwd=ROOT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def children(parent: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(status.parent.name)
        except OSError:  # it has just ended
            continue


@pytest.mark.timeout(600)
def test_a_run_that_loses_its_processes_in_every_way_continues_to_equal_numbers(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    output = finish(start(undisturbed, *TORCHRUN, minutes=9))
    assert "Batch: 32 images x 2 processes = 64 per step; learning rate 0.3 x 64/256 = 0.075; " in output
    assert output.count("Evaluating the random encoder.") == 1

    process = start(disturbed)  # one process is killed: the other does not wait for it
    wait_for(disturbed / "task0" / "last.ckpt")
    (other,) = children(process.pid)
    os.kill(other, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (1, -signal.SIGKILL), output  # Lightning, which looks every 5 s, may be faster
    if process.returncode == 1:
        assert "error: Another process of this run has ended" in output and "Traceback" not in output

    both = start_as_srun_does(disturbed, flags(disturbed, 0))  # the machine dies
    wait_for(disturbed / "task1" / "last.ckpt")
    for process in both:
        process.kill()
    ended(both, disturbed, -signal.SIGKILL)

    both = start_as_srun_does(disturbed, flags(disturbed, 0))  # one process is told to stop: both save
    wait_for(disturbed / "task1" / "last.ckpt")
    os.kill(both[1].pid, signal.SIGTERM)
    ended(both, disturbed, 143)

    ended(start_as_srun_does(disturbed, flags(disturbed, 9)), disturbed, 0)
    assert_same_training(disturbed, undisturbed)
    results = json.loads((disturbed / "results.json").read_text())
    assert len(results["probes"]["knn"]["accuracy_matrix"]) == 2
    assert results["protocol"]["images_per_step"] == 64 and results["protocol"]["learning_rate"] == 0.075


ENVIRONMENT = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID",
    "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS",
)  # fmt: skip


@pytest.fixture
def environ(monkeypatch):
    """A function that sets what launchers leave in the environment, and nothing else."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    def give(environment: Mapping[str, str]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return give


def torchrun(number: int, rank: int = 0) -> dict[str, str]:
    return {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": str(number), "RANK": str(rank), "LOCAL_RANK": str(rank)}


def srun(number: int, rank: int = 0) -> dict[str, str]:
    return {"SLURM_STEP_NUM_TASKS": str(number), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}


@pytest.mark.parametrize(
    "environment, processes_, per_node, expected",
    [
        ({}, 1, 1, 0),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, 1, 1, 0),  # four independent runs under one srun
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}, 4, 2, 3),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, 2, 2, 1),  # started by a run in a batch script, without srun
        ({"RANK": "5", "LOCAL_RANK": "1"}, 8, 4, 5),
        ({"RANK": "5", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8"}, 8, 4, 5),
        ({"LOCAL_RANK": "1"}, 2, 2, 1),
        ({"NODE_RANK": "1"}, 4, 2, 2),
    ],
)
def test_rank_before_any_process_group(environ, environment, processes_, per_node, expected):
    environ(environment)
    assert processes.rank(processes_, per_node) == expected


@pytest.mark.parametrize(
    "environment, flags, found",
    [
        (torchrun(2), {}, "--devices 1 --num_nodes 1: 1 process(es) in all, but torchrun has started 2. Give"),
        (torchrun(1), {"devices": 2}, "2 process(es) in all, but torchrun has started 1. Give"),
        (torchrun(2), {"devices": 2}, None),
        ({"SLURM_STEP_NUM_TASKS": "4"}, {"devices": 2}, "2 process(es) in all, but srun has started 4. Give"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, {}, None),
        ({}, {"devices": 2, "trainer_strategy": "ddp_spawn"}, "cannot continue a run; use ddp"),
        ({}, {"devices": 2}, None),
    ],
)
def test_processes_that_are_not_those_of_the_flags_are_one_error(environ, environment, flags, found):
    environ(environment)
    problems = Training(accelerator="cpu", **flags).machine_problems()
    assert (found is None and not problems) or (len(problems) == 1 and found in problems[0]), problems


@pytest.mark.parametrize("launcher, processes_", [(torchrun, 1), (torchrun, 2), (srun, 2)])
def test_a_wrong_number_of_processes_is_said_once(environ, launcher, processes_, tmp_path, capsys, monkeypatch):
    """Each process of three, one after the other; all end with the same code, and nothing is written."""
    monkeypatch.setattr(processes, "HEAD_START", 0.0)
    line = [*FLAGS, "--devices", str(processes_), "--experiment_dir", str(tmp_path / "job")]
    said = []
    for rank in range(3):
        environ(launcher(3, rank))
        assert main_continual(line) == 2
        said.append(capsys.readouterr())
    assert f"process(es) in all, but {launcher.__name__} has started 3" in said[0].err
    assert [(out, err) for out, err in said[1:]] == [("", "")] * 2 and not (tmp_path / "job").exists()


def test_independent_runs_under_one_srun_each_say_what_is_wrong(environ, tmp_path, capsys):
    environ(srun(3, 1))
    line = [*FLAGS, "--devices", "1", "--experiment_dir", str(tmp_path / "job"), "--batch_size", "100000"]
    assert main_continual(line) == 2 and "--batch_size 100000: task 0 has only" in capsys.readouterr().err


def test_who_is_not_the_first_waits_until_told_to_end(monkeypatch):
    """Else the launcher, which stops all when one has ended, would stop the first before it has spoken."""
    monkeypatch.setattr(processes, "HEAD_START", 20.0)
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    processes.let_the_first_speak()
    assert 0.1 < time.monotonic() - began < 15 and signal.getsignal(signal.SIGTERM) is before
