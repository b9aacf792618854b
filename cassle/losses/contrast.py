"""What the contrastive losses share."""

import torch
from jaxtyping import Float
from torch import Tensor


def check_temperature(temperature: float) -> None:
    """Raise a ValueError unless ``temperature`` is positive: logits are cosines divided by it."""
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be positive, for example 0.1.")


def check_views(number: int) -> None:
    """Raise a ValueError for fewer than two views: an image is found by its other views."""
    if number < 2:
        raise ValueError(f"{number} view(s) of an image: a positive pair needs at least 2.")


def positives_among_all(
    z: Float[Tensor, "batch views dim"], positives: Float[Tensor, "batch views dim"], temperature: float
) -> Float[Tensor, ""]:
    """Contrast every view with all other views, averaged over the batch and the views.

    The mean over an anchor's positives of ``-log exp(z_i.z_p/tau) / sum_{k != i} exp(z_i.z_k/tau)`` needs only the
    mean of the positives, because the logit is linear in z_p. So no table of who is whose positive is made.

    Args:
        z: normalised projections.
        positives: for every view, the mean of its positives.
        temperature: tau.

    Returns:
        The mean in nats.
    """
    rows = z.flatten(0, 1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=z.device)
    logits = (rows @ rows.T / temperature).masked_fill(itself, float("-inf"))
    return logits.logsumexp(dim=1).mean() - (z * positives).sum(dim=-1).mean() / temperature
