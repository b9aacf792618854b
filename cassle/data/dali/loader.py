"""The DALI engine's loader: batches of one task, decoded, cut and resized by DALI, finished by the batched kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cassle.data.augment import finish
from cassle.data.batch import Batch
from cassle.data.dali.damage import refuse_damaged
from cassle.data.dali.feed import Feed, Planned, Sizes
from cassle.data.dali.pipeline import Device, build, require
from cassle.data.pixels import FilePixels
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.whole_files import FileLoader
from cassle.errors import ConfigError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline


class DaliLoader(FileLoader):
    """Batches of one task from image files, as :class:`ResidentLoader` makes them from memory.

    Which images a batch has, and what is drawn for them, is the same as there. DALI works batches ahead, in its own
    threads; all that it is told is a function of the step, so the state is the position alone and what had been made
    ahead when a run was killed is made again.

    A step's views lie where ``targets`` lies. With ``device="cpu"`` only 8-bit crops travel to a GPU.

    Args:
        paths: all training files.
        targets: their class ids, (n,), int64, on the device of the training.
        members: positions of the task's samples, (m,), int64.
        recipes: one recipe per view.
        pixels: the training set, (n, 3, side, side), uint8, read by positions: the evaluation views are cut from
            it; replayed views, which threads of this process make with Pillow, from whole files.
        num_threads: threads that decode, cut and resize.
        device: where DALI decodes, cuts and resizes: "cpu" or "gpu".
        settings: batch_size, seed, task, rank, world_size of :class:`ResidentLoader`.

    Raises:
        ConfigError: DALI or the GPU is not there, or the task has fewer images than one global batch.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        targets: Tensor,
        members: Tensor,
        recipes: Sequence[Recipe],
        *,
        pixels: FilePixels,
        num_threads: int = 4,
        device: Device = "cpu",
        **settings: int,
    ) -> None:
        require()
        if device not in ("cpu", "gpu"):
            raise ConfigError(f"--dali_device {device}: give cpu or gpu.")
        if device == "gpu" and targets.device.type != "cuda":
            raise ConfigError("--dali_device gpu: the training runs on the CPU; use --dali_device cpu.")
        super().__init__(paths, pixels, targets, members, recipes, threads=num_threads, **settings)
        self.device, self.sizes = device, Sizes(paths, self.threads)
        self._feed: Feed | None = None
        self._pipeline: Pipeline | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, or the next epoch when the current one is through."""
        end = (self.step // len(self) + 1) * len(self)
        while self.step < end:
            plan, crops = self._next()
            self.step += 1  # before the yield: a state saved while the batch is being trained on continues after it
            views = [finish(*view) for view in zip(crops, plan.views, self.maker.recipes, strict=True)]
            index = plan.index.to(self.targets.device, non_blocking=True)
            yield Batch(index, views, self.targets[index], self.num_large)

    def deal(self, rank: int, world_size: int) -> None:
        """Take the part of process ``rank`` of each batch of ``world_size`` processes."""
        super().deal(rank, world_size)
        self._pipeline = None  # what it has made ahead is another process's

    def close(self) -> None:
        """Let go of the pipeline; the task is over."""
        self._pipeline = None

    def _next(self) -> tuple[Planned, list[Tensor]]:
        """Return the batch of the current step and its crops, and let the pipeline go on.

        Raises:
            DataError: a file of the batch does not decode; it is named.
        """
        if self._pipeline is None or self._feed.planned[0].step != self.step:
            self._start()
        pipeline, self._pipeline = self._pipeline, None  # after a failure it is of no use
        stream = torch.cuda.current_stream(self.targets.device) if self.device == "gpu" else None
        try:
            outputs = pipeline.share_outputs(cuda_stream=stream)
        except RuntimeError:
            refuse_damaged([self.sizes.paths[i] for i in self._feed.planned[0].index.tolist()])
            raise
        # No copy: the memory is the tensors' own from here on, and is given back in the order of the stream.
        crops = [torch.from_dlpack(output.as_tensor()) for output in outputs]
        plan = self._feed.planned.popleft()
        pipeline.release_outputs()
        pipeline.schedule_run()  # works on a later batch while this one gets its colours and is trained on
        self._pipeline = pipeline
        return plan, [self._moved(crop) for crop in crops]

    def _start(self) -> None:
        """Begin a pipeline at the current step; one that has worked ahead from elsewhere is of no use."""
        order = ResidentLoader(
            self.pixels, self.targets, self.members, self.maker.recipes, batch_size=self.batch_size, seed=self.seed,
            task=self.task, rank=self.rank, world_size=self.world_size,
        )  # fmt: skip
        order.load_state_dict(self.state_dict())
        self._feed = Feed(order, self.sizes)
        pipeline = build(
            self.maker.recipes, self._feed, batch_size=self.batch_size, num_threads=self.threads,
            device=self.device, device_id=self.targets.device.index if self.device == "gpu" else None,
        )  # fmt: skip
        pipeline.schedule_run()
        self._pipeline = pipeline
