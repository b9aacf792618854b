"""How the samples of a run arrive: as tasks with epochs, or as a stream that passes once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cassle.checks import Count, Positive, Whole, out_of_range
from cassle.data import BENCHMARKS, STREAMED
from cassle.data.iterators import IteratorStream, Source
from cassle.data.module import TaskData, TaskImages
from cassle.data.orders import Order, class_order, class_sequential, iid_order, in_order
from cassle.data.stream_files import FileListStream, FolderStream
from cassle.data.streams import ArrayStream, Stream
from cassle.data.videos import VideoStream
from cassle.errors import ConfigError
from cassle.randomness import generator


class StreamData:
    """A stream: its order, how often each of its batches is trained on, and when it is evaluated."""

    def __init__(
        self,
        *,
        stream: Literal["none", "class", "iid", "runs", "order"] = "none",
        num_updates: Count = 1,
        stream_epochs: Count = 1,
        stream_length: Count | None = None,
        n_cls_samples: Count = 64,
        stream_file: Path | None = None,
        subsample: Count = 1,
        fps: Positive = 8.0,
        n_seq_samples: Whole = 64,
        seq_sampling: Literal["consecutive", "random"] = "consecutive",
        payload: bool = False,
        memory_warm_up: Whole = 0,
        eval_at: list[float] | None = None,
        eval_dataset: str | None = None,
        eval_data_dir: Path | None = None,
        prefetch: Whole = 4,
    ) -> None:
        """Describe the stream.

        Args:
            stream: none = tasks with epochs; class = the classes of one task after those of another; iid = shuffled;
                runs = n_cls_samples images of a random class, then of another; order = as the samples lie
                (files, frames, videos one after the other).
            num_updates: K, optimizer steps for every batch that arrives (--mb_passes is the same flag).
            stream_epochs: how often the stream comes; 1 = a single pass.
            stream_length: samples after which the run ends; default: the whole stream.
            n_cls_samples: images of a class in a row, with --stream runs.
            stream_file: list of images for --dataset list: a text file, PATH or PATH LABEL a line, below --data_dir; or
                a .npy array of names.
            subsample: every k-th line of the list; with --stream class, as many images of each task, drawn at random.
            fps: frames a second of a video.
            n_seq_samples: frames of a video; 0 = all.
            seq_sampling: consecutive or random frames of a video.
            payload: keep the images themselves in the memory, so that nothing is read twice; always so for files,
                frames and videos.
            memory_warm_up: samples that fill the memory before the first step (with --strategy minred).
            eval_at: percents of the training after which the encoder is evaluated and kept; default: 25 50 75 100 and
                the ends of the tasks.
            eval_dataset: labelled data set on which the encoder of videos, frames or a list is evaluated.
            eval_data_dir: folder of it.
            prefetch: batches that are read ahead.

        Raises:
            ConfigError: a value is out of range.
        """
        problems = [*out_of_range(StreamData, locals()).values()]
        points = [25, 50, 75, 100] if eval_at is None else eval_at
        if not points or not all(0 < point <= 100 for point in points):
            problems.append(f"--eval_at {' '.join(f'{p:g}' for p in points)}: must be percents above 0, up to 100.")
        if problems:
            raise ConfigError(problems)
        self.stream, self.num_updates, self.epochs, self.length = stream, num_updates, stream_epochs, stream_length
        self.n_cls_samples, self.file, self.subsample = n_cls_samples, stream_file, subsample
        self.fps, self.n_seq_samples, self.seq_sampling = fps, n_seq_samples, seq_sampling
        self.payload, self.warm_up, self.prefetch = payload, memory_warm_up, prefetch
        self.eval_at, self.at_bounds = sorted({*points, 100}), eval_at is None
        self.eval_dataset, self.eval_data_dir = eval_dataset, eval_data_dir

    def problems_with(self, dataset: str) -> list[str]:
        """Return what does not fit the data set, one sentence each."""
        problems = []
        if dataset in STREAMED and self.stream in ("class", "runs"):
            problems.append(f"--stream {self.stream}: needs a data set with classes; {dataset} comes in order or iid.")
        if dataset not in STREAMED and self.stream == "order":
            problems.append("--stream order: is for --dataset video, frames and list; take class, iid or runs.")
        if dataset == "iterator":
            once = {"stream": "order" if self.stream == "none" else self.stream, "stream_epochs": self.epochs}
            wrong = [f"--{flag} {value}" for flag, value in once.items() if value not in ("order", 1)]
            problems += [f"{flag}: an iterator comes once, in its own order." for flag in wrong]
        if dataset == "list" and self.file is None:
            problems.append("--stream_file: missing; --dataset list needs it.")
        if dataset not in STREAMED and self.eval_dataset is not None:
            problems.append(f"--eval_dataset {self.eval_dataset}: {dataset} is evaluated with its own labels.")
        if self.eval_dataset in STREAMED:
            problems.append(f"--eval_dataset {self.eval_dataset}: has no labels; give one of tasks, e.g. cifar10.")
        if self.eval_data_dir is not None and self.eval_dataset is None:
            problems.append(f"--eval_data_dir {self.eval_data_dir}: give --eval_dataset too, e.g. cifar10 or custom.")
        return problems

    def evaluation_data(self, data: TaskData) -> TaskData | None:
        """Return the labelled data set on which a stream without labels is evaluated, cut into as many splits.

        Raises:
            ConfigError: it is no data set, has no labels, or needs a folder.
        """
        if self.eval_dataset is None:
            return None
        try:
            return TaskData(
                dataset=self.eval_dataset, data_dir=self.eval_data_dir, num_tasks=data.num_tasks,
                split_seed=data.split_seed, num_workers=data.num_workers,
                storage_size=None if BENCHMARKS[self.eval_dataset].arrays else data.storage_size,
            )  # fmt: skip
        except ConfigError as error:
            said = (line.replace("--data_dir", "--eval_data_dir") for line in error.problems)
            raise ConfigError([line.replace("--dataset", "--eval_dataset") for line in said]) from None

    def open(
        self, data: TaskData, images: TaskImages | None, *, size: int, seed: int, source: Source | None = None
    ) -> Stream:
        """Return the stream.

        Args:
            data: the data set.
            images: its pixels; None for data sets that exist as streams only.
            size: side of the views in pixels.
            seed: of what is random in the order.
            source: of --dataset iterator, what Python code has handed in.

        Raises:
            DataError: files are missing or damaged.
            ConfigError: a setting does not fit the data.
        """
        if images is not None:
            targets = images.train.targets
            order = self.order(targets, images.split.train, seed)
            return ArrayStream(images.train.pixels.to("cpu"), targets, order, images.classes)
        side, workers = data.storage_size or size, data.num_workers
        order: Callable[[int], Order] = partial(in_order, epochs=self.epochs)
        if self.stream == "iid":
            order = partial(iid_order, seed=seed, epochs=self.epochs)
        folder = data.location.data_dir
        if data.dataset == "iterator":
            return IteratorStream(source, side=side, length=self.length)
        if data.dataset == "list":
            return FileListStream(self.file, folder, order, side=side, subsample=self.subsample, num_workers=workers)
        if data.dataset == "frames":
            return FolderStream(folder, order, side=side, num_workers=workers)
        return VideoStream(
            folder, side=side, fps=self.fps, n_seq_samples=self.n_seq_samples, seq_sampling=self.seq_sampling,
            order="decorrelated" if self.stream == "iid" else "sequential", epochs=self.epochs, seed=seed,
            num_workers=workers,
        )  # fmt: skip

    def order(self, targets: Tensor, splits: Sequence[Tensor], seed: int) -> Order:
        """Return the order of a labelled data set: class ids (n,), and the positions of each task."""
        if self.stream == "runs":
            return class_sequential(targets, run=self.n_cls_samples, seed=seed, epochs=self.epochs)
        if self.stream == "iid":
            return iid_order(len(targets), seed=seed, epochs=self.epochs)
        splits = [self._some_of(torch.as_tensor(part), seed, number) for number, part in enumerate(splits)]
        return class_order(splits * self.epochs, seed=seed)

    def _some_of(self, split: Tensor, seed: int, number: int) -> Tensor:
        """Return every subsample-th image of a split, in a random order of it."""
        draws = generator(seed, "subsample of split", number)
        return split[torch.randperm(len(split), generator=draws)[:: self.subsample]] if self.subsample > 1 else split
