"""The images that a memory keeps, dealt over the processes: each holds those of its own slots, and hands them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cassle.errors import CheckpointError
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.memory.entries import Entries

AT_ONCE = 2**26  # bytes of each process that are gathered in one go


class DealtPayload(nn.Module):
    """Base of the memories: the images themselves, of which process r of W keeps those of the slots r, r + W, r + 2W, …

    What decides about slots is the same everywhere, so every process knows where an image lies without asking. In one
    process, and before :meth:`deal`, all of them lie here. In a file they are always whole, whatever W was.

    Args:
        size: slots.
        payload_shape: shape of an image (uint8), None for none.
    """

    keys: Tensor
    targets: Tensor
    origins: Tensor
    features: Tensor | None

    def __init__(self, size: int, payload_shape: Sequence[int] | None) -> None:
        super().__init__()
        self.size, self.rank, self.world = size, 0, 1
        self.payload_shape = None if payload_shape is None else tuple(payload_shape)
        shape = None if payload_shape is None else (size, *self.payload_shape)
        self.register_buffer("payload", None if shape is None else torch.zeros(shape, dtype=torch.uint8))

    def deal(self, rank: int, world: int) -> None:
        """Be the memory of process ``rank`` of ``world``; call it before anything arrives.

        Raises:
            ValueError: a rank outside the world.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank={rank}, world={world}: cannot be.")
        self.rank, self.world = rank, world
        if self.payload is not None:
            self.payload = self.payload.new_zeros((math.ceil(self.size / world), *self.payload_shape))

    def _drawn(self, number: int, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
        """Return slots that are drawn by the rule of the memory, on its device and on the host."""
        raise NotImplementedError(f"{type(self).__name__} has no rule of what is drawn.")

    def _here(self, values: Tensor) -> Tensor:
        # A copy to the host has to be waited for, one to the device has not.
        device = next(self.buffers()).device
        return values.detach().to(device, non_blocking=device.type != "cpu")

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return self._here(torch.from_numpy(np.ascontiguousarray(numbers)))

    def _keep(self, images: Tensor, chosen: np.ndarray, slots: np.ndarray) -> None:
        """Keep the ``chosen`` of the images in these slots, as far as they are this process's."""
        own = np.flatnonzero(slots % self.world == self.rank)
        if len(own) < len(images):
            which = torch.from_numpy(np.ascontiguousarray(chosen[own]))
            images = images.index_select(0, which.to(images.device, non_blocking=True))
        where = self._on_device(slots[own] // self.world)
        self.payload.index_copy_(0, where, self._here(images).to(self.payload.dtype))

    @torch.no_grad()
    def recall(self, number: int, generator: torch.Generator) -> tuple[Tensor, Entries]:
        """Draw as :meth:`sample` for all processes, ``number`` slots for each; every process must call this alike.

        Returns:
            The slots of all processes, and copies of what lies in this process's part of them.

        Raises:
            ValueError: the memory is empty, or the number negative.
        """
        slots, drawn = self._drawn(number * number_of_processes(), generator)
        own = slice(process_rank() * number, (process_rank() + 1) * number)
        if self.payload is None or self.world == 1:
            return slots, self.entries(slots[own])
        return slots, self._looked_up(slots[own], self._fetched(drawn))

    def entries(self, slots: Tensor) -> Entries:
        """Return copies of what lies in these slots, (rows,) int64.

        Raises:
            ValueError: the images are dealt over several processes; :meth:`recall` draws them.
        """
        if self.payload is not None and self.world > 1:
            raise ValueError(f"the images lie in {self.world} processes: draw them with recall(...).")
        return self._looked_up(slots, None if self.payload is None else self.payload.index_select(0, slots))

    def _looked_up(self, slots: Tensor, images: Tensor | None) -> Entries:
        features = None if self.features is None else self.features[slots]
        return Entries(self.keys[slots], self.targets[slots], features, images, self.origins[slots])

    def _fetched(self, slots: np.ndarray) -> Tensor:
        """Return the images in this process's part of these slots: of as many for each process, one after the other.

        Every process must call this with the same slots.
        """
        wanted = slots.reshape(self.world, -1)
        owner = wanted % self.world
        sent = self.payload.index_select(0, self._on_device(wanted[owner == self.rank] // self.world))
        mine = owner[self.rank]
        found = sent.new_empty((len(mine), *self.payload_shape))
        counts = np.bincount(mine, minlength=self.world), (owner == self.rank).sum(axis=1)
        dist.all_to_all_single(found, sent, *(numbers.tolist() for numbers in counts))
        # They come by owner; each belongs where it was drawn.
        return found.index_select(0, self._on_device(np.argsort(np.argsort(mine, kind="stable"))))

    def whole(self) -> Tensor | None:
        """Return the images of all slots on the first process, None on the others; every process must call this."""
        if self.world == 1:
            return self.payload
        first = self.rank == 0
        found = torch.empty((self.size, *self.payload_shape), dtype=torch.uint8) if first else None
        step = max(1, AT_ONCE // max(1, self.payload[0].numel()))
        for start in range(0, len(self.payload), step):
            part = self.payload[start : start + step]
            parts = [torch.empty_like(part) for _ in range(self.world)] if first else None
            dist.gather(part, parts, dst=0)
            for rank, images in enumerate(parts or ()):
                place = found[rank :: self.world][start : start + step]
                place.copy_(images[: len(place)])
        return found

    def own_part(self, whole: Tensor) -> Tensor:
        """Return what of the images of all slots is this process's, with zeros behind the last slot.

        Raises:
            CheckpointError: they are of another number of slots.
        """
        if len(whole) != self.size:
            raise CheckpointError(f"the memory of the checkpoint has {len(whole)} images, and --mem_size {self.size}.")
        own = whole[self.rank :: self.world]
        part = whole.new_zeros((math.ceil(self.size / self.world), *whole.shape[1:]))
        part[: len(own)] = own
        return part


def _dealt(model: nn.Module) -> dict[str, DealtPayload]:
    """Return, by the name of their images in the state dict, the memories of a model that are dealt over processes."""
    return {
        f"{name}.payload": module
        for name, module in model.named_modules()
        if isinstance(module, DealtPayload) and module.payload is not None and module.world > 1
    }


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what in the state dict of a model is only this process's part, whole: on the first process, nothing else.

    Every process must call this.
    """
    found = {name: memory.whole() for name, memory in _dealt(model).items()}
    return {name: value for name, value in found.items() if value is not None}


def own_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose memories are whole with this process's part of them."""
    parts = {name: memory.own_part(state[name]) for name, memory in _dealt(model).items() if name in state}
    return {**state, **parts}
