import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cassle.losses.simclr import nt_xent
from cassle.losses.supcon import supcon

torch.set_num_threads(1)


def views(seed: int, n: int = 6, dim: int = 4, number: int = 2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g, dtype=dtype) for _ in range(number)]


def oracle(z, targets, tau):
    """Equation 2 of the paper, anchor by anchor; anchors are (image, view)."""
    anchors = [(b, v) for b in range(len(z[0])) for v in range(len(z))]
    unit = {(b, v): z[v][b].numpy() / np.linalg.norm(z[v][b].numpy()) for b, v in anchors}
    total = 0.0
    for i in anchors:
        others = [k for k in anchors if k != i]
        denominator = sum(math.exp(unit[i] @ unit[k] / tau) for k in others)
        label = targets[i[0]]
        positives = [k for k in others if k[0] == i[0] or (label != -1 and targets[k[0]] == label)]
        total -= sum(math.log(math.exp(unit[i] @ unit[p] / tau) / denominator) for p in positives) / len(positives)
    return total / len(anchors)


@pytest.mark.parametrize("tau", [0.1, 0.5])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize(
    "targets", [[0, 1, 0, 2, 1, 0], [5] * 6, [-1, 3, -1, 3, 0, -1]], ids=["three classes", "one class", "unlabelled"]
)
def test_is_equation_2(tau, number, targets):
    z = views(0, number=number)
    found = supcon(*z, targets=torch.tensor(targets), temperature=tau).item()
    assert found == pytest.approx(oracle(z, targets, tau), rel=1e-10)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-2, 1e2),
    targets=st.lists(st.integers(-1, 3), min_size=6, max_size=6),
    renamed=st.permutations(range(4)),
)
def test_knows_neither_order_nor_length_nor_the_names_of_the_classes(seed, scale, targets, renamed):
    z1, z2 = views(seed)
    targets = torch.tensor(targets)
    order = torch.randperm(len(z1), generator=torch.Generator().manual_seed(seed))
    expected = supcon(z1, z2, targets=targets)
    torch.testing.assert_close(supcon(z1[order], z2[order], targets=targets[order]), expected)
    torch.testing.assert_close(supcon(scale * z1, z2, targets=targets), expected)
    torch.testing.assert_close(supcon(z2, z1, targets=targets), expected)
    torch.testing.assert_close(supcon(z1, z2, targets=torch.tensor([*renamed, -1])[targets]), expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), number=st.integers(2, 4), labelled=st.lists(st.booleans(), min_size=6, max_size=6))
def test_is_nt_xent_when_no_two_labels_are_alike(seed, number, labelled):
    z = views(seed, number=number)
    targets = torch.where(torch.tensor(labelled), torch.arange(6), -1)
    torch.testing.assert_close(supcon(*z, targets=targets), nt_xent(*z))


def test_value_at_collapse_and_when_the_classes_are_apart():
    same = torch.ones(4, 3, dtype=torch.float64)
    targets = torch.tensor([0, 0, 1, 1])
    assert supcon(same, same, targets=targets).item() == pytest.approx(math.log(2 * 4 - 1))
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(2, dim=0)
    # The three positives of a view share the probability evenly.
    assert supcon(z, z, targets=targets, temperature=0.02).item() == pytest.approx(math.log(3), abs=1e-12)


def test_gradient_is_the_derivative():
    z1, z2 = (z.requires_grad_() for z in views(0, n=4, dim=3))
    targets = torch.tensor([1, -1, 1, -1])
    assert torch.autograd.gradcheck(lambda a, b: supcon(a, b, targets=targets), (z1, z2))


def test_autocast_and_half_inputs_keep_the_digits():
    z1, z2 = views(3, n=16, dim=8, dtype=torch.float32)
    targets = torch.arange(16) % 3
    expected = supcon(z1, z2, targets=targets)
    torch.testing.assert_close(expected.double(), supcon(z1.double(), z2.double(), targets=targets), rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(supcon(z1, z2, targets=targets), expected, rtol=0, atol=0)
    assert supcon(z1.bfloat16(), z2.bfloat16(), targets=targets).dtype == torch.float32


def test_labels_are_not_written_to():
    targets = torch.tensor([0, -1, 0, -1, 2, 2])
    supcon(*views(0), targets=targets)
    assert targets.tolist() == [0, -1, 0, -1, 2, 2]


def test_other_shapes_raise():
    with pytest.raises(TypeCheckError):
        supcon(*views(0), targets=torch.zeros(5, dtype=torch.long))
    with pytest.raises(TypeCheckError):
        supcon(*views(0), targets=torch.zeros(6))


def test_wrong_settings_are_named():
    targets = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match="temperature=-1"):
        supcon(*views(0), targets=targets, temperature=-1.0)
    with pytest.raises(ValueError, match="at least 2"):
        supcon(*views(0, number=1), targets=targets)
