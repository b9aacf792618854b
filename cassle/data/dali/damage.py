"""Which file broke a pipeline: DALI's error does not name it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cassle.data.dali.pipeline import require
from cassle.data.pixels import refuse
from cassle.data.source import UNDECODABLE
from cassle.errors import DataError


def refuse_damaged(paths: Sequence[Path]) -> None:
    """Look for the files of a batch that a pipeline cannot have read; return if there is none.

    Raises:
        DataError: some do not decode, or are of a kind that DALI does not know.
    """
    refuse(paths, [_reason(path) for path in paths])
    unknown = [path for path in paths if not _dali_reads(path)]
    if unknown:
        listed = "\n  ".join(f"{path}: {_kind(path)}" for path in unknown[:5])
        raise DataError(
            f"{len(unknown)} images are whole, but DALI does not read their kind:\n  {listed}\n"
            "Convert them to JPEG or PNG, or use --engine workers."
        )


def _reason(path: Path) -> str:
    """Return why a file does not decode, or an empty text."""
    try:
        with Image.open(path) as image:
            image.load()
    except UNDECODABLE as error:
        return str(error) or type(error).__name__
    return ""


def _kind(path: Path) -> str:
    with Image.open(path) as image:
        return f"{image.format}, {image.mode}"


def _dali_reads(path: Path) -> bool:
    """Return whether a pipeline for this file alone succeeds; after a failure a pipeline is of no use."""
    dali = require()
    pipeline = dali.Pipeline(1, 1, None, prefetch_queue_depth=1)
    with pipeline:
        name = dali.types.Constant(np.frombuffer(os.fsencode(path), np.uint8), device="cpu")
        pipeline.set_outputs(dali.fn.decoders.image(dali.fn.io.file.read(name), device="cpu"))
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True
