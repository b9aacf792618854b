"""VICReg: equal views, features that vary, and features that do not repeat each other."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision
from cassle.losses.products import squared_norm_of_product

# The paper's epsilon: keeps the slope of the standard deviation finite at collapse.
EPS = 1e-4


def vicreg_terms(
    z1: Float[Tensor, "batch dim"],
    z2: Float[Tensor, "batch dim"],
    *,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 1.0,
    gather: bool = True,
) -> dict[str, Float[Tensor, ""]]:
    """Return the three terms of VICReg by name, already weighted; :func:`vicreg` is their sum.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", eq. 6, with n samples of dimension d:

    * ``"invariance"``: lambda times the mean of (z1 - z2)^2 over samples and dimensions. (Eq. 5 sums over the
      dimensions; the weight 25 of the paper's experiments belongs to the mean.)
    * ``"variance"``: mu times eq. 1, ``1/d sum_j max(0, 1 - sqrt(Var(z^j) + 1e-4))``, summed over the two views.
    * ``"covariance"``: nu times eq. 4, ``1/d sum_{i != j} Cov(Z)_ij^2``, summed over the two views.

    Variance and covariance are unbiased: they divide by n - 1.

    Args:
        z1: projections of the first views.
        z2: projections of the second views, in the same order.
        sim_loss_weight: lambda, weight of the invariance.
        var_loss_weight: mu, weight of the variance.
        cov_loss_weight: nu, weight of the covariance.
        gather: take mean, variance and covariance over all processes; only sums travel, not the batch. The invariance
            is a mean over this process's samples in any case: averaging the processes' gradients is exact for it.

    Returns:
        The terms, without unit.

    Raises:
        ValueError: there are fewer than two samples, which have no variance.
    """
    invariance, variance, covariance = _unweighted(z1, z2, gather)
    return {
        "invariance": sim_loss_weight * invariance,
        "variance": var_loss_weight * variance,
        "covariance": cov_loss_weight * covariance,
    }


def vicreg(
    z1: Float[Tensor, "batch dim"],
    z2: Float[Tensor, "batch dim"],
    *,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 1.0,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Make the views equal, every feature vary, and no two features covary: the sum of :func:`vicreg_terms`.

    Bardes et al. 2022, eq. 6. Arguments and errors are those of :func:`vicreg_terms`.

    Args:
        z1: projections of the first views.
        z2: projections of the second views, in the same order.
        sim_loss_weight: lambda, weight of the invariance.
        var_loss_weight: mu, weight of the variance.
        cov_loss_weight: nu, weight of the covariance.
        gather: take mean, variance and covariance over all processes.

    Returns:
        The sum, without unit; var_loss_weight * 2 * 0.99 when all projections are one point.

    Raises:
        ValueError: there are fewer than two samples.
    """
    terms = vicreg_terms(
        z1,
        z2,
        sim_loss_weight=sim_loss_weight,
        var_loss_weight=var_loss_weight,
        cov_loss_weight=cov_loss_weight,
        gather=gather,
    )
    return torch.stack(list(terms.values())).sum()


@in_full_precision
def _unweighted(z1: Float[Tensor, "batch dim"], z2: Float[Tensor, "batch dim"], gather: bool) -> Float[Tensor, "3"]:
    """The three terms of equation 6, in its order, without their weights."""
    n = len(z1) * (number_of_processes() if gather else 1)
    if n < 2:
        raise ValueError(f"batch of {n}: a variance needs at least 2 samples; use a larger batch.")

    z = torch.stack([z1, z2])
    # Two passes: the one-pass E[z^2] - E[z]^2 loses all digits when a feature's mean is large beside its spread.
    z = z - _total(z.sum(dim=1, keepdim=True), gather) / n
    variance = _total(z.square().sum(dim=1), gather) / (n - 1)
    hinge = F.relu(1 - (variance + EPS).sqrt())
    # All minus diagonal: needs neither a mask nor a copy of the dim x dim matrix without its diagonal.
    covariance = squared_norm_of_product(z, z, n - 1, gather=gather) - variance.square().sum()
    return torch.stack([F.mse_loss(z1, z2), hinge.mean(dim=1).sum(), covariance / z1.shape[1]])


def _total(x: Tensor, gather: bool) -> Tensor:
    return sum_over_processes(x) if gather else x
