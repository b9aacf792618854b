"""Run a function in two gloo processes on the CPU, and bring home what both returned."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD = 2
IMPORTED = ["cassle.engine.experiment"]


def in_two_processes(worker: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Return ``[worker(0, *args), worker(1, *args)]``, computed in two processes of one process group.

    ``worker`` must be a module-level function (it is imported again in the new processes) and return what
    ``torch.load(weights_only=True)`` reads: tensors, numbers, texts, and lists and dictionaries of them. An exception
    in either process is raised here, with its traceback.
    """
    forkserver()
    mp.start_processes(_run, args=(worker, str(folder), args), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"result{rank}.pt") for rank in range(WORLD)]


def forkserver() -> BaseContext:
    """Return what starts processes out of one that has imported everything: that takes longer than most tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _run(rank: int, worker: Callable[..., Any], folder: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    # A collective that one process never enters should fail the test, not hang it.
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", timeout=limit, rank=rank, world_size=WORLD)
    try:
        torch.save(worker(rank, *args), f"{folder}/result{rank}.pt")
    finally:
        dist.destroy_process_group()
