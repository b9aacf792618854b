"""How much memory there is for a data set: in the machine, in the container or job of this process, on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

SHARE = 0.9  # of the free memory: the rest of the run wants some too
GPU_SHARE = 0.5  # of a GPU's, unasked: networks, their gradients and activations want far more of it
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: per controller (of version 2 and 1 of control groups) the files with the limit and what is used (bytes)
LIMITS = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
RECLAIMED = {"inactive_file", "total_inactive_file"}  # pages of files that are given back when memory is wanted


def free_memory() -> int:
    """Return the bytes of main memory that a new allocation can take."""
    rooms = [limit - used for limit, used in _control_groups()]
    return max(min([_meminfo("MemAvailable"), *rooms]), 0)


def whole_memory() -> int:
    """Return the bytes of main memory that there are for this process and others, used or not."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _control_groups())])


def room_for(device: torch.device, processes: int) -> int:
    """Return the bytes that each of ``processes`` of this machine can hold of a data set that is trained on ``device``.

    One process asks what is free. Several must come to the same answer, and one that begins later would find less free;
    so they share what there is in the whole.
    """
    main = _main(processes)
    return min(main, _gpu(device, processes)) if device.type == "cuda" else main


def room_unasked(device: torch.device, processes: int) -> int:
    """Return the bytes that a data set may take where nobody asked for it: a training on a GPU needs the rest there.

    The arguments are those of :func:`room_for`.
    """
    main = int(SHARE * _main(processes))
    return min(main, int(GPU_SHARE * _gpu(device, processes))) if device.type == "cuda" else main


def _main(processes: int) -> int:
    return free_memory() if processes == 1 else whole_memory() // processes


def _gpu(device: torch.device, processes: int) -> int:
    free, whole = torch.cuda.mem_get_info(device)
    return free if processes == 1 else whole


def _meminfo(row: str) -> int:
    try:
        with open("/proc/meminfo") as file:
            rows = dict(line.split(":") for line in file)
        return int(rows[row].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use of every control group above this process that has a limit (containers, SLURM jobs)."""
    try:
        own = OWN.read_text().splitlines()
    except OSError:
        return
    for line in own:
        _, controllers, place = line.split(":", 2)
        kind = next((name for name in LIMITS if name in controllers.split(",")), None)
        if kind is None:
            continue
        group = CGROUPS / kind / place.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(CGROUPS / kind):
                break
            limit, used = (_number(folder / name) for name in LIMITS[kind])
            if limit is not None and used is not None:
                yield limit, used - _reclaimed(folder / "memory.stat")


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is none ("max" is no limit)."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _reclaimed(statistics: Path) -> int:
    try:
        rows = dict(line.split() for line in statistics.read_text().splitlines() if line)
    except (OSError, ValueError):
        return 0
    return max([int(number) for name, number in rows.items() if name in RECLAIMED], default=0)
