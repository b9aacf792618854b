import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses import contrastive_distillation

torch.set_num_threads(1)

NEGATIVES = ["all", "exclude_other_view", "with_predictions"]


def quadruple(seed: int, n: int = 4, dim: int = 3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(4)]


def oracle(p1, p2, z1, z2, tau, negatives):
    """One anchor at a time: which image, which view, against whom."""
    n = len(p1)
    unit = [[x.numpy()[b] / np.linalg.norm(x.numpy()[b]) for b in range(n)] for x in (p1, p2, z1, z2)]
    total, anchors = 0.0, 0
    for anchor, target in (((unit[0], unit[1]), (unit[2], unit[3])), ((unit[2], unit[3]), (unit[0], unit[1]))):
        for image in range(n):
            for view in range(2):
                a = anchor[view][image]
                positive = math.exp(a @ target[view][image] / tau)
                rest = 0.0
                for j in range(n):
                    for v in range(2):
                        if j != image:
                            rest += math.exp(a @ target[v][j] / tau)
                            rest += math.exp(a @ anchor[v][j] / tau) * (negatives == "with_predictions")
                        elif v != view and negatives == "all":
                            rest += math.exp(a @ target[v][j] / tau)
                total -= math.log(positive / (positive + rest))
                anchors += 1
    return total / anchors


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_is_info_nce_with_these_negatives(negatives, tau):
    x = quadruple(0)
    found = contrastive_distillation(*x, temperature=tau, negatives=negatives).item()
    assert found == pytest.approx(oracle(*x, tau, negatives), rel=1e-10)


def test_the_other_view_is_no_negative_unless_asked_for():
    x = quadruple(0)
    assert contrastive_distillation(*x) == contrastive_distillation(*x, negatives="exclude_other_view")
    values = [contrastive_distillation(*x, negatives=name).item() for name in ("exclude_other_view", "all")]
    assert values[0] < values[1]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-2, 1e2), negatives=st.sampled_from(NEGATIVES))
def test_knows_neither_order_nor_length_nor_which_view_is_first(seed, scale, negatives):
    p1, p2, z1, z2 = x = quadruple(seed)
    order = torch.randperm(len(p1), generator=torch.Generator().manual_seed(seed))
    expected = contrastive_distillation(*x, negatives=negatives)
    torch.testing.assert_close(contrastive_distillation(*(t[order] for t in x), negatives=negatives), expected)
    torch.testing.assert_close(contrastive_distillation(scale * p1, p2, z1 / scale, z2, negatives=negatives), expected)
    torch.testing.assert_close(contrastive_distillation(p2, p1, z2, z1, negatives=negatives), expected)


def test_value_at_the_optimum():
    z = torch.eye(4, dtype=torch.float64)
    assert contrastive_distillation(z, z, z, z, temperature=0.02).item() == pytest.approx(0, abs=1e-12)
    # With "all", the other view of the image competes even at the optimum: a coin toss that nothing can win.
    value = contrastive_distillation(z, z, z, z, temperature=0.02, negatives="all").item()
    assert value == pytest.approx(math.log(2))


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_no_gradient_reaches_the_frozen_network(negatives):
    p1, p2, z1, z2 = (x.requires_grad_() for x in quadruple(2))
    contrastive_distillation(p1, p2, z1, z2, negatives=negatives).backward()
    assert z1.grad is None and z2.grad is None
    assert p1.grad.abs().max() > 0 and p2.grad.abs().max() > 0


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gradient_is_the_derivative(negatives):
    p1, p2, z1, z2 = quadruple(3, n=3)
    p1.requires_grad_(), p2.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: contrastive_distillation(a, b, z1, z2, negatives=negatives), (p1, p2))


def test_a_single_image_has_nothing_to_be_told_apart_from():
    assert contrastive_distillation(*quadruple(4, n=1)).item() == 0


def test_autocast_and_half_inputs_keep_the_digits():
    x = quadruple(5, n=16, dim=8, dtype=torch.float32)
    expected = contrastive_distillation(*x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(contrastive_distillation(*x), expected, rtol=0, atol=0)
    assert contrastive_distillation(*(t.bfloat16() for t in x)).dtype == torch.float32


def test_other_shapes_raise():
    p1, p2, z1, z2 = quadruple(0)
    with pytest.raises(TypeCheckError):
        contrastive_distillation(p1, p2, z1, z2[:-1])
    with pytest.raises(TypeCheckError):
        contrastive_distillation(p1, p2, z1[:, :-1], z2[:, :-1])


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="'none': unknown; choose one of all, exclude_other_view, with_predictions"):
        contrastive_distillation(*quadruple(0), negatives="none")
    with pytest.raises(ValueError, match="temperature=-1"):
        contrastive_distillation(*quadruple(0), temperature=-1.0)
