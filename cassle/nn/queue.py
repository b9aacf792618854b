"""The first-in first-out queue of past representations: MoCo's negatives, NNCLR's support set, ReSSL's anchors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.losses.distributed import gather_exact, number_of_processes, process_rank


class Queue(nn.Module):
    """The last ``size`` normalised rows that were pushed, on every process the same ones.

    Rows and position are buffers, so they are in the checkpoint. Before it is filled, the other slots hold random unit
    rows (MoCo's and NNCLR's start), or stay out of ``rows`` with ``random_start=False``.

    Args:
        size: slots.
        dim: width of a row.
        random_start: whether unfilled slots count.
    """

    def __init__(self, size: int, dim: int, *, random_start: bool = True) -> None:
        super().__init__()
        self.size, self.random_start = size, random_start
        slots = F.normalize(torch.randn(size, dim), dim=1) if random_start else torch.zeros(size, dim)
        self.register_buffer("slots", slots)
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        # The position on the host as well: asking the device for it would wait for all that it still has to do.
        self._pushed: int | None = None

    @property
    def num_pushed(self) -> int:
        """Rows pushed since the start."""
        if self._pushed is None:
            self._pushed = int(self.pushed)
        return self._pushed

    @property
    def rows(self) -> Tensor:
        """The rows to compare with, (rows, dim)."""
        filled = self.size if self.random_start else min(self.num_pushed, self.size)
        return self.slots[:filled]

    @property
    def own_rows(self) -> Tensor:
        """This process's share of the rows, some have one more: for sums that are taken over all processes."""
        return self.rows[process_rank() :: number_of_processes()]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Replace the oldest rows by these of all processes, normalised.

        Args:
            rows: (batch, dim), of any number; every process must push as many.
        """
        rows = gather_exact(F.normalize(rows.detach().to(self.slots.dtype), dim=1))
        start, count = self.num_pushed, len(rows)
        rows = rows[-self.size :]  # of more rows than slots only the last survive
        position = (start + count - len(rows) + torch.arange(len(rows), device=rows.device)) % self.size
        # A new tensor: the loss of this very step still holds the old one for its backward pass.
        self.slots = self.slots.index_copy(0, position, rows)
        self._pushed = start + count
        self.pushed.fill_(self._pushed)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._pushed = None
