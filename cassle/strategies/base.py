"""What every strategy says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from cassle.methods.base import SSLMethod, ViewSource


class Strategy:
    """Base of the strategies: mixins that override the hooks of ``SSLMethod`` and call ``super()``."""

    transient: ClassVar[tuple[str, ...]] = ()
    #: names in ``MEMORIES`` that it can keep the past in; empty: it keeps none
    memories: ClassVar[tuple[str, ...]] = ()
    #: defaults of the rest of the run's settings, where a run has them
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: the memory that it takes by default
    default_memory: ClassVar[str | None] = None
    #: what it does that cannot be done twice in a run: "both ..."
    alone: ClassVar[str] = "are the same"
    #: whether it reads the averaged features that a memory keeps
    reads_features: ClassVar[bool] = False
    #: whether it has to know where a task ends
    needs_tasks: ClassVar[bool] = False
    #: whether the images that arrive are themselves trained on; otherwise only what is drawn from the memory
    trains_on_arrivals: ClassVar[bool] = True
    #: whether it learns from labels
    wants_labels: ClassVar[bool] = False

    #: set by ``SSLMethod.settle``
    images: ViewSource | None

    @classmethod
    def refuses(cls, method: type[SSLMethod], distiller: str | None) -> str | None:
        """Return why it does not go together with an objective or a distiller, None if it does."""
        return None

    def views_of_step(self, batch_size: int, views: int, task: int) -> int:
        """Return how many views a step passes forward and back, per process, once a memory holds what it will draw.

        Args:
            batch_size: images that arrive, per process.
            views: of an image.
            task: from 0.
        """
        return batch_size * views

    def trained_at_once(self, batch_size: int) -> dict[str, int]:
        """Return how many images a process trains on at once, for each flag that says so, of batches of this size."""
        return {"--batch_size": batch_size}

    def labels(self, index: Tensor) -> Tensor:
        """Return the labels of training images (batch,) that may be seen, -1 for the others."""
        return self.images.targets[index]


class Finetune(Strategy):
    """Fine-tuning: nothing is kept of the past but the weights."""
