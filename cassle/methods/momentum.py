"""What the objectives with a slowly following teacher share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cassle.checks import Share
from cassle.data.batch import Batch
from cassle.methods.base import SSLMethod
from cassle.nn.momentum import MomentumTeacher, tau_at


class MomentumMethod(SSLMethod):
    """Base of the objectives whose targets come from an exponential moving average of the student."""

    has_momentum_teacher = True

    def __init__(self, *args, base_tau_momentum: Share = 0.99, final_tau_momentum: Share = 1.0, **kwargs) -> None:
        """Build the base; a subclass calls ``follow`` when its modules are made.

        Args:
            args: backbone and optimization, given by the house.
            base_tau_momentum: teacher momentum at the start of each task.
            final_tau_momentum: teacher momentum at the end of each task.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.base_tau, self.final_tau = base_tau_momentum, final_tau_momentum

    def follow(self, *names: str) -> None:
        """Make the teacher: a copy of the modules of these names, applied one after the other."""
        self.followed = names
        self.momentum_teacher = MomentumTeacher(self.base_tau, **self._students())

    def _students(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.followed}

    @property
    def momentum_backbone(self) -> nn.Module:
        """The teacher's backbone."""
        return self.momentum_teacher.stages["backbone"]

    def targets(self, batch: Batch) -> list[Tensor]:
        """Return the teacher's outputs for the full-size views, without gradients; as one batch with concat_views."""
        if self.concat_views:
            return list(self.momentum_teacher(torch.cat(batch.large)).chunk(batch.num_large))
        return [self.momentum_teacher(view) for view in batch.large]

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Start the momentum schedule anew; the teacher's weights come with the hand-off."""
        super().begin_task(task, handoff)
        self.momentum_teacher.tau.fill_(self.base_tau)

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student."""
        super().after_step(step, total_steps)
        tau = tau_at(step - 1, total_steps=total_steps, base_tau=self.base_tau, final_tau=self.final_tau)
        self.momentum_teacher.update(tau, **self._students())
