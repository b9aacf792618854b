"""Three small classifiers that ask what a frozen representation knows: k nearest neighbours, ridge and logistic.

All of them are deterministic, take features (n, dim) with integer targets, work on the features' device, and keep the
memory beyond the features themselves bounded.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cassle.evaluation.standardise import Standardiser, rows_per_chunk


@runtime_checkable
class Probe(Protocol):
    """A classifier on features; ``fit`` raises ValueError for features or targets that do not fit together."""

    def fit(self, features: Float[Tensor, "n dim"], targets: Int[Tensor, " n"], num_classes: int) -> Probe:
        """Learn from the train features and return the probe itself."""

    def predict(self, features: Float[Tensor, "m dim"]) -> Int[Tensor, " m"]:
        """Return the predicted classes, int64, on the features' device."""


class KNN:
    """Weighted k nearest neighbours by cosine similarity (Wu et al. 2018): a neighbour's vote is exp(similarity / T).

    Args:
        k: neighbours that vote; at most the size of the train set is used.
        temperature: T; a smaller one trusts the nearest more.
    """

    def __init__(self, k: int, temperature: float) -> None:
        self.k, self.temperature = k, temperature

    def fit(self, features: Float[Tensor, "n dim"], targets: Int[Tensor, " n"], num_classes: int) -> KNN:
        """Keep the normalised features as the bank."""
        self.targets = _checked_targets(features, targets, num_classes)
        self.bank = F.normalize(features.float(), dim=1)
        self.num_classes = num_classes
        return self

    def predict(self, features: Float[Tensor, "m dim"]) -> Int[Tensor, " m"]:
        """Return the class with the largest sum of votes; equal sums go to the lowest class."""
        chunk = rows_per_chunk(max(len(self.bank), self.num_classes))
        return torch.cat([self._votes(part).argmax(dim=1) for part in features.split(chunk)])

    def _votes(self, features: Float[Tensor, "m dim"]) -> Float[Tensor, "m classes"]:
        similarity, nearest = (F.normalize(features.float(), dim=1) @ self.bank.T).topk(min(self.k, len(self.bank)))
        # Relative to the nearest: the winner is the same, and no temperature overflows.
        weight = ((similarity - similarity[:, :1]) / self.temperature).exp()
        label = self.targets[nearest]
        votes = weight.new_zeros(len(features), self.num_classes)
        rows = torch.arange(len(features), device=features.device)
        for j in range(label.shape[1]):  # neighbour by neighbour: a CUDA scatter of all at once adds in any order
            votes[rows, label[:, j]] += weight[:, j]
        return votes


class Ridge:
    """Ridge regression to centred one-hot targets on standardised features, solved exactly in float64.

    It minimises ``|Y - XW|² / n + lamb |W|²``. The penalty is relative to n, so the same ``lamb`` suits ten labels and
    a million; sklearn's ``alpha`` is ``n * lamb``. The bias is not penalised.

    Args:
        lamb: weight of the penalty, above 0.
    """

    def __init__(self, lamb: float) -> None:
        self.lamb = lamb

    def fit(self, features: Float[Tensor, "n dim"], targets: Int[Tensor, " n"], num_classes: int) -> Ridge:
        """Solve the smaller of the primal (dim × dim) and the dual (n × n) system by Cholesky."""
        targets = _checked_targets(features, targets, num_classes)
        self.scaler = Standardiser(features)
        count = torch.bincount(targets, minlength=num_classes).double()
        self.bias = count / len(features)  # the mean of the one-hot targets
        self.weight = (self._primal if features.shape[1] <= len(features) else self._dual)(features, targets)
        return self

    def predict(self, features: Float[Tensor, "m dim"]) -> Int[Tensor, " m"]:
        """Return the class with the largest regressed value."""
        return torch.cat(
            [self.scores(part).argmax(dim=1) for part in features.split(rows_per_chunk(features.shape[1]))]
        )

    def scores(self, features: Float[Tensor, "m dim"]) -> Float[Tensor, "m classes"]:
        """Return the regressed values in float64."""
        return self.scaler(features) @ self.weight + self.bias

    def _primal(self, features: Tensor, targets: Tensor) -> Tensor:
        dim, chunk = features.shape[1], rows_per_chunk(features.shape[1])
        gram = features.new_zeros(dim, dim, dtype=torch.float64)
        cross = features.new_zeros(dim, len(self.bias), dtype=torch.float64)
        for x, y in zip(features.split(chunk), targets.split(chunk), strict=True):
            x = self.scaler(x)
            gram += x.T @ x
            cross += x.T @ self._centred(y)
        return _solve(gram / len(features), self.lamb, cross / len(features))

    def _dual(self, features: Tensor, targets: Tensor) -> Tensor:
        x, n = self.scaler(features), len(features)
        return x.T @ _solve(x @ x.T / n, self.lamb, self._centred(targets)) / n

    def _centred(self, targets: Tensor) -> Tensor:
        return F.one_hot(targets, len(self.bias)).double() - self.bias


class LinearProbe:
    """Multinomial logistic regression on standardised features, fitted to its optimum by full-batch L-BFGS from zero.

    It minimises ``mean cross-entropy + l2 / 2 |W|²`` (the bias is not penalised); sklearn's ``C`` is ``1 / (n * l2)``.

    Args:
        l2: weight of the penalty.
        max_iter: most L-BFGS iterations; it stops earlier when no gradient entry exceeds ``tolerance``.
        tolerance: bound on the gradient's largest entry.
    """

    def __init__(self, l2: float, max_iter: int, tolerance: float = 1e-5) -> None:
        self.l2, self.max_iter, self.tolerance = l2, max_iter, tolerance

    @torch.no_grad()
    def fit(self, features: Float[Tensor, "n dim"], targets: Int[Tensor, " n"], num_classes: int) -> LinearProbe:
        """Fit weight and bias; there is no randomness."""
        targets = _checked_targets(features, targets, num_classes)
        self.scaler = Standardiser(features)
        parts = features.split(rows_per_chunk(features.shape[1]))
        x = torch.cat([self.scaler(part).float() for part in parts])
        # The last row is the bias. One tensor, because L-BFGS works on one vector anyway.
        self.weight = x.new_zeros(x.shape[1] + 1, num_classes)
        optimizer = torch.optim.LBFGS(
            [self.weight],
            max_iter=self.max_iter,
            tolerance_grad=self.tolerance,
            tolerance_change=1e-9,
            history_size=20,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(lambda: self._loss(x, targets))
        return self

    def predict(self, features: Float[Tensor, "m dim"]) -> Int[Tensor, " m"]:
        """Return the most probable class."""
        return torch.cat(
            [self._scores(part).argmax(dim=1) for part in features.split(rows_per_chunk(features.shape[1]))]
        )

    def _scores(self, features: Tensor) -> Tensor:
        return torch.addmm(self.weight[-1], self.scaler(features).float(), self.weight[:-1])

    def _loss(self, x: Tensor, targets: Tensor) -> Tensor:
        # By hand: the gradient is two products, needs no graph, and sums the chunks in a fixed order.
        weight, n = self.weight, len(x)
        gradient = torch.zeros_like(weight)
        gradient[:-1] = self.l2 * weight[:-1]
        loss = self.l2 / 2 * weight[:-1].double().square().sum()
        chunk = rows_per_chunk(weight.shape[1])
        for part, label in zip(x.split(chunk), targets.split(chunk), strict=True):
            rows = torch.arange(len(part), device=x.device)
            log_p = torch.addmm(weight[-1], part, weight[:-1]).log_softmax(dim=1)
            loss -= log_p[rows, label].double().sum() / n
            error = log_p.exp()
            error[rows, label] -= 1
            gradient[:-1].addmm_(part.T, error, alpha=1 / n)
            gradient[-1] += error.sum(dim=0) / n
        weight.grad = gradient
        return loss


def _solve(matrix: Tensor, lamb: float, right: Tensor) -> Tensor:
    matrix.diagonal().add_(lamb)
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))


def _checked_targets(features: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    if features.dim() != 2 or targets.shape != features.shape[:1] or 0 in features.shape:
        shapes = f"{tuple(features.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"features and targets: shapes {shapes}; give (n, dim) and (n,), none of them empty.")
    targets = targets.to(features.device, torch.int64)
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"targets: classes {low}..{high} for num_classes={num_classes}; give 0..{num_classes - 1}.")
    return targets
