"""Every memory, made small; and what tests compare."""

from collections.abc import Callable

import torch
from torch import Tensor

from cassle.memory.balanced import ClassBalanced
from cassle.memory.base import Memory
from cassle.memory.exemplars import FirstExemplars, Herding, RandomExemplars
from cassle.memory.fifo import FIFO, FIFOLast
from cassle.memory.minred import MinRed
from cassle.memory.reservoir import Reservoir

#: name -> (size, feature_dim, payload_shape) -> memory that takes rows as they come
ONLINE: dict[str, Callable[..., Memory]] = {
    "fifo": FIFO,
    "fifo_last": FIFOLast,
    "reservoir": Reservoir,
    "class_balanced": ClassBalanced,
    "minred": MinRed,
    "minred, features on arrival": lambda *shape: MinRed(*shape, feature_on_arrival=True),
    "minred, two parts": lambda size, *shape: MinRed(max(2, size), *shape, virtual_ranks=2),
}
EXEMPLARS = {"first_k": FirstExemplars, "random": RandomExemplars, "herding": Herding}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def needs_features(memory: Memory) -> bool:
    return bool(getattr(memory, "feature_on_arrival", False))


def kept(memory: Memory) -> list[int]:
    """Return the keys that are kept, oldest first."""
    return memory.keys[memory.slots].tolist()


def feed(memory: Memory, number: int, draws: torch.Generator, *, batch: int = 1000, start: int = 0) -> None:
    """Insert the keys start, start + 1, … in batches."""
    for keys in torch.arange(start, start + number).split(batch):
        memory.insert(keys, generator=draws)


def same(first: Memory, second: Memory) -> bool:
    """Whether all buffers are equal."""
    state, other = first.state_dict(), second.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def unit(values: Tensor) -> Tensor:
    return values / values.norm(dim=1, keepdim=True).clamp(min=1e-12)
