"""The exponential-moving-average teacher of BYOL, MoCo and DINO."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def tau_at(step: int, *, total_steps: int, base_tau: float, final_tau: float) -> float:
    """Return the momentum of a step: a cosine from ``base_tau`` (step 0) to ``final_tau`` (``total_steps``).

    Source: BYOL, appendix J: tau = 1 - (1 - tau_base) * (cos(pi k / K) + 1) / 2, here for any final tau.
    """
    progress = min(step / max(total_steps, 1), 1.0)
    return final_tau - (final_tau - base_tau) * (math.cos(math.pi * progress) + 1) / 2


class MomentumTeacher(nn.Module):
    """A copy of the student whose parameters follow it slowly: theta_m <- tau theta_m + (1 - tau) theta.

    Its batch norms stay in training mode with running statistics of their own, as in the published methods.
    ``tau`` is a buffer: it is in the checkpoint.

    Args:
        tau: momentum before the first update.
        modules: the student's modules by name, each a callable of one tensor, applied in the given order.
    """

    def __init__(self, tau: float, **modules: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(copy.deepcopy(modules)).requires_grad_(False)
        self.register_buffer("tau", torch.tensor(tau, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the copied modules one after the other; never records gradients."""
        with torch.no_grad():
            for stage in self.stages.values():
                x = stage(x)
        return x

    @torch.no_grad()
    def update(self, tau: float, **modules: nn.Module) -> None:
        """Move every parameter towards the student's by ``1 - tau`` and remember ``tau``."""
        for name, student in modules.items():
            mine = list(self.stages[name].parameters())
            torch._foreach_lerp_(mine, [p.detach() for p in student.parameters()], 1 - tau)
        self.tau.fill_(tau)
