"""Cutting a data set into tasks: by class, by chance, or by domain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cassle.errors import ConfigError

CLASS_SEED = 5  # CaSSLe's published class order
DATA_SEED = 42  # CaSSLe's published random split
SHARED = -1  # domain of a validation sample that belongs to every task


@dataclass(frozen=True)
class Split:
    """Which samples belong to which task.

    Attributes:
        strategy: ``class``, ``data`` or ``domain``.
        seed: seed of the order, None for domains, whose order is the benchmark's.
        train: one index tensor (int64) per task into the training set.
        val: likewise into the validation set; empty tensors without one.
        contents: per task what it holds: class ids, or the domain's name, or the share of the data.
    """

    strategy: str
    seed: int | None
    train: tuple[Tensor, ...]
    val: tuple[Tensor, ...]
    contents: tuple[list[int] | str, ...]

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.train)

    @property
    def shares_val(self) -> bool:
        """Whether all tasks have one and the same validation set, as CORe50 by domain."""
        first = self.val[0]
        return self.num_tasks > 1 and len(first) > 0 and all(torch.equal(first, other) for other in self.val[1:])

    @property
    def knows_domains(self) -> bool:
        """Whether every task has a domain of its own in both parts, so that there can be a probe for each."""
        return self.strategy == "domain" and self.num_val_tasks > 1

    @property
    def num_val_tasks(self) -> int:
        """Number of parts of the validation set: one if all tasks share it, else one per task."""
        return 1 if self.shares_val else self.num_tasks

    def per_task(self, accuracies: list[float]) -> list[float]:
        """Return one accuracy per task from those on the parts of the validation set."""
        return accuracies * (self.num_tasks // self.num_val_tasks)

    def val_tasks(self, num_samples: int) -> Tensor:
        """Return the part of every validation sample, (num_samples,), int64: its task, or 0 if all tasks share them.

        It is -1 for samples of no task.
        """
        if self.shares_val:
            return torch.zeros(num_samples, dtype=torch.int64)
        tasks = torch.full((num_samples,), -1)
        for task, index in enumerate(self.val):
            tasks[index] = task
        return tasks

    def manifest(self, classes: Sequence[str]) -> dict:
        """Return the split as plain data: counts, class order, and a hash over the indices of every task."""
        digest = hashlib.sha256()
        for index in (*self.train, *self.val):
            digest.update(json.dumps(index.tolist()).encode())
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "num_tasks": self.num_tasks,
            "classes": list(classes),
            "tasks": [
                {"task": t, "contents": self.contents[t], "train": len(self.train[t]), "val": len(self.val[t])}
                for t in range(self.num_tasks)
            ],
            "sha256": digest.hexdigest(),
        }


def class_order(num_classes: int, num_tasks: int, seed: int = CLASS_SEED) -> list[list[int]]:
    """Return the class ids of each task: a seeded permutation cut into equal chunks (CaSSLe's rule).

    Raises:
        ConfigError: ``num_tasks`` does not divide ``num_classes``.
    """
    if num_tasks < 1 or num_classes % num_tasks:
        fits = [str(n) for n in range(1, num_classes + 1) if num_classes % n == 0]
        raise ConfigError(
            f"--num_tasks {num_tasks}: does not divide the {num_classes} classes; use one of {', '.join(fits)}."
        )
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    return [chunk.tolist() for chunk in order.chunk(num_tasks)]


def data_split(num_samples: int, num_tasks: int, seed: int = DATA_SEED) -> list[Tensor]:
    """Return equal random parts of ``range(num_samples)``; the remainder goes to task 0 (CaSSLe's rule).

    Raises:
        ConfigError: there are fewer samples than tasks.
    """
    if not 1 <= num_tasks <= num_samples:
        raise ConfigError(f"--num_tasks {num_tasks}: cannot cut {num_samples} samples; use 1 to {num_samples}.")
    part = num_samples // num_tasks
    sizes = [part + num_samples % num_tasks] + [part] * (num_tasks - 1)
    order = torch.randperm(num_samples, generator=torch.Generator().manual_seed(seed))
    return list(order.split(sizes))


def _members(labels: Tensor, wanted: list[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(wanted)).nonzero().flatten()


def split_by_class(train: Tensor, val: Tensor, num_classes: int, num_tasks: int, seed: int | None = None) -> Split:
    """Cut by class: ``train`` and ``val`` are class ids (samples,)."""
    seed = CLASS_SEED if seed is None else seed
    order = class_order(num_classes, num_tasks, seed)
    parts = [tuple(_members(labels, ids) for ids in order) for labels in (train, val)]
    return Split("class", seed, *parts, tuple(order))


def split_by_data(num_train: int, num_val: int, num_tasks: int, seed: int | None = None) -> Split:
    """Cut at random; every task holds all classes. The validation set is cut by the same rule."""
    seed = DATA_SEED if seed is None else seed
    train = data_split(num_train, num_tasks, seed)
    val = data_split(num_val, num_tasks, seed) if num_val else [torch.empty(0, dtype=torch.int64)] * num_tasks
    contents = tuple(f"part {t + 1} of {num_tasks}" for t in range(num_tasks))
    return Split("data", seed, tuple(train), tuple(val), contents)


def split_by_domain(train: Tensor, val: Tensor, domains: Sequence[str], num_tasks: int) -> Split:
    """Cut by domain, in the benchmark's order: ``train`` and ``val`` are domain ids (samples,).

    Validation samples whose domain is ``SHARED`` belong to every task.

    Raises:
        ConfigError: the benchmark has no domains, or another number of them.
    """
    if num_tasks != len(domains):
        several = f"the {len(domains)} domains" if len(domains) > 1 else "one domain,"
        have = f"has {several} {', '.join(domains)}" if domains else "has no domains"
        fix = f"use --num_tasks {len(domains)}" if domains else "use --split_strategy class or data"
        raise ConfigError(f"--split_strategy domain with --num_tasks {num_tasks}: this data set {have}; {fix}.")
    own = tuple(_members(train, [d]) for d in range(num_tasks))
    return Split("domain", None, own, tuple(_members(val, [d, SHARED]) for d in range(num_tasks)), tuple(domains))
