"""Latent alignment: what the student makes of an image follows a slow, a frozen or a remembered network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cassle.checks import Count, NonNegative, Share
from cassle.data.batch import Batch
from cassle.distill.base import FrozenTeacher
from cassle.losses import simsiam
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp
from cassle.strategies.base import Strategy
from cassle.strategies.replay import ExperienceReplay
from cassle.strategies.slow import SlowTeacher


class Alignment(Strategy):
    """Base: an aligner maps z to a target of the same image; omega * distance is added to the loss (CLA, 2025)."""

    alone: ClassVar[str] = "align what the student makes of an image"

    def __init__(
        self,
        *args,
        omega: NonNegative = 0.1,
        align_criterion: Literal["cosine", "mse"] = "cosine",
        align_after_proj: bool = True,
        use_aligner: bool = True,
        aligner_dim: Count = 512,
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            omega: weight of the alignment.
            align_criterion: distance between aligned and target: cosine = -cos, or mse.
            align_after_proj: align the projections z; false: the backbone's features.
            use_aligner: a perceptron between what the student makes of an image and the target; false: none.
            aligner_dim: its hidden width (Linear-BN-ReLU-Linear, the first without bias).
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.omega = omega
        self.distance = simsiam if align_criterion == "cosine" else functional.mse_loss
        self.aligned_output = "z" if align_after_proj else "feats"
        width = self.output_dim if align_after_proj else self.backbone.num_features
        self.aligner = mlp(width, aligner_dim, width, bias=False) if use_aligner else nn.Identity()

    @property
    def followed_stages(self) -> dict[str, nn.Module]:
        """The student's modules, by name, that make what is aligned."""
        stages: dict[str, nn.Module] = {"backbone": self.backbone, "projector": self.projector}
        return stages if self.aligned_output == "z" else {"backbone": self.backbone}

    def aligned(self, batch: Batch, out: Outputs, target: Callable[[Tensor], Tensor], first: int = 0) -> Tensor:
        """Return the weighted distance, averaged over the full-size views.

        Args:
            batch: the batch.
            out: what the student made of it.
            target: maps the images of a view to their targets (batch, dim).
            first: image from which on there is an alignment.
        """
        terms = [
            self.distance(self.aligner(o[self.aligned_output][first:]), target(view[first:]).detach())
            for o, view in zip(out, batch.large, strict=False)  # out has the small crops as well
        ]
        return self.omega * torch.stack(terms).mean()


class Following(Alignment):
    """Base: the targets are those of a network that follows the student slowly, in all tasks."""

    def __init__(
        self, *args, momentum_ema: Share = 0.999, align_teacher_bn: Literal["eval", "train"] = "eval", **kwargs
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            momentum_ema: momentum of the following network.
            align_teacher_bn: its batch norm: eval = statistics that follow the student's, train = the batch's
                (upstream).
            kwargs: arguments of ``Alignment``.
        """
        super().__init__(*args, **kwargs)
        self.momentum_ema = momentum_ema
        self.slow = SlowTeacher(self.followed_stages, align_teacher_bn)

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Start the slow network as the student, which may have been given weights; from then on it follows."""
        super().begin_task(task, handoff)
        if task == 0:
            self.slow.follow(0.0, **self.followed_stages)

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the slow network follow."""
        super().after_step(step, total_steps)
        self.slow.follow(self.momentum_ema, **self.followed_stages)


class AEP(Following):
    """AEP, CLA-b (Cignoni et al. 2025): every image is aligned with a slow network; nothing is kept."""

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the alignment of all images."""
        terms = super().losses(batch, out)
        terms["align"] = self.aligned(batch, out, self.slow)
        return terms


class AlignedReplay(Alignment, ExperienceReplay):
    """Base: replay, and the replayed images are aligned."""

    def problems_with(self, batch_size: int, processes: int) -> list[str]:
        """Add that the aligner's batch norm needs two images."""
        problems = super().problems_with(batch_size, processes)
        if self.replay_batch_size < 2:
            problems.append("--replay_batch_size 1: the aligner normalises over the replayed images; give 2 or more.")
        return problems


class APRE(Following, AlignedReplay):
    """APRE, CLA-E (Cignoni et al. 2025): replay, and replayed images are aligned with a slow network."""

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the alignment of the replayed images."""
        terms = super().losses(batch, out)
        if batch.num_replay:
            terms["align"] = self.aligned(batch, out, self.slow, batch.num_stream)
        return terms


class ARP(AlignedReplay):
    """ARP, CLA-R (Cignoni et al. 2025): replay, and replayed images are aligned with what is remembered of them."""

    memories = ("reservoir", "fifo", "fifo_last", "class_balanced")  # minred keeps directions only
    reads_features: ClassVar[bool] = True

    @property
    def stored_dim(self) -> int:
        """Width of what is aligned."""
        return self.output_dim if self.aligned_output == "z" else self.backbone.num_features

    def stored(self, out: Outputs) -> Tensor:
        """Return the mean over the views of what is aligned."""
        return torch.stack([o[self.aligned_output].detach().float() for o in out]).mean(dim=0)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the alignment with the stored features, as they were before this batch refreshes them."""
        terms = super().losses(batch, out)
        if batch.num_replay:
            terms["align"] = self.aligned(batch, out, lambda images: self.recalled.features, batch.num_stream)
        return terms


class CaSSLeR(AlignedReplay):
    """CaSSLe-R: replay, and from task 1 on replayed images are aligned with the previous task's network."""

    transient: ClassVar[tuple[str, ...]] = ("previous.",)

    @classmethod
    def refuses(cls, method: type[SSLMethod], distiller: str | None) -> str | None:
        """It is a distillation itself."""
        return f"distils by itself; leave --distiller {distiller} out." if distiller else None

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Freeze what the hand-off brought."""
        super().begin_task(task, handoff)
        if task > 0:
            self.previous = FrozenTeacher(self.followed_stages, "eval")

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the alignment of the replayed images with the frozen network."""
        terms = super().losses(batch, out)
        if batch.num_replay and self.current_task > 0:
            terms["align"] = self.aligned(batch, out, self.previous, batch.num_stream)
        return terms
