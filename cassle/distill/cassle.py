"""CaSSLe's distillers: the objective's own loss family between prediction and frozen projection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.checks import Count, NonNegative, Positive
from cassle.distill.base import Distiller, FrozenTeacher, over_views
from cassle.losses import barlow_twins, byol, contrastive_distillation, ressl, swav
from cassle.nn.prototypes import Prototypes
from cassle.nn.queue import Queue


class Contrastive(Distiller):
    """Contrastive distillation, for SimCLR and its kin (CaSSLe, section 4 and appendix B)."""

    def __init__(
        self,
        *args,
        distill_temperature: Positive = 0.2,
        distill_negatives: Literal["exclude_other_view", "all", "with_predictions"] = "exclude_other_view",
        distill_gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_temperature: temperature of the distillation loss.
            distill_negatives: what repels: exclude_other_view = other images only; all = also the other view of the
                same image (upstream); with_predictions = also the other images' predictions.
            distill_gather: use the images of all processes as negatives; upstream uses only its own.
            kwargs: arguments of ``Distiller``.
        """
        super().__init__(*args, **kwargs)
        self.distill_temperature = distill_temperature
        self.distill_negatives = distill_negatives
        self.distill_gather = distill_gather

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """Each prediction finds its own frozen projection among those of the batch, and the other way round."""
        return contrastive_distillation(
            p,
            z_bar,
            temperature=self.distill_temperature,
            negatives=self.distill_negatives,
            gather=self.distill_gather,
        )


class Decorrelative(Distiller):
    """Decorrelative distillation, for Barlow Twins (CaSSLe, section 4)."""

    def __init__(
        self,
        *args,
        distill_barlow_lamb: NonNegative = 5e-3,
        distill_scale_loss: NonNegative = 0.1,
        distill_gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_barlow_lamb: weight of the off-diagonal terms.
            distill_scale_loss: factor on the distillation loss.
            distill_gather: correlate over the images of all processes, with correct gradients.
            kwargs: arguments of ``Distiller``.
        """
        super().__init__(*args, **kwargs)
        self.distill_barlow_lamb = distill_barlow_lamb
        self.distill_scale_loss = distill_scale_loss
        self.distill_gather = distill_gather

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """Barlow Twins between prediction and frozen projection, averaged over the views."""
        settings = {"lamb": self.distill_barlow_lamb, "scale_loss": self.distill_scale_loss}
        return over_views(partial(barlow_twins, gather=self.distill_gather, **settings), p, z_bar)


class Predictive(Distiller):
    """Predictive distillation, for BYOL and its kin: 2 - 2 cos (CaSSLe, section 4)."""

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """2 - 2 cos between prediction and frozen projection, averaged over the views."""
        return over_views(byol, p, z_bar)


class PredictiveMSE(Distiller):
    """Predictive distillation by the squared distance, for VICReg and its kin (CaSSLe, section 4)."""

    def __init__(self, *args, distill_lamb: NonNegative = 25.0, **kwargs) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_lamb: weight of the distillation loss.
            kwargs: arguments of ``Distiller``.
        """
        super().__init__(*args, distill_lamb=distill_lamb, **kwargs)

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """The mean over views, images and dimensions of (p - z_bar)^2."""
        return F.mse_loss(p, z_bar)


class Knowledge(Distiller):
    """Knowledge distillation, for methods with prototypes: assignments to the old prototypes (CaSSLe, section 4)."""

    transient: ClassVar[tuple[str, ...]] = (*Distiller.transient, "frozen_prototypes.", "distill_prototypes.")
    needs_prototypes = True

    def __init__(self, *args, distill_temperature: Positive = 0.1, **kwargs) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_temperature: temperature of both assignments.
            kwargs: arguments of ``Distiller``.
        """
        super().__init__(*args, **kwargs)
        self.distill_temperature = distill_temperature

    def prepare_distillation(self, handoff: Mapping[str, Tensor]) -> None:
        """Freeze the old prototypes; make new ones of the same number for the predictions."""
        super().prepare_distillation(handoff)
        sizes = [prototypes.weight.shape for prototypes in self.prototypes]
        self.frozen_prototypes = nn.ModuleList(
            FrozenTeacher({"prototypes": prototypes}, "eval") for prototypes in self.prototypes
        )
        self.distill_prototypes = nn.ModuleList(Prototypes(dim, num) for num, dim in sizes)

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """Cross-entropy of the predicted with the frozen assignment, averaged over views and heads."""
        heads = zip(self.frozen_prototypes, self.distill_prototypes, strict=True)
        return torch.stack([over_views(partial(self._assign, *head), p, z_bar) for head in heads]).mean()

    def _assign(self, frozen: nn.Module, learnt: nn.Module, p: Tensor, z_bar: Tensor) -> Tensor:
        wanted = (frozen(z_bar).float() / self.distill_temperature).softmax(dim=1)
        return swav(learnt(p), wanted, temperature=self.distill_temperature)


class Relational(Distiller):
    """Relational distillation, for ReSSL: the relations to past frozen projections stay (its loss, as distillation)."""

    transient: ClassVar[tuple[str, ...]] = (*Distiller.transient, "distill_queue.")

    def __init__(
        self,
        *args,
        distill_temperature_q: Positive = 0.1,
        distill_temperature_k: Positive = 0.04,
        distill_queue_size: Count = 65536,
        **kwargs,
    ) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            distill_temperature_q: temperature of the predicted relations.
            distill_temperature_k: temperature of the frozen relations.
            distill_queue_size: frozen projections of past images to which relations are taken; of all processes.
            kwargs: arguments of ``Distiller``.
        """
        super().__init__(*args, **kwargs)
        self.distill_temperatures = {"temperature_q": distill_temperature_q, "temperature_k": distill_temperature_k}
        self.distill_queue_size = distill_queue_size

    def prepare_distillation(self, handoff: Mapping[str, Tensor]) -> None:
        """Make the queue of frozen projections."""
        super().prepare_distillation(handoff)
        self.distill_queue = Queue(self.distill_queue_size, self.distilled_dim)

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """Cross-entropy of the predicted with the frozen relations; then the last view's projections are queued."""
        loss = partial(ressl, queue=self.distill_queue.rows, **self.distill_temperatures)
        value = over_views(loss, p, z_bar)
        self.distill_queue.push(z_bar[-1])
        return value
