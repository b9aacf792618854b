"""MAE: paint the hidden patches of an image."""

from jaxtyping import Bool, Float
from torch import Tensor

from cassle.losses.precision import in_full_precision

#: beside the variance of a patch, as in the authors' code; keeps a flat patch at 0 instead of nan
EPS = 1e-6


def patchify(
    images: Float[Tensor, "batch channels height width"], patch_size: int
) -> Float[Tensor, "batch patches values"]:
    """Cut images into non-overlapping square patches, row by row from the top left.

    He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3. Within a patch the values go row by
    row, and within a pixel channel by channel.

    Args:
        images: height and width must be multiples of ``patch_size``.
        patch_size: side of a patch in pixels.

    Returns:
        ``(batch, height * width / patch_size^2, patch_size^2 * channels)``.

    Raises:
        ValueError: the image cannot be cut without a rest.
    """
    batch, channels, height, width = images.shape
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size={patch_size}: does not divide an image of {height} x {width} pixels; choose a divisor of both."
        )
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_size**2 * channels)


@in_full_precision
def mae(
    prediction: Float[Tensor, "batch patches values"],
    images: Float[Tensor, "batch channels height width"],
    mask: Bool[Tensor, "batch patches"],
    *,
    patch_size: int,
    normalise_target: bool = False,
) -> Float[Tensor, ""]:
    """Return the mean squared error over the pixels of the hidden patches.

    He et al. 2022, section 3: "Our loss function computes the mean squared error (MSE) between the reconstructed and
    original images in the pixel space. We compute the loss only on masked patches".

    It is a mean over hidden patches, of which every process holds equally many when all images hide the same number;
    then averaging the processes' gradients is exact.

    Args:
        prediction: the decoder's patches, in the order of :func:`patchify`.
        images: what the encoder saw parts of.
        mask: True where a patch was hidden from the encoder.
        patch_size: side of a patch in pixels.
        normalise_target: take each patch minus its mean, divided by its standard deviation (unbiased, 1e-6 beside the
            variance), as the target: the paper's "normalized pixel values of each masked patch".

    Returns:
        The error, in squared units of the images; 0 when nothing is hidden.

    Raises:
        ValueError: ``patch_size`` does not divide the image, or the prediction has other patches than the images.
    """
    target = patchify(images, patch_size).detach()
    if target.shape != prediction.shape:
        raise ValueError(
            f"prediction of shape {tuple(prediction.shape)}: patches of patch_size={patch_size} have the shape "
            f"{tuple(target.shape)}; give the decoder the same patch_size."
        )
    if normalise_target:
        variance = target.var(dim=2, keepdim=True)
        target = (target - target.mean(dim=2, keepdim=True)) / (variance + EPS).sqrt()
    error = (prediction - target).square().mean(dim=2)
    return (error * mask).sum() / mask.sum().clamp(min=1)
