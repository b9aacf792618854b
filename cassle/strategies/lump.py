"""LUMP."""

from __future__ import annotations

import numpy as np

from cassle.checks import Positive
from cassle.data.batch import Batch
from cassle.methods.base import SSLMethod
from cassle.randomness import key
from cassle.strategies.replay import Memorising


class LUMP(Memorising):
    """LUMP (Madaan et al. 2022): images of the present are mixed with images of the past, view by view."""

    memories = ("reservoir", "fifo", "fifo_last", "class_balanced")  # a mixture says nothing about what is alike

    @classmethod
    def refuses(cls, method: type[SSLMethod], distiller: str | None) -> str | None:
        """Mixed images have no class."""
        return (
            "a mixture of two images has no class; take an objective without labels." if method.needs_labels else None
        )

    def __init__(self, *args, alpha_lump: Positive = 0.4, **kwargs) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            alpha_lump: both parameters of the Beta distribution that the share of the present is drawn from.
            kwargs: arguments of ``Memorising``.
        """
        super().__init__(*args, **kwargs)
        self.alpha_lump = alpha_lump

    def drawn_of(self, batch_size: int) -> int:
        """Return one image of the past for each of the present."""
        return batch_size

    def share(self) -> float:
        """Return the share lambda of the present in the views of this step, one for all of them (section 4)."""
        seed = key(self.seed, "lump", self.current_task, self.progress.step, self.progress.part)
        return float(np.random.default_rng(seed).beta(self.alpha_lump, self.alpha_lump))

    def compose_batch(self, batch: Batch) -> Batch:
        """Mix every image with one of the past, once there are enough: lambda x + (1 - lambda) x_memory."""
        batch = super().compose_batch(batch)
        past = self.draw(len(batch.index))
        if past is None:
            return batch
        share = self.share()
        views = self.images.views_of(past.keys, "replay")
        return batch._replace(views=[share * a + (1 - share) * b for a, b in zip(batch.views, views, strict=True)])
