"""SimSiam: predict the other view's projection, which stands still."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.precision import in_full_precision


@in_full_precision
def simsiam(p: Float[Tensor, "batch dim"], z: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Turn the prediction towards the projection: ``-cos(p, stopgrad(z))``, averaged over the batch.

    Chen and He 2021, "Exploring Simple Siamese Representation Learning", eq. 1 and 3. One direction; the method
    averages it with the one with the views exchanged (eq. 2 and 4).

    It is a mean over samples, so it needs no gathering: averaging the processes' gradients is exact.

    Args:
        p: predictions from one view.
        z: projections of the other view; no gradient flows into them, whether or not the caller detached them.

    Returns:
        A number in [-1, 1]: -1 where p and z point the same way, 0 where they are orthogonal.
    """
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()
