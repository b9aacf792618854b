"""MoCo's contrastive objective: one momentum key against a queue of old ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.contrast import check_temperature
from cassle.losses.precision import in_full_precision


@in_full_precision
def moco_info_nce(
    q: Float[Tensor, "batch dim"],
    k: Float[Tensor, "batch dim"],
    queue: Float[Tensor, "slots dim"],
    *,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Find, for every query, its own key among the keys in the queue.

    He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", eq. 1, averaged over the batch:
    ``-log exp(q.k/tau) / (exp(q.k/tau) + sum over the queue of exp(q.k_i/tau))``, all of them normalised. One
    direction; the method adds the one with the views exchanged.

    It is a mean over samples, and the queue is the same in all processes, so it needs no gathering: averaging the
    processes' gradients is exact.

    Args:
        q: queries; they are normalised here.
        k: the momentum network's keys, the i-th belonging to the i-th query; no gradient flows into them.
        queue: old keys, the negatives, one a row; no gradient flows into them. With no rows the loss is 0.
        temperature: tau, the unit in which cosines are read.

    Returns:
        The mean in nats; log(1 + slots) when all keys look alike.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    check_temperature(temperature)
    q, k, queue = (F.normalize(x, dim=1) for x in (q, k.detach(), queue.detach()))
    own = (q * k).sum(dim=1, keepdim=True)
    logits = torch.cat([own, q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))
