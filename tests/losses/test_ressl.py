import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.ressl import ressl

torch.set_num_threads(1)


def case(seed: int, n: int = 4, queue: int = 7, dim: int = 3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, dim, generator=g, dtype=dtype) for rows in (n, n, queue)]


def oracle(q, k, queue, tau_q, tau_k):
    def relations(x, tau):
        def cosine(a, b):
            return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

        weights = [math.exp(cosine(x, anchor) / tau) for anchor in queue.numpy()]
        return [w / sum(weights) for w in weights]

    total = 0.0
    for a, b in zip(q.numpy(), k.numpy(), strict=True):
        total -= sum(t * math.log(s) for t, s in zip(relations(b, tau_k), relations(a, tau_q), strict=True))
    return total / len(q)


@pytest.mark.parametrize(("tau_q", "tau_k"), [(0.1, 0.04), (1.0, 0.5)])
def test_is_the_cross_entropy_of_the_relations(tau_q, tau_k):
    x = case(0)
    assert ressl(*x, temperature_q=tau_q, temperature_k=tau_k).item() == pytest.approx(oracle(*x, tau_q, tau_k))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length_and_is_at_least_the_entropy(seed, scale):
    q, k, queue = case(seed)
    expected = ressl(q, k, queue)
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(q), generator=g)
    torch.testing.assert_close(ressl(q[order], k[order], queue[torch.randperm(len(queue), generator=g)]), expected)
    torch.testing.assert_close(ressl(scale * q, k / scale, scale * queue), expected)
    # The target itself is the best answer.
    assert expected >= ressl(k, k, queue, temperature_q=0.04) - 1e-12


def test_a_gradient_reaches_the_student_only():
    q, k, queue = (x.requires_grad_() for x in case(2))
    ressl(q, k, queue).backward()
    assert k.grad is None and queue.grad is None
    assert q.grad.abs().max() > 0


def test_gradient_is_the_derivative():
    q, k, queue = case(3)
    assert torch.autograd.gradcheck(lambda a: ressl(a, k, queue), (q.requires_grad_(),))


def test_autocast_and_half_inputs_keep_the_digits():
    x = case(4, dtype=torch.float32)
    expected = ressl(*x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ressl(*x), expected, rtol=0, atol=0)
    assert ressl(*(t.bfloat16() for t in x)).dtype == torch.float32


def test_wrong_shapes_and_settings():
    q, k, queue = case(0)
    with pytest.raises(TypeCheckError):
        ressl(q, k[:-1], queue)
    with pytest.raises(TypeCheckError):
        ressl(q, k, queue[:, :-1])
    with pytest.raises(ValueError, match="temperature_k=0"):
        ressl(q, k, queue, temperature_k=0.0)
