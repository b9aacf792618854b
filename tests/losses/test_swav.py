import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.swav import sinkhorn, swav

torch.set_num_threads(1)


def scores(seed: int, n: int = 6, prototypes: int = 4, dtype=torch.float64):
    return 2 * torch.rand(n, prototypes, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 1


def codes_of_the_paper(s, epsilon, iterations):
    """Diag(u) exp(s / epsilon) Diag(v) on the polytope: prototypes sum to 1/K, samples to 1/B; times B at the end."""
    q = [[math.exp(x / epsilon) for x in row] for row in s.tolist()]
    b, k = len(q), len(q[0])
    for _ in range(iterations):
        for j in range(k):
            total = sum(q[i][j] for i in range(b))
            for i in range(b):
                q[i][j] /= total * k
        for i in range(b):
            total = sum(q[i])
            q[i] = [x / (total * b) for x in q[i]]
    return b * np.array(q)


def oracle(s, q, tau):
    total = 0.0
    for s_n, q_n in zip(s.numpy(), q.numpy(), strict=True):
        for k in range(len(s_n)):
            total -= q_n[k] * math.log(math.exp(s_n[k] / tau) / sum(math.exp(x / tau) for x in s_n))
    return total / len(s)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.5, 1), (0.1, 10)])
def test_sinkhorn_is_the_paper_s(epsilon, iterations):
    s = scores(0)
    found = sinkhorn(s, epsilon=epsilon, iterations=iterations).numpy()
    np.testing.assert_allclose(found, codes_of_the_paper(s, epsilon, iterations), rtol=1e-9)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_is_equation_2(tau):
    s, q = scores(0), sinkhorn(scores(1))
    assert swav(s, q, temperature=tau).item() == pytest.approx(oracle(s, q, tau), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), prototypes=st.integers(1, 9), shift=st.floats(-5, 5))
def test_codes_are_distributions_and_prototypes_share_alike(seed, n, prototypes, shift):
    s = scores(seed, n, prototypes)
    codes = sinkhorn(s, epsilon=0.5, iterations=200)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(n, dtype=s.dtype))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((prototypes,), n / prototypes, dtype=s.dtype))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(sinkhorn(s[order]), sinkhorn(s)[order])
    torch.testing.assert_close(sinkhorn(s + shift), sinkhorn(s))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_knows_no_order_and_is_at_least_the_entropy(seed):
    s, q = scores(seed), sinkhorn(scores(seed + 1))
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(swav(s[order], q[order]), swav(s, q))
    assert swav(s, q) >= torch.special.entr(q).sum(dim=1).mean() - 1e-12


def test_no_overflow_and_no_empty_prototype():
    s = 100 * scores(2, dtype=torch.float32)
    s[:, 0] -= 1000  # exp(-20000): zero in any precision, were it taken
    codes = sinkhorn(s)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(len(s)))
    torch.testing.assert_close(codes, sinkhorn(s.double()).float(), rtol=1e-2, atol=1e-2)


def test_no_gradient_reaches_the_codes():
    s, other = scores(3).requires_grad_(), scores(4).requires_grad_()
    assert not sinkhorn(other).requires_grad
    swav(s, other.softmax(dim=1)).backward()
    assert other.grad is None and s.grad.abs().max() > 0


def test_gradient_is_the_derivative():
    q = sinkhorn(scores(1))
    assert torch.autograd.gradcheck(lambda s: swav(s, q), (scores(0).requires_grad_(),))


def test_value_when_all_scores_are_equal():
    flat = torch.zeros(3, 4)
    assert swav(flat, sinkhorn(flat)).item() == pytest.approx(math.log(4))


def test_autocast_and_half_inputs_keep_the_digits():
    s, q = scores(5, dtype=torch.float32), sinkhorn(scores(6, dtype=torch.float32))
    expected = swav(s, q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(swav(s, q), expected, rtol=0, atol=0)
    assert swav(s.bfloat16(), q.bfloat16()).dtype == sinkhorn(s.bfloat16()).dtype == torch.float32


def test_wrong_shapes_and_settings():
    with pytest.raises(TypeCheckError):
        swav(scores(0), scores(0)[:-1])
    with pytest.raises(ValueError, match="temperature=0"):
        swav(scores(0), scores(0), temperature=0.0)
    with pytest.raises(ValueError, match="epsilon=-1"):
        sinkhorn(scores(0), epsilon=-1.0)
    with pytest.raises(ValueError, match="iterations=0"):
        sinkhorn(scores(0), iterations=0)
