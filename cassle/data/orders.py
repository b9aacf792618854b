"""Orders of a stream: which sample comes at which position, as a function of the position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cassle.errors import ConfigError
from cassle.randomness import generator


class Order:
    """The samples of a data set in the order in which a stream sends them.

    Attributes:
        length: positions in all; None for an order without end.
        bounds: positions at which a part of the stream (a split, an epoch) is through, as far as they are known.
    """

    length: int | None = None
    bounds: tuple[int, ...] = ()

    def index(self, start: int, count: int) -> Tensor:
        """Return the positions in the data set, (n,) int64, of the stream positions [start, start + count).

        Raises:
            ValueError: ``start`` or ``count`` is negative.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start={start}, count={count}: must be at least 0.")
        stop = start + count if self.length is None else min(start + count, self.length)
        parts, at = [torch.empty(0, dtype=torch.int64)], start
        while at < stop:
            block, offset = self._block(at)
            parts.append(block[offset : offset + stop - at])
            at += len(parts[-1])
        return torch.cat(parts)

    def _block(self, position: int) -> tuple[Tensor, int]:
        """Return a run of samples that covers a position, (m,) int64, and the place of the position in it."""
        raise NotImplementedError


class _Fixed(Order):
    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._order = torch.cat(list(parts)) if len(parts) else torch.empty(0, dtype=torch.int64)
        self.length = len(self._order)
        self.bounds = tuple(torch.tensor([len(part) for part in parts]).cumsum(0).tolist()) if len(parts) else ()

    def _block(self, position: int) -> tuple[Tensor, int]:
        return self._order, position


class _Epochs(Order):
    """All samples once in every epoch: ``made(epoch)`` is the order of one, (n,) int64."""

    def __init__(self, num_samples: int, epochs: int | None, made: Callable[[int], Tensor]) -> None:
        self.num_samples, self.made = num_samples, made
        self.length = None if epochs is None else num_samples * epochs
        self.bounds = () if epochs is None else tuple(num_samples * (e + 1) for e in range(epochs))
        self._known: tuple[int, Tensor] = (-1, torch.empty(0))

    def _block(self, position: int) -> tuple[Tensor, int]:
        epoch, place = divmod(position, self.num_samples)
        known = self._known
        if known[0] != epoch:
            known = self._known = epoch, self.made(epoch)
        return known[1], place


class _InOrder(_Epochs):
    def __init__(self, num_samples: int, epochs: int | None) -> None:
        super().__init__(num_samples, epochs, torch.arange)

    def _block(self, position: int) -> tuple[Tensor, int]:
        place = position % self.num_samples
        size = min(self.num_samples - place, 65_536)  # what is asked for at a time, not the whole data set
        return torch.arange(place, place + size), 0


class _Groups(Order):
    def __init__(self, sizes: Tensor, epochs: int | None, seed: int) -> None:
        self.sizes, self.seed, self.num_samples = sizes, seed, int(sizes.sum())
        self._first = sizes.cumsum(0) - sizes
        self.length = None if epochs is None else self.num_samples * epochs
        self.bounds = () if epochs is None else tuple(self.num_samples * (e + 1) for e in range(epochs))
        self._known: tuple[int, Tensor, Tensor] = (-1, sizes, sizes)  # of one epoch: the groups, and where they end

    def _block(self, position: int) -> tuple[Tensor, int]:
        epoch, place = divmod(position, self.num_samples)
        known = self._known
        if known[0] != epoch:
            groups = torch.randperm(len(self.sizes), generator=generator(self.seed, "order of groups", epoch))
            known = self._known = epoch, groups, self.sizes[groups].cumsum(0)
        number = int(torch.searchsorted(known[2], place, right=True))
        group = known[1][number]
        first, size = int(self._first[group]), int(self.sizes[group])
        return torch.arange(first, first + size), place - (int(known[2][number]) - size)


def draw_evenly(number: int, among: int, draws: torch.Generator) -> Tensor:
    """Return ``number`` integers below ``among``, (number,) int64: none a second time before all had their turn."""
    rounds = [torch.randperm(among, generator=draws) for _ in range(-(-number // among))]
    return torch.cat(rounds)[:number]


def in_order(num_samples: int, *, epochs: int | None = 1) -> Order:
    """Return samples 0, 1, 2, … as they lie in the data set, ``epochs`` times over (None: without end).

    Raises:
        ConfigError: ``epochs`` is below 1, or there are no samples.
    """
    return _InOrder(*_counted(num_samples, epochs))


def iid_order(num_samples: int, *, seed: int, epochs: int | None = 1) -> Order:
    """Return all samples in a random order, in another one in every epoch (None: epochs without end).

    Raises:
        ConfigError: ``epochs`` is below 1, or there are no samples.
    """

    def made(epoch: int) -> Tensor:
        return torch.randperm(num_samples, generator=generator(seed, "stream order", epoch))

    return _Epochs(*_counted(num_samples, epochs), made)


def group_order(sizes: Tensor, *, seed: int, epochs: int | None = 1) -> Order:
    """Return groups of neighbours in a random order, the samples of each group one after the other.

    Args:
        sizes: samples of each group, (groups,), int64, at least 1.
        seed: of the order of the groups, another one in every epoch.
        epochs: how often all groups come; None: without end.

    Raises:
        ConfigError: ``epochs`` is below 1, or there are no samples.
    """
    _counted(int(sizes.sum()), epochs)
    return _Groups(sizes, epochs, seed)


def class_order(splits: Sequence[Tensor], *, seed: int, targets: Tensor | None = None) -> Order:
    """Return the splits one after the other; ``bounds`` are their ends.

    Args:
        splits: positions in the data set, one int64 tensor per split, as ``Split.train``.
        seed: of the random order inside a class (inside a split without ``targets``).
        targets: class ids of the whole data set (n,); then the classes of a split come one after the other too,
            smallest id first.

    Raises:
        ConfigError: there are no samples.
    """
    parts = []
    for number, split in enumerate(splits):
        split = split.cpu()
        draws = generator(seed, "order in split", number)
        split = split[torch.randperm(len(split), generator=draws)]
        if targets is not None:
            split = split[targets.cpu()[split].argsort(stable=True)]
        parts.append(split)
    _counted(sum(map(len, parts)), 1)
    return _Fixed(parts)


def class_sequential(targets: Tensor, *, run: int, seed: int, epochs: int | None = 1) -> Order:
    """Return ``run`` random images of a random class, then as many of another, until each image has come once.

    The last run of a class is shorter where its images do not fill it. Samples without a label (-1) never come.

    Args:
        targets: class ids (n,), int64, -1 without a label.
        run: images of a run.
        seed: of the runs and their order, other ones in every epoch.
        epochs: how often all images come; None: without end.

    Raises:
        ConfigError: no sample has a label, or ``run`` or ``epochs`` is below 1.
    """
    targets = targets.cpu()
    labelled = (targets >= 0).nonzero().flatten()
    if run < 1:
        raise ConfigError(f"--n_cls_samples {run}: images of a class in a row; must be at least 1.")
    if not len(labelled):
        raise ConfigError("--stream runs: needs labels, and no sample has one; use an i.i.d. order.")

    def made(epoch: int) -> Tensor:
        draws = generator(seed, "class runs", epoch)
        order = labelled[torch.randperm(len(labelled), generator=draws)]
        order = order[targets[order].argsort(stable=True)]
        sizes = targets[order].unique_consecutive(return_counts=True)[1].tolist()
        runs = [part for members in order.split(sizes) for part in members.split(run)]
        return torch.cat([runs[number] for number in torch.randperm(len(runs), generator=draws).tolist()])

    return _Epochs(*_counted(len(labelled), epochs), made)


def _counted(num_samples: int, epochs: int | None) -> tuple[int, int | None]:
    if num_samples < 1:
        raise ConfigError("A stream of no samples: give it at least one.")
    if epochs is not None and epochs < 1:
        raise ConfigError(f"--stream_epochs {epochs}: must be at least 1.")
    return num_samples, epochs
