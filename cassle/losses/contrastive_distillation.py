"""CaSSLe's distillation for contrastive methods: the present predicts the past, against negatives."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision

NEGATIVES = ("all", "exclude_other_view", "with_predictions")


@in_full_precision
def contrastive_distillation(
    p1: Float[Tensor, "batch dim"],
    p2: Float[Tensor, "batch dim"],
    z1: Float[Tensor, "batch dim"],
    z2: Float[Tensor, "batch dim"],
    *,
    temperature: float = 0.2,
    negatives: str = "exclude_other_view",
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Find the frozen network's projection of a view among those of other images, and the reverse.

    Fini et al. 2022, "Self-Supervised Models are Continual Learners": a self-supervised loss becomes a distillation
    loss "by adding a predictor network that maps the current state of the representations to their past state"; here
    the loss is InfoNCE. With P the 2N normalised predictions and Z the 2N normalised frozen projections, it is the
    mean over i, and over the directions P to Z and Z to P, of
    ``-log exp(P_i.Z_i/tau) / (exp(P_i.Z_i/tau) + sum of exp(negative/tau))``.

    The sources disagree on the negatives of view i (issue 17 of the authors' repository), hence the choice:

    * ``"all"``: Z_j for all j != i, as the authors' code does. It pushes P_i away from the *other view of its own
      image*, a positive in disguise. Take it to reproduce published numbers.
    * ``"exclude_other_view"``: Z_j of other images only.
    * ``"with_predictions"``: these, and the P_j of other images, as the paper's appendix B has negatives from both the
      predicted and the frozen features. From Z to P it adds Z_j likewise.

    Args:
        p1: predictions g(z) from the first views; they are normalised here.
        p2: predictions from the second views.
        z1: the frozen network's projections of the first views; no gradient flows into them.
        z2: the frozen network's projections of the second views.
        temperature: tau, the unit in which cosines are read.
        negatives: one of the three names above.
        gather: draw the negatives from all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean in nats.

    Raises:
        ValueError: ``temperature`` is not positive, or ``negatives`` is unknown.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: must be positive, for example 0.2.")
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives={negatives!r}: unknown; choose one of {', '.join(NEGATIVES)}.")

    # All four side by side: one collective instead of four.
    four = torch.cat([F.normalize(x, dim=1) for x in (p1, p2, z1.detach(), z2.detach())], dim=1)
    four = gather_with_gradient(four) if gather else four
    p1, p2, z1, z2 = four.chunk(4, dim=1)
    p, z = torch.cat([p1, p2]), torch.cat([z1, z2])

    itself = torch.eye(len(p), dtype=torch.bool, device=p.device)
    other_view = itself.roll(len(p) // 2, dims=1)
    between = p @ z.T / temperature
    if negatives != "all":
        between = between.masked_fill(other_view, float("-inf"))
    forward, backward = between, between.T
    if negatives == "with_predictions":
        forward = torch.cat([forward, _within(p, itself | other_view, temperature)], dim=1)
        backward = torch.cat([backward, _within(z, itself | other_view, temperature)], dim=1)

    same_view = torch.arange(len(p), device=p.device)
    return (F.cross_entropy(forward, same_view) + F.cross_entropy(backward, same_view)) / 2


def _within(
    x: Float[Tensor, "views dim"], same_image: Bool[Tensor, "views views"], temperature: float
) -> Float[Tensor, "views views"]:
    """Similarities among the rows of ``x``, without those of one image to itself."""
    return (x @ x.T / temperature).masked_fill(same_image, float("-inf"))
