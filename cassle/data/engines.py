"""Which engine makes the views: the resident one where the data fits in memory, else DALI or worker processes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from cassle.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cassle.data.module import TaskData

Name = Literal["resident", "workers", "dali"]
MISSING = "--dali: needs NVIDIA DALI, which is not installed; pip install 'cassle[dali]', or use --engine workers."


class Engine(NamedTuple):
    """An engine and, in words, why it is the one."""

    name: Name
    reason: str

    @property
    def line(self) -> str:
        """What a run says of it."""
        return f"Engine: {self.name}; {self.reason}."


SHARE = 0.9  # of the free memory: the rest of the run wants some too
RESIDENT = Engine("resident", "the data lies in memory")


def has_dali() -> bool:
    """Return whether NVIDIA DALI is installed."""
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def choose(data: TaskData, size: int, device: torch.device, room: int, *, stream: bool = False) -> Engine:
    """Return the engine of a run.

    Args:
        data: the data set; ``data.engine`` is auto or a name.
        size: side of the views in pixels.
        device: where the training runs.
        room: bytes that the data set may take in the memory of this process, there and here.
        stream: whether the images arrive in an order of their own, for which DALI has no use.

    Raises:
        ConfigError: DALI is asked for and not installed, or for a GPU that is not there.
        DataError: the data set must fit in memory, and does not.
    """
    files, needed = data.in_files, data.num_bytes(size)
    fits = needed <= SHARE * room
    where = f"{needed / 1e9:.3g} GB of pixels at side {data.storage_side(size)}, room for {room / 1e9:.3g} GB"
    if data.engine == "resident" or not files or (data.engine == "auto" and fits):
        if data.engine not in ("auto", "resident"):
            raise ConfigError(
                f"--engine {data.engine}: reads image files; {data.dataset} lies in memory, leave it out."
            )
        if not fits:
            raise DataError(_does_not_fit(data, size, needed, room))
        return Engine("resident", f"the data fits in memory ({where})")
    if data.engine == "workers":
        return Engine("workers", "asked for")
    if data.engine == "dali":
        if problems := missing_for(data.engine, data.dali_device, device):
            raise ConfigError(problems)
        return Engine("dali", "asked for")
    if has_dali() and device.type == "cuda" and not stream:
        return Engine("dali", f"the data does not fit in memory ({where}), and there is a GPU")
    return Engine("workers", f"the data does not fit in memory ({where})")


def _does_not_fit(data: TaskData, size: int, needed: int, room: int) -> str:
    side = data.storage_side(size)
    smaller = int(side * (SHARE * room / needed) ** 0.5)
    other = "--engine workers, " if data.in_files else ""
    return (
        f"--dataset {data.dataset}: {needed / 1e9:.3g} GB of pixels at --storage_size {side} do not fit: there is room "
        f"for {room / 1e9:.3g} GB; use {other}--storage_size {smaller} or less, or a machine with more."
    )


def missing_for(engine: str, dali_device: str, device: torch.device) -> list[str]:
    """Return what this machine lacks for the engine that was asked for, one sentence each."""
    if engine != "dali":
        return []
    problems = [] if has_dali() else [MISSING]
    if dali_device == "gpu" and device.type != "cuda":
        problems.append("--dali_device gpu: the training runs on the CPU; use --dali_device cpu.")
    return problems
