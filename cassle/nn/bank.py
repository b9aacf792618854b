"""The memory bank: for every image of the data set, what the network made of its views when they were last seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.losses.distributed import gather_exact


class MemoryBank(nn.Module):
    """Normalised rows by image and view, on every process the same ones; all of it is in the checkpoint.

    Args:
        num_images: images of the data set.
        dim: width of a row.
        views: views that are remembered; of more views the others are left out.
    """

    def __init__(self, num_images: int, dim: int, *, views: int = 2) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(views, num_images, dim))
        self.register_buffer("seen", torch.zeros(num_images, dtype=torch.bool))

    @torch.no_grad()
    def remember(self, index: Tensor, views: list[Tensor]) -> None:
        """Keep the rows of these images, of all processes.

        Args:
            index: positions in the data set, (batch,).
            views: one (batch, dim) per view.
        """
        rows = F.normalize(torch.stack(views[: len(self.rows)], dim=1).float(), dim=2)
        index, rows = gather_exact(index), gather_exact(rows)
        self.rows[:, index] = rows.transpose(0, 1)
        self.seen[index] = True
