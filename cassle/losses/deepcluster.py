"""DeepCluster v2: classify every image as the cluster that it fell into."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision

#: the assignment of an image that has no cluster yet
UNASSIGNED = -1


@in_full_precision
def deepcluster(
    scores: Float[Tensor, "batch prototypes"], assignments: Int[Tensor, " batch"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Return the cross-entropy of ``softmax(scores / temperature)`` with the assigned clusters.

    Caron et al. 2018, "Deep Clustering for Unsupervised Learning of Visual Features", eq. 1 with the clusters as
    pseudo-labels, in the form of Caron et al. 2020 (appendix on DeepCluster-v2): the classifier is the matrix of
    k-means centroids.

    The mean is over the assigned rows of all processes; only their number travels. A process's value is its own rows'
    share of it, times the number of processes, so that averaging the processes is exact.

    Args:
        scores: products of the normalised projections with the centroids.
        assignments: the cluster of each row in [0, prototypes), or -1 for rows that have none; these do not count.
        temperature: tau, the unit in which scores are read.

    Returns:
        The mean over the assigned rows, in nats; 0 with a gradient of zeros when there are none, so that the
        backward pass of the first epoch, before any clustering, needs no special case.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: must be positive, for example 0.1.")
    total = F.cross_entropy(scores / temperature, assignments.long(), ignore_index=UNASSIGNED, reduction="sum")
    rows = sum_over_processes((assignments != UNASSIGNED).sum().to(total.dtype))
    return total * number_of_processes() / rows.clamp(min=1)
