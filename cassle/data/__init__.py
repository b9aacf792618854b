"""Benchmarks, splits into tasks, augmentation recipes, and the loaders that make views from them."""

from cassle.registry import Registry

BENCHMARKS = Registry(
    "dataset",
    {
        "digits": "cassle.data.benchmarks:DIGITS",
        "cifar10": "cassle.data.benchmarks:CIFAR10",
        "cifar100": "cassle.data.benchmarks:CIFAR100",
        "custom": "cassle.data.benchmarks:CUSTOM",
    },
)
