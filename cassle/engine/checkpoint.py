"""Checkpoints: written atomically, read without running code, named by their digest.

::

    experiments/<name>/
      config.yaml           what is needed to run it again
      ledger.json           what is done; the only truth about it
      split.json            class order, counts, hashes of the data
      last_checkpoint.txt   newest hand-off checkpoint and configuration, two lines (upstream's format)
      task0/
        last.ckpt           where to continue inside this task; gone when the task is done
        final.ckpt          the hand-off: weights, online probe, configuration
        metrics.csv         one row an epoch
      task1/ …
      results.json  accuracy_matrix.csv  accuracy_matrix.png  report.html
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from cassle.atomic import atomic_write
from cassle.errors import CheckpointError


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; a killed or failed write leaves the previous file as it was.

    Raises:
        CassleError: full disk, read-only folder; the text names the path and the fix.
    """
    atomic_write(path, lambda file: torch.save(content, file))


def load(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of tensors and plain data; one that would run code is refused, not run.

    Raises:
        CheckpointError: the file is missing, a folder, truncated, or holds more than tensors and plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {file_in(path) or 'no such checkpoint.'}")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():  # torch's word for a name of code in a pickle
            raise CheckpointError(
                f"{path}: refused, because loading it would run code that it carries ({_first_line(error)}). "
                "Save its state dict alone (torch.save(model.state_dict(), path)) where it was made."
            ) from None
        raise CheckpointError(
            f"{path}: refused, because it is no checkpoint of tensors and plain data: damaged, or a pickle that could "
            "run code. Take another checkpoint, or run its task again."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(_damaged(path, error)) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint.")
    return content


def finals_in(folder: Path) -> list[Path]:
    """Return the ``final.ckpt`` of every finished task in the folder of an experiment, by task."""
    found = {path.parent.name.removeprefix("task"): path for path in folder.glob("task*/final.ckpt")}
    return [found[task] for task in sorted(filter(str.isdecimal, found), key=int)]


def file_in(path: Path) -> str | None:
    """Say of a folder given as a checkpoint which file in it may be meant; None if it is no folder."""
    if not path.is_dir():
        return None
    finals = [*finals_in(path), *path.glob("final.ckpt")]
    if not finals:
        return "is a folder, without a checkpoint of a finished task; give a file."
    return f"is a folder; give a file, e.g. the newest checkpoint in it, {finals[-1]}."


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "global" in line.lower()]
    return lines[0] if lines else type(error).__name__


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{path}: damaged or truncated ({reason}). Take another checkpoint, or run its task again."


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _slow(file)


def _slow(file) -> str:  # Python 3.10
    sha = hashlib.sha256()
    while block := file.read(1 << 20):
        sha.update(block)
    return sha.hexdigest()


class AtomicCheckpointIO(CheckpointIO):
    """Lets Lightning write and read its checkpoints through :func:`save` and :func:`load`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write atomically."""
        save(path, checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: Any = True) -> dict[str, Any]:
        """Read tensors and plain data."""
        return load(path, map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
