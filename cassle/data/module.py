"""The data of a run: a benchmark, cut into tasks, and (once loaded) its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from cassle.checks import Count, Seed, Share, Whole, out_of_range
from cassle.data import BENCHMARKS
from cassle.data.benchmarks import Benchmark, Location, Part
from cassle.data.engines import Engine, choose, idle_device
from cassle.data.manifest import manifest_of
from cassle.data.pixels import FilePixels
from cassle.data.room import room_for
from cassle.data.scan import in_quarantine, readable
from cassle.data.source import ArraySource, FileSource, Images, Source, refuse_damage
from cassle.data.splits import CLASS_SEED, Split, class_order, split_by_class, split_by_data, split_by_domain
from cassle.data.task_images import TaskImages
from cassle.errors import ConfigError, DataError

EMPTY = torch.empty(0, dtype=torch.int64)


class TaskData:
    """The benchmark and its tasks."""

    def __init__(
        self,
        *,
        dataset: str = "digits",
        data_dir: Path | None = None,
        train_dir: str = "train",
        val_dir: str = "val",
        download: bool = False,
        no_labels: bool = False,
        domain: str | None = None,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        num_tasks: Count = 5,
        split_strategy: Literal["class", "data", "domain"] = "class",
        split_seed: Seed | None = None,
        train_list: Path | None = None,
        val_list: Path | None = None,
        held_out: Share = 0.0,
        storage_size: Count | None = None,
        engine: Literal["auto", "resident", "workers", "dali"] = "auto",
        dali_device: Literal["gpu", "cpu"] | None = None,
        num_workers: Whole = 4,
        verified_dir: Path | None = None,
    ) -> None:
        """Describe the data.

        Args:
            dataset: name of the benchmark: digits, cifar10, cifar100, stl10, tinyimagenet, imagenet, imagenet100,
                domainnet, core50, core50_categories, or custom; as streams video, frames, list. Whole images are
                evaluated; of imagenet, imagenet100, domainnet and custom the centre, 224 of 256 pixels.
            data_dir: folder of the data set.
            train_dir: training folder below data_dir (trees of class folders).
            val_dir: validation folder below data_dir (trees of class folders).
            download: fetch the data set into data_dir if it is not there (cifar10, cifar100, stl10).
            no_labels: the images lie in data_dir without classes (custom).
            domain: use the images of this domain only (domainnet, digits, core50).
            image_mean: mean per channel of images in [0, 1] (--mean is the same flag); default: the benchmark's.
            image_std: standard deviation per channel, likewise (--std is the same flag).
            num_tasks: number of tasks.
            split_strategy: class = new classes, data = random parts, domain = new domains in every task.
            split_seed: seed of the order of classes (default 5) or of the random parts (default 42).
            train_list: list of the training images, PATH or PATH LABEL a line, relative to data_dir; or a .npy array of
                paths (custom).
            val_list: list of the validation images, PATH LABEL a line (custom).
            held_out: of CORe50 by domain, share of every clip, its last frames, that is not trained on and validates
                its session; 0 = the published test sessions validate every task.
            storage_size: side in pixels at which image files are kept in memory; default: 8/7 of --size, or the typical
                shorter side if that is smaller. Data sets of arrays (digits, cifar10, cifar100, stl10) have their own.
            engine: who makes the views: resident = the data set lies in memory, on the GPU if there is one; workers =
                processes that decode image files; dali = NVIDIA DALI (--dali is the same); auto = resident if the data
                fits, else dali if it is installed and there is a GPU, else workers.
            dali_device: where DALI decodes; default: gpu. Other engines have no use for it.
            num_workers: processes of the engine workers, and threads that decode image files elsewhere.
            verified_dir: folder of the lists of python -m cassle verify DIR --out; default: data_dir.

        Raises:
            ConfigError: a value is out of range, or two settings contradict each other.
        """
        self.dataset = BENCHMARKS.canonical(dataset)
        self.benchmark: Benchmark = BENCHMARKS[dataset]
        statistics = {"mean": image_mean, "std": image_std}
        self.benchmark = replace(self.benchmark, **{name: tuple(value) for name, value in statistics.items() if value})
        problems = [*out_of_range(TaskData, locals()).values(), *idle_device(engine, dali_device)]
        self.location = Location(
            data_dir, train_dir, val_dir, download, no_labels, domain is not None or split_strategy == "domain",
            train_list=train_list, val_list=val_list, held_out=held_out,
        )  # fmt: skip
        problems += self.benchmark.problems_with(self.dataset, self.location, split_strategy, storage_size)
        if domain is not None and domain not in self.benchmark.domains:
            known = ", ".join(self.benchmark.domains)
            problems.append(f"--domain {domain}: " + (f"must be one of {known}." if known else f"{dataset} has none."))
        elif num_tasks >= 1:
            problems += self._task_problems(num_tasks, split_strategy, [domain] if domain else self.benchmark.domains)
        if problems:
            raise ConfigError(problems)
        self.domain, self.storage_size, self.num_workers = domain, storage_size, num_workers
        self.num_tasks, self.split_strategy, self.split_seed = num_tasks, split_strategy, split_seed
        self.verified_dir = verified_dir
        self.engine, self.dali_device, self.asked_dali_device = engine, dali_device or "gpu", dali_device
        self._parts: tuple[Part, Part | None] | None = None

    def _task_problems(self, num_tasks: int, strategy: str, domains: Sequence[str]) -> list[str]:
        """Return why the data cannot be cut into so many tasks, as far as that is known without the data."""
        try:
            if strategy == "class" and self.benchmark.num_classes:
                class_order(self.benchmark.num_classes, num_tasks)
            elif strategy == "domain":
                split_by_domain(EMPTY, EMPTY, domains, num_tasks)
        except ConfigError as error:
            return error.problems
        return []

    @property
    def shares_val(self) -> bool:
        """Whether all tasks have the same validation samples."""
        by_domain = self.split_strategy == "domain" and self.num_tasks > 1
        return by_domain and self.benchmark.shares_val and not self.location.held_out

    @property
    def knows_domains(self) -> bool:
        """Whether every task is a domain, which has validation samples of its own."""
        return self.split_strategy == "domain" and self.num_tasks > 1 and not self.shares_val

    @property
    def class_seed(self) -> int:
        """Seed of the order of classes."""
        return CLASS_SEED if self.split_seed is None else self.split_seed

    def look_only(self) -> None:
        """Do not follow ``--download`` from now on."""
        self.location = replace(self.location, fetch=False)

    def parts(self) -> tuple[Part, Part | None]:
        """Return the index of the training and validation parts; pixels of files are not read.

        Raises:
            ConfigError: ``verified_dir`` does not exist.
            DataError: folders or files are missing.
        """
        if self._parts is None:
            if self.verified_dir is not None and not self.verified_dir.is_dir():
                make = f"python -m cassle verify {self.location.data_dir} --out {self.verified_dir}"
                raise ConfigError(f"--verified_dir {self.verified_dir}: no such folder; correct it, or make it: {make}")
            train, val = self.benchmark.parts(self.dataset, self.location)
            if self.split_strategy == "class" and not (train.source.targets >= 0).all():
                unlabelled = int((train.source.targets < 0).sum())
                raise DataError(
                    f"--split_strategy class: {unlabelled:,} of {len(train.source.targets):,} training images of "
                    f"--dataset {self.dataset} have no label; use --split_strategy data."
                )
            if self.domain is not None:
                train, val = train.of_domain(self.domain), val.of_domain(self.domain)
            self._parts = train, val
        return self._parts

    def split(self, train: Images | Source | None = None, val: Images | Source | None = None) -> Split:
        """Return the split of the indexed samples, or of given ones, from which damaged images are gone."""
        first, second = self.parts()
        train = train or first.source
        val = val or (second.source if second else None)
        if self.split_strategy == "class":
            targets = val.targets if val else EMPTY
            return split_by_class(train.targets, targets, len(first.classes), self.num_tasks, self.split_seed)
        if self.split_strategy == "domain":
            return split_by_domain(train.domains, val.domains if val else EMPTY, first.domains, self.num_tasks)
        return split_by_data(len(train.targets), len(val.targets) if val else 0, self.num_tasks, self.split_seed)

    def storage_side(self, size: int) -> int:
        """Return the side at which images are kept for views of side ``size``; arrays have their own."""
        return (self.in_files and self.storage_size) or self.parts()[0].source.side(size)

    def num_bytes(self, size: int) -> int:
        """Return the memory that the pixels take for views of side ``size``."""
        samples = sum(len(part.source.targets) for part in self.parts() if part)
        return samples * 3 * self.storage_side(size) ** 2

    @property
    def in_files(self) -> bool:
        """Whether the images lie in files, which can be read when they are needed."""
        return isinstance(self.parts()[0].source, FileSource)

    def choose_engine(self, size: int, device: torch.device, processes: int = 1, *, stream: bool = False) -> Engine:
        """Return the engine for views of side ``size`` and a training on ``device``, in each process of a machine.

        Raises:
            ConfigError: the engine that was asked for cannot be had.
            DataError: the data must lie in memory and does not fit; or it is missing.
        """
        return choose(self, size, device, room_for(device, processes), stream=stream)

    def load(
        self,
        size: int,
        device: torch.device | None = None,
        *,
        engine: Engine | None = None,
        say: Callable[[str], object] = print,
    ) -> TaskImages:
        """Decode the pixels for views of side ``size``, or prepare to, and cut them into tasks.

        Args:
            size: side of the largest view.
            device: where the training runs; default: the CPU.
            engine: who makes the views; default: what :meth:`choose_engine` says.
            say: takes lines for people.

        Raises:
            ConfigError: the engine that was asked for cannot be had.
            DataError: the data is missing, damaged, or must lie in memory and does not fit.
        """
        device = device or torch.device("cpu")
        engine, (first, second) = engine or self.choose_engine(size, device), self.parts()
        train, val = (part and self._images(part, engine, size, device, say) for part in (first, second))
        split = self.split(train, val)
        manifest = manifest_of(self.dataset, engine.name, split, first.classes, train, val)
        return TaskImages(train, val, split, first.classes, manifest, engine, self.benchmark.eval_border)

    def _images(
        self, part: Part, engine: Engine, size: int, device: torch.device, say: Callable[[str], object]
    ) -> Images:
        """Return a part: decoded, or to be decoded when it is needed; without the files that the engine does not read.

        What is in quarantine is left out by every engine. For the rest the resident one, which decodes every file now,
        goes by that alone: what other runs have found changes nothing for it.
        """
        source, side, workers = part.source, self.storage_side(size), max(self.num_workers, 1)
        folder, dali = self.location.data_dir, engine.name == "dali"
        if isinstance(source, ArraySource):
            return source.load(side, workers)
        look = {"lists": self.verified_dir, "num_workers": workers, "say": say}
        if engine.name == "resident":
            known = in_quarantine(folder, source.paths, **look)
            images = source.without(known).load(side, workers)
            return replace(images, quarantined=list(known.values()))
        checked = readable(folder, source.paths, **look, dali=dali)
        skipped, quarantined = list(checked.damaged.values()), list(checked.quarantined.values())
        refuse_damage(skipped, len(source.paths) - len(quarantined))
        left = source.only(checked.good)
        pixels = FilePixels(left.paths, side, workers, device)
        return Images(pixels, left.targets, left.domains, skipped, list(checked.foreign), quarantined)
