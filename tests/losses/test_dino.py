import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.dino import dino, dino_centre

torch.set_num_threads(1)


def case(seed: int, views: int = 4, large: int = 2, n: int = 3, prototypes: int = 5, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    out = [torch.randn(n, prototypes, generator=g, dtype=dtype) for _ in range(views + large)]
    return out[:views], out[views:], torch.randn(prototypes, generator=g, dtype=dtype)


def softmax(values):
    return [math.exp(x) / sum(math.exp(y) for y in values) for x in values]


def oracle(student, teacher, centre, tau_s, tau_t):
    """Equations 1 to 3 of the paper, with the mean over pairs."""
    terms = []
    for g, t in enumerate(teacher):
        for v, s in enumerate(student):
            if v != g:
                for t_n, s_n in zip(t.tolist(), s.tolist(), strict=True):
                    p_t = softmax([(x - c) / tau_t for x, c in zip(t_n, centre.tolist(), strict=True)])
                    p_s = softmax([x / tau_s for x in s_n])
                    terms.append(-sum(a * math.log(b) for a, b in zip(p_t, p_s, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("views", "large"), [(2, 2), (4, 2), (2, 1), (5, 3)])
@pytest.mark.parametrize(("tau_s", "tau_t"), [(0.1, 0.07), (1.0, 0.5)])
def test_is_equation_3(views, large, tau_s, tau_t):
    student, teacher, centre = case(0, views, large)
    found = dino(student, teacher, centre, student_temperature=tau_s, teacher_temperature=tau_t).item()
    assert found == pytest.approx(oracle(student, teacher, centre, tau_s, tau_t), rel=1e-10)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), shift=st.floats(-10, 10))
def test_knows_neither_order_nor_offset_and_is_at_least_the_entropy(seed, shift):
    student, teacher, centre = case(seed)
    expected = dino(student, teacher, centre)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(dino([s[order] for s in student], [t[order] for t in teacher], centre), expected)
    torch.testing.assert_close(dino([s + shift for s in student], [t - shift for t in teacher], centre), expected)
    torch.testing.assert_close(dino(student[:2] + student[:1:-1], teacher, centre), expected)
    targets = ((torch.stack(teacher) - centre) / 0.07).softmax(dim=2)
    assert expected >= torch.special.entr(targets).sum(dim=2).mean() - 1e-12


def test_the_centre_is_the_mean_over_views_and_rows():
    _, teacher, _ = case(1)
    centre = dino_centre([t.requires_grad_() for t in teacher])
    assert not centre.requires_grad
    torch.testing.assert_close(centre, torch.cat(teacher).detach().mean(dim=0))
    # Subtracting it and scoring afresh gives centred outputs.
    torch.testing.assert_close(dino_centre([t - centre for t in teacher]), torch.zeros_like(centre))


def test_no_gradient_reaches_the_teacher():
    student, teacher, centre = case(2)
    dino([s.requires_grad_() for s in student], [t.requires_grad_() for t in teacher], centre).backward()
    assert all(t.grad is None for t in teacher)
    assert all(s.grad.abs().max() > 0 for s in student)


def test_gradient_is_the_derivative():
    student, teacher, centre = case(3)
    inputs = tuple(s.requires_grad_() for s in student)
    assert torch.autograd.gradcheck(lambda *s: dino(list(s), teacher, centre), inputs)


def test_autocast_and_half_inputs_keep_the_digits():
    student, teacher, centre = case(4, dtype=torch.float32)
    expected = dino(student, teacher, centre)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(dino(student, teacher, centre), expected, rtol=0, atol=0)
    student, teacher = [s.bfloat16() for s in student], [t.bfloat16() for t in teacher]
    wide = dino([s.float() for s in student], [t.float() for t in teacher], centre)
    torch.testing.assert_close(dino(student, teacher, centre), wide, rtol=0, atol=0)
    assert dino_centre(teacher).dtype == torch.float32


def test_wrong_shapes_and_settings():
    student, teacher, centre = case(0)
    with pytest.raises(TypeCheckError):
        dino([s[:-1] for s in student], teacher, centre)
    with pytest.raises(TypeCheckError):
        dino(student, teacher, centre[:-1])
    with pytest.raises(ValueError, match="2 student views and 3 teacher views"):
        dino(student[:2], [*teacher, teacher[0]], centre)
    with pytest.raises(ValueError, match="1 student views and 1 teacher views"):
        dino(student[:1], teacher[:1], centre)
    with pytest.raises(ValueError, match="teacher_temperature=0"):
        dino(student, teacher, centre, teacher_temperature=0.0)
    with pytest.raises(ValueError, match="no teacher views"):
        dino_centre([])
