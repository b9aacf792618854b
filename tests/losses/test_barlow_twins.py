import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses import barlow_twins

torch.set_num_threads(1)


def views(seed: int, n: int = 9, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(z1, z2, lamb, scale):
    """Equations 1 and 2 of the paper, entry by entry."""
    z1, z2 = z1.numpy(), z2.numpy()
    (n, dim), eps = z1.shape, 1e-5
    z1 = (z1 - z1.mean(0)) / np.sqrt(z1.var(0) + eps)
    z2 = (z2 - z2.mean(0)) / np.sqrt(z2.var(0) + eps)
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            c = sum(z1[b, i] * z2[b, j] for b in range(n)) / n
            total += (1 - c) ** 2 if i == j else lamb * c**2
    return scale * total


@pytest.mark.parametrize(("n", "dim"), [(9, 4), (4, 9), (4, 4)])  # C itself, or the two smaller matrices
@pytest.mark.parametrize(("lamb", "scale"), [(5e-3, 0.025), (0.5, 1.0)])
def test_is_equation_1(lamb, scale, n, dim):
    z1, z2 = views(0, n=n, dim=dim)
    z1 = 3 * z1 + 5
    found = barlow_twins(z1, z2, lamb=lamb, scale_loss=scale).item()
    assert found == pytest.approx(oracle(z1, z2, lamb, scale), rel=1e-10)


def test_gradient_is_that_of_equation_1_with_fewer_samples_than_features():
    z1, z2 = (z.requires_grad_() for z in views(1, n=4, dim=9))
    assert torch.autograd.gradcheck(barlow_twins, (z1, z2))


def test_standardises_as_batch_norm_does():
    z1, z2 = views(2, n=16)
    norm = torch.nn.BatchNorm1d(4, affine=False, dtype=torch.float64)
    c = norm(z1).T @ norm(z2) / len(z1)
    expected = 0.025 * (c.diagonal() - 1).square().sum()
    torch.testing.assert_close(barlow_twins(z1, z2, lamb=0.0), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1, 1e2), shift=st.floats(-10, 10))
def test_knows_neither_order_nor_units(seed, scale, shift):
    z1, z2 = views(seed)
    order = torch.randperm(len(z1), generator=torch.Generator().manual_seed(seed))
    expected = barlow_twins(z1, z2)
    torch.testing.assert_close(barlow_twins(z1[order], z2[order]), expected)
    torch.testing.assert_close(barlow_twins(z2, z1), expected)
    # Exact but for the eps beside the variance.
    torch.testing.assert_close(barlow_twins(scale * z1 + shift, z2), expected, rtol=1e-3, atol=1e-4)


def test_value_at_the_optimum_and_at_collapse():
    # Columns of a Hadamard matrix: mean 0, variance 1, uncorrelated.
    h = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert barlow_twins(h, h).item() == pytest.approx(0, abs=1e-10)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert barlow_twins(same, same, scale_loss=0.1).item() == pytest.approx(0.1 * 3)


def test_gradient_is_the_derivative():
    z1, z2 = (z.requires_grad_() for z in views(0, n=5, dim=3))
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, scale_loss=1.0, lamb=0.5), (z1, z2))


def test_a_large_mean_and_autocast_keep_the_digits():
    z1, z2 = views(3, n=16, dim=8, dtype=torch.float32)
    expected = barlow_twins(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(barlow_twins(z1, z2), expected, rtol=0, atol=0)
    torch.testing.assert_close(barlow_twins(z1 + 1000, z2), expected, rtol=1e-3, atol=1e-5)
    assert barlow_twins(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32


def test_other_shapes_raise():
    with pytest.raises(TypeCheckError):
        barlow_twins(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(TypeCheckError):
        barlow_twins(torch.randn(4, 3), torch.randn(4, 2))
