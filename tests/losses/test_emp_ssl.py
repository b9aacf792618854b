import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.emp_ssl import emp_ssl, emp_ssl_terms, total_coding_rate

torch.set_num_threads(1)


def views(seed: int, count: int = 3, n: int = 5, dim: int = 4, dtype=torch.float64):
    return torch.randn(count, n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rate(z, eps):
    """The definition, with the dim x dim matrix whatever the shape."""
    n, d = z.shape
    return 0.5 * np.log(np.linalg.det(np.eye(d) + d / (n * eps) * z.T @ z))


def oracle(z, tcr_weight, invariance_weight, eps):
    z = z.numpy()
    count, n, _ = z.shape
    total = 0.0
    for v in range(count):
        for b in range(n):
            centre = sum(z[u, b] for u in range(count)) / count
            cosine = z[v, b] @ centre / (np.linalg.norm(z[v, b]) * np.linalg.norm(centre))
            total -= invariance_weight * cosine / n
        total -= tcr_weight * rate(z[v], eps)
    return total / count


@pytest.mark.parametrize(("n", "dim"), [(5, 4), (4, 7), (3, 3)])
@pytest.mark.parametrize("eps", [0.2, 1.0])
def test_the_rate_is_its_definition_with_either_matrix(n, dim, eps):
    z = views(0, n=n, dim=dim)[0]
    assert total_coding_rate(z, eps=eps).item() == pytest.approx(rate(z.numpy(), eps), rel=1e-10)


@pytest.mark.parametrize(("n", "dim"), [(5, 4), (4, 7)])
@pytest.mark.parametrize(("tcr_weight", "invariance_weight"), [(1.0, 200.0), (3.0, 0.5)])
def test_is_the_paper_s_sum(n, dim, tcr_weight, invariance_weight):
    z = views(1, n=n, dim=dim)
    found = emp_ssl(z, tcr_weight=tcr_weight, invariance_weight=invariance_weight).item()
    assert found == pytest.approx(oracle(z, tcr_weight, invariance_weight, 0.2), rel=1e-10)


def test_the_terms_are_weighted_and_add_up():
    z = views(2)
    terms = emp_ssl_terms(z, tcr_weight=2.0, invariance_weight=3.0)
    assert set(terms) == {"invariance", "coding_rate"}
    torch.testing.assert_close(sum(terms.values()), emp_ssl(z, tcr_weight=2.0, invariance_weight=3.0))
    torch.testing.assert_close(terms["coding_rate"], -2 * torch.stack([total_coding_rate(v) for v in z]).mean())
    assert emp_ssl_terms(z, tcr_weight=0.0)["coding_rate"] == 0


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 8), dim=st.integers(1, 8))
def test_the_rate_is_bounded_and_knows_neither_order_nor_rotation(seed, n, dim):
    z = torch.nn.functional.normalize(views(seed, n=n, dim=dim)[0], dim=1)
    found = total_coding_rate(z)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    rotation, _ = torch.linalg.qr(views(seed + 1, n=dim, dim=dim)[0])
    torch.testing.assert_close(total_coding_rate(z[order]), found)
    torch.testing.assert_close(total_coding_rate(z @ rotation), found)
    # Of all spectra with the sum n (unit rows), the flat one has the highest rate and a single line the lowest.
    rank, scale = min(n, dim), dim / (n * 0.2)
    lowest, highest = 0.5 * math.log1p(scale * n), 0.5 * rank * math.log1p(scale * n / rank)
    assert lowest - 1e-9 <= found <= highest + 1e-9


def test_values_at_the_ends():
    assert total_coding_rate(torch.zeros(3, 4)).item() == 0
    same = views(3)[:1].expand(4, -1, -1)
    assert emp_ssl_terms(same)["invariance"].item() == pytest.approx(-200)


def test_a_wide_collapsed_batch_keeps_its_rate_in_float32():
    z = torch.ones(10, 2048) * (1 + 1e-6 * torch.arange(10.0).unsqueeze(1))
    expected = 0.5 * math.log1p(2048 / (10 * 0.2) * z.double().square().sum().item())
    z.requires_grad_()
    value = total_coding_rate(z)
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert z.grad.isfinite().all()


@pytest.mark.parametrize(("n", "dim"), [(4, 3), (3, 4)])
def test_gradient_is_the_derivative_through_the_mean_too(n, dim):
    z = views(4, n=n, dim=dim).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: emp_ssl(x, invariance_weight=1.0), (z,))


def test_autocast_and_half_inputs_keep_the_digits():
    z = views(5, dtype=torch.float32)
    expected = emp_ssl(z)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(emp_ssl(z), expected, rtol=0, atol=0)
    assert emp_ssl(z.bfloat16()).dtype == total_coding_rate(z[0].bfloat16()).dtype == torch.float32


def test_wrong_shapes_and_settings():
    with pytest.raises(TypeCheckError):
        emp_ssl(views(0)[0])
    with pytest.raises(ValueError, match="eps=0"):
        total_coding_rate(views(0)[0], eps=0.0)
