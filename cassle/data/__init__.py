"""Benchmarks, splits into tasks, augmentation recipes, and the loaders that make views from them."""

from cassle.registry import Registry

BENCHMARKS = Registry(
    "dataset",
    {
        "digits": "cassle.data.benchmarks:DIGITS",
        "cifar10": "cassle.data.benchmarks:CIFAR10",
        "cifar100": "cassle.data.benchmarks:CIFAR100",
        "stl10": "cassle.data.benchmarks:STL10",
        "tinyimagenet": "cassle.data.benchmarks:TINYIMAGENET",
        "imagenet": "cassle.data.benchmarks:IMAGENET",
        "imagenet100": "cassle.data.benchmarks:IMAGENET100",
        "domainnet": "cassle.data.benchmarks:DOMAINNET",
        "core50": "cassle.data.benchmarks:CORE50",
        "core50_categories": "cassle.data.benchmarks:CORE50_CATEGORIES",
        "video": "cassle.data.benchmarks:VIDEO",
        "frames": "cassle.data.benchmarks:FRAMES",
        "list": "cassle.data.benchmarks:LIST",
        "iterator": "cassle.data.benchmarks:ITERATOR",
        "custom": "cassle.data.benchmarks:CUSTOM",
    },
)
#: data sets that exist as streams only
STREAMED = ("video", "frames", "list", "iterator")
