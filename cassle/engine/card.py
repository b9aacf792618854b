"""Exported weights and their card: ``NAME.safetensors`` and, beside it, ``NAME.json``, which describes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from cassle.engine.checkpoint import digest
from cassle.errors import CheckpointError

SUFFIX = ".safetensors"
FORMAT = "cassle encoder 1"


def card_of(path: Path) -> Path:
    """Return the path of the card of exported weights."""
    return path.with_suffix(".json")


def is_card(path: Path) -> bool:
    """Return whether a file is the card of exported weights."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file.

    Raises:
        CheckpointError: missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or truncated ({error}). Export it again.") from None


def read(path: Path) -> dict[str, Any] | None:
    """Return what the card of exported weights says, None if there is none: the file is from elsewhere.

    Raises:
        CheckpointError: the card belongs to another file, or lacks an entry.
    """
    if not is_card(card_of(path)):
        return None
    content = json.loads(card_of(path).read_text(encoding="utf-8"))
    try:
        about = {name: content[name] for name in ("backbone", "task", "mean", "std", "config")}
        about["size"], expected = content["image_size"], content["sha256"]
    except KeyError as error:
        raise CheckpointError(f"{card_of(path)}: has no entry {error}. Export the weights again.") from None
    if digest(path) != expected:
        raise CheckpointError(f"{path}: not the file that {card_of(path).name} describes. Export the weights again.")
    return about
