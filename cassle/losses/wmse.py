"""W-MSE: views agree after whitening, which leaves no room for collapse."""

from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision


@in_full_precision
def wmse(
    *z: Float[Tensor, "batch dim"],
    permutations: Int[Tensor, "iterations rows"],
    whitening_size: int = 256,
    whitening_eps: float = 0.0,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Whiten the views in random sub-batches and draw them together: ``2 - 2 cos`` over all pairs of views.

    Ermolov et al. 2021, "Whitening for Self-Supervised Representation Learning", section 3. Each permutation cuts the
    batch into ``max(rows // whitening_size, 1)`` sub-batches whose sizes differ by at most one row, so that any batch
    size works; each view of a sub-batch is whitened by itself. The gradient flows through all views: with equal roles
    and no collapse to avoid, there is nothing to stop.

    Args:
        z: two or more views' projections, in the same order.
        permutations: one permutation of the rows for each iteration (more of them smooth the choice of sub-batches).
            The caller draws them from a generator that is keyed by the step, so that they are the same on every
            process; rows is the batch, or with ``gather`` the batches of all processes together.
        whitening_size: rows of a sub-batch; about twice dim, as the covariance wants.
        whitening_eps: see :func:`whiten`.
        gather: whiten over the batches of all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean over iterations, pairs and rows, in [0, 4]; NaN where a covariance is singular or not finite.

    Raises:
        ValueError: fewer than two views, permutations of another length, a ``whitening_size`` below 1, or too few
            rows in a sub-batch for a covariance of full rank.
    """
    if len(z) < 2:
        raise ValueError(f"{len(z)} views: give the projections of at least 2.")
    if whitening_size < 1:
        raise ValueError(f"whitening_size={whitening_size}: must be at least 1, for example 256.")
    dim = z[0].shape[1]
    together = torch.stack(z, dim=1)  # one collective for all views
    views = (gather_with_gradient(together) if gather else together).transpose(0, 1)
    rows = views.shape[1]
    if permutations.shape[1] != rows:
        raise ValueError(
            f"permutations of {permutations.shape[1]} rows for a batch of {rows}: draw them over the rows of "
            f"{'all processes' if gather else 'this process'}."
        )
    parts = max(rows // whitening_size, 1)
    if whitening_eps == 0 and rows // parts <= dim:
        raise ValueError(
            f"a batch of {rows} rows cut by whitening_size={whitening_size} leaves sub-batches of {rows // parts}, but "
            f"whitening output_dim={dim} features needs at least {dim + 1}: raise whitening_size or the batch size, or "
            f"lower output_dim, or give whitening_eps > 0."
        )
    losses = []
    for order in permutations:
        white = torch.cat([_whiten(part, whitening_eps) for part in views[:, order].tensor_split(parts, dim=1)], dim=1)
        losses += [2 - 2 * F.cosine_similarity(a, b, dim=1).mean() for a, b in combinations(white, 2)]
    return torch.stack(losses).mean()


@in_full_precision
def whiten(z: Float[Tensor, "rows dim"], eps: float = 0.0) -> Float[Tensor, "rows dim"]:
    """Map the rows linearly to mean 0 and covariance I.

    Ermolov et al. 2021, eq. 5 and 6: ``W (z - mean)`` with ``W^T W`` the inverse of the (unbiased) covariance; W is
    the inverse of the covariance's Cholesky factor.

    Args:
        z: the rows; more of them than dimensions, unless ``eps`` helps.
        eps: whiten ``(1 - eps) covariance + eps I`` instead; the result is then only about white.

    Returns:
        The white rows; gradients flow through the covariance too. NaN where the covariance is singular or not finite.

    Raises:
        ValueError: ``eps`` is outside [0, 1].
    """
    return _whiten(z, eps)


def _whiten(z: Float[Tensor, "*views rows dim"], eps: float) -> Float[Tensor, "*views rows dim"]:
    if not 0 <= eps <= 1:
        raise ValueError(f"whitening_eps={eps}: must be between 0 and 1, for example 0 or 1e-3.")
    rows, dim = z.shape[-2:]
    z = z - z.mean(dim=-2, keepdim=True)
    covariance = z.mT @ z / max(rows - 1, 1)
    covariance = (1 - eps) * covariance + eps * torch.eye(dim, dtype=z.dtype, device=z.device)
    # Asking whether it worked would wait for the device; a result that is not a number tells as well, and later.
    factor, failed = torch.linalg.cholesky_ex(covariance)
    factor = factor.masked_fill((failed != 0)[..., None, None], float("nan"))
    return torch.linalg.solve_triangular(factor, z.mT, upper=False).mT
