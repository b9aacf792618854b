"""Reading the batches of a stream ahead of training, in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from torch import Tensor

from cassle.data.streams import Chunk, shard

if TYPE_CHECKING:
    from cassle.data.stream_loader import StreamLoader

OVER = "over"  #: in the place of a batch: the stream has ended
Read = Chunk | Tensor | str | None


class ReadAhead:
    """This process's parts of the batches of a stream; those that were read ahead are not read again.

    A batch is a chunk (positions in index mode), None behind the last one, and ``OVER`` where the stream has ended.

    Args:
        loader: whose batches they are, and how many are to be ready.
    """

    def __init__(self, loader: StreamLoader) -> None:
        self.loader = loader
        self._source: tuple[int, Iterator[Read]] | None = None  # the number of the batch that comes next

    def batch(self, number: int) -> Read:
        """Return a batch; in a row they are ready."""
        if self._source is None or self._source[0] != number:
            self._source = number, self._from(number)
        source = self._source[1]
        self._source = number + 1, source
        return next(source)

    def _from(self, number: int) -> Iterator[Read]:
        thread, waiting = ThreadPoolExecutor(1), deque[Future]()
        try:
            while True:
                while len(waiting) <= self.loader.depth:
                    waiting.append(thread.submit(self._read, number))
                    number += 1
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)  # an interrupted run does not wait for what nobody takes

    def _read(self, number: int) -> Read:
        loader = self.loader
        if number >= loader.num_batches:
            return None
        whole = loader.batch_size * loader.world_size
        start, count = shard(number * whole, loader.rank, loader.world_size, loader.batch_size)
        if not loader.payload:
            return loader.stream.index(start, count)
        chunk = loader.stream.read(start, count)
        if loader.stream.length is not None and start + count > loader.stream.length:
            return OVER
        return chunk._replace(pixels=chunk.pixels.pin_memory()) if loader.device.type == "cuda" else chunk
