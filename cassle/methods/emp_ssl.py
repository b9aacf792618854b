"""EMP-SSL."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cassle.checks import Count, NonNegative, Positive
from cassle.data.batch import Batch
from cassle.losses.emp_ssl import emp_ssl_terms
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class EMPSSL(SSLMethod):
    """EMP-SSL (Tong et al. 2023): many small patches of an image agree with their mean and fill the space."""

    auto_distiller = "predictive"
    defaults: ClassVar[dict[str, Any]] = {"num_crops": 20, "min_scale": 0.25, "max_scale": 0.25}

    def __init__(
        self,
        *args,
        output_dim: Count = 1024,
        proj_hidden_dim: Count = 4096,
        emp_tcr_param: NonNegative = 1.0,
        emp_tcr_eps: Positive = 0.2,
        emp_patch_sim: NonNegative = 200.0,
        gather: bool = True,
        concat_views: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the three-layer projector.
            emp_tcr_param: weight of the total coding rate.
            emp_tcr_eps: distortion of the coding rate.
            emp_patch_sim: weight of the agreement of the patches.
            gather: coding rate over the images of all processes.
            concat_views: pass all patches through the network as one batch, as the paper does.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, concat_views=concat_views, **kwargs)
        self.output_dim = output_dim
        weights = {"tcr_weight": emp_tcr_param, "invariance_weight": emp_patch_sim}
        self.terms = partial(emp_ssl_terms, **weights, eps=emp_tcr_eps, gather=gather)
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, layers=3)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The agreement of the patches and their coding rate, on the unit sphere."""
        return self.terms(F.normalize(torch.stack([o["z"] for o in out]), dim=2))
