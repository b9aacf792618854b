"""SupCon: SimCLR's objective, with all images of one class as positives of each other."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cassle.losses.contrast import check_temperature, check_views, positives_among_all
from cassle.losses.distributed import gather_exact, gather_with_gradient
from cassle.losses.precision import in_full_precision

NO_LABEL = -1


@in_full_precision
def supcon(
    *z: Float[Tensor, "batch dim"], targets: Int[Tensor, " batch"], temperature: float = 0.1, gather: bool = True
) -> Float[Tensor, ""]:
    """Tell the views of a class apart from the views of all other classes.

    Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2 (L_out), averaged instead of summed over the anchors:
    ``L_i = -1/|P(i)| sum_{p in P(i)} log exp(z_i.z_p/tau) / sum_{k != i} exp(z_i.z_k/tau)``, with z normalised and
    P(i) all other views with the label of view i. An image without a label has only its own other views as
    positives; with no two labels alike, this is :func:`cassle.losses.simclr.nt_xent`.

    Args:
        z: projections of the first views, of the second views, and so on, in the same order; they are normalised here.
        targets: the images' classes; -1 for an image without a label.
        temperature: tau, the unit in which cosines are read.
        gather: draw positives and negatives from all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean over all views, in nats; log(views * batch - 1) when all views look alike.

    Raises:
        ValueError: ``temperature`` is not positive, or there are fewer than two views.
    """
    check_temperature(temperature)
    check_views(len(z))
    views = torch.stack([F.normalize(view, dim=1) for view in z], dim=1)
    if gather:
        views, targets = gather_with_gradient(views), gather_exact(targets)
    # Everything with the anchor's label, the anchor included, and then without it.
    alike = _alike(targets).to(views.dtype)
    total = (alike @ views.sum(dim=1)).unsqueeze(1)
    number = alike.sum(dim=1).view(-1, 1, 1) * len(z)
    return positives_among_all(views, (total - views) / (number - 1), temperature)


def _alike(targets: Int[Tensor, " batch"]) -> Bool[Tensor, "batch batch"]:
    """Which images have the same label; every image is like itself, labelled or not."""
    same = (targets == targets.unsqueeze(1)) & (targets != NO_LABEL)
    return same.fill_diagonal_(True)
