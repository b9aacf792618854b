"""What every memory is: slots of fixed number, filled, drawn from, and emptied by rules of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cassle.checks import Share, out_of_range
from cassle.errors import ConfigError
from cassle.memory.book import Book
from cassle.memory.dealt import DealtPayload
from cassle.memory.entries import Entries, checked, draw

MOST_USES = 255  # the last bin of the histogram of uses


class Memory(DealtPayload):
    """Entries of the past in preallocated slots; a subclass says who enters and who leaves.

    Everything is in buffers, so in the checkpoint and on the module's device. Which slots are filled, and in which
    order, is known on the host too, and all that is drawn comes from the CPU generator that is handed in: inserting and
    sampling never wait for the device, and processes that are given the same rows keep the same memory.

    Args:
        size: slots.
        feature_dim: width of the feature that is kept with every entry, 0 for none.
        payload_shape: shape of what is kept of the image itself (uint8), None for nothing but its key.
        feature_ema: alpha in f <- alpha f + (1 - alpha) f_new; 0 keeps the newest feature, 1 the first.

    Raises:
        ValueError: a size that cannot be.
        ConfigError: a setting out of its range.
    """

    #: whether rows come in by ``insert`` as they are seen, or by ``fill`` at the end of a task
    online: ClassVar[bool] = True
    #: whether its rule reads the averaged features
    reads_features: ClassVar[bool] = False
    #: whether rows may come with their features
    feature_on_arrival: bool = True

    def __init__(
        self,
        size: int,
        feature_dim: int = 0,
        payload_shape: Sequence[int] | None = None,
        *,
        feature_ema: Share = 0.5,
    ) -> None:
        if size < 1 or feature_dim < 0:
            raise ValueError(f"size={size}, feature_dim={feature_dim}: must be at least 1 and 0.")
        super().__init__(size, payload_shape)
        self._check(feature_ema=feature_ema)
        self.feature_dim, self.feature_ema = feature_dim, feature_ema
        self.register_buffer("keys", torch.full((size,), -1))
        self.register_buffer("targets", torch.full((size,), -1))
        self.register_buffer("origins", torch.full((size,), -1))
        self.register_buffer("inserted", torch.full((size,), -1))  # number of the arrival; -1: the slot is empty
        self.register_buffer("uses", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("uses_of_the_gone", torch.zeros(MOST_USES + 1, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("features", torch.zeros(size, feature_dim) if feature_dim else None)
        self.register_buffer("arrived", torch.zeros((), dtype=torch.int64))
        # The host's copies of what decides; None: to be read from the buffers.
        self._known: Book | None = None
        self._arrived: int | None = None

    def _check(self, **settings: object) -> None:
        problems = out_of_range(type(self), settings)
        if problems:
            raise ConfigError(problems.values())

    def __len__(self) -> int:
        return len(self._book.filled)

    @property
    def num_arrived(self) -> int:
        """Rows that were ever handed in, kept or not."""
        if self._arrived is None:
            self._arrived = int(self.arrived)
        return self._arrived

    @property
    def slots(self) -> Tensor:
        """The filled slots, oldest arrival first, int64."""
        return self._on_device(self._book.aged)

    @property
    def _book(self) -> Book:
        if self._known is None:
            self._known = Book(self.inserted.cpu().numpy())
        return self._known

    @torch.no_grad()
    def insert(
        self,
        keys: Tensor,
        targets: Tensor | None = None,
        *,
        features: Tensor | None = None,
        payload: Tensor | None = None,
        origins: Tensor | None = None,
        generator: torch.Generator,
    ) -> None:
        """Offer rows to the memory, in the order in which they were seen; every one counts as arrived.

        Args:
            keys: indices in the data set, (rows,), of any number.
            targets: labels, (rows,), -1 or None for none.
            features: (rows, feature_dim); without them an entry has no feature until its first ``update``.
            payload: (rows, *payload_shape) uint8; required in a memory with a payload.
            origins: the video, class or folder of each, (rows,), -1 or None where unknown.
            generator: of the CPU; draws whatever the rule leaves to chance.

        Raises:
            ValueError: the parts differ in length, or do not fit the memory.
        """
        rows = self._checked(Entries(keys, targets, features, payload, origins))
        if len(rows.keys):
            self._write(rows, *self._place(rows, generator))

    def _place(self, rows: Entries, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows enter, ascending, and the slot of each; what was in these slots leaves."""
        raise NotImplementedError(f"{type(self).__name__} has no rule of who enters.")

    def _checked(self, rows: Entries) -> Entries:
        return checked(rows, feature_dim=self.feature_dim, payload_shape=self.payload_shape)

    def _write(self, rows: Entries, chosen: np.ndarray, slots: np.ndarray) -> None:
        start = self.num_arrived
        where = self._on_device(slots)
        which = None if len(chosen) == len(rows.keys) else torch.from_numpy(chosen)
        self._retire(where)
        self.inserted.index_copy_(0, where, self._on_device(start + chosen))
        self.uses.index_fill_(0, where, 0)
        self.seen.index_fill_(0, where, rows.features is not None)
        for name, values in rows._asdict().items():
            if name == "payload" and values is not None:
                self._keep(values, chosen, slots)
            elif values is not None:
                if which is not None:
                    values = values.index_select(0, which.to(values.device, non_blocking=True))
                values = self._here(values)
                values = self._stored(values) if name == "features" else values.to(getattr(self, name).dtype)
                getattr(self, name).index_copy_(0, where, values)
        if rows.features is None and self.features is not None:
            self.features.index_fill_(0, where, 0)
        self._book.put(slots, start + chosen)
        self._arrived = start + len(rows.keys)
        self.arrived.fill_(self._arrived)

    def _retire(self, where: Tensor) -> None:
        """Count how often what leaves these slots was used; ``uses_of_the_gone`` is their histogram."""
        filled = (self.inserted[where] >= 0).long()
        self.uses_of_the_gone.index_add_(0, self.uses[where].clamp(max=MOST_USES), filled)

    def _stored(self, features: Tensor) -> Tensor:
        """Return features in the form in which they are kept."""
        return features.float()

    @torch.no_grad()
    def sample(self, number: int, generator: torch.Generator) -> Tensor:
        """Draw filled slots uniformly, without replacement; with replacement only if there are too few.

        Args:
            number: slots to draw; the use of each is counted.
            generator: of the CPU.

        Returns:
            (number,) int64, on the device of the memory.

        Raises:
            ValueError: the memory is empty, or the number negative.
        """
        return self._drawn(number, generator)[0]

    def _drawn(self, number: int, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
        if not len(self) or number < 0:
            raise ValueError(f"cannot draw {number} entries from a memory of {len(self)}.")
        drawn = self._draw(number, generator)
        slots = self._on_device(drawn)
        self.uses.index_add_(0, slots, torch.ones_like(slots))
        return slots, drawn

    def _draw(self, number: int, generator: torch.Generator) -> np.ndarray:
        return self._book.filled[draw(number, len(self), generator)]

    @torch.no_grad()
    def update(self, slots: Tensor, features: Tensor) -> None:
        """Move the features of entries towards what the network makes of them now: an EMA per entry.

        The first evaluation of an entry sets its feature. Of a slot that is given twice the last row counts, and a slot
        that was emptied since it was drawn stays empty.

        Args:
            slots: (rows,) int64, as drawn.
            features: (rows, feature_dim), finite; handed in alike in all processes.

        Raises:
            ValueError: the memory has no features, or the shapes differ.
        """
        if self.features is None or features.shape != (len(slots), self.feature_dim):
            raise ValueError(
                f"features {tuple(features.shape)}: must be {(len(slots), self.feature_dim)}, dim above 0."
            )
        if not len(slots):
            return
        slots = slots.contiguous()
        ranks = slots.argsort(stable=True)
        last = ranks[torch.searchsorted(slots[ranks], slots, right=True) - 1]
        new, old, alpha = self._stored(self._here(features))[last], self.features[slots], self.feature_ema
        new = torch.where(self.seen[slots, None], self._stored(alpha * old + (1 - alpha) * new), new)
        filled = self.inserted[slots] >= 0
        self.features.index_copy_(0, slots, torch.where(filled[:, None], new, old))
        self.seen.index_copy_(0, slots, filled)

    @torch.no_grad()
    def remove(self, slots: Tensor) -> None:
        """Empty these slots, e.g. of images that cannot be decoded; waits for slots that lie on the device.

        Raises:
            IndexError: a number that is no slot.
        """
        slots = np.unique(slots.cpu().numpy())
        if len(slots) and not 0 <= slots[0] <= slots[-1] < self.size:
            raise IndexError(f"slots {slots[0]} to {slots[-1]}: must be from 0 to {self.size - 1}.")
        self._empty(slots)

    def _empty(self, slots: np.ndarray) -> None:
        where = self._on_device(slots)
        self._retire(where)
        empty = ((self.keys, -1), (self.targets, -1), (self.origins, -1), (self.inserted, -1), (self.uses, 0))
        for buffer, nothing in empty:
            buffer.index_fill_(0, where, nothing)
        self.seen.index_fill_(0, where, False)
        if self.features is not None:
            self.features.index_fill_(0, where, 0)
        self._book.clear(slots)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known = self._arrived = None
