import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.byol import byol
from cassle.losses.simsiam import simsiam

torch.set_num_threads(1)


def pair(seed: int, n: int = 6, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(p, z):
    """Equation 1 of the paper, image by image."""
    total = 0.0
    for a, b in zip(p.numpy(), z.numpy(), strict=True):
        total -= (a / np.linalg.norm(a)) @ (b / np.linalg.norm(b))
    return total / len(p)


def test_is_equation_1():
    p, z = pair(0)
    assert simsiam(p, z).item() == pytest.approx(oracle(p, z), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length_and_stays_in_its_range(seed, scale):
    p, z = pair(seed)
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    expected = simsiam(p, z)
    torch.testing.assert_close(simsiam(p[order], z[order]), expected)
    torch.testing.assert_close(simsiam(scale * p, z / scale), expected)
    torch.testing.assert_close(2 + 2 * expected, byol(p, z))
    assert -1 <= expected <= 1


def test_value_at_the_optimum_and_at_its_opposite():
    p, _ = pair(1)
    assert simsiam(p, 3 * p).item() == pytest.approx(-1)
    assert simsiam(p, -p).item() == pytest.approx(1)


def test_gradient_is_the_derivative_and_reaches_only_the_prediction():
    p, z = (x.requires_grad_() for x in pair(2))
    simsiam(p, z).backward()
    assert z.grad is None
    assert torch.autograd.gradcheck(lambda p: simsiam(p, z), (p,))


def test_autocast_and_half_inputs_keep_the_digits():
    p, z = pair(4, dtype=torch.float32)
    expected = simsiam(p, z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(simsiam(p, z), expected, rtol=0, atol=0)
    assert simsiam(p.bfloat16(), z.bfloat16()).dtype == torch.float32


def test_other_shapes_raise():
    with pytest.raises(TypeCheckError):
        simsiam(torch.randn(4, 3), torch.randn(1, 3))
    with pytest.raises(TypeCheckError):
        simsiam(torch.randn(4, 3), torch.randn(4, 1))
