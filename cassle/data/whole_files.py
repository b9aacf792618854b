"""What loaders of image files share: images that are asked for by position are cut from whole files, as a batch is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from torch import Tensor

from cassle.data.augment import finish
from cassle.data.decoding import Crops, Decoder
from cassle.data.paths import texts_of
from cassle.data.pixels import FilePixels, refuse
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader

A_THREAD = 4  # images that a thread of this process decodes before it cuts them


class FileLoader(ResidentLoader):
    """Base of the loaders that read image files: what replays is cut from all of a file, as fresh views are.

    Views lie where ``targets`` lies. The stored square is for evaluation views alone: crops of it would come from
    another distribution than those of the batch beside them.

    Args:
        paths: all training files.
        pixels: the training set, (n, 3, side, side), uint8, read by positions.
        targets: its class ids, (n,), int64.
        members: positions of the task's samples, (m,), int64.
        recipes: one recipe per view.
        threads: threads of this process that decode what replays.
        settings: of :class:`ResidentLoader`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        pixels: FilePixels,
        targets: Tensor,
        members: Tensor,
        recipes: Sequence[Recipe],
        *,
        threads: int,
        **settings: int,
    ) -> None:
        super().__init__(pixels, targets, members, recipes, **settings)
        self.paths, self.threads = texts_of(paths), max(threads, 1)
        self.decoder = Decoder(recipes, seed=self.seed, task=self.task)

    def views_of(self, index: Tensor, purpose: str, pixels: Tensor | None = None) -> list[Tensor]:
        """Return freshly drawn views of any training images, for the batch that is being trained on.

        They are drawn by (seed, purpose, task, step, row, process, view); the rest is :class:`ResidentLoader`'s.

        Raises:
            DataError: a file does not decode; it is named.
        """
        if pixels is not None:
            return super().views_of(index, purpose, pixels)
        step, paths = self.step - 1, [self.paths[position] for position in index.tolist()]

        def of(start: int) -> Crops:
            rows = range(start, min(start + A_THREAD, len(paths)))
            return self.decoder.views([paths[row] for row in rows], purpose, [(step, row, self.rank) for row in rows])

        crops = Crops.joined(list(self._threads.map(of, range(0, len(paths), A_THREAD))))
        refuse(paths, crops.reasons)
        return self._views(crops)

    def _views(self, crops: Crops) -> list[Tensor]:
        """Return what is left of the recipes, done to a batch where it is trained on."""
        return [
            finish(self._moved(pixels), rest, recipe)
            for pixels, rest, recipe in zip(crops.pixels, crops.rest, self.maker.recipes, strict=True)
        ]

    def _moved(self, crops: Tensor) -> Tensor:
        target = self.targets.device
        if crops.device.type == "cpu" and target.type == "cuda":
            crops = crops.pin_memory()  # else the copy waits for the device
        return crops.to(target, non_blocking=True)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)
