"""Distillation of the backbone's features instead of the projection."""

from __future__ import annotations

from torch import Tensor, nn

from cassle.checks import Count
from cassle.distill.base import Distillation, over_views
from cassle.losses import simsiam
from cassle.nn.heads import mlp


class PFR(Distillation):
    """Projected functional regularisation (Gomez-Villa et al. 2022): a small network maps features to the old ones."""

    distilled = "feats"

    def __init__(self, *args, pfr_hidden_dim: Count = 256, **kwargs) -> None:
        """Build the distiller.

        Args:
            args: arguments of the method.
            pfr_hidden_dim: hidden width of the temporal projector (Linear without bias-BN-ReLU-Linear).
            kwargs: arguments of ``Distillation``.
        """
        super().__init__(*args, **kwargs)
        self.pfr_hidden_dim = pfr_hidden_dim

    def make_predictor(self) -> nn.Module:
        """Return the temporal projector."""
        return mlp(self.distilled_dim, self.pfr_hidden_dim, self.distilled_dim, bias=False)

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """-cos between projected and frozen features, averaged over the views (eq. 5)."""
        return over_views(simsiam, p, z_bar)


class LessForget(Distillation):
    """Less-Forget (Hou et al. 2019, section 3.2), after Learning without Forgetting: features keep their direction."""

    distilled = "feats"

    def distill_loss(self, p: Tensor, z_bar: Tensor) -> Tensor:
        """1 - cos between features and frozen features, averaged over the views."""
        return 1 + over_views(simsiam, p, z_bar)
