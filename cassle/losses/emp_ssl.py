"""EMP-SSL: many patches of an image agree, while the batch as a whole spreads out."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import gather_with_gradient, number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision


def emp_ssl(
    z: Float[Tensor, "views batch dim"],
    *,
    tcr_weight: float = 1.0,
    invariance_weight: float = 200.0,
    eps: float = 0.2,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Draw the views of an image to their mean and raise the coding rate of every view's batch.

    Tong et al. 2023, "EMP-SSL: Towards Self-Supervised Learning in One Training Epoch": with V views and
    ``zbar_b = mean_v z_vb`` (not detached),
    ``L = invariance_weight (1/V) sum_v -mean_b cos(z_vb, zbar_b) - tcr_weight (1/V) sum_v R(z_v)``, where R is
    :func:`total_coding_rate`. The projections are used as they come; the paper's are normalised by the projector.

    Args:
        z: projections of all views.
        tcr_weight: weight of the coding rate, in units of the loss per nat.
        invariance_weight: weight of the mean negative cosine.
        eps: see :func:`total_coding_rate`.
        gather: take the coding rate over the batches of all processes. The agreement is a mean over samples, which
            needs no gathering.

    Returns:
        The loss; its first part is ``-invariance_weight`` where all views agree.

    Raises:
        ValueError: ``eps`` is not positive.
    """
    terms = emp_ssl_terms(z, tcr_weight=tcr_weight, invariance_weight=invariance_weight, eps=eps, gather=gather)
    return terms["invariance"] + terms["coding_rate"]


def emp_ssl_terms(
    z: Float[Tensor, "views batch dim"],
    *,
    tcr_weight: float = 1.0,
    invariance_weight: float = 200.0,
    eps: float = 0.2,
    gather: bool = True,
) -> dict[str, Float[Tensor, ""]]:
    """Return the two weighted terms whose sum is :func:`emp_ssl`: ``invariance`` and ``coding_rate`` (negative)."""
    return {
        "invariance": -invariance_weight * _agreement(z),
        "coding_rate": -tcr_weight * _rates(z, eps, gather).mean(),
    }


def total_coding_rate(z: Float[Tensor, "batch dim"], *, eps: float = 0.2, gather: bool = True) -> Float[Tensor, ""]:
    """Return ``R(Z) = 1/2 logdet(I + d / (n eps) Z^T Z)``, the nats that describe the batch up to a distortion.

    Ma et al. 2007 and Yu et al. 2020 ("Learning Diverse and Discriminative Representations via the Principle of
    Maximal Coding Rate Reduction", eq. 1); Tong et al. 2023. These write eps^2 where eps stands here: as in the
    authors' code, 0.2 is the squared distortion itself.

    The determinant is that of the smaller of the two matrices with the same non-zero eigenvalues (Sylvester):
    d x d or n x n. It is made in float64: near collapse one eigenvalue is some 10^7 times the others, which are all 1,
    and float32 would lose these.

    Args:
        z: the batch's projections; the rate grows with their length, so a loss that lowers ``-R`` wants them bounded.
        eps: squared distortion.
        gather: take n and Z over all processes; the result does not depend on how the batch is spread.

    Returns:
        The rate, at least 0; 0 when all rows are zero. A loss subtracts it.

    Raises:
        ValueError: ``eps`` is not positive.
    """
    return _rates(z.unsqueeze(0), eps, gather).squeeze(0)


@in_full_precision
def _agreement(z: Float[Tensor, "views batch dim"]) -> Float[Tensor, ""]:
    return F.cosine_similarity(z, z.mean(dim=0, keepdim=True), dim=2).mean()


@in_full_precision
def _rates(z: Float[Tensor, "views batch dim"], eps: float, gather: bool) -> Float[Tensor, " views"]:
    if eps <= 0:
        raise ValueError(f"eps={eps}: must be positive, for example 0.2.")
    wide = z.double()
    n, dim = z.shape[1] * (number_of_processes() if gather else 1), z.shape[2]
    if dim <= n:  # the sums are also less to move than the rows
        gram = wide.mT @ wide
        gram = sum_over_processes(gram) if gather else gram
    else:
        rows = gather_with_gradient(wide.transpose(0, 1)).transpose(0, 1) if gather else wide
        gram = rows @ rows.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # I plus a positive semi-definite matrix: Cholesky's factor exists, and 1/2 logdet is the sum of its logarithms.
    factor = torch.linalg.cholesky_ex(identity + dim / (n * eps) * gram).L  # unlike cholesky, waits for no answer
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).to(z.dtype)
