from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.wmse import whiten, wmse

torch.set_num_threads(1)


def views(seed: int, n: int = 13, dim: int = 3, count: int = 2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(n, dim, generator=g, dtype=dtype) + 1 for _ in range(count)]


def permutations(n: int, iterations: int = 2):
    g = torch.Generator().manual_seed(99)
    return torch.stack([torch.randperm(n, generator=g) for _ in range(iterations)])


def white_of(z, eps):
    z = z - z.mean(0)
    covariance = (1 - eps) * np.cov(z.T) + eps * np.eye(z.shape[1])
    return z @ np.linalg.inv(np.linalg.cholesky(covariance)).T


def oracle(z, orders, size, eps):
    z = [x.numpy() for x in z]
    n, terms = len(z[0]), []
    parts = max(n // size, 1)
    for order in orders.tolist():
        long = n % parts  # the first parts take the rest, one row each
        ends = np.cumsum([n // parts + (i < long) for i in range(parts)])
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            white = [white_of(x[order[start:end]], eps) for x in z]
            for a, b in combinations(white, 2):
                for u, v in zip(a, b, strict=True):
                    terms.append(2 - 2 * u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))
    return np.mean(terms)


@pytest.mark.parametrize("size", [4, 5, 6, 13, 256])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_is_the_distance_of_white_views(size, count, eps):
    z, orders = views(0, count=count), permutations(13)
    found = wmse(*z, permutations=orders, whitening_size=size, whitening_eps=eps).item()
    assert found == pytest.approx(oracle(z, orders, size, eps), rel=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 20), dim=st.integers(1, 4))
def test_white_rows_have_mean_zero_and_covariance_identity(seed, n, dim):
    z = whiten(views(seed, n, dim)[0])
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(dim, dtype=z.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(z.T @ z / (n - 1), torch.eye(dim, dtype=z.dtype), rtol=0, atol=1e-7)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_knows_neither_view_order_nor_units_and_stays_in_its_range(seed, scale, shift):
    z1, z2 = views(seed)
    orders = permutations(13)
    expected = wmse(z1, z2, permutations=orders, whitening_size=6)
    torch.testing.assert_close(wmse(z2, z1, permutations=orders, whitening_size=6), expected)
    torch.testing.assert_close(wmse(scale * z1 + shift, z2, permutations=orders, whitening_size=6), expected)
    # The rows in another order, cut in the same way.
    back = orders.argsort(dim=1)[0]
    torch.testing.assert_close(
        wmse(z1[orders[0]], z2[orders[0]], permutations=back[orders], whitening_size=6), expected
    )
    assert 0 <= expected <= 4


def test_gradient_is_the_derivative_through_both_views():
    z = [x.requires_grad_() for x in views(1, n=9, dim=2, count=3)]
    assert torch.autograd.gradcheck(lambda *x: wmse(*x, permutations=permutations(9), whitening_size=4), z)
    wmse(*z, permutations=permutations(9), whitening_size=4).backward()
    assert all(x.grad.abs().max() > 1e-3 for x in z)


def test_agreement_costs_nothing():
    z, _ = views(2)
    assert wmse(z, 3 * z + 1, permutations=permutations(13)).item() == pytest.approx(0, abs=1e-9)


def test_autocast_and_half_inputs_keep_the_digits():
    z = views(3, n=32, dim=4, dtype=torch.float32)
    orders = permutations(32)
    expected = wmse(*z, permutations=orders, whitening_size=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(wmse(*z, permutations=orders, whitening_size=16), expected, rtol=0, atol=0)
    assert wmse(*(x.bfloat16() for x in z), permutations=orders).dtype == torch.float32


def test_too_few_rows_are_named():
    z = views(4, n=12, dim=4)
    message = "12 rows cut by whitening_size=4 leaves sub-batches of 4, but whitening output_dim=4 .* at least 5"
    with pytest.raises(ValueError, match=message):
        wmse(*z, permutations=permutations(12), whitening_size=4)
    assert wmse(*z, permutations=permutations(12), whitening_size=4, whitening_eps=0.1).isfinite()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_covariance_without_a_factor_gives_nan(value):
    """Nothing waits for the device to ask; the loss tells, and the guard stops before a weight moves."""
    z1, z2 = views(5)
    z1[:, 1] = value
    assert wmse(z1, z2, permutations=permutations(13)).isnan()
    assert whiten(z1).isnan().any() and whiten(z2).isfinite().all()


def test_wrong_shapes_and_settings():
    z1, z2 = views(0)
    orders = permutations(13)
    with pytest.raises(TypeCheckError):
        wmse(z1, z2[:, :-1], permutations=orders)
    with pytest.raises(ValueError, match="1 views"):
        wmse(z1, permutations=orders)
    with pytest.raises(ValueError, match="permutations of 12 rows for a batch of 13"):
        wmse(z1, z2, permutations=permutations(12))
    with pytest.raises(ValueError, match="whitening_size=0"):
        wmse(z1, z2, permutations=orders, whitening_size=0)
    with pytest.raises(ValueError, match="whitening_eps=2"):
        whiten(z1, eps=2.0)
