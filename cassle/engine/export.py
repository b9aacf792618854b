"""An encoder for others: its weights under torchvision's or timm's names, and a card that says what they are."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cassle.atomic import atomic_write_bytes, atomic_write_text
from cassle.engine import card, checkpoint
from cassle.engine.folder import FREE
from cassle.engine.ledger import Ledger
from cassle.engine.pretrained import Encoder, backbone_settings, read, read_encoder
from cassle.errors import CheckpointError, ConfigError
from cassle.evaluation.metrics import average_accuracy, forgetting, forward_transfer
from cassle.evaluation.protocol import SHARED_VAL

#: what results.json and the checkpoint must agree in
SHARED = ("method", "distiller", "backbone", "dataset", "split_strategy", "seed")


def export(source: str | Path, path: str | Path) -> tuple[Path, Path]:
    """Write the backbone of a checkpoint as ``.safetensors``, and beside it a ``.json`` card; return both paths.

    The names of the weights have no prefix: they load strictly into torchvision's or timm's model without classifier.
    The card holds method, data, preprocessing, versions, and the accuracies if the experiment's results.json is there;
    its ``config`` has every setting except the places on this machine.

    Args:
        source: a ``final.ckpt``.
        path: the file to write; the suffix is added if it is absent.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, unsafe, or not of this library.
        ConfigError: a file that is no card lies where the card goes.
        CassleError: full disk, read-only folder.
    """
    from safetensors.torch import save

    source, path = Path(source), Path(path)
    if path.suffix != card.SUFFIX:
        path = path.with_name(path.name + card.SUFFIX)
    described = card.card_of(path)
    if described.exists() and not card.is_card(described):
        raise ConfigError(f"{path}: its card {described} would replace a file that is no card; choose another name.")
    about = read(source)[1]
    if about is None:
        raise CheckpointError(f"{source}: not a final.ckpt of cassle; only those can be exported.")
    encoder, config = read_encoder(source)
    weights = {name: value.contiguous() for name, value in encoder.backbone.state_dict().items()}
    content = _card(source, path, encoder, {**about, "config": config})
    atomic_write_bytes(path, save(weights, metadata={"format": "pt"}))
    content["sha256"] = checkpoint.digest(path)  # a crash between the two files leaves a card that does not fit
    atomic_write_text(described, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path, described


def _card(source: Path, path: Path, encoder: Encoder, about: Mapping[str, Any]) -> dict[str, Any]:
    config = about["config"]
    return {
        "format": card.FORMAT,
        "weights": path.name,
        **{name: config[name] for name in ("method", "distiller", "backbone")},
        "backbone_settings": backbone_settings(config["backbone"], config),
        "image_size": encoder.size,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "num_features": encoder.num_features,
        "dataset": config["dataset"],
        "num_tasks": config["num_tasks"],
        "task": about["task"],
        "tasks_trained": about["task"] + 1,
        "seed": config["seed"],
        "results": _results(source, about),
        "config": {name: value for name, value in config.items() if name not in FREE},
        "versions": {"cassle": importlib.import_module("cassle").__version__, "torch": str(torch.__version__)},
    }


def _results(source: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the numbers of the checkpoint's task; None without them in the folder of its experiment.

    Raises:
        CheckpointError: the numbers are another experiment's, or damaged.
    """
    path, task = source.resolve().parent.parent / "results.json", about["task"]
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        protocol, probes = content["protocol"], {}
        shared_val = SHARED_VAL in protocol
        odd = [name for name in SHARED if protocol[name] != about["config"][name]]
        of_a_stream = "num_evaluations" in content
        number = content["num_evaluations" if of_a_stream else "num_tasks"]
        known = Ledger(path.with_name("ledger.json"), number).tasks[task].digest
        for name, numbers in content["probes"].items():
            matrix = numbers["accuracy" if of_a_stream else "accuracy_matrix"][: task + 1]
            if len(matrix) > task and of_a_stream:
                probes[name] = {"accuracies": matrix[task], "samples": content["samples"][task]}
            elif len(matrix) > task:
                probes[name] = {
                    "accuracies": matrix[task],
                    "average_accuracy": average_accuracy(matrix),
                    "forgetting": forgetting(matrix),
                    "forward_transfer": None if shared_val else forward_transfer(matrix, numbers["random"]),
                }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); run the experiment's command again to restore it.") from None
    if odd:
        raise CheckpointError(f"{path}: of another experiment than {source} (other {', '.join(odd)}); separate them.")
    if known not in (None, checkpoint.digest(source)):
        raise CheckpointError(f"{source}: not the file that the ledger of its experiment knows; restore it.")
    return {"protocol": protocol, "probes": probes} if probes else None
