"""SwAV: predict the cluster code of one view from the other view."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision


@in_full_precision
def swav(
    scores: Float[Tensor, "batch prototypes"], codes: Float[Tensor, "batch prototypes"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Predict the codes of one view from the scores of another: ``-sum_k q_k log softmax(s / tau)_k``.

    Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", eq. 2. One
    direction; the caller adds the one with the views exchanged (eq. 1).

    It is a mean over samples, so it needs no gathering: averaging the processes' gradients is exact.

    Args:
        scores: products of the normalised projections with the prototypes.
        codes: :func:`sinkhorn` of the other view's scores; no gradient flows into them.
        temperature: tau, the unit in which scores are read.

    Returns:
        The mean over the batch, in nats; log(prototypes) when all scores are equal.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: must be positive, for example 0.1.")
    return -(codes.detach() * F.log_softmax(scores / temperature, dim=1)).sum(dim=1).mean()


@in_full_precision
@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "batch prototypes"], *, epsilon: float = 0.05, iterations: int = 3, gather: bool = True
) -> Float[Tensor, "batch prototypes"]:
    """Assign samples to prototypes softly, such that every prototype gets the same share of the batch.

    Caron et al. 2020, eq. 3 to 5: the code matrix that maximises similarity plus ``epsilon`` times entropy, among the
    matrices in which all prototypes have equal sums, is ``Diag(u) exp(scores / epsilon) Diag(v)``; the
    Sinkhorn-Knopp algorithm finds u and v. Each iteration equalises the prototypes and then normalises the samples.
    It runs on logarithms: at epsilon 0.05 a prototype that is far from all samples would underflow to 0/0.

    Args:
        scores: products of the normalised projections with the prototypes.
        epsilon: the smoothness of the codes, in units of the scores.
        iterations: 3 is the paper's; the prototypes' shares are equal in the limit only.
        gather: equalise over the batches of all processes, so that the codes do not depend on how it is spread.

    Returns:
        This process's codes without gradient; every row sums to 1.

    Raises:
        ValueError: ``epsilon`` is not positive or ``iterations`` is less than 1.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon={epsilon}: must be positive, for example 0.05.")
    if iterations < 1:
        raise ValueError(f"iterations={iterations}: must be at least 1, for example 3.")
    log_codes = scores / epsilon
    for _ in range(iterations):
        # Of each process one number per prototype travels, whatever the batch.
        share = log_codes.logsumexp(dim=0, keepdim=True)
        share = gather_with_gradient(share).logsumexp(dim=0, keepdim=True) if gather else share
        # The factors 1/prototypes and 1/batch of the paper are left out: the normalisation of the rows undoes them.
        log_codes = (log_codes - share).log_softmax(dim=1)
    return log_codes.exp()
