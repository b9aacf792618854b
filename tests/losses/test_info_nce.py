import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.contrastive_distillation import contrastive_distillation
from cassle.losses.info_nce import info_nce

torch.set_num_threads(1)


def pair(seed: int, n: int = 5, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(q, k, tau):
    q, k = ([row / np.linalg.norm(row) for row in x.numpy()] for x in (q, k))
    total = 0.0
    for i in range(len(q)):
        total -= math.log(math.exp(q[i] @ k[i] / tau) / sum(math.exp(q[i] @ key / tau) for key in k))
    return total / len(q)


@pytest.mark.parametrize("tau", [0.2, 1.0])
@pytest.mark.parametrize("n", [1, 6])
def test_is_the_formula(tau, n):
    q, k = pair(0, n)
    assert info_nce(q, k, temperature=tau).item() == pytest.approx(oracle(q, k, tau), rel=1e-10, abs=1e-14)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2), tau=st.floats(0.05, 2))
def test_knows_neither_order_nor_length_and_stays_in_its_range(seed, scale, tau):
    q, k = pair(seed)
    order = torch.randperm(len(q), generator=torch.Generator().manual_seed(seed))
    expected = info_nce(q, k, temperature=tau)
    torch.testing.assert_close(info_nce(q[order], k[order], temperature=tau), expected)
    torch.testing.assert_close(info_nce(scale * q, k / scale, temperature=tau), expected)
    assert 0 < expected < math.log(len(q)) + 2 / tau


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_both_directions_are_the_distillation_of_one_view(seed):
    q, k = pair(seed)
    both = (info_nce(q, k) + info_nce(k, q)) / 2
    for negatives in ("all", "exclude_other_view"):
        torch.testing.assert_close(contrastive_distillation(q[None], k[None], negatives=negatives), both)


def test_value_at_the_optimum_and_at_collapse():
    z = torch.eye(4, dtype=torch.float64)
    assert info_nce(z, z, temperature=0.02).item() == pytest.approx(0, abs=1e-12)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert info_nce(same, same).item() == pytest.approx(math.log(4))


def test_gradient_is_the_derivative_in_queries_and_keys():
    assert torch.autograd.gradcheck(info_nce, [x.requires_grad_() for x in pair(1, n=3, dim=3)])


def test_autocast_and_half_inputs_keep_the_digits():
    q, k = pair(2, n=16, dim=8, dtype=torch.float32)
    expected = info_nce(q, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(info_nce(q, k), expected, rtol=0, atol=0)
    assert info_nce(q.bfloat16(), k.bfloat16()).dtype == torch.float32


def test_wrong_input_raises():
    with pytest.raises(TypeCheckError):
        info_nce(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="temperature=0"):
        info_nce(*pair(0), temperature=0.0)
