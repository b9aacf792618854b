"""The data sets: their classes, image size and statistics, and who reads them. One entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cassle.data import layouts
from cassle.data.arrays import read_cifar, read_digits, read_stl10
from cassle.data.layouts import DOMAINS, Location, Part
from cassle.data.renderings import RENDERINGS

Rgb = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Benchmark:
    """A data set.

    Attributes:
        summary: one line for people.
        image_size: side of the views in pixels unless ``--size`` says otherwise.
        mean: mean of the [0, 1] images per channel.
        std: standard deviation per channel.
        read: (location, "train" or "val") to a part; None for a missing val part.
        num_classes: number of classes, if it is known without the data.
        num_train: number of training images, likewise; about the same for every class.
        domains: names of the domains, in the order of the tasks; empty without domains.
        labelled: whether every training image has a label, as a split by class needs.
        downloads: whether ``--download`` fetches it.
        needs_data_dir: whether ``--data_dir`` must be given.
    """

    summary: str
    image_size: int
    mean: Rgb
    std: Rgb
    read: Callable[[Location, str], Part | None]
    num_classes: int | None = None
    num_train: int | None = None
    domains: tuple[str, ...] = ()
    labelled: bool = True
    downloads: bool = False
    needs_data_dir: bool = True


DIGITS = Benchmark(
    "1,797 real handwritten digits, 8×8 gray, 10 classes (scikit-learn; no download)",
    image_size=8, mean=(0.305,) * 3, std=(0.376,) * 3, read=read_digits, num_classes=10, domains=tuple(RENDERINGS),
    needs_data_dir=False,
)  # fmt: skip
CIFAR10 = Benchmark(
    "CIFAR-10 in torchvision's format, 32×32, 10 classes",
    image_size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261), read=read_cifar("CIFAR10"),
    num_classes=10, num_train=50_000, downloads=True,
)  # fmt: skip
CIFAR100 = Benchmark(
    "CIFAR-100 in torchvision's format, 32×32, 100 classes",
    image_size=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), read=read_cifar("CIFAR100"),
    num_classes=100, num_train=50_000, downloads=True,
)  # fmt: skip
STL10 = Benchmark(
    "STL-10 in torchvision's format, 96×96, 10 classes: 5,000 labelled and 100,000 unlabelled images",
    image_size=96, mean=(0.4914, 0.4823, 0.4466), std=(0.247, 0.243, 0.261), read=read_stl10,
    num_classes=10, num_train=105_000, labelled=False, downloads=True,
)  # fmt: skip
TINYIMAGENET = Benchmark(
    "Tiny ImageNet as published, 64×64, 200 classes",
    # its own statistics; continual-learning code bases often give it CIFAR-10's
    image_size=64, mean=(0.4802, 0.4481, 0.3975), std=(0.277, 0.2691, 0.2821), read=layouts.read_tinyimagenet,
    num_classes=200, num_train=100_000,
)  # fmt: skip
IMAGENET = Benchmark(
    "ImageNet (ILSVRC 2012), train/WNID and val/WNID, 1,000 classes",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_imagenet,
    num_classes=1000, num_train=1_281_167,
)  # fmt: skip
IMAGENET100 = Benchmark(
    "the 100 classes of ImageNet in CMC's list, from folders of their own or from a whole ImageNet",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_imagenet100,
    num_classes=100, num_train=126_689,
)  # fmt: skip
DOMAINNET = Benchmark(
    "DomainNet, 345 classes in six domains, with its lists DOMAIN_train.txt and DOMAIN_test.txt",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_domainnet,
    num_classes=345, domains=DOMAINS,
)  # fmt: skip
VIDEO = Benchmark(
    "a folder of videos, as a stream of frames (pip install cassle[video])",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_stream,
)  # fmt: skip
FRAMES = Benchmark(
    "a folder of frames, as a stream in the order of their names",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_stream,
)  # fmt: skip
LIST = Benchmark(
    "images named in a list (--stream_file), as a stream in the order of the list",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_stream,
)  # fmt: skip
ITERATOR = Benchmark(
    "images that Python code hands in, as a stream: cassle.Experiment(images=...)",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_stream, needs_data_dir=False,
)  # fmt: skip
CUSTOM = Benchmark(
    "any ImageFolder tree train/CLASS/IMAGE and val/CLASS/IMAGE, or a flat folder with --no_labels",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_folder,
)  # fmt: skip
