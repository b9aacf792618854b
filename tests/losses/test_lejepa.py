import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.lejepa import lejepa, lejepa_terms, random_directions, sigreg

torch.set_num_threads(1)


def views(seed: int, count: int = 3, n: int = 5, dim: int = 4, dtype=torch.float64):
    return torch.randn(count, n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lines(seed: int = 7, slices: int = 6, dim: int = 4):
    return random_directions(slices, dim, torch.Generator().manual_seed(seed)).double()


def statistic(z, directions, knots, limit):
    """The definition: complex numbers and the trapezoid rule on the whole interval."""
    values = []
    for a in directions.numpy():
        x = z.numpy() @ a
        t = [-limit + 2 * limit * i / (knots - 1) for i in range(knots)]
        heights = []
        for s in t:
            phi = math.exp(-(s**2) / 2)
            heights.append(abs(sum(cmath.exp(1j * s * v) for v in x) / len(x) - phi) ** 2 * phi)
        values.append(len(x) * sum((heights[i] + heights[i + 1]) / 2 * (t[i + 1] - t[i]) for i in range(knots - 1)))
    return np.mean(values)


def oracle(z, directions, lamb, num_global):
    count, n, dim = z.shape
    total = 0.0
    for b in range(n):
        centre = z[:num_global, b].numpy().mean(0)
        for v in range(count):
            total += ((z[v, b].numpy() - centre) ** 2).sum() / (count * n * dim)
    return (1 - lamb) * total + lamb * np.mean([statistic(v, directions, 17, 5.0) for v in z])


@pytest.mark.parametrize(("knots", "limit"), [(17, 5.0), (16, 5.0), (33, 3.0), (2, 1.0), (3, 2.0)])
def test_sigreg_is_the_mean_statistic(knots, limit):
    z = views(0, n=9)[0] + 0.5
    found = sigreg(z, lines(), knots=knots, limit=limit).item()
    assert found == pytest.approx(statistic(z, lines(), knots, limit), rel=1e-9)


@pytest.mark.parametrize("num_global", [None, 1, 2])
@pytest.mark.parametrize("lamb", [0.05, 0.5])
def test_is_algorithm_2(num_global, lamb):
    z = views(1)
    found = lejepa(z, lines(), lamb=lamb, num_global=num_global).item()
    assert found == pytest.approx(oracle(z, lines(), lamb, num_global or len(z)), rel=1e-9)


def test_the_terms_are_weighted_and_add_up():
    z = views(2)
    terms = lejepa_terms(z, lines(), lamb=0.25)
    assert set(terms) == {"prediction", "sigreg"}
    torch.testing.assert_close(sum(terms.values()), lejepa(z, lines(), lamb=0.25))
    torch.testing.assert_close(terms["sigreg"], 0.25 * torch.stack([sigreg(v, lines()) for v in z]).mean())


@pytest.mark.parametrize("n", [8, 64])
def test_a_gaussian_batch_has_the_expected_statistic(n):
    # Under the hypothesis it is sqrt(2 pi) - sqrt(2 pi / 3) on the whole line, whatever n.
    found = np.mean([sigreg(views(seed, n=n)[0], lines()).item() for seed in range(500)])
    assert found == pytest.approx(math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3), rel=0.1)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_a_gaussian_batch_is_far_better_than_a_collapsed_one(seed):
    # The statistic of a wrong distribution grows with n, that of the right one does not: 40 times its expectation
    # is out of reach of chance.
    z = views(seed, n=1024)[0]
    assert 0 <= sigreg(z, lines()) < 40
    for bad in (torch.zeros_like(z), z[:1].expand_as(z), 0.1 * z, 10 * z, z + 3):
        assert sigreg(bad, lines()) > 200


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_knows_neither_order_nor_sign(seed):
    z = views(seed)
    order = torch.randperm(z.shape[1], generator=torch.Generator().manual_seed(seed))
    expected = lejepa(z, lines())
    torch.testing.assert_close(lejepa(z[:, order], lines()), expected)
    torch.testing.assert_close(lejepa(z.flip(0), lines()), expected)
    torch.testing.assert_close(lejepa(-z, lines()), expected)
    torch.testing.assert_close(lejepa(z, -lines()), expected)


def test_directions_are_unit_rows_and_a_function_of_the_generator():
    rows = lines(slices=4000, dim=3)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4000, dtype=rows.dtype), rtol=1e-6, atol=0)
    assert rows.mean(dim=0).abs().max() < 0.05
    torch.testing.assert_close(rows.T @ rows / 4000, torch.eye(3, dtype=rows.dtype) / 3, rtol=0, atol=0.03)
    assert torch.equal(lines(1), lines(1)) and not torch.equal(lines(1), lines(2))


def test_gradient_is_the_derivative_through_the_mean_too():
    z = views(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lejepa(x, lines(), lamb=0.5, num_global=2), (z,))


def test_autocast_and_half_inputs_keep_the_digits():
    z, a = views(4, dtype=torch.float32), lines().float()
    expected = lejepa(z, a)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lejepa(z, a), expected, rtol=0, atol=0)
    torch.testing.assert_close(lejepa(z.double(), a), lejepa(z.double(), a.double()), rtol=0, atol=0)
    assert lejepa(z.bfloat16(), a).dtype == sigreg(z[0].bfloat16(), a).dtype == torch.float32


def test_wrong_shapes_and_settings():
    z = views(0)
    with pytest.raises(TypeCheckError):
        lejepa(z, lines(dim=3))
    with pytest.raises(ValueError, match="lamb=2"):
        lejepa(z, lines(), lamb=2.0)
    with pytest.raises(ValueError, match="num_global=4"):
        lejepa(z, lines(), num_global=4)
    with pytest.raises(ValueError, match="knots=1"):
        sigreg(z[0], lines(), knots=1)
    with pytest.raises(ValueError, match="limit=0"):
        sigreg(z[0], lines(), limit=0.0)
