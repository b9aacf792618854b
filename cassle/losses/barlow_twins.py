"""Barlow Twins: the cross-correlation of two views should be the identity."""

import torch
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision
from cassle.losses.products import squared_norm_of_product

# BatchNorm's; keeps a dead feature (variance 0) at correlation 0 instead of nan.
EPS = 1e-5


@in_full_precision
def barlow_twins(
    z1: Float[Tensor, "batch dim"],
    z2: Float[Tensor, "batch dim"],
    *,
    lamb: float = 5e-3,
    scale_loss: float = 0.025,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Make every feature agree between the views and be uncorrelated with every other feature.

    Zbontar et al. 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", eq. 1 and 2:
    ``L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2``, with C the cross-correlation of the features over
    the batch. Features are standardised as BatchNorm without affine parameters does: biased variance plus 1e-5.

    Args:
        z1: projections of the first views.
        z2: projections of the second views, in the same order.
        lamb: lambda, the weight of one off-diagonal term beside a diagonal one.
        scale_loss: factor on the whole; it adapts the loss to learning rates that are shared with other methods.
        gather: take mean, variance and C over all processes. Only sums travel: D + D + D*D numbers, not the batch.

    Returns:
        The scaled loss, without unit; scale_loss * dim when the views are uncorrelated.
    """
    total = sum_over_processes if gather else _own
    n = len(z1) * (number_of_processes() if gather else 1)

    z = torch.stack([z1, z2])
    # Two passes: the one-pass E[z^2] - E[z]^2 loses all digits when a feature's mean is large beside its spread.
    z = z - total(z.sum(dim=1, keepdim=True)) / n
    variance = total(z.square().sum(dim=1, keepdim=True)) / n
    z = z * (variance + EPS).rsqrt()

    diagonal = total((z[0] * z[1]).sum(dim=0)) / n
    agreement = (diagonal - 1).square().sum()
    # All minus diagonal: needs neither a mask nor a copy of the dim x dim matrix without its diagonal.
    redundancy = squared_norm_of_product(*z, n, gather=gather) - diagonal.square().sum()
    return scale_loss * (agreement + lamb * redundancy)


def _own(x: Tensor) -> Tensor:
    return x
