"""BYOL."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cassle.checks import Count, Share
from cassle.data.batch import Batch
from cassle.losses import byol
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp
from cassle.nn.momentum import MomentumTeacher, tau_at


class BYOL(SSLMethod):
    """BYOL (Grill et al. 2020): a predictor maps one view to the slow teacher's projection of the other."""

    auto_distiller = "predictive"
    has_momentum_teacher = True

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 2048,
        pred_hidden_dim: Count = 512,
        base_tau_momentum: Share = 0.99,
        final_tau_momentum: Share = 1.0,
        **kwargs,
    ) -> None:
        """Build BYOL.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector.
            pred_hidden_dim: hidden width of the predictor.
            base_tau_momentum: teacher momentum at the start of each task.
            final_tau_momentum: teacher momentum at the end of each task.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim = output_dim
        self.base_tau, self.final_tau = base_tau_momentum, final_tau_momentum
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim)
        self.predictor = mlp(output_dim, pred_hidden_dim, output_dim)
        self.momentum_teacher = MomentumTeacher(self.base_tau, backbone=self.backbone, projector=self.projector)

    @property
    def momentum_backbone(self) -> nn.Module:
        """The teacher's backbone."""
        return self.momentum_teacher.stages["backbone"]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map one view to ``feats`` (batch, features), ``z`` and ``p`` (batch, output_dim)."""
        out = super().forward(x)
        return {**out, "p": self.predictor(out["z"])}

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The sum over both directions of 2 - 2 cos(p, teacher's z of the other view)."""
        targets = [self.momentum_teacher(view) for view in batch.views]
        return {"byol": byol(out[0]["p"], targets[1]) + byol(out[1]["p"], targets[0])}

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Start the momentum schedule anew; the teacher's weights come with the hand-off."""
        super().begin_task(task, handoff)
        self.momentum_teacher.tau.fill_(self.base_tau)

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student."""
        super().after_step(step, total_steps)
        tau = tau_at(step - 1, total_steps=total_steps, base_tau=self.base_tau, final_tau=self.final_tau)
        self.momentum_teacher.update(tau, backbone=self.backbone, projector=self.projector)
