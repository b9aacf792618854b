"""Batches from a stream: every image arrives once, is trained on some times, and is never read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from cassle.data.batch import Batch
from cassle.data.recipe import Recipe
from cassle.data.streams import Chunk, Stream, shard
from cassle.data.views import ViewMaker
from cassle.errors import DataError
from cassle.processes import of_all

MOST_NAMES = 1000  # of what was skipped; the rest is counted only


class StreamLoader:
    """The steps of a run over a stream: a batch of the stream arrives, and ``num_updates`` steps are taken on it.

    With ``payload`` the images themselves travel with the batch, and whatever wants one of them later (a memory) keeps
    it: no position is read twice, but for what was read ahead when a run was killed. Without, the stream is an order
    over a data set that lies on the device (``pixels``), and images are looked up by their number in it.

    Decoding runs ahead by ``depth`` batches in a thread. Views are made when their step comes, from draws that are a
    function of the step; so the state is the step, and with ``payload`` the images of the batch at hand.

    Args:
        stream: what arrives.
        recipes: one per view.
        batch_size: images that arrive at a time, per process.
        num_batches: batches of the stream, of all processes together.
        num_updates: K, steps for each batch that arrives.
        warm_up: batches that arrive before the first step, see :meth:`ahead`.
        seed: seed of the run.
        depth: batches that are read ahead.
        device: where batches go.
        pixels: (n, 3, side, side), uint8: of index mode, the data set.
        targets: its class ids, (n,), int64.

    Raises:
        DataError: while batches are read, a stream of unknown length ends before ``num_batches``.
    """

    members = torch.empty(0, dtype=torch.int64)  # a stream has no tasks

    def __init__(
        self,
        stream: Stream,
        recipes: Sequence[Recipe],
        *,
        batch_size: int,
        seed: int,
        num_batches: int,
        num_updates: int = 1,
        warm_up: int = 0,
        depth: int = 2,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        pixels: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> None:
        self.stream, self.batch_size, self.num_updates, self.warm_up = stream, batch_size, num_updates, warm_up
        self.maker, self.depth, self.device = ViewMaker(recipes, seed=seed, task=0), depth, torch.device(device)
        self.num_large, self.pixels = self.maker.num_large, pixels
        self.targets = torch.empty(0, dtype=torch.int64) if targets is None else targets
        self.step = 0  # the step that comes next
        self._early: list[Chunk | Tensor] = []  # of the warm-up
        self._source: tuple[int, Iterator] | None = None  # the number of the batch that comes next, and where from
        self.skipped: list[str] = []  # what did not decode, each name once; the first of them
        self.num_skipped = 0
        self._chunk: Chunk | None = None  # with payload, the batch at hand
        self.rank, self.world_size = rank, world_size
        self.num_batches = num_batches
        self.part(0, self.total_steps)

    def deal(self, rank: int, world_size: int) -> None:
        """Take the part of process ``rank`` of each batch; ``world_size`` is known from the start."""
        if world_size != self.world_size:
            raise ValueError(f"world_size={world_size}: the loader was made for {self.world_size}.")
        self.rank = rank

    @property
    def total_steps(self) -> int:
        """Steps of the whole stream: as many as K passes over it have."""
        return self.num_batches * self.num_updates

    def part(self, start: int, stop: int) -> None:
        """Be the steps from ``start`` to before ``stop``; both multiples of ``num_updates``."""
        self.start, self.stop = start, stop
        self.step = start

    def __len__(self) -> int:
        """Number of steps of this part."""
        return self.stop - self.start

    @property
    def payload(self) -> bool:
        """Whether images travel with their batch."""
        return self.pixels is None

    @property
    def position(self) -> int:
        """Samples of the stream that have arrived, of all processes, when the step at hand is done."""
        arrived = self.warm_up + -(-self.step // self.num_updates)
        return min(arrived, self.num_batches) * self.batch_size * self.world_size

    # The stream -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the steps of this part."""
        first, at_hand = divmod(self.step, self.num_updates)
        if not self.step:  # before the first batch is read, so that the stream is read in order
            self._early = [self._next(number) for number in range(self.warm_up)]
        for number in range(first, self.stop // self.num_updates):
            known = at_hand and self.payload and self._chunk is not None
            chunk = self._chunk if known else self._next(self.warm_up + number)
            self._chunk = chunk if self.payload else None
            for turn in range(at_hand, self.num_updates):
                self.step = number * self.num_updates + turn + 1  # before the yield: a state saved meanwhile is past it
                if turn + 1 == self.num_updates:
                    self._chunk = None
                yield self._batch(chunk, turn)
            at_hand = 0

    def ahead(self) -> Iterator[Batch]:
        """Yield the batches of the warm-up, whose images arrive before the first step; without views."""
        while self._early:
            yield self._batch(self._early.pop(0), 0, views=False)

    def _next(self, number: int) -> Chunk | Tensor | None:
        """Return a batch of the stream; those that were read ahead are not read again."""
        if self._source is None or self._source[0] != number:
            self._source = number, self._ahead(number)
        source = self._source[1]
        self._source = number + 1, source
        return next(source)

    def _ahead(self, number: int) -> Iterator[Chunk | Tensor | None]:
        """Yield the batches of the stream from ``number`` on, read ahead in one thread; None when it is exhausted."""
        thread, waiting = ThreadPoolExecutor(1), deque[Future]()
        try:
            while True:
                while len(waiting) <= self.depth:
                    waiting.append(thread.submit(self._read, number))
                    number += 1
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)  # an interrupted run does not wait for what nobody takes

    def _read(self, number: int) -> Chunk | Tensor | None:
        if number >= self.num_batches:
            return None
        start, count = shard(number * self.batch_size * self.world_size, self.rank, self.world_size, self.batch_size)
        if not self.payload:
            return self.stream.index(start, count)
        chunk = self.stream.read(start, count)
        if self.stream.length is not None and start + count > self.stream.length:
            raise DataError(
                f"--stream_length: the stream ended after {self.stream.length} samples, and {self.num_batches} batches "
                f"of {self.batch_size * self.world_size} were planned; give --stream_length {self.stream.length}."
            )
        return chunk

    # Batches --------------------------------------------------------------------------------------------------------

    def _batch(self, chunk: Chunk | Tensor | None, turn: int, *, views: bool = True) -> Batch:
        passes = {"first_pass": turn == 0, "last_pass": turn + 1 == self.num_updates}
        if chunk is None:
            nothing = torch.empty(0, dtype=torch.int64, device=self.device)
            return Batch(nothing, [], nothing, self.num_large, **passes)
        if isinstance(chunk, Tensor):
            index = chunk.to(self.pixels.device, non_blocking=True)
            pixels, targets, origins, kept = self.pixels[index], self.targets[index], self.targets[index], None
        else:
            index, pixels, targets, origins = (self._there(part) for part in self._whole(chunk, turn))
            kept = pixels
        made = self.maker.views(pixels, "augment", self.step, self.rank) if views else []
        return Batch(index, made, targets, self.num_large, 0, kept, origins, **passes)

    def _there(self, part: Tensor) -> Tensor:
        return part.to(self.device, non_blocking=True)

    def _whole(self, chunk: Chunk, turn: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a batch of full size: in the place of what did not decode, copies of the others with position -1.

        Batches of different sizes could not be gathered from several processes. A memory does not take the copies.
        """
        lost = self.batch_size - len(chunk.positions)
        if lost and turn == 0:
            self.num_skipped += lost
            if len(self.skipped) < MOST_NAMES:
                new = [name for name in chunk.skipped if name not in self.skipped]
                self.skipped += new[: MOST_NAMES - len(self.skipped)]
        if not lost:
            return chunk.positions, chunk.pixels, chunk.targets, chunk.origins
        nothing = torch.full((lost,), -1)
        if not len(chunk.positions):  # not one of them: grey images, so that this process keeps step with the others
            grey = torch.full((lost, 3, self.stream.side, self.stream.side), 128, dtype=torch.uint8)
            return nothing, grey, nothing, nothing
        copies = torch.arange(lost) % len(chunk.positions)
        parts = (nothing, chunk.pixels[copies], nothing, nothing)
        own = (chunk.positions, chunk.pixels, chunk.targets, chunk.origins)
        return tuple(torch.cat(pair) for pair in zip(own, parts, strict=True))

    def views_of(self, index: Tensor, purpose: str, pixels: Tensor | None = None) -> list[Tensor]:
        """Return freshly drawn views of images, given as uint8 or (in index mode) by their numbers."""
        return self.maker.views(self._found(index, pixels), purpose, self.step, self.rank)

    def centre_of(self, index: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Return the evaluation view of images, (batch, 3, size, size)."""
        return self.maker.centre(self._found(index, pixels))

    def _found(self, index: Tensor, pixels: Tensor | None) -> Tensor:
        if pixels is None and self.payload:
            raise ValueError("a stream that passes once cannot be asked for an image by its position.")
        return self.pixels[index] if pixels is None else pixels

    def state_dict(self) -> dict[str, Any]:
        """Return the position and, of each process, what was skipped and with payload the images of the batch at hand.

        Every process must call this.
        """
        chunk = None if self._chunk is None else self._chunk._asdict()
        own = {"skipped": self.skipped, "num_skipped": self.num_skipped, "chunk": chunk}
        return {"step": self.step, "processes": of_all(own)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position."""
        own = state["processes"][self.rank]
        self.step, self.skipped, self.num_skipped = state["step"], own["skipped"], own["num_skipped"]
        self._chunk = None if own["chunk"] is None else Chunk(**own["chunk"])
