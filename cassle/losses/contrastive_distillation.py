"""CaSSLe's distillation for contrastive methods: the present predicts the past, against negatives."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cassle.losses.contrast import check_temperature
from cassle.losses.distributed import gather_with_gradient
from cassle.losses.precision import in_full_precision

NEGATIVES = ("all", "exclude_other_view", "with_predictions")


@in_full_precision
def contrastive_distillation(
    p: Float[Tensor, "views batch dim"],
    z: Float[Tensor, "views batch dim"],
    *,
    temperature: float = 0.2,
    negatives: str = "exclude_other_view",
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Find the frozen network's projection of a view among those of other images, and the reverse.

    Fini et al. 2022, "Self-Supervised Models are Continual Learners": a self-supervised loss becomes a distillation
    loss "by adding a predictor network that maps the current state of the representations to their past state"; here
    the loss is InfoNCE. With P the normalised predictions of all V views of N images and Z the V*N normalised frozen
    projections, it is the mean over i, and over the directions P to Z and Z to P, of
    ``-log exp(P_i.Z_i/tau) / (exp(P_i.Z_i/tau) + sum of exp(negative/tau))``.

    The sources disagree on the negatives of view i (issue 17 of the authors' repository), hence the choice:

    * ``"all"``: Z_j for all j != i, as the authors' code does. It pushes P_i away from the *other views of its own
      image*, positives in disguise. Take it to reproduce published numbers.
    * ``"exclude_other_view"``: Z_j of other images only.
    * ``"with_predictions"``: these, and the P_j of other images, as the paper's appendix B has negatives from both the
      predicted and the frozen features. From Z to P it adds Z_j likewise.

    Args:
        p: predictions g(z), for any number of views; they are normalised here.
        z: the frozen network's projections of the same views in the same order; no gradient flows into them.
        temperature: tau, the unit in which cosines are read.
        negatives: one of the three names above.
        gather: draw the negatives from all processes; the result does not depend on how the batch is spread.

    Returns:
        The mean in nats.

    Raises:
        ValueError: ``temperature`` is not positive, or ``negatives`` is unknown.
    """
    check_temperature(temperature)
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives={negatives!r}: unknown; choose one of {', '.join(NEGATIVES)}.")

    # All of an image's rows side by side: one collective for both sides and all views.
    rows = torch.stack([F.normalize(p, dim=-1), F.normalize(z.detach(), dim=-1)]).movedim(2, 0)
    rows = gather_with_gradient(rows) if gather else rows
    n, _, views, _ = rows.shape
    p, z = rows.movedim(1, 0).flatten(1, 2)

    image = torch.arange(n, device=p.device).repeat_interleave(views)
    same_image = image == image.unsqueeze(1)
    other_view = same_image & ~torch.eye(len(p), dtype=torch.bool, device=p.device)
    between = p @ z.T / temperature
    if negatives != "all":
        between = between.masked_fill(other_view, float("-inf"))
    forward, backward = between, between.T
    if negatives == "with_predictions":
        forward = torch.cat([forward, _within(p, same_image, temperature)], dim=1)
        backward = torch.cat([backward, _within(z, same_image, temperature)], dim=1)

    same_view = torch.arange(len(p), device=p.device)
    return (F.cross_entropy(forward, same_view) + F.cross_entropy(backward, same_view)) / 2


def _within(
    x: Float[Tensor, "rows dim"], same_image: Bool[Tensor, "rows rows"], temperature: float
) -> Float[Tensor, "rows rows"]:
    """Similarities among the rows of ``x``, without those of one image to itself."""
    return (x @ x.T / temperature).masked_fill(same_image, float("-inf"))
