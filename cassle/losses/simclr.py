"""SimCLR's contrastive objective, NT-Xent."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision


@in_full_precision
def nt_xent(
    z1: Float[Tensor, "batch dim"], z2: Float[Tensor, "batch dim"], *, temperature: float = 0.1, gather: bool = True
) -> Float[Tensor, ""]:
    """Tell the other view of an image apart from the views of all other images.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", eq. 1, averaged over
    the 2N ordered positive pairs:
    ``l(i, j) = -log exp(sim(z_i, z_j)/tau) / sum_{k != i} exp(sim(z_i, z_k)/tau)``, with sim the cosine.

    Args:
        z1: projections of the first views; they are normalised here.
        z2: projections of the second views, in the same order.
        temperature: tau, the unit in which cosines are read; the smaller, the more the hardest negatives weigh.
        gather: draw the negatives from all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean over 2N views, in nats; log(2N - 1) when all views look alike.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: must be positive, for example 0.1.")
    # Both views side by side: one collective instead of two.
    both = torch.cat([F.normalize(z1, dim=1), F.normalize(z2, dim=1)], dim=1)
    both = gather_with_gradient(both) if gather else both
    z = torch.cat(both.chunk(2, dim=1))

    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    other_view = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(logits, other_view)
