"""Spherical k-means."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.nn import kmeans
from cassle.nn.kmeans import spherical_kmeans


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(seed: int, n: int = 30, dim: int = 3) -> torch.Tensor:
    return torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64)


def lloyd(x, start, iterations):
    """Lloyd's algorithm, row by row."""
    x = [row / np.linalg.norm(row) for row in x.numpy()]
    centroids = [x[i] for i in start]

    def assign():
        return [max(range(len(centroids)), key=lambda k: row @ centroids[k]) for row in x]

    for _ in range(iterations):
        assigned = assign()
        for k in set(assigned):
            total = sum(row for row, a in zip(x, assigned, strict=True) if a == k)
            centroids[k] = total / np.linalg.norm(total)
    return np.stack(centroids), assign()


@pytest.mark.parametrize("iterations", [0, 1, 10])
@pytest.mark.parametrize("max_entries", [2**26, 12, 1])  # all at once, 3 rows at once, row by row
def test_is_lloyds_algorithm_on_the_sphere(monkeypatch, iterations, max_entries):
    monkeypatch.setattr(kmeans, "MAX_ENTRIES", max_entries)
    x = rows(0)
    centroids, assigned = spherical_kmeans(5 * x, 4, iterations=iterations, generator=seeded(1))
    expected, labels = lloyd(x, torch.randperm(30, generator=seeded(1))[:4].tolist(), iterations)
    np.testing.assert_allclose(centroids.numpy(), expected, rtol=1e-9)
    assert assigned.tolist() == labels and assigned.dtype == torch.int64


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 9), n=st.integers(1, 20))
def test_centroids_are_unit_rows_and_more_iterations_are_no_worse(seed, k, n):
    x = torch.nn.functional.normalize(rows(seed, n), dim=1)
    found = []
    for iterations in (0, 1, 5):
        centroids, assigned = spherical_kmeans(x, k, iterations=iterations, generator=seeded(seed))
        torch.testing.assert_close(centroids.norm(dim=1), torch.ones(k, dtype=x.dtype))
        assert torch.equal(assigned, (x @ centroids.T).argmax(dim=1))
        found.append((x * centroids[assigned]).sum(dim=1).mean().item())
    assert found[0] <= found[1] + 1e-12 and found[1] <= found[2] + 1e-12


def test_finds_clusters_that_are_there():
    angles = torch.tensor([0.0, 2.0, 4.0]).repeat_interleave(20) + 0.1 * torch.randn(60, generator=seeded(0))
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    x = x * torch.linspace(0.1, 9, 60).unsqueeze(1)  # directions count, lengths do not
    best = max(
        (spherical_kmeans(x, 3, generator=seeded(seed)) for seed in range(5)),
        key=lambda found: (torch.nn.functional.normalize(x, dim=1) * found[0][found[1]]).sum(),
    )
    assert [len(set(part.tolist())) for part in best[1].chunk(3)] == [1, 1, 1]
    assert len(set(best[1].tolist())) == 3


def test_is_a_function_of_the_generator():
    x = rows(2)
    one, same, other = (spherical_kmeans(x, 5, iterations=1, generator=seeded(s))[0] for s in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_an_empty_cluster_keeps_its_centroid_and_few_rows_repeat():
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    centroids, assigned = spherical_kmeans(x, 5, generator=seeded(0))
    assert sorted(centroids.tolist())[:2] == [[0.0, 1.0]] * 2 and (centroids.sum(dim=1) == 1).all()
    assert (centroids[assigned] == torch.eye(2)).all()


def test_rows_that_cancel_keep_the_centroid():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    centroids, _ = spherical_kmeans(x, 1, iterations=3, generator=seeded(0))
    assert centroids.norm().item() == 1


def test_keeps_no_graph_and_widens_half_features():
    centroids, _ = spherical_kmeans(rows(3).bfloat16().requires_grad_(), 3, generator=seeded(0))
    assert not centroids.requires_grad and centroids.dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_rows_without_direction_are_counted(value):
    x = rows(4)
    x[[2, 5]] = value
    with pytest.raises(ValueError, match="2 of 30 feature rows are zero or not finite"):
        spherical_kmeans(x, 3, generator=seeded(0))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="no rows to cluster"):
        spherical_kmeans(torch.empty(0, 3), 3, generator=seeded(0))
    with pytest.raises(ValueError, match="num_clusters=0"):
        spherical_kmeans(rows(0), 0, generator=seeded(0))
