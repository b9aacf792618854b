"""Batches from a stream: every image arrives once, is trained on some times, and is never read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cassle.data.batch import Batch
from cassle.data.pixels import images_at
from cassle.data.read_ahead import OVER, ReadAhead
from cassle.data.recipe import Recipe
from cassle.data.stream_state import dealt_anew
from cassle.data.streams import Chunk, Stream
from cassle.data.views import ViewMaker
from cassle.errors import DataError
from cassle.processes import any_of_us, of_all

MOST_NAMES = 1000  # of what was skipped; the rest is counted only


class Arrived(NamedTuple):
    """A batch of the stream on the device: the attributes of a chunk, and how many of its samples were lost."""

    index: Tensor
    pixels: Tensor
    targets: Tensor
    origins: Tensor
    lost: int


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
        views_later: leave the views out of the batches; :meth:`with_views` makes them.
        device: where batches go.
        pixels: (n, 3, side, side), uint8: of index mode, the data set.
        targets: its class ids, (n,), int64.

    Raises:
        DataError: the stream is over before its first batch.
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
        views_later: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        pixels: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> None:
        self.stream, self.batch_size, self.num_updates, self.warm_up = stream, batch_size, num_updates, warm_up
        self.maker, self.depth, self.device = ViewMaker(recipes, seed=seed, task=0), depth, torch.device(device)
        self.num_large, self.pixels, self.views_later = self.maker.num_large, pixels, views_later
        self.targets = torch.empty(0, dtype=torch.int64) if targets is None else targets
        self.step = 0  # the step that comes next
        self._early: list[Chunk | Tensor] = []  # of the warm-up
        self.skipped: list[str] = []  # what did not decode, each name once; the first of them
        self.num_skipped = 0
        self._chunk: Chunk | None = None  # with payload, the batch at hand
        self._spare: Tensor | None = None  # the images of the last batch that was whole, to fill others with
        self.ended = False  # before it was expected to
        self.rank, self.world_size = rank, world_size
        self.num_batches = num_batches
        self.reader = ReadAhead(self)
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
        """Yield the rest of the steps of this part; fewer if the stream ends before it was expected to."""
        first, at_hand = divmod(self.step, self.num_updates)
        if not self.step:  # before the first batch is read, so that the stream is read in order
            self._early = [self.reader.batch(number) for number in range(self.warm_up)]
        for number in range(first, self.stop // self.num_updates):
            known = at_hand and self.payload and self._chunk is not None
            chunk = self._chunk if known else self.reader.batch(self.warm_up + number)
            if self.stream.may_end and any_of_us(chunk is OVER, self.device):
                self._end(number)
                return
            here = self._here(chunk)
            self._chunk = chunk if self.payload else None
            for turn in range(at_hand, self.num_updates):
                self.step = number * self.num_updates + turn + 1  # before the yield: a state saved meanwhile is past it
                if turn + 1 == self.num_updates:
                    self._close_batch()
                yield self._batch(here, turn)
            at_hand = 0

    def _end(self, number: int) -> None:
        if not number:
            raise DataError(
                f"--batch_size {self.batch_size}: the stream was over before one batch for each of {self.world_size} "
                "process(es) had arrived."
            )
        self.ended, self.num_batches = True, self.warm_up + number

    def _close_batch(self) -> None:
        if self._chunk is not None and len(self._chunk.positions) == self.batch_size:
            self._spare = self._chunk.pixels
        self._chunk = None

    def ahead(self) -> Iterator[Batch]:
        """Yield the batches of the warm-up, whose images arrive before the first step; without views."""
        while self._early:
            early = self._early.pop(0)
            if early is not OVER:
                yield self._batch(self._here(early), 0, early=True)

    # Batches --------------------------------------------------------------------------------------------------------

    def _here(self, chunk: Chunk | Tensor | None) -> Arrived | None:
        """Return a batch of the stream on the device, where it stays for its steps."""
        if chunk is None:
            return None
        if isinstance(chunk, Tensor):
            index = chunk.to(self.pixels.device, non_blocking=True)
            return Arrived(index, images_at(self.pixels, index), self.targets[index], self.targets[index], 0)
        lost = self.batch_size - len(chunk.positions)
        if lost:
            self.num_skipped += lost
            if len(self.skipped) < MOST_NAMES:
                new = [name for name in chunk.skipped if name not in self.skipped]
                self.skipped += new[: MOST_NAMES - len(self.skipped)]
        parts = self._whole(chunk, lost) if lost else chunk[:4]
        index, pixels, targets, origins = (part.to(self.device, non_blocking=True) for part in parts)
        return Arrived(index, pixels, targets, origins, lost)

    def _batch(self, here: Arrived | None, turn: int, *, early: bool = False) -> Batch:
        passes = {"first_pass": turn == 0, "last_pass": turn + 1 == self.num_updates}
        if here is None:
            nothing = torch.empty(0, dtype=torch.int64, device=self.device)
            return Batch(nothing, [], nothing, self.num_large, **passes)
        made = [] if early or self.views_later else self.maker.views(here.pixels, "augment", self.step, self.rank)
        kept = here.pixels if self.payload else None
        return Batch(
            here.index, made, here.targets, self.num_large, 0, kept, here.origins, num_lost=here.lost, **passes
        )

    def with_views(self, batch: Batch) -> Batch:
        """Return a batch of a loader that makes ``views_later``, with its views."""
        pixels = self._found(batch.index, batch.pixels)
        return batch._replace(views=self.maker.views(pixels, "augment", self.step, self.rank))

    def _whole(self, chunk: Chunk, lost: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a batch of full size: in the place of what did not decode, earlier images with position -1.

        Batches of different sizes could not be gathered from several processes. The earlier images are those of the
        last batch that was whole; copies of the batch's own before there was one. A memory does not take them.
        """
        nothing = torch.full((lost,), -1)
        others = self._spare if self._spare is not None else chunk.pixels
        if len(others):
            fill = others[torch.arange(lost) % len(others)]
        else:  # not one image yet: grey, so that this process keeps step with the others
            fill = torch.full((lost, 3, self.stream.side, self.stream.side), 128, dtype=torch.uint8)
        own = (chunk.positions, chunk.pixels, chunk.targets, chunk.origins)
        return tuple(torch.cat(pair) for pair in zip(own, (nothing, fill, nothing, nothing), strict=True))

    def views_of(self, index: Tensor, purpose: str, pixels: Tensor | None = None) -> list[Tensor]:
        """Return freshly drawn views of images, given as uint8 or (in index mode) by their numbers."""
        return self.maker.views(self._found(index, pixels), purpose, self.step, self.rank)

    def centre_of(self, index: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Return the evaluation view of images, (batch, 3, size, size)."""
        return self.maker.centre(self._found(index, pixels))

    def _found(self, index: Tensor, pixels: Tensor | None) -> Tensor:
        if pixels is None and self.payload:
            raise ValueError("a stream that passes once cannot be asked for an image by its position.")
        return images_at(self.pixels, index) if pixels is None else pixels

    def state_dict(self) -> dict[str, Any]:
        """Return the position and, of each process, what was skipped and with payload the images of the batch at hand.

        Every process must call this.
        """
        chunk = None if self._chunk is None else self._chunk._asdict()
        own = {"skipped": self.skipped, "num_skipped": self.num_skipped, "chunk": chunk, "spare": self._spare}
        return {"step": self.step, "processes": of_all(own)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position; what another number of processes held is dealt anew."""
        self.step, held = state["step"], state["processes"]
        own = held[self.rank] if len(held) == self.world_size else dealt_anew(held, self)
        self.skipped, self.num_skipped = own["skipped"], own["num_skipped"]
        self._chunk, self._spare = None if own["chunk"] is None else Chunk(**own["chunk"]), own["spare"]
        if self._chunk is not None:  # its losses are counted when it is taken up
            self.num_skipped -= self.batch_size - len(self._chunk.positions)
