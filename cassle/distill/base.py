"""The frozen teacher, the predictor and the view loop that every distiller shares."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cassle.checks import Count, NonNegative
from cassle.data.batch import Batch
from cassle.methods.base import Outputs
from cassle.nn.heads import mlp
from cassle.nn.state import load_strictly


class FrozenTeacher(nn.Module):
    """A copy of backbone and projector that never learns.

    Args:
        backbone: copied.
        projector: copied.
        bn: ``eval`` normalises with the statistics of the previous task; ``train`` with those of the current batch.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, bn: Literal["eval", "train"]) -> None:
        super().__init__()
        self.bn = bn
        self.backbone = copy.deepcopy(backbone)
        self.projector = copy.deepcopy(projector)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Follow the trainer's mode only where ``bn`` says so."""
        return super().train(mode and self.bn == "train")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map one view (batch, 3, h, w) to the frozen projection (batch, dim)."""
        return self.projector(self.backbone(x))


class Distiller:
    """Mixin: from task 1 on, a predictor maps the student's z to the previous task's frozen z of the same view.

    Total loss = objective + distill_lamb * distill_loss(predictor(z), frozen z). Source: CaSSLe (Fini et al. 2022),
    section 4. Task 0 is never distilled. The teacher is made from the hand-off of the previous task in ``begin_task``
    and nowhere else; a resumed run takes it from its checkpoint.
    """

    transient: ClassVar[tuple[str, ...]] = ("teacher.", "distill_predictor.")
    #: names in ``METHODS`` whose objective has the same form as this distillation loss
    fits: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *args,
        distill_lamb: NonNegative = 1.0,
        distill_proj_hidden_dim: Count = 2048,
        teacher_bn: Literal["eval", "train"] = "eval",
        predictor_init: Literal["fresh", "warm"] = "fresh",
        **kwargs,
    ) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_lamb: weight of the distillation loss.
            distill_proj_hidden_dim: hidden width of the predictor (Linear-BN-ReLU-Linear).
            teacher_bn: batch norm of the frozen teacher: eval = its own statistics, train = the batch's (upstream).
            predictor_init: predictor at the start of a task: fresh, or warm = the previous task's (upstream).
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.distill_lamb = distill_lamb
        self.distill_proj_hidden_dim = distill_proj_hidden_dim
        self.teacher_bn: Literal["eval", "train"] = teacher_bn
        self.predictor_init = predictor_init

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Freeze what the hand-off brought as the teacher, and make the predictor."""
        super().begin_task(task, handoff)
        if task == 0:
            return
        self.teacher = FrozenTeacher(self.backbone, self.projector, self.teacher_bn)
        self.distill_predictor = mlp(self.output_dim, self.distill_proj_hidden_dim, self.output_dim)
        prefix = "distill_predictor."
        previous = {k.removeprefix(prefix): v for k, v in (handoff or {}).items() if k.startswith(prefix)}
        if self.predictor_init == "warm" and previous:
            load_strictly(self.distill_predictor, previous, source="the previous task's distillation predictor")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the distillation term to the objective's."""
        terms = super().losses(batch, out)
        if self.current_task > 0:
            p = [self.distill_predictor(o["z"]) for o in out]
            z_bar = [self.teacher(view) for view in batch.views]
            terms["distill"] = self.distill_lamb * self.distill_loss(p, z_bar)
        return terms

    def distill_loss(self, p: list[Tensor], z_bar: list[Tensor]) -> Tensor:
        """Compare predictions with frozen projections, both one (batch, dim) per view; return a scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not define its distillation loss")
