import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.info_nce import info_nce
from cassle.losses.nnclr import nearest_neighbours, nnclr

torch.set_num_threads(1)


def pair(seed: int, n: int = 5, dim: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(z, queue, p, tau):
    """Equations 3 and 4 of the paper: the nearest of the normalised support set, then the predictions of the batch."""
    z, queue, p = ([row / np.linalg.norm(row) for row in x.numpy()] for x in (z, queue, p))
    total = 0.0
    for i in range(len(z)):
        nearest = min(queue, key=lambda entry: np.linalg.norm(z[i] - entry))
        scores = [math.exp(nearest @ p[k] / tau) for k in range(len(p))]
        total -= math.log(scores[i] / sum(scores))
    return total / len(z)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_is_equations_3_and_4(tau):
    (z, p), (queue, _) = pair(0), pair(1, n=11)
    found = nnclr(nearest_neighbours(z, 3 * queue), p, temperature=tau).item()
    assert found == pytest.approx(oracle(z, queue, p, tau), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_knows_neither_order_nor_length(seed, scale):
    nn, p = pair(seed)
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    expected = nnclr(nn, p)
    torch.testing.assert_close(nnclr(nn[order], p[order]), expected)
    torch.testing.assert_close(nnclr(scale * nn, p / scale), expected)
    torch.testing.assert_close(info_nce(nn, p, temperature=0.1), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2))
def test_the_nearest_neighbour_of_an_entry_is_the_entry(seed, scale):
    queue, _ = pair(seed, n=8)
    # Lengths do not count: a long vector has larger products with everything.
    queue = queue * torch.linspace(0.1, 10, 8, dtype=torch.float64).unsqueeze(1)
    order = torch.randperm(len(queue), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nearest_neighbours(scale * queue[order], queue), queue[order], rtol=0, atol=0)


def test_gradient_is_the_derivative_and_reaches_only_the_predictions():
    nn, p = (x.requires_grad_() for x in pair(2))
    nnclr(nn, p).backward()
    assert nn.grad is None
    assert torch.autograd.gradcheck(lambda p: nnclr(nn, p), (p,))
    assert not nearest_neighbours(nn, p).requires_grad


def test_autocast_and_half_inputs_keep_the_digits():
    nn, p = pair(3, n=16, dim=8, dtype=torch.float32)
    expected, neighbours = nnclr(nn, p), nearest_neighbours(nn, p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nnclr(nn, p), expected, rtol=0, atol=0)
        torch.testing.assert_close(nearest_neighbours(nn, p), neighbours, rtol=0, atol=0)
    assert nnclr(nn.bfloat16(), p.bfloat16()).dtype == torch.float32


def test_wrong_input_raises():
    nn, p = pair(0)
    with pytest.raises(TypeCheckError):
        nnclr(nn, p[:-1])
    with pytest.raises(TypeCheckError):
        nearest_neighbours(nn, p[:, :-1])
    with pytest.raises(ValueError, match="temperature=0"):
        nnclr(nn, p, temperature=0.0)
    with pytest.raises(ValueError, match="0 rows"):
        nearest_neighbours(nn, p[:0])
