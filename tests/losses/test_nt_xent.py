import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.simclr import nt_xent

torch.set_num_threads(1)


def views(seed: int, n: int = 5, dim: int = 4, number: int = 2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(number)]


def oracle(z, tau):
    """Equation 1 of the paper, pair by pair; the paper's order puts the views of an image side by side."""
    v = len(z)
    z = np.stack([x.numpy() for x in z], axis=1).reshape(-1, z[0].shape[1])

    def sim(i, j):
        return z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j]))

    def pair(i, j):
        denominator = sum(math.exp(sim(i, k) / tau) for k in range(len(z)) if k != i)
        return -math.log(math.exp(sim(i, j) / tau) / denominator)

    pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j and i // v == j // v]
    return sum(pair(i, j) for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("tau", [0.1, 0.5])
@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_is_equation_1(tau, n, number):
    z = views(n, n, number=number)
    assert nt_xent(*z, temperature=tau).item() == pytest.approx(oracle(z, tau), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length_nor_which_view_is_first(seed, scale):
    z1, z2, z3 = views(seed, number=3)
    order = torch.randperm(len(z1), generator=torch.Generator().manual_seed(seed))
    expected = nt_xent(z1, z2, z3)
    torch.testing.assert_close(nt_xent(z1[order], z2[order], z3[order]), expected)
    torch.testing.assert_close(nt_xent(scale * z1, z2, z3), expected)
    torch.testing.assert_close(nt_xent(z3, z1, z2), expected)


@pytest.mark.parametrize("number", [2, 3])
def test_value_at_the_optimum_and_at_collapse(number):
    z = torch.eye(4, dtype=torch.float64)
    # At the optimum the other views share the probability evenly.
    assert nt_xent(*[z] * number, temperature=0.02).item() == pytest.approx(math.log(number - 1), abs=1e-12)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert nt_xent(*[same] * number).item() == pytest.approx(math.log(number * 4 - 1))


@pytest.mark.parametrize("number", [2, 3])
def test_gradient_is_the_derivative(number):
    assert torch.autograd.gradcheck(nt_xent, [z.requires_grad_() for z in views(0, n=3, dim=3, number=number)])


def test_autocast_and_half_inputs_keep_the_digits():
    z1, z2 = views(3, n=16, dim=8, dtype=torch.float32)
    expected = nt_xent(z1, z2)
    torch.testing.assert_close(expected.double(), nt_xent(z1.double(), z2.double()), rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nt_xent(z1, z2), expected, rtol=0, atol=0)
    z1, z2 = z1.bfloat16(), z2.bfloat16()
    assert nt_xent(z1, z2).dtype == torch.float32
    torch.testing.assert_close(nt_xent(z1, z2), nt_xent(z1.float(), z2.float()), rtol=0, atol=0)


def test_other_shapes_raise():
    with pytest.raises(TypeCheckError):
        nt_xent(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(TypeCheckError):
        nt_xent(torch.randn(4, 3), torch.randn(4, 2))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="temperature=0"):
        nt_xent(*views(0), temperature=0.0)
    with pytest.raises(ValueError, match="temperature=nan"):
        nt_xent(*views(0), temperature=math.nan)
    with pytest.raises(ValueError, match=r"1 view\(s\) of an image: a positive pair needs at least 2"):
        nt_xent(*views(0, number=1))
