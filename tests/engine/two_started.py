"""Runs on two processes, as srun starts them; and what one waits for and compares."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from cassle.cli import main_continual
from tests.two_processes import forkserver


def start_as_srun_does(folder: Path, flags: Sequence[str]) -> list[BaseProcess]:
    """Start both processes of a run into ``folder``; what they print goes to the files log0 and log1 beside it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "test", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    context, started = forkserver(), []
    for rank in ("0", "1"):
        environment = {**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        started.append(context.Process(target=_one_of_srun, args=(folder, environment, list(flags))))
        started[-1].start()
    return started


def _one_of_srun(folder: Path, environment: Mapping[str, str], flags: list[str]) -> None:
    os.environ.update(environment)
    log = os.open(folder.with_name(f"log{environment['SLURM_PROCID']}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main_continual(flags))


def ended(started: list[BaseProcess], folder: Path, code: int) -> None:
    """Wait for the end of both processes."""
    for process in started:
        process.join(timeout=100)
    assert [process.exitcode for process in started] == [code, code], [
        folder.with_name(f"log{rank}").read_text() for rank in (0, 1)
    ]


def wait_for(path: Path) -> None:
    """Wait until a checkpoint is written, or written anew."""
    before, deadline = path.stat().st_mtime_ns if path.exists() else 0, time.monotonic() + 100
    while not (path.exists() and path.stat().st_mtime_ns > before):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


def tensors(content: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a checkpoint by its path."""
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from tensors(value, f"{name}/{key}")


def assert_same_training(folder: Path, expected: Path, tasks: int = 2) -> None:
    """Compare the results, the metrics and every tensor of the final checkpoints of two runs."""
    for name in ("results.json", *(f"task{task}/metrics.csv" for task in range(tasks))):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    for task in range(tasks):
        one, other = (dict(tensors(torch.load(run / f"task{task}" / "final.ckpt"))) for run in (folder, expected))
        assert one.keys() == other.keys() and any("memory" in name for name in one)
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
