"""Soft labels and cross-entropy with missing labels, against plain references."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.losses import labelled_cross_entropy, soft_label

torch.set_num_threads(1)


def pair(seed: int, n: int = 6, classes: int = 4, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, classes, generator=g, dtype=dtype) for _ in range(2)]


def softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def oracle(logits, frozen, temperature):
    p, q = (softmax(x.numpy() / temperature) for x in (logits, frozen))
    return -(temperature**2) * (q * np.log(p)).sum(axis=1).mean()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_labels_are_the_cross_entropy_with_the_softened_probabilities(temperature):
    logits, frozen = pair(0)
    assert soft_label(logits, frozen, temperature).item() == pytest.approx(oracle(logits, frozen, temperature))


def test_their_gradient_is_that_of_the_divergence():
    logits, frozen = pair(1)
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    soft_label(mine, frozen.requires_grad_()).backward()
    F.kl_div(theirs.log_softmax(1), frozen.detach().softmax(1), reduction="batchmean").backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert frozen.grad is None


def test_their_gradient_is_the_derivative():
    logits, frozen = pair(2)
    assert torch.autograd.gradcheck(lambda a: soft_label(a, frozen, 2.0), (logits.requires_grad_(),))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_soft_labels_know_neither_order_nor_offset(seed, shift):
    logits, frozen = pair(seed)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    expected = soft_label(logits, frozen)
    torch.testing.assert_close(soft_label(logits[order], frozen[order]), expected)
    torch.testing.assert_close(soft_label(logits + shift, frozen - shift), expected)
    entropy = torch.distributions.Categorical(logits=frozen).entropy().mean()
    assert expected >= entropy and soft_label(frozen, frozen) == pytest.approx(entropy.item())


def test_cross_entropy_is_the_mean_over_the_labelled():
    logits, _ = pair(3)
    targets = torch.tensor([0, -1, 3, -1, -1, 2])
    expected = -np.log(softmax(logits.numpy())[[0, 2, 5], [0, 3, 2]]).mean()
    assert labelled_cross_entropy(logits, targets).item() == pytest.approx(expected)
    assert labelled_cross_entropy(torch.zeros(6, 4), targets).item() == pytest.approx(math.log(4))


def test_a_batch_without_labels_gives_nothing_and_a_gradient_of_nothing():
    logits = pair(4)[0].requires_grad_()
    loss = labelled_cross_entropy(logits, torch.full((6,), -1))
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_autocast_and_half_inputs_keep_the_digits():
    logits, frozen = pair(5, dtype=torch.float32)
    targets = torch.arange(6) % 4
    for loss in (lambda x: soft_label(x, frozen), lambda x: labelled_cross_entropy(x, targets)):
        expected = loss(logits)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(logits), expected, rtol=0, atol=0)
        assert loss(logits.bfloat16()).dtype == torch.float32


def test_a_temperature_is_positive():
    with pytest.raises(ValueError, match="temperature"):
        soft_label(*pair(6), temperature=0.0)
