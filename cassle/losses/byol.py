"""BYOL: predict the target's projection, up to its length."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.precision import in_full_precision


@in_full_precision
def byol(p: Float[Tensor, "batch dim"], z: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Turn the prediction towards the target: ``2 - 2 cos(p, z)``, averaged over the batch.

    Grill et al. 2020, "Bootstrap Your Own Latent", eq. 2: the squared distance between the normalised prediction and
    the normalised target projection. One direction; the method adds the one with the views exchanged.

    It is a mean over samples, so it needs no gathering: averaging the processes' gradients is exact.

    Args:
        p: predictions from one view.
        z: targets from the other view; no gradient flows into them, whether or not the caller detached them.

    Returns:
        A number in [0, 4]: 0 where p and z point the same way, 2 where they are orthogonal.
    """
    return 2 - 2 * F.cosine_similarity(p, z.detach(), dim=1).mean()
