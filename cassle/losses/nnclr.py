"""NNCLR: the nearest neighbour of one view is the positive of the other."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.info_nce import info_nce
from cassle.losses.precision import in_full_precision


@in_full_precision
def nnclr(
    nn: Float[Tensor, "batch dim"], p: Float[Tensor, "batch dim"], *, temperature: float = 0.1, gather: bool = True
) -> Float[Tensor, ""]:
    """Find, for every nearest neighbour of one view, the prediction from the other view of the same image.

    Dwibedi et al. 2021, "With a Little Help from My Friends", eq. 4, averaged over the batch:
    ``-log exp(nn_i.p_i/tau) / sum_k exp(nn_i.p_k/tau)``, with nn_i the entry of the support set that is nearest to
    z_i (eq. 3), and p_k the predictions from the other views of the batch, all normalised. One direction; the method
    adds the one with the views exchanged.

    Args:
        nn: nearest neighbours, see :func:`nearest_neighbours`; no gradient flows into them.
        p: predictions from the other views, in the same order; they are normalised here.
        temperature: tau, the unit in which cosines are read.
        gather: draw the negatives from all processes; averaged over the processes, the result does not depend on how
            the batch is spread.

    Returns:
        The mean over this process's images, in nats; log(batch over all processes) when all predictions look alike.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    return info_nce(nn.detach(), p, temperature=temperature, gather=gather)


@torch.no_grad()
@in_full_precision
def nearest_neighbours(z: Float[Tensor, "batch dim"], queue: Float[Tensor, "slots dim"]) -> Float[Tensor, "batch dim"]:
    """Return, for every row of ``z``, the row of ``queue`` at the smallest angle to it (Dwibedi et al. 2021, eq. 3).

    Args:
        z: projections.
        queue: the support set, one entry a row.

    Returns:
        Rows of ``queue`` as they are stored there, without gradient.

    Raises:
        ValueError: ``queue`` is empty.
    """
    if len(queue) == 0:
        raise ValueError("The queue has 0 rows: no nearest neighbour can be found in it.")
    # The length of z_i is the same for all candidates; only the queue's must be divided out.
    return queue[(z @ F.normalize(queue, dim=1).T).argmax(dim=1)]
