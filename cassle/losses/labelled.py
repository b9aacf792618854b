"""Cross-entropy where not every image has a label."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision

NO_LABEL = -1


@in_full_precision
def labelled_cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Int[Tensor, " batch"], gather: bool = True
) -> Float[Tensor, ""]:
    """Cross-entropy with the labels, averaged over the images that have one.

    A batch without any label gives 0 with a gradient of zero (not none: DistributedDataParallel waits for one).

    Args:
        logits: scores of the classes.
        targets: classes; -1 for an image without a label.
        gather: average over the labelled images of all processes; the mean of the processes' values is then that of
            the whole batch, however the labels are spread.

    Returns:
        The mean in nats; log(classes) for equal scores everywhere.
    """
    total = F.cross_entropy(logits, targets, ignore_index=NO_LABEL, reduction="sum")
    number = (targets != NO_LABEL).sum().to(total.dtype)
    if gather:
        number = sum_over_processes(number) / number_of_processes()
    return total / number.clamp(min=1 / number_of_processes())
