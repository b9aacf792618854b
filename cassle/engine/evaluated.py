"""Which file takes the results of an offline evaluation; those of another one are never lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cassle.atomic import atomic_write_text
from cassle.data.module import TaskData
from cassle.engine.offline import Offline, results_beside
from cassle.engine.settings import Schema, plain

#: settings of an evaluation that are no matter to its numbers
FREE = {"output", "device", "num_threads", "num_workers", "eval_batch_size", "download", "verified_dir"}
CHECKPOINT = "pretrained_feature_extractor"
PLACES = ("data_dir", "train_dir", "val_dir", "train_list", "val_list", "no_labels")


def identity(settings: Schema, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation is: its settings, without those that are no matter; folders of data from the root."""
    kept = {name: resolved[name] for name in settings.names if name in resolved and name not in FREE}
    kept = {name: value.resolve() if isinstance(value, Path) else value for name, value in kept.items()}
    return plain({**kept, CHECKPOINT: resolved[CHECKPOINT].name})  # results lie beside it, wherever that is


def is_trained_on(data: TaskData, given: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    """Return whether an evaluation is on the data set of the training, as far as names and places tell.

    Args:
        data: of the evaluation.
        given: its resolved settings.
        trained: the settings of the training; empty where nothing is known of it.
    """
    if data.dataset != trained.get("dataset"):
        return False
    return data.dataset != "custom" or _place(given) == _place(trained)


def output_of(offline: Offline, data: TaskData, given: Mapping[str, Any], *, own: bool) -> Path:
    """Return the file for the results: ``linear.json``, with what makes the evaluation another one in its name.

    Args:
        offline: what is evaluated.
        data: the data set.
        given: its resolved settings.
        own: whether it is that of the training, or nothing is known of one.
    """
    if offline.output is not None:
        return offline.output
    parts = ["linear"]
    if not own:
        parts.append(data.dataset)
        if data.dataset == "custom":
            place = _place(given)
            tag = hashlib.sha256(json.dumps(place).encode()).hexdigest()[:6]  # folders may have the same name
            parts += [Path(place[0]).name or "root", tag]
    parts += [part for part in (data.domain, None if offline.network == "student" else offline.network) if part]
    return results_beside(offline.checkpoint, f"{'-'.join(parts)}.json")


def write(path: Path, results: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """Write results; those of another evaluation that lie there are moved aside, which is said.

    Raises:
        CassleError: the file could not be written.
    """
    if path.exists() and _evaluation_in(path) != results["evaluation"]:
        number = 1
        while (aside := path.with_name(f"{path.stem}.old-{number}{path.suffix}")).exists():
            number += 1
        path.rename(aside)
        say(f"{path} held the results of another evaluation; they are now in {aside}")
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    say(f"Written to {path}")


def _evaluation_in(path: Path) -> Any:
    """Return what the results in a file are of; None where it does not say."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("evaluation") if isinstance(content, dict) else None


def _place(settings: Mapping[str, Any]) -> list[str]:
    """Return where a custom data set lies."""
    named = {name: settings.get(name) for name in PLACES}
    for name in ("data_dir", "train_list", "val_list"):
        named[name] = named[name] and Path(named[name]).resolve()
    return [str(value) for value in named.values()]
