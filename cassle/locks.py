"""Files that one process holds at a time, and that a killed process lets go."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_held: set[int] = set()


@contextmanager
def held(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file, which is made if it is missing and names its holder.

    Processes that are forked meanwhile do not hold it: those that read data outlive a killed run by some seconds.

    Args:
        path: the file.
        wait: whether to wait for another holder.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false; its text is the number of that process.
        OSError: the file cannot be written.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(os.read(handle, 32).decode().strip() or "unknown") from None
        _held.add(handle)
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _let_go() -> None:
    """In a forked process: close what it has inherited; the parent goes on holding it."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
