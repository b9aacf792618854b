import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.vicreg import vicreg, vicreg_terms

torch.set_num_threads(1)

NAMES = ["invariance", "variance", "covariance"]


def views(seed: int, n: int = 9, dim: int = 4, dtype=torch.float64):
    """Features of different spread, so that the hinge is open for some of them and closed for others."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.2, 2, dim, dtype=dtype)
    return [torch.randn(n, dim, generator=g, dtype=dtype) * spread for _ in range(2)]


def oracle(z1, z2, sim, var, cov):
    """Equations 1 to 6 of the paper, entry by entry; equation 5 as a mean over the dimensions too."""
    terms = dict.fromkeys(NAMES, 0.0)
    z1, z2 = z1.tolist(), z2.tolist()
    n, d = len(z1), len(z1[0])
    terms["invariance"] = sim * sum((z1[i][j] - z2[i][j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    for z in (z1, z2):
        mean = [sum(row[j] for row in z) / n for j in range(d)]
        for i in range(d):
            for j in range(d):
                c = sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in z) / (n - 1)
                if i == j:
                    terms["variance"] += var * max(0.0, 1 - math.sqrt(c + 1e-4)) / d
                else:
                    terms["covariance"] += cov * c**2 / d
    return terms


@pytest.mark.parametrize(("n", "dim"), [(9, 4), (4, 9), (4, 4), (2, 3)])  # the covariance itself, or the smaller matrix
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.5, 3.0)])
def test_is_equation_6(n, dim, weights):
    z1, z2 = views(0, n=n, dim=dim)
    z1 = z1 + 5
    settings = dict(zip(("sim_loss_weight", "var_loss_weight", "cov_loss_weight"), weights, strict=True))
    expected, found = oracle(z1, z2, *weights), vicreg_terms(z1, z2, **settings)
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name].item() == pytest.approx(expected[name], rel=1e-10), name
    assert vicreg(z1, z2, **settings).item() == pytest.approx(sum(expected.values()), rel=1e-10)


def test_the_defaults_are_the_papers_weights():
    z1, z2 = views(1)
    assert vicreg(z1, z2).item() == pytest.approx(sum(oracle(z1, z2, 25, 25, 1).values()), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), shift=st.floats(-10, 10), n=st.sampled_from([3, 9]))
def test_knows_neither_order_nor_origin(seed, shift, n):
    z1, z2 = views(seed, n=n)
    g = torch.Generator().manual_seed(seed)
    order, features = torch.randperm(len(z1), generator=g), torch.randperm(z1.shape[1], generator=g)
    expected = vicreg(z1, z2)
    torch.testing.assert_close(vicreg(z1[order], z2[order]), expected)
    torch.testing.assert_close(vicreg(z1[:, features], z2[:, features]), expected)
    torch.testing.assert_close(vicreg(z2, z1), expected)
    torch.testing.assert_close(vicreg(z1 + shift, z2 + shift), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_how_the_terms_scale(seed, scale):
    z1, z2 = views(seed)
    before, after = vicreg_terms(z1, z2), vicreg_terms(scale * z1, scale * z2)
    torch.testing.assert_close(after["invariance"], scale**2 * before["invariance"])
    torch.testing.assert_close(after["covariance"], scale**4 * before["covariance"])
    assert (after["variance"] <= before["variance"]) if scale >= 1 else (after["variance"] >= before["variance"])


def test_value_at_the_optimum_and_at_collapse():
    # Columns of a Hadamard matrix: uncorrelated, and the unbiased variance is 4/3.
    h = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert vicreg(h, h).item() == pytest.approx(0, abs=1e-12)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert vicreg(same, same).item() == pytest.approx(25 * 2 * (1 - 0.01))


@pytest.mark.parametrize(("n", "dim"), [(6, 3), (3, 6)])
def test_gradient_is_the_derivative(n, dim):
    assert torch.autograd.gradcheck(vicreg, [z.requires_grad_() for z in views(2, n=n, dim=dim)])


def test_gradient_at_collapse_is_finite():
    z1, z2 = (torch.ones(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    vicreg(z1, z2).backward()
    assert z1.grad.isfinite().all() and z2.grad.isfinite().all()


def test_a_large_mean_and_autocast_keep_the_digits():
    z1, z2 = views(3, n=16, dim=8, dtype=torch.float32)
    expected = vicreg(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(vicreg(z1, z2), expected, rtol=0, atol=0)
    torch.testing.assert_close(vicreg(z1 + 1000, z2 + 1000), expected, rtol=1e-3, atol=1e-5)
    assert vicreg(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32
    assert {term.dtype for term in vicreg_terms(z1.bfloat16(), z2.bfloat16()).values()} == {torch.float32}


def test_wrong_input_raises():
    with pytest.raises(TypeCheckError):
        vicreg(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="batch of 1: a variance needs at least 2 samples"):
        vicreg(torch.randn(1, 3), torch.randn(1, 3))
