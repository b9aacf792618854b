"""Each probe against an independent implementation, and what must not change its answer."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.preprocessing import StandardScaler

from cassle.evaluation import probes, standardise
from cassle.evaluation.probes import KNN, LinearProbe, Ridge

PROBES = [KNN(5, 0.07), Ridge(0.01), LinearProbe(1e-3, 100)]
by_name = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.data))
    x, y = torch.tensor(data.data[order], dtype=torch.float32), torch.tensor(data.target[order])
    return x[:600], y[:600], x[600:1000], y[600:1000]


def dense_knn(train, targets, val, k, temperature, num_classes):
    """Weighted k nearest neighbours, sample by sample in float64."""
    train, val = train.double().numpy(), val.double().numpy()
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    out = []
    for x in val:
        similarity = train @ (x / np.linalg.norm(x))
        votes = np.zeros(num_classes)
        for i in np.argsort(-similarity, kind="stable")[:k]:
            votes[targets[i]] += np.exp(similarity[i] / temperature)
        out.append(votes.argmax())
    return torch.tensor(np.array(out))


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (10_000, 0.1)])
def test_knn_equals_the_dense_oracle(k, temperature):
    g = torch.Generator().manual_seed(3)
    x, y, v = (
        torch.randn(150, 8, generator=g),
        torch.randint(0, 4, (150,), generator=g),
        torch.randn(60, 8, generator=g),
    )
    predictions = KNN(k, temperature).fit(x, y, 4).predict(v)
    assert predictions.dtype == torch.int64
    assert torch.equal(predictions, dense_knn(x, y, v, k, temperature, 4))


def test_knn_survives_a_tiny_temperature_and_a_zero_feature(digits):
    x, y, v, _ = digits
    cold = KNN(20, 1e-6).fit(x, y, 10).predict(v)
    assert torch.equal(cold, KNN(1, 0.07).fit(x, y, 10).predict(v))
    assert KNN(20, 0.07).fit(x, y, 10).predict(torch.zeros(2, 64)).shape == (2,)


def sklearn_ridge(x, y, v, lamb, num_classes):
    scaler = StandardScaler().fit(x.double().numpy())
    model = SklearnRidge(alpha=len(x) * lamb)
    model.fit(scaler.transform(x.double().numpy()), np.eye(num_classes)[y.numpy()])
    return torch.tensor(model.predict(scaler.transform(v.double().numpy())))


@pytest.mark.parametrize("n", [200, 20], ids=["primal", "dual"])
def test_ridge_equals_sklearn(n):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 30, generator=g) * 3 + 1, torch.randint(0, 5, (n,), generator=g)
    v = torch.randn(50, 30, generator=g)
    scores = Ridge(0.05).fit(x, y, 5).scores(v)
    torch.testing.assert_close(scores, sklearn_ridge(x, y, v, 0.05, 5), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40), (30, 30)])
def test_ridge_primal_is_dual(shape):
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(shape, generator=g), torch.randint(0, 3, shape[:1], generator=g)
    ridge = Ridge(1e-3).fit(x, y, 3)
    torch.testing.assert_close(ridge._primal(x, y), ridge._dual(x, y), rtol=1e-8, atol=1e-10)


def test_linear_reaches_the_optimum_of_sklearn(digits):
    x, y, v, t = digits
    l2, n = 1e-3, len(x)
    probe = LinearProbe(l2, 300).fit(x, y, 10)
    scaler = StandardScaler().fit(x.double().numpy())
    z = scaler.transform(x.double().numpy())
    model = LogisticRegression(C=1 / (n * l2), max_iter=2000, tol=1e-8).fit(z, y.numpy())

    def loss(weight, bias):
        log_p = (torch.tensor(z) @ weight + bias).log_softmax(dim=1)
        return (-log_p[torch.arange(n), y].mean() + l2 / 2 * weight.square().sum()).item()

    # Digits has near-constant pixels, which this library damps: the optimum may differ by a little, not more.
    best = loss(torch.tensor(model.coef_.T), torch.tensor(model.intercept_))
    scale = torch.tensor(scaler.scale_)[:, None] / probe.scaler.scale[:, None]
    ours = loss(probe.weight[:-1].double() * scale, probe.weight[-1].double())
    assert ours == pytest.approx(best, rel=1e-3)
    accuracy = (probe.predict(v) == t).double().mean().item()
    theirs = (model.predict(scaler.transform(v.double().numpy())) == t.numpy()).mean()
    assert accuracy == pytest.approx(theirs, abs=0.005)
    assert accuracy > 0.94


def test_linear_gradient_is_autograd_s(digits):
    x, y, _, _ = digits
    probe = LinearProbe(0.1, 1).fit(x, y, 10)
    z = probe.scaler(x).float()
    weight = torch.randn(65, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(z @ weight[:-1] + weight[-1], y) + 0.05 * weight[:-1].square().sum()
    (expected,) = torch.autograd.grad(loss, weight)
    probe.weight = weight.detach().clone()
    assert probe._loss(z, y).item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(probe.weight.grad, expected, rtol=1e-4, atol=1e-5)


@by_name
def test_scale_of_all_features_does_not_matter(probe, digits):
    x, y, v, _ = digits
    expected = probe.fit(x, y, 10).predict(v)
    for scale in (2.0**-20, 2.0**20):  # powers of two: not even the rounding changes
        assert torch.equal(probe.fit(x * scale, y, 10).predict(v * scale), expected)


@pytest.mark.parametrize("probe", PROBES[1:], ids=lambda probe: type(probe).__name__)
def test_standardised_probes_ignore_shift_and_scale_of_a_dimension(probe):
    g = torch.Generator().manual_seed(5)
    y = torch.randint(0, 3, (90,), generator=g)
    x = torch.randn(90, 6, generator=g, dtype=torch.float64) + torch.eye(3, 6, dtype=torch.float64)[y] * 2
    scale = torch.tensor([1, 2, 4, 0.5, 8, 0.25])
    expected = probe.fit(x, y, 3).predict(x)
    assert torch.equal(probe.fit(x * scale + 3, y, 3).predict(x * scale + 3), expected)


@by_name
def test_near_constant_dimensions_do_not_blow_up(probe, digits):
    x, y, v, t = digits
    noise = 1e-9 * torch.randn(len(x), 8, generator=torch.Generator().manual_seed(0))
    dead = torch.cat([x, noise, torch.full((len(x), 2), 7.0)], dim=1)
    awake = torch.cat([v, torch.ones(len(v), 8), torch.full((len(v), 2), 7.0)], dim=1)
    plain = (probe.fit(x, y, 10).predict(v) == t).double().mean()
    woken = (probe.fit(dead, y, 10).predict(awake) == t).double().mean()
    assert woken > plain - 0.02


@by_name
def test_collapsed_features_give_an_answer(probe):
    y = torch.tensor([0, 1, 1, 2])
    for constant in (0.0, 3.3):
        predictions = probe.fit(torch.full((4, 5), constant), y, 3).predict(torch.full((6, 5), constant))
        assert torch.equal(predictions, torch.ones(6, dtype=torch.long))  # the most frequent class


@by_name
def test_same_inputs_same_answer_in_any_grad_mode_and_chunk(probe, digits, monkeypatch):
    x, y, v, _ = digits
    expected = probe.fit(x, y, 10).predict(v)
    assert torch.equal(probe.fit(x, y, 10).predict(v), expected)
    with torch.inference_mode():  # where Lightning runs validation
        assert torch.equal(probe.fit(x.clone(), y.clone(), 10).predict(v.clone()), expected)
    monkeypatch.setattr(standardise, "CHUNK_ELEMENTS", 5000)
    assert probes.rows_per_chunk(64) == 78
    assert (probe.fit(x, y, 10).predict(v) == expected).double().mean() > 0.99


@by_name
def test_a_class_without_samples_is_not_predicted(probe, digits):
    x, y, v, _ = digits
    keep = y != 3
    assert not (probe.fit(x[keep], y[keep], 12).predict(v) >= 10).any()
    assert probe.fit(x, y.int(), 10).predict(v[:0]).shape == (0,)


@by_name
def test_wrong_inputs_are_named(probe, digits):
    x, y, _, _ = digits
    with pytest.raises(ValueError, match=r"classes 0\.\.9 for num_classes=5"):
        probe.fit(x, y, 5)
    with pytest.raises((ValueError, TypeCheckError), match=r"shapes|Type-check"):
        probe.fit(x, y[:-1], 10)
    with pytest.raises(ValueError, match="shapes"):
        probe.fit(x[:0], y[:0], 10)
