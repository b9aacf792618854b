"""What several processes hold of a stream, dealt anew to another number of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cassle.data.streams import Chunk, shard

if TYPE_CHECKING:
    from cassle.data.stream_loader import StreamLoader


def dealt_anew(processes: Sequence[dict[str, Any]], loader: StreamLoader) -> dict[str, Any]:
    """Return what the process of a loader would hold of what ``processes`` held; together they hold the same.

    Args:
        processes: by rank, the state of each of them.
        loader: at their step; as many images as then make a batch of all processes.
    """
    rank, world = loader.rank, loader.world_size
    number = loader.warm_up + loader.step // loader.num_updates  # of the batch at hand
    start, count = shard(number * loader.batch_size * world, rank, world, loader.batch_size)
    first = rank == 0  # what is only counted over all processes is carried on by the first
    names = list(dict.fromkeys(name for own in processes for name in own["skipped"])) if first else []
    lost = sum(own["num_skipped"] for own in processes) if first else 0
    chunks = [Chunk(**own["chunk"]) for own in processes if own["chunk"] is not None]
    chunk = _part(chunks, start, start + count)._asdict() if chunks else None
    spares = [own["spare"] for own in processes if own["spare"] is not None]
    return {"skipped": names, "num_skipped": lost, "chunk": chunk, "spare": _share(spares, rank, world)}


def _part(chunks: Sequence[Chunk], start: int, stop: int) -> Chunk:
    """Return what of consecutive chunks lies at stream positions [start, stop)."""
    columns = [torch.cat(column) for column in list(zip(*chunks, strict=True))[:4]]
    inside = (columns[0] >= start) & (columns[0] < stop)
    return Chunk(*(column[inside] for column in columns), [])  # what was skipped has been noted already


def _share(spares: Sequence[Tensor], rank: int, world: int) -> Tensor | None:
    """Return a share of images that stand in for others; it may be larger than it must, but has one if there is one."""
    if not spares:
        return None
    images = torch.cat(list(spares))
    own = images.tensor_split(world)[rank]
    return own if len(own) else images
