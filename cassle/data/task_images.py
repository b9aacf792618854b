"""A loaded data set: the pixels of its parts, and which samples belong to which task."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cassle.data.engines import RESIDENT, Engine
from cassle.data.source import BORDER, Images
from cassle.data.splits import Split


@dataclass(frozen=True)
class TaskImages:
    """A loaded data set.

    Attributes:
        train: pixels and labels of the training set.
        val: likewise of the validation set; None where there is none.
        split: which samples belong to which task.
        classes: names of the classes; empty without labels.
        manifest: the split and the content of the data as plain data, with hashes.
        engine: who makes the views, and why.
        eval_border: side of an image over that of its centre, which is evaluated; 1 = all of it.
    """

    train: Images
    val: Images | None
    split: Split
    classes: list[str]
    manifest: dict
    engine: Engine = RESIDENT
    eval_border: float = BORDER

    @property
    def skipped(self) -> list[str]:
        """Images that did not decode."""
        return self.train.skipped + (self.val.skipped if self.val else [])

    @property
    def quarantined(self) -> list[str]:
        """Images in quarantine."""
        return self.train.quarantined + (self.val.quarantined if self.val else [])

    @property
    def left_out(self) -> list[str]:
        """Images of a kind that the engine does not read."""
        return self.train.left_out + (self.val.left_out if self.val else [])

    def to(self, device: torch.device) -> TaskImages:
        """Return the data set with its pixels and targets on ``device``."""
        train = replace(self.train, pixels=self.train.pixels.to(device), targets=self.train.targets.to(device))
        return replace(self, train=train)
