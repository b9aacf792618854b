"""Which process this is, and the few things that processes settle among themselves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cassle.errors import CassleError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

#: how gloo and NCCL say that a process is gone
LOST = (
    "closed by peer",
    "reset by peer",
    "broken pipe",
    "connection refused",
    "remote process",
    "timed out",
    "timeout",
)

HEAD_START = 30.0  # seconds that the first process may come later than the others, which leave after it
_patient: Any = None  # the group in which processes wait for as long as it takes


def local_rank() -> int:
    """Return the number of this process on its machine, before any process group exists."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def launched() -> tuple[str, int] | None:
    """Return what has started the processes, torchrun or srun, and how many; None where a run starts its own.

    So it does in a batch script of SLURM without srun, and in a shell on a node.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun", int(os.environ["WORLD_SIZE"])
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    return ("srun", tasks) if tasks > 1 else None


def launched_rank() -> int:
    """Return the number that torchrun or srun has given this process, whatever the run makes of it; else 0."""
    started = launched()
    return int(os.environ.get("SLURM_PROCID" if started[0] == "srun" else "RANK", 0)) if started else 0


def let_the_first_speak() -> None:
    """Wait until this process is told to end, or long enough.

    At the end of one process torchrun and ``srun --kill-on-bad-exit=1`` stop the others: they would stop the first one
    before it has printed what is wrong.
    """
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    with suppress(KeyboardInterrupt):
        told.wait(HEAD_START)
    signal.signal(signal.SIGTERM, before)


def rank(processes: int, per_node: int) -> int:
    """Return the number of this process among ``processes``, ``per_node`` of them on each machine.

    Known before any process group exists: from torchrun's or SLURM's environment, or from Lightning's own.
    """
    if processes == 1:
        return 0  # several independent runs under one srun are each their own first process
    if launched() is not None:
        return launched_rank()
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0))) * per_node + local_rank()


def together() -> bool:
    """Tell whether there is a process group of more than one process."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def summed(tensor: Tensor) -> Tensor:
    """Return the sum of ``tensor`` over all processes, as a new tensor; every process must call this."""
    import torch.distributed as dist

    total = tensor.detach().clone()
    if together():
        dist.all_reduce(total)
    return total


def carried_on(sums: Tensor, then: int | None, *, first: bool) -> Tensor:
    """Return this process's part of sums that were taken over ``then`` processes: the first carries them on.

    With another number of processes than now they are scaled, so that a step before weighs as much as one after in the
    means; None stands for as many as now.
    """
    import torch.distributed as dist

    now = dist.get_world_size() if together() else 1
    part = sums if then in (None, now) else sums * (now / then)
    return part if first else part.new_zeros(part.shape)


def any_of_us(flag: bool, device: object) -> bool:
    """Return whether ``flag`` holds in any process; every process must call this."""
    import torch

    return bool(summed(torch.tensor(float(flag), device=device)) > 0) if together() else flag


def be_patient() -> None:
    """Let the processes wait for one another for days where one of them works alone; every process must call this.

    They meet in a group of its own: that of the training keeps its limit of minutes, after which something is wrong.
    It speaks gloo on every device, which notices at once when a process is gone.
    """
    global _patient
    if together() and _patient is None:
        import torch.distributed as dist

        _patient = dist.new_group(backend="gloo", timeout=timedelta(days=14))


def from_first(item: Item) -> Item:
    """Return the first process's item in every process, which wait for it; it is pickled, and every one must call this.

    Raises:
        CassleError: a process is gone.
    """
    import torch.distributed as dist

    if not together():
        return item
    items = [item]
    with connected():
        dist.broadcast_object_list(items, src=0, group=_patient)
    return items[0]


def of_all(item: Item) -> list[Item]:
    """Return the item of every process, by rank; it is pickled, and every process must call this.

    Raises:
        CassleError: a process is gone.
    """
    import torch.distributed as dist

    if not together():
        return [item]
    items = [None] * dist.get_world_size()
    with connected():
        dist.all_gather_object(items, item, group=_patient)
    return items


def rows_to_first(rows: Tensor) -> Tensor:
    """Return in the first process the rows of all, one after the other by rank, on the CPU; elsewhere none.

    Args:
        rows: (n, ...) of this process on the CPU; every process must pass the same shape.

    Raises:
        CassleError: a process is gone.
    """
    import torch
    import torch.distributed as dist

    if not together():
        return rows
    world, first = dist.get_world_size(), dist.get_rank() == 0
    everything = torch.empty((world * len(rows) if first else 0, *rows.shape[1:]), dtype=rows.dtype)
    with connected():
        dist.gather(rows, list(everything.chunk(world)) if first else None, dst=0, group=_patient)
    return everything


@contextmanager
def connected() -> Iterator[None]:
    """Say in one sentence what a broken connection, or a process that never came, means inside ``with``.

    Other errors pass: a collective that was called wrongly has a traceback.

    Raises:
        CassleError: a process is gone.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, (dist.DistNetworkError, dist.DistStoreError))
        if not lost and not any(words in str(error).lower() for words in LOST):
            raise
        raise CassleError(
            f"Another process of this run has ended, or does not answer; its own message says why "
            f"({str(error).splitlines()[0]}). The same command continues the run."
        ) from error
