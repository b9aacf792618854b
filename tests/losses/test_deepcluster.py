import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.deepcluster import deepcluster

torch.set_num_threads(1)


def case(seed: int, n: int = 6, prototypes: int = 4):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, prototypes, generator=g, dtype=torch.float64)
    return scores, torch.randint(-1, prototypes, (n,), generator=g)


def oracle(scores, assignments, tau):
    terms = []
    for s, a in zip(scores.tolist(), assignments.tolist(), strict=True):
        if a != -1:
            terms.append(-math.log(math.exp(s[a] / tau) / sum(math.exp(x / tau) for x in s)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_is_the_cross_entropy_over_assigned_rows(tau):
    scores, assignments = case(0)
    assignments[0], assignments[1] = -1, 2
    assert deepcluster(scores, assignments, temperature=tau).item() == pytest.approx(oracle(scores, assignments, tau))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), extra=st.integers(0, 4))
def test_knows_neither_order_nor_unassigned_rows(seed, extra):
    scores, assignments = case(seed)
    expected = deepcluster(scores, assignments)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(deepcluster(scores[order], assignments[order]), expected)
    more = torch.cat([scores, torch.full((extra, 4), 7.0, dtype=scores.dtype)])
    torch.testing.assert_close(deepcluster(more, torch.cat([assignments, torch.full((extra,), -1)])), expected)
    assert expected >= 0


def test_without_assignments_it_is_zero_with_a_zero_gradient():
    scores, _ = case(1)
    value = deepcluster(scores.requires_grad_(), torch.full((6,), -1))
    value.backward()
    assert value.item() == 0
    assert (scores.grad == 0).all()


def test_gradient_is_the_derivative_and_skips_unassigned_rows():
    scores, assignments = case(2)
    assignments[0], assignments[1] = -1, 2
    assert torch.autograd.gradcheck(lambda s: deepcluster(s, assignments), (scores.requires_grad_(),))
    deepcluster(scores, assignments).backward()
    assert (scores.grad[0] == 0).all() and scores.grad[1].abs().max() > 0


def test_half_inputs_keep_the_digits():
    scores, assignments = case(3)
    assert deepcluster(scores.bfloat16(), assignments.int()).dtype == torch.float32


def test_wrong_shapes_and_settings():
    scores, assignments = case(0)
    with pytest.raises(TypeCheckError):
        deepcluster(scores, assignments[:-1])
    with pytest.raises(TypeCheckError):
        deepcluster(scores, assignments.double())
    with pytest.raises(ValueError, match="temperature=0"):
        deepcluster(scores, assignments, temperature=0.0)
