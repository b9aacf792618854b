"""A file is either the old one or the whole new one: temporary file beside it, fsync, rename, fsync of the folder."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cassle.errors import CassleError


def atomic_write(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace ``path`` by what ``write(file)`` writes; on a failure the old file stays as it was.

    The temporary file has a fixed name, so that what a killed process left behind is overwritten by the next one.

    Raises:
        CassleError: the system refused (full disk, read-only folder); the text names the path and the fix.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # same folder: os.replace is atomic in one filesystem
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        refused = error if isinstance(error, OSError) else _os_error(error)
        if refused is None:
            raise
        fix = "Free some space" if refused.errno in (errno.ENOSPC, errno.EDQUOT) else "Make the folder writable"
        raise CassleError(f"{path}: not written ({refused.strerror or refused}). {fix}, or choose another.") from error
    finally:
        with contextlib.suppress(OSError):  # after a success there is nothing to remove
            temporary.unlink()
    with contextlib.suppress(OSError):  # some network filesystems cannot sync a folder; the rename is done by now
        _sync(path.parent)


def _os_error(error: BaseException) -> OSError | None:
    """Return the refusal behind an error: torch.save turns a full disk into a RuntimeError of its zip writer."""
    seen = error
    while (seen := seen.__cause__ or seen.__context__) is not None:
        if isinstance(seen, OSError):
            return seen
    return None


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` (errors as in :func:`atomic_write`)."""
    atomic_write(path, lambda file: file.write(data))


def atomic_write_text(path: str | Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8 (errors as in :func:`atomic_write`)."""
    atomic_write_bytes(path, text.encode())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
