"""The frozen teacher, the predictor and the view loop that every distiller shares."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cassle.checks import Count, NonNegative
from cassle.data.batch import Batch
from cassle.methods.base import Outputs
from cassle.nn.heads import mlp
from cassle.nn.state import load_strictly


class FrozenTeacher(nn.Module):
    """A copy of some modules of the student that never learns.

    Args:
        modules: the student's modules by name, each a callable of one tensor, applied in the given order.
        bn: ``eval`` normalises with the statistics of the previous task; ``train`` with those of the current batch.
    """

    def __init__(self, modules: Mapping[str, nn.Module], bn: Literal["eval", "train"]) -> None:
        super().__init__()
        self.bn = bn
        self.stages = nn.ModuleDict(copy.deepcopy(dict(modules)))
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Follow the trainer's mode only where ``bn`` says so."""
        return super().train(mode and self.bn == "train")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map one view (batch, 3, h, w) to what the teacher makes of it (batch, dim)."""
        for stage in self.stages.values():
            x = stage(x)
        return x


class Distillation:
    """Mixin: from task 1 on, what the student makes of a view is compared with what the previous task's network makes.

    Total loss = objective + distill_lamb * distill_loss. Source: CaSSLe (Fini et al. 2022), section 4. Task 0 is never
    distilled. The teacher is made from the hand-off of the previous task in ``begin_task`` and nowhere else; a resumed
    run takes it from its checkpoint. Of multi-crop only the full-size views are distilled.
    """

    transient: ClassVar[tuple[str, ...]] = ("teacher.", "distill_predictor.")
    #: what is distilled: z (the projection) or feats (the features)
    distilled: ClassVar[Literal["z", "feats"]] = "z"
    #: whether the method must have prototypes
    needs_prototypes: ClassVar[bool] = False

    def __init__(
        self, *args, distill_lamb: NonNegative = 1.0, teacher_bn: Literal["eval", "train"] = "eval", **kwargs
    ) -> None:
        """Build the distillation.

        Args:
            args: arguments of the method.
            distill_lamb: weight of the distillation loss.
            teacher_bn: batch norm of the frozen teacher: eval = its own statistics, train = the batch's (upstream).
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.distill_lamb = distill_lamb
        self.teacher_bn: Literal["eval", "train"] = teacher_bn

    @property
    def distilled_dim(self) -> int:
        """Width of what is distilled."""
        return self.output_dim if self.distilled == "z" else self.backbone.num_features

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Freeze what the hand-off brought as the teacher, and make what learns to follow it."""
        super().begin_task(task, handoff)
        if task == 0:
            return
        stages = {"backbone": self.backbone, "projector": self.projector}
        self.teacher = FrozenTeacher(stages if self.distilled == "z" else {"backbone": self.backbone}, self.teacher_bn)
        self.distill_predictor = self.make_predictor()
        self.prepare_distillation(handoff or {})

    def make_predictor(self) -> nn.Module:
        """Return what maps the student's output to the teacher's, (batch, dim) to (batch, dim)."""
        return nn.Identity()

    def prepare_distillation(self, handoff: Mapping[str, Tensor]) -> None:
        """Make whatever else the distillation of this task needs; its state is transient."""

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the distillation term to the objective's."""
        terms = super().losses(batch, out)
        if self.current_task > 0:
            p = torch.stack([self.distill_predictor(o[self.distilled]) for o in out[: batch.num_large]])
            z_bar = torch.stack([self.teacher(view) for view in batch.large])
            terms["distill"] = self.distill_lamb * self.distill_loss(p, z_bar)
        return terms

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """Compare what follows with what is followed, both (views, batch, dim); return a scalar."""
        raise NotImplementedError(f"{type(self).__name__} does not define its distillation loss")


class Distiller(Distillation):
    """Mixin: a predictor maps the student's z to the previous task's frozen z of the same view (CaSSLe, section 4)."""

    def __init__(
        self,
        *args,
        distill_proj_hidden_dim: Count = 2048,
        predictor_init: Literal["fresh", "warm"] = "fresh",
        **kwargs,
    ) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_proj_hidden_dim: hidden width of the predictor (Linear-BN-ReLU-Linear).
            predictor_init: predictor at the start of a task: fresh, or warm = the previous task's (upstream).
            kwargs: arguments of ``Distillation``.
        """
        super().__init__(*args, **kwargs)
        self.distill_proj_hidden_dim = distill_proj_hidden_dim
        self.predictor_init = predictor_init

    def make_predictor(self) -> nn.Module:
        """Return a two-layer perceptron."""
        return mlp(self.distilled_dim, self.distill_proj_hidden_dim, self.distilled_dim)

    def prepare_distillation(self, handoff: Mapping[str, Tensor]) -> None:
        """Take over the previous task's predictor where that is wanted."""
        super().prepare_distillation(handoff)
        prefix = "distill_predictor."
        previous = {k.removeprefix(prefix): v for k, v in handoff.items() if k.startswith(prefix)}
        if self.predictor_init == "warm" and previous:
            load_strictly(self.distill_predictor, previous, source="the previous task's distillation predictor")


def over_views(loss: Callable[[Tensor, Tensor], Tensor], p: Tensor, z_bar: Tensor) -> Tensor:
    """Return the mean over the views of ``loss(p, z_bar)``, each (batch, dim)."""
    return torch.stack([loss(a, b) for a, b in zip(p, z_bar, strict=True)]).mean()
