"""Spherical k-means: clusters of directions, for DeepCluster's pseudo-labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cassle.losses.precision import in_full_precision

#: entries of the largest similarity matrix held at once: 256 MiB in float32
MAX_ENTRIES = 2**26
#: a vector shorter than this has no direction; below it, F.normalize does not reach length 1
MIN_LENGTH = 1e-12


@torch.no_grad()
def spherical_kmeans(
    features: Tensor, num_clusters: int, *, iterations: int = 10, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cluster the directions of the features: assign by cosine, average, normalise, repeat.

    Lloyd's algorithm on the sphere, as DeepCluster-v2 uses it (Caron et al. 2020, appendix). It starts from random
    distinct rows (rows repeat if there are fewer than clusters); a cluster that loses all rows keeps its centroid.
    On the CPU the result is a function of the features and the generator; on a GPU the order of summation varies.

    Args:
        features: (n, dim), of any length but zero; they are normalised here.
        num_clusters: k.
        iterations: updates of the centroids.
        generator: draws the initial rows.

    Returns:
        Centroids (k, dim) of unit length, and the nearest centroid of every row (n,) as int64.

    Raises:
        ValueError: there are no rows, a row is zero or not finite and so has no direction, or k or the number of
            iterations is too small.
    """
    if num_clusters < 1 or iterations < 0:
        raise ValueError(f"num_clusters={num_clusters}, iterations={iterations}: must be at least 1 and 0.")
    if len(features) == 0:
        raise ValueError("no rows to cluster: give at least one feature vector.")
    x = _unit_rows(features)
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    centroids = x[order.repeat(math.ceil(num_clusters / len(x)))[:num_clusters]]
    for _ in range(iterations):
        assigned = _nearest(x, centroids)
        sums = _sums(x, assigned, centroids)
        # The sum is short if there are no rows, or if they cancel: no direction either.
        kept = torch.linalg.vector_norm(sums, dim=1, keepdim=True) <= MIN_LENGTH
        centroids = torch.where(kept, centroids, F.normalize(sums, dim=1))
    return centroids, _nearest(x, centroids)


def _sums(x: Tensor, assigned: Tensor, centroids: Tensor) -> Tensor:
    """Return the sum of the rows of every cluster (k, dim); on CUDA, whose index_add has no order, by a product."""
    if not x.is_cuda:
        return torch.zeros_like(centroids).index_add_(0, assigned, x)
    rows, sums = max(MAX_ENTRIES // len(centroids), 1), torch.zeros_like(centroids)
    for chunk, own in zip(x.split(rows), assigned.split(rows), strict=True):
        sums += F.one_hot(own, len(centroids)).to(x.dtype).T @ chunk
    return sums


@in_full_precision
def _unit_rows(features: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(features, dim=1)
    bad = int((~((lengths > MIN_LENGTH) & lengths.isfinite())).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(features)} feature rows are zero or not finite and have no direction: leave them out, and "
            f"give them the assignment -1."
        )
    return F.normalize(features, dim=1)


@in_full_precision
def _nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """Return the index of the most similar centroid of every row, in chunks: n x k may not fit into memory."""
    rows = max(MAX_ENTRIES // len(centroids), 1)
    return torch.cat([(chunk @ centroids.T).argmax(dim=1) for chunk in x.split(rows)])
