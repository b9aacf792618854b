"""Weights from elsewhere: torchvision, timm, solo-learn, MoCo, DINO, and upstream's CaSSLe and Kaizen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from cassle.errors import CheckpointError
from cassle.nn.state import misfits

#: entries under which training programs keep a state dict
WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student")
#: what training programs put before the names of a backbone's weights; the first that fits is taken, a student
#: before its slow teacher
PREFIXES = (
    "",  # torchvision, timm
    "backbone.",  # solo-learn, and here
    "encoder.",  # CaSSLe, Kaizen, old solo-learn
    "model.",
    "module.",
    "model.backbone.",
    "model.encoder.",
    "module.backbone.",
    "module.encoder.",
    "encoder_q.",  # MoCo v1 and v2
    "module.encoder_q.",
    "base_encoder.",  # MoCo v3
    "module.base_encoder.",
)
CLASSIFIERS = ("fc.", "head.", "classifier.")
COUNTER = "num_batches_tracked"  # of batch norm; files from before PyTorch 0.4.1 do without


def backbone_weights(content: Mapping[str, Any], backbone: nn.Module, source: str) -> dict[str, Tensor]:
    """Return the part of a checkpoint whose names are those of ``backbone``, without its prefix and classifier.

    Args:
        content: a state dict, or a dictionary with one in it.
        backbone: the names to find; shapes are not compared.
        source: what the error calls the checkpoint.

    Raises:
        CheckpointError: no prefix fits; lists those that were tried, and what is missing under the closest.
    """
    state, own = tensors_of(content), backbone.state_dict()
    if not state:
        raise CheckpointError(f"{source}: holds no weights (its entries: {', '.join(map(str, [*content][:6]))}).")
    found = {prefix: _part(state, prefix, own) for prefix in PREFIXES}
    for part in found.values():
        if part.keys() == own.keys():
            return part
    # The fewest wrong names; a prefix that nothing begins with shares no name with the backbone.
    closest = max(found, key=lambda prefix: len(found[prefix].keys() & own.keys()))
    tried = ", ".join(f"'{prefix}'" for prefix in PREFIXES)
    raise CheckpointError(
        f"{source}: holds no weights of this backbone. Tried the names with the prefixes {tried}; closest with "
        f"'{closest}' ({misfits(own, found[closest])}). Give the --backbone and the settings that it was trained with."
    )


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint: itself, or what lies under one of the usual entries."""
    inside = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
    if inside is not None:
        return tensors_of(inside)
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _part(state: Mapping[str, Tensor], prefix: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    part = {name: value for name, value in part.items() if name in own or not name.startswith(CLASSIFIERS)}
    if part and not any(name.endswith(COUNTER) for name in part):
        part |= {name: value for name, value in own.items() if name.endswith(COUNTER)}
    return part


# Upstream's whole models ----------------------------------------------------------------------------------------------

RENAMED = {
    "encoder.": "backbone.",
    "momentum_encoder.": "momentum_teacher.stages.backbone.",
    "momentum_projector.": "momentum_teacher.stages.projector.",
}
#: upstream's probes, and what it makes anew for each task
DROPPED = (
    "classifier.", "online_eval_classifier.", "momentum_classifier.", "frozen_", "distill_",
    "feature_extractor_distill_predictor.", "classifier_distill_predictor.",
)  # fmt: skip
#: buffers here that upstream keeps outside its state dict
OURS = ("momentum_teacher.tau",)


def is_upstream(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint is one of CaSSLe's or Kaizen's: a Lightning module with an ``encoder``."""
    state = content.get("state_dict")
    return (
        "cassle" not in content
        and isinstance(state, Mapping)
        and any(str(name).startswith("encoder.") for name in state)
        and any(str(name).startswith("projector.") for name in state)
    )


def upstream_state(state: Mapping[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Return the state dict of a CaSSLe or Kaizen model under the names of this library.

    Probes, frozen teachers and distillation predictors are dropped; every other name stays, so that loading it
    strictly shows what does not fit.

    Args:
        state: ``state_dict`` of upstream's LightningModule at the end of a task.
        model: takes the weights; the buffers that upstream lacks (the momentum of an EMA teacher) are its own.
    """
    found = {}
    for name, value in state.items():
        if not name.startswith(DROPPED):
            old = next((old for old in RENAMED if name.startswith(old)), "")
            found[RENAMED.get(old, "") + name.removeprefix(old)] = value
    found = _with_our_memories(found)
    if model is not None:
        _without_idle_biases(found, {*model.state_dict()})
        found |= {name: value for name, value in model.state_dict().items() if name in OURS and name not in found}
    return found


def _without_idle_biases(state: dict[str, Tensor], names: set[str]) -> None:
    """Take biases that are not among ``names`` into the running mean of the batch norm behind them, which cancels them.

    SimSiam's and NNCLR's last projection layer has one upstream.
    """
    for name in [name for name in state if name.endswith(".bias") and name not in names]:
        stem, _, number = name.removesuffix(".bias").rpartition(".")
        mean = f"{stem}.{int(number) + 1}.running_mean" if number.isdigit() else ""
        if mean in state:
            state[mean] = state[mean] - state.pop(name)


def _with_our_memories(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with upstream's queues and prototypes as they are kept here."""
    dropped = ("prototypes.weight_g", "queue_y", "local_memory_index", "local_memory_embeddings")
    state = {name: value for name, value in state.items() if name not in dropped}
    if "prototypes.weight_v" in state:  # SwAV: directions, their lengths apart; its queue is of one task only
        state["prototypes.0.weight"] = state.pop("prototypes.weight_v")
        state.pop("queue", None)
    if {"queue", "queue_ptr"} <= state.keys():
        queue, position = state.pop("queue"), state.pop("queue_ptr")
        queues = {"queue": queue}  # NNCLR: (slots, dim)
        if queue.dim() == 3:  # MoCo: (views, dim, slots) with one position
            queues = {f"queues.{view}": slots.contiguous() for view, slots in enumerate(queue.mT)}
        for name, slots in queues.items():
            state |= {f"{name}.slots": slots, f"{name}.pushed": position.flatten()[0].long()}
    return state
