"""The size of a dim x dim matrix that need not be made."""

from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes


def squared_norm_of_product(
    a: Float[Tensor, "*stack batch dim"], b: Float[Tensor, "*stack batch dim"], divisor: int, *, gather: bool
) -> Float[Tensor, ""]:
    """Return the sum of squares of all entries of ``A^T B / divisor``, from the smaller of two matrices.

    ``|A^T B|^2 = <A A^T, B B^T>`` (Frobenius): with fewer samples than features, and all of them in this process,
    two batch x batch matrices do, and the dim x dim matrix is never made.

    Args:
        a: one row a sample; with leading axes, several such matrices, over which the result is summed.
        b: the other factors, of the same shape.
        divisor: of every entry of the product.
        gather: sum the products over all processes before squaring; dim * dim numbers travel, not the batch.

    Returns:
        The sum; with ``gather``, the same on all processes.
    """
    alone = not gather or number_of_processes() == 1
    if alone and a.shape[-2] < a.shape[-1]:
        gram = a @ a.mT
        return (gram * (gram if b is a else b @ b.mT)).sum() / divisor**2
    product = a.mT @ b
    product = sum_over_processes(product) if gather else product
    return (product / divisor).square().sum()
