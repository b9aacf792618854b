import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses import nt_xent

torch.set_num_threads(1)


def views(seed: int, n: int = 5, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(z1, z2, tau):
    """Equation 1 of the paper, pair by pair; the paper's order puts the views of an image side by side."""
    z = np.stack([z1.numpy(), z2.numpy()], axis=1).reshape(-1, z1.shape[1])

    def sim(i, j):
        return z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j]))

    def pair(i, j):
        denominator = sum(math.exp(sim(i, k) / tau) for k in range(len(z)) if k != i)
        return -math.log(math.exp(sim(i, j) / tau) / denominator)

    return sum(pair(k, k + 1) + pair(k + 1, k) for k in range(0, len(z), 2)) / len(z)


@pytest.mark.parametrize("tau", [0.1, 0.5])
@pytest.mark.parametrize("n", [2, 7])
def test_is_equation_1(tau, n):
    z1, z2 = views(n, n)
    assert nt_xent(z1, z2, temperature=tau).item() == pytest.approx(oracle(z1, z2, tau), rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length_nor_which_view_is_first(seed, scale):
    z1, z2 = views(seed)
    order = torch.randperm(len(z1), generator=torch.Generator().manual_seed(seed))
    expected = nt_xent(z1, z2)
    torch.testing.assert_close(nt_xent(z1[order], z2[order]), expected)
    torch.testing.assert_close(nt_xent(scale * z1, z2), expected)
    torch.testing.assert_close(nt_xent(z2, z1), expected)


def test_value_at_the_optimum_and_at_collapse():
    z = torch.eye(4, dtype=torch.float64)
    assert nt_xent(z, z, temperature=0.02).item() == pytest.approx(0, abs=1e-12)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert nt_xent(same, same).item() == pytest.approx(math.log(2 * 4 - 1))


def test_gradient_is_the_derivative():
    z1, z2 = (z.requires_grad_() for z in views(0, n=3, dim=3))
    assert torch.autograd.gradcheck(nt_xent, (z1, z2))


def test_autocast_and_half_inputs_keep_the_digits():
    z1, z2 = views(3, n=16, dim=8, dtype=torch.float32)
    expected = nt_xent(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nt_xent(z1, z2), expected, rtol=0, atol=0)
    z1, z2 = z1.bfloat16(), z2.bfloat16()
    assert nt_xent(z1=z1, z2=z2).dtype == torch.float32
    torch.testing.assert_close(nt_xent(z1, z2), nt_xent(z1.float(), z2.float()), rtol=0, atol=0)


def test_other_shapes_raise():
    with pytest.raises(TypeCheckError):
        nt_xent(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(TypeCheckError):
        nt_xent(torch.randn(4, 3), torch.randn(4, 2))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature=0"):
        nt_xent(*views(0), temperature=0.0)
