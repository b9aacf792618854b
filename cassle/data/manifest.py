"""What a data set is recognised by when a run is continued: its tasks and its content, as plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from cassle.data.pixels import content_of
from cassle.data.source import Images
from cassle.data.splits import Split


def manifest_of(
    dataset: str, engine: str, split: Split, classes: Sequence[str], train: Images, val: Images | None
) -> dict[str, Any]:
    """Return what a loaded data set is; ``parts`` only serves to say what has changed, the rest to notice it.

    Args:
        dataset: name of the benchmark.
        engine: name of the engine.
        split: which images belong to which task.
        classes: their names.
        train: the training set.
        val: the validation set, None without one.
    """
    whole = hashlib.sha256()
    for chunk in _content(train):
        whole.update(chunk)
    parts = {"train": _part(train, whole.hexdigest())}
    if val is not None:
        own = hashlib.sha256()
        for chunk in _content(val):
            whole.update(chunk)
            own.update(chunk)
        parts["val"] = _part(val, own.hexdigest())
    about = {"dataset": dataset, "engine": engine, **split.manifest(classes)}
    return {**about, "content_sha256": whole.hexdigest(), "parts": parts}


def _content(images: Images) -> Iterator[Any]:
    yield from content_of(images.pixels)
    yield images.targets.numpy()


def _part(images: Images, digest: str) -> dict[str, Any]:
    lost = {"in_quarantine": len(images.quarantined), "do_not_decode": len(images.skipped)}
    lost["not_for_the_engine"] = len(images.left_out)
    return {"images": len(images.targets), **lost, "content_sha256": digest}
