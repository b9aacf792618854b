import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.info_nce import info_nce
from cassle.losses.moco import moco_info_nce

torch.set_num_threads(1)


def triple(seed: int, n: int = 5, slots: int = 7, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, dim, generator=g, dtype=dtype) for rows in (n, n, slots)]


def oracle(q, k, queue, tau):
    """Equation 1 of the paper, query by query."""
    q, k, queue = ([row / np.linalg.norm(row) for row in x.numpy()] for x in (q, k, queue))
    total = 0.0
    for i in range(len(q)):
        positive = math.exp(q[i] @ k[i] / tau)
        total -= math.log(positive / (positive + sum(math.exp(q[i] @ old / tau) for old in queue)))
    return total / len(q)


@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("slots", [1, 7])
def test_is_equation_1(tau, slots):
    x = triple(0, slots=slots)
    assert moco_info_nce(*x, temperature=tau).item() == pytest.approx(oracle(*x, tau), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length(seed, scale):
    q, k, queue = triple(seed)
    g = torch.Generator().manual_seed(seed)
    order, slots = torch.randperm(len(q), generator=g), torch.randperm(len(queue), generator=g)
    expected = moco_info_nce(q, k, queue)
    torch.testing.assert_close(moco_info_nce(q[order], k[order], queue[slots]), expected)
    torch.testing.assert_close(moco_info_nce(scale * q, k / scale, scale * queue), expected)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_queue_of_the_other_keys_makes_it_info_nce(seed):
    q, k, _ = triple(seed)
    one_by_one = [moco_info_nce(q[i : i + 1], k[i : i + 1], torch.cat([k[:i], k[i + 1 :]])) for i in range(len(q))]
    torch.testing.assert_close(torch.stack(one_by_one).mean(), info_nce(q, k, temperature=0.1))


def test_value_with_an_empty_queue_and_at_collapse():
    q, k, queue = triple(1, slots=0)
    assert moco_info_nce(q, k, queue).item() == 0
    assert moco_info_nce(*(torch.ones(rows, 3) for rows in (4, 4, 9))).item() == pytest.approx(math.log(10))


def test_gradient_is_the_derivative_and_reaches_only_the_queries():
    q, k, queue = (x.requires_grad_() for x in triple(2))
    moco_info_nce(q, k, queue).backward()
    assert k.grad is None and queue.grad is None
    assert torch.autograd.gradcheck(lambda q: moco_info_nce(q, k, queue), (q,))


def test_autocast_and_half_inputs_keep_the_digits():
    x = triple(3, n=16, slots=32, dim=8, dtype=torch.float32)
    expected = moco_info_nce(*x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(moco_info_nce(*x), expected, rtol=0, atol=0)
    q, k, queue = x
    assert moco_info_nce(q.bfloat16(), k.bfloat16(), queue).dtype == torch.float32


def test_wrong_input_raises():
    q, k, queue = triple(0)
    with pytest.raises(TypeCheckError):
        moco_info_nce(q, k, queue.T)
    with pytest.raises(TypeCheckError):
        moco_info_nce(q, k[:-1], queue)
    with pytest.raises(ValueError, match="temperature=0"):
        moco_info_nce(q, k, queue, temperature=0.0)
