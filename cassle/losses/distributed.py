"""Collectives that autograd differentiates, so that a loss over many processes is the loss over one big batch.

Why the gradients come out right. Let every process r compute the same loss L from the whole batch. A collective is a
linear map of what the processes hold; each backward here is the transpose of that map, and so autograd computes, on
every process, the gradient of the *sum* of all processes' losses, W·L. `DistributedDataParallel` then averages the
parameter gradients over the W processes: (1/W)·Σ_r W·(∂L/∂x_r)(∂x_r/∂θ) = dL/dθ, which is the gradient that a single
process finds on the concatenated batch. (A loss that is a plain mean over the batch needs none of this: the average of
the processes' gradients is already the gradient of the global mean.) All processes must hold batches of equal size.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor


def number_of_processes() -> int:
    """Return the size of the default process group, 1 when there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process in the default process group, 0 when there is none."""
    return dist.get_rank() if number_of_processes() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        return _all_gathered(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = _sum(grad)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _sum(grad)


def _all_gathered(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _sum(x: Tensor) -> Tensor:
    # all_reduce writes in place and wants dense memory; the argument may be an expanded view, or somebody's gradient.
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def gather_with_gradient(x: Float[Tensor, "batch ..."]) -> Float[Tensor, "all_batch ..."]:
    """Concatenate ``x`` over the processes along its first axis, in rank order, and let gradients flow back to all.

    With every process computing the same loss on the result, the parameter gradients that
    `DistributedDataParallel` averages equal one process's on the concatenated batch. The forward hands each process
    all slices; its transpose, the backward, sums what all processes say about a slice and returns it to the owner.
    (The average divides by the number of processes W, the sum has multiplied by W.)

    Args:
        x: this process's slice; every process must pass the same shape.

    Returns:
        W·batch rows; ``x`` itself when there is no process group or only one process.
    """
    return x if number_of_processes() == 1 else _Gather.apply(x)


def gather_exact(x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "all_batch ..."]:
    """Concatenate ``x`` of any type over the processes along its first axis, in rank order, without gradients.

    Args:
        x: this process's slice; every process must pass the same shape.
    """
    return x if number_of_processes() == 1 else _all_gathered(x.detach())


def from_the_first(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return the first process's ``x`` on every process, without gradients; every process must pass the same shape."""
    if number_of_processes() == 1:
        return x
    x = x.detach().contiguous()
    dist.broadcast(x, src=0)
    return x


def sum_over_processes(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sum ``x`` over the processes, with gradients; the map is symmetric, so its backward is the same sum.

    For a statistic this moves far less than gathering the batch that it summarises, and carries the same guarantee
    as :func:`gather_with_gradient`.

    Args:
        x: this process's term; every process must pass the same shape.

    Returns:
        The sum, on every process; ``x`` itself when there is no process group or only one process.
    """
    return x if number_of_processes() == 1 else _Sum.apply(x)
