"""W-MSE."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cassle.checks import Count, Share
from cassle.data.batch import Batch
from cassle.errors import ConfigError
from cassle.losses import wmse
from cassle.losses.distributed import number_of_processes
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class WMSE(SSLMethod):
    """W-MSE (Ermolov et al. 2021): views agree after each has been whitened, which no collapse survives."""

    auto_distiller = "predictive_mse"
    defaults: ClassVar[dict[str, Any]] = {"batch_size": 256}
    distill_defaults: ClassVar[dict[str, Any]] = {"distill_lamb": 1.0}
    remedy = " The covariance may be singular: raise --whitening_size, --batch_size or --whitening_eps."

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 1024,
        whitening_iters: Count = 1,
        whitening_size: Count = 256,
        whitening_eps: Share = 0.0,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector.
            whitening_iters: random cuts of the batch over which the loss is averaged.
            whitening_size: images that are whitened together; more than output_dim.
            whitening_eps: share of the identity in the covariance; above 0 it may be singular.
            gather: cut the images of all processes together.
            kwargs: arguments of ``SSLMethod``.

        Raises:
            ConfigError: whitening_size is too small for output_dim.
        """
        super().__init__(*args, **kwargs)
        if whitening_size <= output_dim and not whitening_eps:
            raise ConfigError(
                f"--whitening_size {whitening_size}: the covariance of so few images has no full rank in --output_dim "
                f"{output_dim}; give {2 * output_dim}, or a smaller --output_dim, or --whitening_eps 0.01."
            )
        self.output_dim, self.iterations, self.gather = output_dim, whitening_iters, gather
        self.settings = {"whitening_size": whitening_size, "whitening_eps": whitening_eps}
        self.smallest_batch = 2 if whitening_eps else output_dim + 1
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """2 - 2 cos between the whitened views."""
        rows = len(batch.index) * (number_of_processes() if self.gather else 1)
        draws = self.draws("whitening")
        cuts = torch.stack([torch.randperm(rows, generator=draws) for _ in range(self.iterations)])
        cuts = cuts.to(out[0]["z"].device, non_blocking=True)
        return {"wmse": wmse(*(o["z"] for o in out), permutations=cuts, gather=self.gather, **self.settings)}
