import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.contrastive_distillation import contrastive_distillation

torch.set_num_threads(1)

NEGATIVES = ["all", "exclude_other_view", "with_predictions"]


def both(seed: int, views: int = 2, n: int = 4, dim: int = 3, dtype=torch.float64):
    """Predictions and frozen projections."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(views, n, dim, generator=g, dtype=dtype) for _ in range(2)]


def oracle(p, z, tau, negatives):
    """One anchor at a time: which image, which view, against whom."""
    views, n, _ = p.shape
    p, z = (x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True) for x in (p, z))
    total, anchors = 0.0, 0
    for anchor, target in ((p, z), (z, p)):
        for image in range(n):
            for view in range(views):
                a = anchor[view][image]
                positive = math.exp(a @ target[view][image] / tau)
                rest = 0.0
                for j in range(n):
                    for v in range(views):
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
@pytest.mark.parametrize("views", [1, 2, 3])
def test_is_info_nce_with_these_negatives(negatives, tau, views):
    x = both(0, views)
    found = contrastive_distillation(*x, temperature=tau, negatives=negatives).item()
    assert found == pytest.approx(oracle(*x, tau, negatives), rel=1e-10)


@pytest.mark.parametrize("views", [2, 3])
def test_the_other_view_is_no_negative_unless_asked_for(views):
    x = both(0, views)
    assert contrastive_distillation(*x) == contrastive_distillation(*x, negatives="exclude_other_view")
    values = [contrastive_distillation(*x, negatives=name).item() for name in ("exclude_other_view", "all")]
    assert values[0] < values[1]


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-2, 1e2),
    negatives=st.sampled_from(NEGATIVES),
    views=st.integers(1, 3),
)
def test_knows_neither_order_nor_length_nor_which_view_is_first(seed, scale, negatives, views):
    p, z = both(seed, views)
    order = torch.randperm(p.shape[1], generator=torch.Generator().manual_seed(seed))
    expected = contrastive_distillation(p, z, negatives=negatives)
    torch.testing.assert_close(contrastive_distillation(p[:, order], z[:, order], negatives=negatives), expected)
    torch.testing.assert_close(contrastive_distillation(scale * p, z / scale, negatives=negatives), expected)
    torch.testing.assert_close(contrastive_distillation(p.flip(0), z.flip(0), negatives=negatives), expected)


def test_value_at_the_optimum():
    z = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    assert contrastive_distillation(z, z, temperature=0.02).item() == pytest.approx(0, abs=1e-12)
    # With "all", the other view of the image competes even at the optimum: a coin toss that nothing can win.
    value = contrastive_distillation(z, z, temperature=0.02, negatives="all").item()
    assert value == pytest.approx(math.log(2))


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_no_gradient_reaches_the_frozen_network(negatives):
    p, z = (x.requires_grad_() for x in both(2))
    contrastive_distillation(p, z, negatives=negatives).backward()
    assert z.grad is None
    assert p.grad.abs().amax(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gradient_is_the_derivative(negatives):
    p, z = both(3, n=3)
    assert torch.autograd.gradcheck(lambda p: contrastive_distillation(p, z, negatives=negatives), p.requires_grad_())


def test_a_single_image_has_nothing_to_be_told_apart_from():
    assert contrastive_distillation(*both(4, n=1)).item() == 0


def test_autocast_and_half_inputs_keep_the_digits():
    x = both(5, n=16, dim=8, dtype=torch.float32)
    expected = contrastive_distillation(*x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(contrastive_distillation(*x), expected, rtol=0, atol=0)
    assert contrastive_distillation(*(t.bfloat16() for t in x)).dtype == torch.float32


def test_other_shapes_raise():
    p, z = both(0)
    for wrong in (z[:-1], z[:, :-1], z[:, :, :-1], z[0]):
        with pytest.raises(TypeCheckError):
            contrastive_distillation(p, wrong)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="'none': unknown; choose one of all, exclude_other_view, with_predictions"):
        contrastive_distillation(*both(0), negatives="none")
    with pytest.raises(ValueError, match="temperature=-1"):
        contrastive_distillation(*both(0), temperature=-1.0)
