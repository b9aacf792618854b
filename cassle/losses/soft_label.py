"""Learning without forgetting: a classifier keeps giving the probabilities that an older one gives."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.contrast import check_temperature
from cassle.losses.precision import in_full_precision


@in_full_precision
def soft_label(
    logits: Float[Tensor, "batch classes"], frozen: Float[Tensor, "batch classes"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Cross-entropy of a classifier with the softened output of another, which gets no gradient.

    Li and Hoiem 2016, "Learning without Forgetting", eq. 2; Hinton et al. 2015 for the temperature T:
    ``T^2 * mean_i -sum_c softmax(frozen_i / T)_c log softmax(logits_i / T)_c``. The factor T^2 keeps the size of the
    gradient when T changes. The gradient is that of the Kullback-Leibler divergence; the value is larger by the
    entropy of the targets. With T = 1 it is Kaizen's.

    Args:
        logits: scores of the classifier that learns.
        frozen: scores of the one that it follows.
        temperature: T, the unit in which both are read.

    Returns:
        The mean over the batch, in nats; log(classes) for equal scores everywhere. A mean over the processes' equal
        batches is that of the whole batch.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    check_temperature(temperature)
    wanted = (frozen.detach() / temperature).softmax(dim=1)
    return temperature**2 * F.cross_entropy(logits / temperature, wanted)
