"""CaSSLe's distillers: the objective's own loss family between prediction and frozen projection."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cassle.checks import NonNegative, Positive
from cassle.distill.base import Distiller
from cassle.losses import barlow_twins, byol, contrastive_distillation


class Contrastive(Distiller):
    """Contrastive distillation, for SimCLR and its kin (CaSSLe, section 4 and appendix B)."""

    fits = ("simclr",)

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

    def distill_loss(self, p: list[Tensor], z_bar: list[Tensor]) -> Tensor:
        """Each prediction finds its own frozen projection among those of the batch, and the other way round."""
        return contrastive_distillation(
            *p,
            *z_bar,
            temperature=self.distill_temperature,
            negatives=self.distill_negatives,
            gather=self.distill_gather,
        )


class Decorrelative(Distiller):
    """Decorrelative distillation, for Barlow Twins (CaSSLe, section 4)."""

    fits = ("barlow_twins",)

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

    def distill_loss(self, p: list[Tensor], z_bar: list[Tensor]) -> Tensor:
        """Barlow Twins between prediction and frozen projection, averaged over the views."""
        settings = {"lamb": self.distill_barlow_lamb, "scale_loss": self.distill_scale_loss}
        pairs = zip(p, z_bar, strict=True)
        return torch.stack([barlow_twins(a, b, gather=self.distill_gather, **settings) for a, b in pairs]).mean()


class Predictive(Distiller):
    """Predictive distillation, for BYOL (CaSSLe, section 4)."""

    fits = ("byol",)

    def distill_loss(self, p: list[Tensor], z_bar: list[Tensor]) -> Tensor:
        """2 - 2 cos between prediction and frozen projection, averaged over the views."""
        return torch.stack([byol(a, b) for a, b in zip(p, z_bar, strict=True)]).mean()
