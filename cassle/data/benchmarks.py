"""The data sets: their classes, image size, statistics and folders, and who reads them. One entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cassle.data import layouts
from cassle.data.arrays import read_cifar, read_digits, read_stl10
from cassle.data.core50 import SESSIONS, read_core50, read_core50_categories
from cassle.data.found import explain
from cassle.data.listed import DOMAINS, list_problems, read_custom, read_domainnet
from cassle.data.location import LayoutError, Location, Part
from cassle.data.renderings import RENDERINGS
from cassle.errors import DataError

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
        read: (location, "train" or "val") to a part; None for a missing val part. Raises ``LayoutError``.
        layout: the tree below --data_dir, two blanks a level, folders with a slash at their end.
        eval_resize: to evaluate at ``image_size``, the shorter side is resized to this and the centre is cut out; at
            other sizes in proportion. None: nothing is cut off.
        num_classes: number of classes, if it is known without the data.
        num_train: number of training images, likewise; about the same for every class.
        domains: names of the domains, in the order of the tasks; empty without domains.
        shares_val: whether, by domain, all tasks have the same validation set.
        labelled: whether every training image has a label, as a split by class needs.
        arrays: whether its images lie in arrays, which have a side of their own, and not in image files.
        downloads: whether ``--download`` fetches it.
        needs_data_dir: whether ``--data_dir`` must be given.
    """

    summary: str
    image_size: int
    mean: Rgb
    std: Rgb
    read: Callable[[Location, str], Part | None]
    layout: str = ""
    eval_resize: int | None = None
    num_classes: int | None = None
    num_train: int | None = None
    domains: tuple[str, ...] = ()
    shares_val: bool = False
    labelled: bool = True
    arrays: bool = False
    downloads: bool = False
    needs_data_dir: bool = True

    @property
    def eval_border(self) -> float:
        """Side of an image over the side of its centre that is evaluated; 1 = all of it."""
        return (self.eval_resize or self.image_size) / self.image_size

    def problems_with(self, name: str, location: Location, strategy: str, stored: int | None = None) -> list[str]:
        """Return what does not fit this data set, as far as that is known without its files; one sentence each.

        Args:
            name: of the benchmark.
            location: where it is looked for.
            strategy: how it is cut into tasks.
            stored: side in pixels at which its images are to be kept.
        """
        problems = list_problems(name, location)
        if self.needs_data_dir and location.data_dir is None:
            problems.append(f"--dataset {name}: needs --data_dir, the folder that holds it.")
        if location.no_labels and name != "custom":
            problems.append(f"--no_labels: is for --dataset custom; {name} has labels.")
        if location.no_labels and strategy == "class":
            problems.append("--split_strategy class: needs labels; with --no_labels use --split_strategy data.")
        if location.held_out and not (self.shares_val and strategy == "domain" and location.held_out < 1):
            problems.append(f"--held_out {location.held_out}: is for CORe50 with --split_strategy domain, and below 1.")
        if strategy == "class" and not self.labelled:
            problems.append(
                f"--split_strategy class: most training images of {name} have no label; use --split_strategy data."
            )
        if location.download and not self.downloads:
            problems.append(f"--download: there is no download of {name}; leave the flag out.")
        if stored is not None and self.arrays:
            own = f"images of {name} lie in arrays and are kept at their own side"
            problems.append(f"--storage_size {stored}: {own}; leave the flag out.")
        return problems

    def parts(self, name: str, location: Location) -> tuple[Part, Part | None]:
        """Return the index of the training and validation parts.

        Args:
            name: of the benchmark, for what is said.
            location: where it is looked for.

        Raises:
            DataError: it is not there, or not complete; with the tree expected and the tree found.
        """
        try:
            train, val = (self._checked(name, location, part) for part in ("train", "val"))
            if val is not None and val.classes != train.classes:
                self._refuse_classes(location, train.classes, val.classes)
        except LayoutError as error:
            raise DataError(explain(error, self.layout, location)) from error
        return train, val

    def _checked(self, name: str, location: Location, part: str) -> Part | None:
        found = self.read(location, part)
        if found is not None and self.num_classes and len(found.classes) != self.num_classes:
            raise LayoutError(
                f"--dataset {name}: {len(found.classes)} classes in {location.data_dir}, {self.num_classes} expected.",
                "Complete the data, or give what you have to --dataset custom.",
            )
        return found

    @staticmethod
    def _refuse_classes(location: Location, train: list[str], val: list[str]) -> None:
        flags = (("--train_dir", location.train_dir, train, val), ("--val_dir", location.val_dir, val, train))
        only = {f"{flag} {folder}": sorted({*here} - {*there}) for flag, folder, here, there in flags}
        said = (f"only in {where}: {', '.join(odd[:8])}{'…' * (len(odd) > 8)}" for where, odd in only.items() if odd)
        raise LayoutError(f"Class folders differ between train and val; {'; '.join(said)}.", "Make them equal.")


ONE_FOLDER = """
{}/
  {}
"""
WNIDS = """
train/                        {0:,} class folders
  {1}/
    {1}_10026.JPEG
val/                          the same {0:,} folders
  {1}/
    ILSVRC2012_val_00000293.JPEG
"""
CORE50_LAYOUT = """
core50_128x128/
  s1/                         11 sessions, s1 to s11
    o1/                       50 objects, o1 to o50
      C_01_01_000.png
"""

DIGITS = Benchmark(
    "1,797 real handwritten digits, 8×8 gray, 10 classes (scikit-learn; no download)",
    image_size=8, mean=(0.305,) * 3, std=(0.376,) * 3, read=read_digits, num_classes=10, domains=tuple(RENDERINGS),
    needs_data_dir=False, arrays=True,
)  # fmt: skip
CIFAR10 = Benchmark(
    "CIFAR-10 in torchvision's format, 32×32, 10 classes",
    image_size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261), read=read_cifar("CIFAR10"),
    layout=ONE_FOLDER.format("cifar-10-batches-py", "data_batch_1 … data_batch_5, test_batch, batches.meta"),
    num_classes=10, num_train=50_000, arrays=True, downloads=True,
)  # fmt: skip
CIFAR100 = Benchmark(
    "CIFAR-100 in torchvision's format, 32×32, 100 classes",
    image_size=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762), read=read_cifar("CIFAR100"),
    layout=ONE_FOLDER.format("cifar-100-python", "train, test, meta"),
    num_classes=100, num_train=50_000, arrays=True, downloads=True,
)  # fmt: skip
STL10 = Benchmark(
    "STL-10 in torchvision's format, 96×96, 10 classes: 5,000 labelled and 100,000 unlabelled images",
    image_size=96, mean=(0.4914, 0.4823, 0.4466), std=(0.247, 0.243, 0.261), read=read_stl10,
    layout=ONE_FOLDER.format(
        "stl10_binary", "train_X.bin, train_y.bin, unlabeled_X.bin, test_X.bin, test_y.bin, class_names.txt"
    ),
    num_classes=10, num_train=105_000, labelled=False, arrays=True, downloads=True,
)  # fmt: skip
TINYIMAGENET = Benchmark(
    "Tiny ImageNet as published, 64×64, 200 classes",
    # its own statistics; continual-learning code bases often give it CIFAR-10's
    image_size=64, mean=(0.4802, 0.4481, 0.3975), std=(0.277, 0.2691, 0.2821), read=layouts.read_tinyimagenet,
    layout="""
train/                        200 class folders
  n01443537/
    images/
      n01443537_0.JPEG
val/                          or the same 200 folders, with their images
  val_annotations.txt         lines IMAGE<tab>WNID<tab>…
  images/
    val_0.JPEG
""",
    num_classes=200, num_train=100_000,
)  # fmt: skip
IMAGENET = Benchmark(
    "ImageNet (ILSVRC 2012), train/WNID and val/WNID, 1,000 classes",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_imagenet,
    layout=WNIDS.format(1000, "n01440764"), eval_resize=256, num_classes=1000, num_train=1_281_167,
)  # fmt: skip
IMAGENET100 = Benchmark(
    "the 100 classes of ImageNet in CMC's list, from folders of their own or from a whole ImageNet",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=layouts.read_imagenet100,
    layout=WNIDS.format(100, "n01558993"), eval_resize=256, num_classes=100, num_train=126_689,
)  # fmt: skip
DOMAINNET = Benchmark(
    "DomainNet, 345 classes in six domains, with its lists DOMAIN_train.txt and DOMAIN_test.txt",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=read_domainnet,
    layout="""
clipart/                      and infograph/ painting/ quickdraw/ real/ sketch/
  aircraft_carrier/           345 class folders
    clipart_001_000001.jpg
clipart_train.txt             and one of each other domain: lines DOMAIN/CLASS/IMAGE LABEL
clipart_test.txt              likewise
""",
    eval_resize=256, num_classes=345, domains=DOMAINS,
)  # fmt: skip
CORE50 = Benchmark(
    "CORe50, 128×128, 50 objects (classes) in eight sessions (domains) and three for testing",
    image_size=128, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=read_core50, layout=CORE50_LAYOUT,
    num_classes=50, num_train=119_894, domains=SESSIONS, shares_val=True,
)  # fmt: skip
CORE50_CATEGORIES = Benchmark(
    "CORe50 with its ten categories of five objects as classes",
    image_size=128, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=read_core50_categories, layout=CORE50_LAYOUT,
    num_classes=10, num_train=119_894, domains=SESSIONS, shares_val=True,
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
    "any ImageFolder tree, any list of files (--train_list, --val_list), or any images with --no_labels",
    image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, read=read_custom, eval_resize=256,
    layout="""
train/
  CLASS/                      a folder for each class, any names
    IMAGE.jpg
val/                          the same folders
  CLASS/
    IMAGE.jpg
""",
)  # fmt: skip
