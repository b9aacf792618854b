"""SimCLR's contrastive objective, NT-Xent."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.contrast import check_temperature, check_views, positives_among_all
from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision


@in_full_precision
def nt_xent(*z: Float[Tensor, "batch dim"], temperature: float = 0.1, gather: bool = True) -> Float[Tensor, ""]:
    """Tell the other views of an image apart from the views of all other images.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", eq. 1, averaged over
    all ordered positive pairs (i, j), i != j, of views of one image; 2N pairs for two views of N images:
    ``l(i, j) = -log exp(sim(z_i, z_j)/tau) / sum_{k != i} exp(sim(z_i, z_k)/tau)``, with sim the cosine.

    Args:
        z: projections of the first views, of the second views, and so on, in the same order; they are normalised here.
        temperature: tau, the unit in which cosines are read; the smaller, the more the hardest negatives weigh.
        gather: draw the negatives from all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean over all pairs, in nats; log(views * batch - 1) when all views look alike.

    Raises:
        ValueError: ``temperature`` is not positive, or there are fewer than two views.
    """
    check_temperature(temperature)
    check_views(len(z))
    # An image's views side by side: one collective for all of them.
    views = torch.stack([F.normalize(view, dim=1) for view in z], dim=1)
    views = gather_with_gradient(views) if gather else views
    other_views = (views.sum(dim=1, keepdim=True) - views) / (len(z) - 1)
    return positives_among_all(views, other_views, temperature)
