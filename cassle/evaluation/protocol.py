"""The evaluation that a run does after every task: which probes, with which labels, on what."""

from __future__ import annotations

from statistics import fmean

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cassle.errors import ConfigError
from cassle.evaluation.metrics import accuracy_per_task
from cassle.evaluation.probes import KNN, LinearProbe, Probe, Ridge
from cassle.randomness import generator

AWARE = "_domain_aware"  # ends the names of probes of which there is one per domain
SHARED_VAL = "shared_val"  # in the protocol where all tasks have the same validation samples


class Evaluation:
    """Probes on frozen features: one probe over all classes, no task id, one accuracy per task.

    Args:
        disable_knn_eval: leave the k-nearest-neighbour probe out.
        knn_k: neighbours that vote (samples).
        knn_temperature: a neighbour votes with exp(cosine / temperature).
        ridge_lamb: penalty of the ridge probes, relative to the number of labels.
        few_labels: labels per class of the few-label ridge probe; 0 leaves it out.
        few_label_draws: draws of few labels whose accuracies are averaged.
        disable_linear_eval: leave the logistic probe out.
        linear_l2: penalty of the logistic probe, added to the mean cross-entropy as l2/2·|W|².
        linear_max_iter: most L-BFGS iterations of the logistic probe.
        domain_aware: with --split_strategy domain, also fit one probe per domain, on the images of that domain only.
        eval_batch_size: images per forward pass when features are extracted.

    Raises:
        ConfigError: one sentence for each setting out of range.
    """

    def __init__(
        self,
        *,
        disable_knn_eval: bool = False,
        knn_k: int = 20,
        knn_temperature: float = 0.07,
        ridge_lamb: float = 0.1,  # with 0.01 and less, a probe with as many labels as features overfits
        few_labels: int = 10,
        few_label_draws: int = 5,
        disable_linear_eval: bool = False,
        linear_l2: float = 1e-4,
        linear_max_iter: int = 200,
        domain_aware: bool = True,
        eval_batch_size: int = 512,
    ) -> None:
        self.disable_knn_eval, self.knn_k, self.knn_temperature = disable_knn_eval, knn_k, knn_temperature
        self.ridge_lamb, self.few_labels, self.few_label_draws = ridge_lamb, few_labels, few_label_draws
        self.disable_linear_eval, self.linear_l2 = disable_linear_eval, linear_l2
        self.linear_max_iter, self.eval_batch_size = linear_max_iter, eval_batch_size
        self.domain_aware = domain_aware
        self._check()

    def _check(self) -> None:
        at_least = {"knn_k": 1, "few_labels": 0, "few_label_draws": 1, "linear_l2": 0, "linear_max_iter": 1}
        at_least["eval_batch_size"] = 1
        problems = [
            f"--{name} {getattr(self, name)}: too small. Give at least {least}."
            for name, least in at_least.items()
            if not getattr(self, name) >= least  # also true for NaN
        ]
        problems += [
            f"--{name} {getattr(self, name)}: not positive. Give a number above 0."
            for name in ("knn_temperature", "ridge_lamb")
            if not getattr(self, name) > 0
        ]
        if problems:
            raise ConfigError(problems)

    def row(
        self,
        train_features: Float[Tensor, "n dim"],
        train_targets: Int[Tensor, " n"],
        val_features: Float[Tensor, "m dim"],
        val_targets: Int[Tensor, " m"],
        val_tasks: Int[Tensor, " m"],
        num_classes: int,
        num_tasks: int,
        train_tasks: Int[Tensor, " n"] | None = None,
    ) -> dict[str, list[float]]:
        """Return for each probe its accuracies (fractions), one per task: a row of the accuracy matrix.

        The probes are fitted on the train features of all classes and run on the features' device; both feature
        tensors must be on the same one. With ``train_tasks``, the domain of each train sample, they are followed by the
        probes that are aware of domains, unless these are switched off.

        Raises:
            ValueError: shapes, classes or task ids that do not fit together, or a task without a validation sample.
        """
        train_targets = train_targets.to(train_features.device)

        def score(probe: Probe, chosen: Tensor | slice = slice(None)) -> list[float]:
            probe.fit(train_features[chosen], train_targets[chosen], num_classes)
            return accuracy_per_task(probe.predict(val_features), val_targets, val_tasks, num_tasks)

        def score_by_domain(probe: Probe) -> list[float]:
            accuracies = []
            for task in range(num_tasks):
                train, val = train_tasks == task, val_tasks == task
                probe.fit(train_features[train], train_targets[train], num_classes)
                found = probe.predict(val_features[val.to(val_features.device)])
                accuracies += accuracy_per_task(found, val_targets[val], val_tasks[val] - task, 1)
            return accuracies

        whole = self._probes()
        rows = {name: score(probe) for name, probe in whole.items() if name != "linear"}
        if self.few_labels:
            draws = [few_label_subset(train_targets, self.few_labels, d) for d in range(self.few_label_draws)]
            scores = [score(Ridge(self.ridge_lamb), chosen) for chosen in draws]
            rows[self._few_name] = [fmean(values) for values in zip(*scores, strict=True)]
        if "linear" in whole:
            rows["linear"] = score(whole["linear"])
        if train_tasks is not None and self.domain_aware:
            train_tasks = train_tasks.to(train_features.device)
            rows |= {name + AWARE: score_by_domain(probe) for name, probe in self._probes().items()}
        return rows

    def _probes(self) -> dict[str, Probe]:
        """Return the probes that learn from all train labels, by name."""
        probes: dict[str, Probe] = {} if self.disable_knn_eval else {"knn": KNN(self.knn_k, self.knn_temperature)}
        probes["ridge"] = Ridge(self.ridge_lamb)
        if not self.disable_linear_eval:
            probes["linear"] = LinearProbe(self.linear_l2, self.linear_max_iter)
        return probes

    @property
    def _few_name(self) -> str:
        return f"ridge_{self.few_labels}_labels"

    def describe(
        self, classifier: bool = False, domain_aware: bool = False, shared_val: bool = False
    ) -> dict[str, str | dict[str, str]]:
        """Return the protocol in words and numbers, to be printed beside every result.

        Args:
            classifier: whether there is a row of the model's own classifier too.
            domain_aware: whether the tasks are domains, so that there can be probes that are aware of them.
            shared_val: whether all tasks have the same validation samples.
        """
        probes = {}
        if not self.disable_knn_eval:
            probes["knn"] = f"cosine, k={self.knn_k}, vote exp(s/{self.knn_temperature!r}), all train labels"
        probes["ridge"] = f"standardised features, lambda={self.ridge_lamb!r} relative to n, all train labels"
        if self.few_labels:
            probes[self._few_name] = (
                f"as ridge, {self.few_labels} train labels per class, mean of {self.few_label_draws} fixed draws"
            )
        if not self.disable_linear_eval:
            probes["linear"] = (
                "multinomial logistic regression on standardised features, "
                f"l2={self.linear_l2!r}, L-BFGS to at most {self.linear_max_iter} iterations, all train labels"
            )
        if classifier:
            probes["classifier"] = "the model's own, as it was trained beside the encoder: not fitted, all classes"
        head = "one probe over all classes, no task id, fitted anew after every task"
        if domain_aware and self.domain_aware:
            head += " (domain-agnostic: fitted on the train images of all domains)"
            for name in self._probes():
                probes[name + AWARE] = (
                    f"as {name}, but one probe per domain, fitted on its train images only and tested on that domain"
                )
        shared = "the validation samples, which all tasks share: a row has the same accuracy for every task"
        return {
            "features": "frozen backbone in eval mode, no augmentation",
            "head": head,
            "accuracy": f"top-1 on {shared if shared_val else 'the validation samples of each task'}",
            **({SHARED_VAL: "one validation set for all tasks, so there is no forward transfer"} if shared_val else {}),
            "probes": probes,
        }


def few_label_subset(targets: Int[Tensor, " n"], per_class: int, draw: int) -> Int[Tensor, " k"]:
    """Return the sorted indices of ``per_class`` samples of each class (all of a smaller class), the same in every run.

    Args:
        targets: classes of the train set.
        per_class: samples per class.
        draw: number of the draw; another one gives other samples.
    """
    labels = targets.cpu()
    order = torch.randperm(len(labels), generator=generator(0, "few_labels", draw))
    order = order[labels[order].argsort(stable=True)]  # class by class, shuffled inside
    count = torch.bincount(labels)
    rank = torch.arange(len(labels)) - (count.cumsum(0) - count)[labels[order]]
    return order[rank < per_class].sort().values.to(targets.device)
