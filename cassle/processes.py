"""Which process this is, and the few things that processes settle among themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def local_rank() -> int:
    """Return the number of this process on its machine, before any process group exists."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def rank(processes: int, per_node: int) -> int:
    """Return the number of this process among ``processes``, ``per_node`` of them on each machine.

    Known before any process group exists: from torchrun's or SLURM's environment, or from Lightning's own.
    """
    if processes == 1:
        return 0  # several independent runs under one srun are each their own first process
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
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


def of_all(item: Any) -> list[Any]:
    """Return the item of every process, by rank; it is pickled, and every process must call this."""
    import torch.distributed as dist

    if not together():
        return [item]
    items = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items
