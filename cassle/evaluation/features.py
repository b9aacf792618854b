"""Images to frozen features, leaving the encoder exactly as it was found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cassle.data.pixels import FilePixels, part_of
from cassle.errors import CassleError
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.nn.modes import in_mode
from cassle.processes import from_first, of_all, rows_to_first

Encode = Callable[[Tensor], Tensor]


def extract_features(
    encode: nn.Module | Encode,
    images: UInt8[Tensor, "n 3 h w"] | FilePixels,
    *,
    batch_size: int,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "n dim"]:
    """Return the features of ``images`` as float32 on the CPU, from ``encode`` in eval mode and without gradients.

    Every submodule's training flag is afterwards what it was before, also after an exception.

    Args:
        encode: a module, or a function from a float batch to features (batch, dim). A module (or a method of one) is
            switched to eval mode, and fed on its own device; another function is called as it is.
        images: the images, uint8, on any device, or in files.
        batch_size: images per forward pass.
        transform: maps a uint8 batch (on the encoder's device) to the float batch that the encoder takes;
            by default the division by 255.

    Raises:
        ValueError: images that are not uint8 (n, 3, h, w), a batch size below 1, or features that are not (batch, dim).
        CassleError: a feature is NaN or infinite.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images: {images.dtype} {tuple(images.shape)}; give uint8 of shape (n >= 1, 3, h, w).")
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; give at least 1.")
    module = _module_of(encode)
    device = images.device if module is None else next(module.parameters(), images).device
    transform = transform or (lambda batch: batch.float() / 255)
    features: Tensor | None = None
    with nullcontext() if module is None else in_mode(module, training=False), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device, non_blocking=True)
            out = encode(transform(batch))
            if out.dim() != 2 or len(out) != len(batch):
                raise ValueError(f"encoder: output of shape {tuple(out.shape)} for {len(batch)} images; give (n, dim).")
            if features is None:
                features = _buffer(len(images), out)
            # Into pinned memory, so that the next batch does not wait for this copy.
            features[start : start + len(batch)].copy_(out.float(), non_blocking=True)
    if out.is_cuda:
        torch.cuda.current_stream(out.device).synchronize()
    if bad := int((~features.isfinite()).any(dim=1).sum()):
        raise CassleError(
            f"encoder: NaN or infinite features for {bad} of {len(images)} images; the training diverged."
        )
    return features


def features_of_all(
    encode: nn.Module | Encode,
    images: UInt8[Tensor, "n 3 h w"] | FilePixels,
    *,
    batch_size: int,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "rows dim"]:
    """Return what :func:`extract_features` does, each process having encoded a part of the images; all must call this.

    The processes must hold the same encoder and images. They share out whole batches, so that the features are those
    of one process to the last bit, and gather them in the first one; in the others there are no rows.

    Raises:
        CassleError: a feature is NaN or infinite, in any process; or a process is gone.
    """
    world, here = number_of_processes(), process_rank()
    if world == 1:
        return extract_features(encode, images, batch_size=batch_size, transform=transform)
    share = -(-len(images) // (batch_size * world)) * batch_size  # rows of a process; the last ones may have fewer
    own, problem, features = part_of(images, here * share, (here + 1) * share), None, torch.empty(0, 0)
    if len(own):
        try:
            features = extract_features(encode, own, batch_size=batch_size, transform=transform)
        except CassleError as error:
            problem = str(error)
    if problems := [text for text in of_all(problem) if text]:  # all stop, none waits for one that has left
        raise CassleError(problems[0])
    padded = torch.zeros(share, from_first(features.shape[1]))
    if len(own):
        padded[: len(own)] = features
    return rows_to_first(padded)[: len(images)]


def _buffer(num_images: int, out: Tensor) -> Tensor:
    with torch.inference_mode(False):  # a normal tensor: the caller may train a probe on it
        return torch.empty(num_images, out.shape[1], dtype=torch.float32, pin_memory=out.is_cuda)


def _module_of(encode: nn.Module | Encode) -> nn.Module | None:
    owner = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None
