"""InfoNCE with the rest of the batch as negatives, from queries to keys."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.contrast import check_temperature
from cassle.losses.distributed import gather_with_gradient, number_of_processes
from cassle.losses.precision import in_full_precision


@in_full_precision
def info_nce(
    q: Float[Tensor, "batch dim"], k: Float[Tensor, "batch dim"], *, temperature: float = 0.2, gather: bool = True
) -> Float[Tensor, ""]:
    """Find, for every query, its own key among the keys of the whole batch.

    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", eq. 4, with the cosine over
    a temperature as the score: the mean over i of ``-log exp(q_i.k_i/tau) / sum_j exp(q_i.k_j/tau)``, j over the batch.

    Gradients flow into queries and keys; detach what should stay. Only the keys travel between the processes, and each
    process returns the mean over its own queries, so that averaging the processes' gradients is exact.

    Args:
        q: queries; they are normalised here.
        k: keys, the i-th belonging to the i-th query; they are normalised here.
        temperature: tau, the unit in which cosines are read.
        gather: search the keys of all processes; averaged over the processes, the result does not depend on how the
            batch is spread.

    Returns:
        The mean over this process's queries, in nats; log(number of keys) when all keys look alike.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    check_temperature(temperature)
    q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    first = 0
    if gather and number_of_processes() > 1:
        k, first = gather_with_gradient(k), dist.get_rank() * len(q)
    own_key = torch.arange(first, first + len(q), device=q.device)
    return F.cross_entropy(q @ k.T / temperature, own_key)
