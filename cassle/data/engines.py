"""Which engine makes the views: the resident one where the data fits in memory, else DALI or worker processes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from cassle.data.room import SHARE
from cassle.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cassle.data.module import TaskData

Name = Literal["resident", "workers", "dali"]
NEEDED = "--dali: needs NVIDIA DALI, which is not installed; pip install 'cassle[dali]'"
MISSING = f"{NEEDED}, or use --engine workers."
BEGUN = "as this experiment began"
ANEW = "The experiment was begun with this engine and goes on with no other; --overwrite starts anew."
IN_STREAMS = "; of a stream, threads decode each batch as it arrives"


class Engine(NamedTuple):
    """An engine and, in words, why it is the one; and what was given that it has no use for."""

    name: Name
    reason: str
    unused: str = ""

    @property
    def line(self) -> str:
        """What a run says of it."""
        return f"Engine: {self.name}; {self.reason}.{self.unused and f' {self.unused}'}"


RESIDENT = Engine("resident", "the data lies in memory")


def has_dali() -> bool:
    """Return whether NVIDIA DALI is installed."""
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def idle_device(engine: str, dali_device: str | None) -> list[str]:
    """Return why a device that was given for DALI is of no use to the engine that was asked for, in one sentence."""
    if dali_device is None or engine in ("auto", "dali"):
        return []
    return [
        f"--dali_device {dali_device}: says where DALI decodes, and --engine {engine} does without DALI; leave "
        "--dali_device out, or give --engine dali."
    ]


def choose(
    data: TaskData,
    size: int,
    device: torch.device,
    room: int,
    unasked: int | None = None,
    *,
    stream: bool = False,
    begun: Name | None = None,
) -> Engine:
    """Return the engine of a run.

    Args:
        data: the data set; ``data.engine`` is auto or a name.
        size: side of the views in pixels.
        device: where the training runs.
        room: bytes that the data set may take in the memory of this process, there and here.
        unasked: bytes that it may take there and here if nobody asked for it; default: nine tenths of ``room``.
        stream: whether the images arrive in an order of their own, for which DALI has no use.
        begun: the engine of the experiment that this run continues, which auto keeps to.

    Raises:
        ConfigError: DALI is asked for and not installed, or for a GPU that is not there.
        DataError: the data set must fit in memory, and does not.
    """
    engine = _chosen(data, size, device, room, unasked, stream=stream, begun=begun)
    if data.asked_dali_device is None or engine.name == "dali":
        return engine
    way = "to have DALI decode, give --engine dali" if data.in_files and not begun else "leave it out"
    return engine._replace(unused=f"--dali_device {data.asked_dali_device} is not used: {way}.")


def _chosen(
    data: TaskData,
    size: int,
    device: torch.device,
    room: int,
    unasked: int | None,
    *,
    stream: bool,
    begun: Name | None,
) -> Engine:
    files, needed = data.in_files, data.num_bytes(size)
    wanted = begun if begun and data.engine == "auto" else data.engine
    reason = BEGUN if wanted != data.engine else "asked for"
    share = "" if unasked is None or device.type != "cuda" else " beside the training"
    where = f"{needed / 1e9:.3g} GB of pixels at side {data.storage_side(size)}, "
    where += f"room for {(unasked if share else room) / 1e9:.3g} GB{share}"
    fits = needed <= (SHARE * room if unasked is None else unasked)
    if wanted == "resident" or not files or (wanted == "auto" and fits):
        if wanted not in ("auto", "resident"):
            raise ConfigError(f"--engine {wanted}: reads image files; {data.dataset} lies in memory, leave it out.")
        if needed > SHARE * room:
            raise DataError(_does_not_fit(data, size, needed, room, continues=begun == "resident"))
        return Engine("resident", BEGUN if reason == BEGUN else f"the data fits in memory ({where})")
    if wanted == "dali":
        if problems := missing_for(wanted, data.dali_device, device, continues=begun == "dali"):
            raise ConfigError(problems)
        return Engine("dali", reason)
    if wanted == "auto":
        reason = f"the data does not fit in memory ({where})"
        if has_dali() and device.type == "cuda" and not stream:
            return Engine("dali", f"{reason}, and there is a GPU")
    return Engine("workers", reason + IN_STREAMS * stream)


def _does_not_fit(data: TaskData, size: int, needed: int, room: int, *, continues: bool) -> str:
    side = data.storage_side(size)
    if data.in_files:
        smaller, at = int(side * (SHARE * room / needed) ** 0.5), "--storage_size"
        way = f"use --engine workers, --storage_size {smaller} or less, or a machine with more."
    else:
        at, way = "side", "free some, or use a machine with more."
    if continues:  # with other settings it would be another experiment
        way = f"free some, or use a machine with more. {ANEW}"
    return (
        f"--dataset {data.dataset}: {needed / 1e9:.3g} GB of pixels at {at} {side} do not fit: there is room "
        f"for {room / 1e9:.3g} GB; {way}"
    )


def missing_for(engine: str, dali_device: str, device: torch.device, *, continues: bool = False) -> list[str]:
    """Return what this machine lacks for the engine that a run is to have, one sentence each.

    Args:
        engine: a name, or auto, which takes what there is.
        dali_device: where DALI is to decode.
        device: where the training runs.
        continues: whether an experiment goes on that was begun with it, so that another one is no way out.
    """
    if engine != "dali":
        return []
    problems = [] if has_dali() else [f"{NEEDED}. {ANEW}" if continues else MISSING]
    if dali_device == "gpu" and device.type != "cuda":
        way = f"continue it on a GPU. {ANEW}" if continues else "use --dali_device cpu."
        problems.append(f"--dali_device gpu: the training runs on the CPU; {way}")
    return problems
