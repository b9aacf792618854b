"""Where a task's training is: what every schedule of a method is a pure function of."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """Position in the training of one task.

    Attributes:
        step: optimizer steps taken.
        total_steps: optimizer steps of the task.
        steps_per_epoch: optimizer steps of an epoch.
        part: batches since the last step, where a step accumulates several.
    """

    step: int = 0
    total_steps: int = 1
    steps_per_epoch: int = 1
    part: int = 0

    @classmethod
    def of(cls, total_steps: int, epochs: int) -> Progress:
        """Return the start of a task of ``total_steps`` in ``epochs``."""
        return cls(0, total_steps, max(total_steps // epochs, 1))

    def at(self, step: int, part: int = 0) -> Progress:
        """Return the same task after ``step`` optimizer steps and ``part`` further batches."""
        return replace(self, step=step, part=part)

    @property
    def epoch(self) -> float:
        """Epochs passed, with fractions."""
        return self.step / self.steps_per_epoch
