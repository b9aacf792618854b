"""ReSSL: two views of an image relate in the same way to a memory of other images."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.precision import in_full_precision


@in_full_precision
def ressl(
    q: Float[Tensor, "batch dim"],
    k: Float[Tensor, "batch dim"],
    queue: Float[Tensor, "queue dim"],
    *,
    temperature_q: float = 0.1,
    temperature_k: float = 0.04,
) -> Float[Tensor, ""]:
    """Match the student's similarities with the queue to the momentum teacher's sharper ones.

    Zheng et al. 2021, "ReSSL: Relational Self-Supervised Learning with Weak Augmentation", eq. 4 to 6: the
    cross-entropy of ``softmax(q.Q / tau_q)`` with the target ``softmax(k.Q / tau_k)``.

    It is a mean over samples, so it needs no gathering: averaging the processes' gradients is exact.

    Args:
        q: the student's embeddings of the strongly augmented views; normalised here, like the two below.
        k: the teacher's embeddings of the weakly augmented views; no gradient flows into them.
        queue: earlier teacher embeddings, of other images; no gradient flows into them.
        temperature_q: tau_q, the unit in which the student's cosines are read.
        temperature_k: tau_k; lower than tau_q, it sharpens the target.

    Returns:
        The mean over the batch, in nats; at least the mean entropy of the targets.

    Raises:
        ValueError: a temperature is not positive.
    """
    for name, value in (("temperature_q", temperature_q), ("temperature_k", temperature_k)):
        if value <= 0:
            raise ValueError(f"{name}={value}: must be positive, for example 0.1 (q) or 0.04 (k).")
    queue = F.normalize(queue.detach(), dim=1)
    target = F.softmax(F.normalize(k.detach(), dim=1) @ queue.T / temperature_k, dim=1)
    log_p = F.log_softmax(F.normalize(q, dim=1) @ queue.T / temperature_q, dim=1)
    return -(target * log_p).sum(dim=1).mean()
