"""Every row of the past with the same probability."""

from __future__ import annotations

import numpy as np
import torch

from cassle.memory.base import Entries, Memory


class Reservoir(Memory):
    """A uniform sample of all rows that ever arrived: Vitter 1985, "Random sampling with a reservoir", algorithm R.

    Row number t (from 0) takes slot t if there is one; later it draws j from 0..t and takes slot j, or is dropped if
    there is no such slot. Every row draws one number, also while the slots are filled, so the memory does not depend on
    how the stream is cut into batches. A slot that was emptied by ``remove`` waits until a draw falls on it: any other
    rule would favour the rows that come next.
    """

    def _place(self, rows: Entries, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        number = len(rows.keys)
        t = self.num_arrived + np.arange(number)
        u = torch.rand(number, dtype=torch.float64, generator=generator).numpy()
        slots = np.where(t < self.size, t, (u * (t + 1)).astype(np.int64))
        entering = np.flatnonzero(slots < self.size)
        # Of several rows for one slot the last stays.
        last = np.unique(slots[entering][::-1], return_index=True)[1]
        entering = entering[np.sort(len(entering) - 1 - last)]
        return entering, slots[entering]
