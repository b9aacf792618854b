"""A network that follows the student slowly."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from cassle.distill.base import FrozenTeacher


class SlowTeacher(FrozenTeacher):
    """A frozen network that follows the student whenever it is told to.

    With ``bn="eval"`` it takes the student's batch statistics along; with ``train`` it normalises with those of the
    batch, as upstream's teachers do.
    """

    @torch.no_grad()
    def follow(self, momentum: float, **modules: nn.Module) -> None:
        """Move everything towards the student's by ``1 - momentum``."""
        for name, student in modules.items():
            pairs = zip(self._tensors(self.stages[name]), self._tensors(student), strict=True)
            floating = [(a, b) for a, b in pairs if a.is_floating_point()]
            if floating:  # a projector may have no parameters
                mine, theirs = zip(*floating, strict=True)
                torch._foreach_lerp_(mine, theirs, 1 - momentum)

    def _tensors(self, module: nn.Module) -> list[Tensor]:
        buffers = module.buffers() if self.bn == "eval" else ()
        return [tensor.detach() for tensor in chain(module.parameters(), buffers)]
