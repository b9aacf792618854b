"""Stopping at a non-finite loss before the optimizer moves, without making the device wait."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cassle.errors import CassleError
from cassle.processes import summed


class NonFiniteLossError(CassleError):
    """The loss became NaN or infinite; no weight has been moved by it."""


class FiniteGuard:
    """Copies the loss terms to the host while the backward pass runs and looks at them before the optimizer steps.

    On CUDA the copy is asynchronous: the host waits for the end of the *forward* pass only, while the device is busy
    with the backward pass, so no kernel queue runs dry. One guard may watch several batches (gradient accumulation).
    Of several processes all stop when one of them has seen a non-finite term: its gradients would reach the others.
    """

    def __init__(self) -> None:
        self._watched: list[tuple[list[str], Tensor, Tensor, torch.cuda.Event | None]] = []

    def watch(self, terms: dict[str, Tensor], index: Tensor) -> None:
        """Remember the scalar ``terms`` of a batch whose samples have the positions ``index`` (batch,)."""
        values, event = torch.stack([term.detach().float() for term in terms.values()]), None
        anywhere = summed((~values.isfinite()).any().float())
        values = torch.cat([values, anywhere[None]])
        if values.is_cuda:
            host = torch.empty(values.shape, pin_memory=True)
            values = host.copy_(values, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._watched.append((list(terms), values, index, event))

    def check(self, *, task: int, epoch: int, remedy: str = "") -> None:
        """Raise if a watched term is not finite.

        Args:
            task: index of the task.
            epoch: index of the epoch.
            remedy: what may help beside what always may.

        Raises:
            NonFiniteLossError: names the terms, the epoch, and the samples of the batch.
        """
        watched, self._watched = self._watched, []
        for names, values, index, event in watched:
            if event is not None:
                event.synchronize()
            *here, anywhere = values.tolist()
            found = {n: v for n, v in zip(names, here, strict=True) if not math.isfinite(v)}
            if anywhere and not found:
                raise NonFiniteLossError(
                    f"The loss is not finite in task {task}, epoch {epoch}, in another process, which names the batch. "
                    "No weight was moved."
                )
            if found:
                samples = index.tolist()
                raise NonFiniteLossError(
                    f"The loss is not finite in task {task}, epoch {epoch}: "
                    + ", ".join(f"{name} = {value}" for name, value in found.items())
                    + f". No weight was moved. The batch holds the training samples {samples[:16]}"
                    + (f" and {len(samples) - 16} more" if len(samples) > 16 else "")
                    + ". Lower --lr, lengthen --warmup_epochs, or use --precision 32 (or bf16-mixed)."
                    + remedy
                )
