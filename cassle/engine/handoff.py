"""What one task gives to the next: the content of ``final.ckpt``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cassle.engine import checkpoint
from cassle.engine.folder import fingerprint
from cassle.engine.foreign import is_upstream, upstream_state
from cassle.engine.plan import Plan
from cassle.errors import CheckpointError
from cassle.methods.base import SSLMethod

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Handoff:
    """The state of the end of a task.

    Attributes:
        weights: state dict of the model, with what lived for that task only.
        probes: state dicts of the online probes by network.
        carried: of a stream, what goes on besides: the optimizer's state and the loader's.
    """

    weights: Weights
    probes: dict[str, Weights]
    carried: dict[str, Any] = field(default_factory=dict)


def write(
    path: Path,
    plan: Plan,
    task: int,
    model: SSLMethod,
    probes: dict[str, Weights],
    carried: dict[str, Any] | None = None,
    whole: Weights | None = None,
) -> str:
    """Write the hand-off of a task, with what is needed to rebuild the encoder from it; return its digest.

    ``whole``: what in the state dict of the model is only this process's part.
    """
    content = {
        "state_dict": _on_cpu({**model.state_dict(), **(whole or {})}),
        "probes": {network: _on_cpu(weights) for network, weights in probes.items()},
        **({"carried": carried} if carried else {}),
        "cassle": {
            "config": plan.config(),
            "fingerprint": fingerprint(plan.config()),
            "task": task,
            "size": plan.size,
            "mean": list(plan.eval_recipe.mean),
            "std": list(plan.eval_recipe.std),
        },
    }
    checkpoint.save(path, content)
    return checkpoint.digest(path)


def keep_the_network(path: Path) -> str:
    """Rewrite a hand-off of a stream that has been taken over without its memory and optimizer; return its digest.

    They can be larger than the network by orders of magnitude.
    """
    content = checkpoint.load(path)
    weights = content["state_dict"].items()
    content["state_dict"] = {name: value for name, value in weights if not name.startswith("memory.")}
    checkpoint.save(path, {name: value for name, value in content.items() if name != "carried"})
    return checkpoint.digest(path)


def _on_cpu(weights: Weights) -> Weights:
    return {name: value.cpu() for name, value in weights.items()}


def read(path: Path, plan: Plan, digest: str | None = None) -> Handoff:
    """Read a hand-off.

    Args:
        path: a ``final.ckpt``, or the checkpoint of a task that upstream's CaSSLe or Kaizen trained.
        plan: the run that takes over.
        digest: what the ledger knows of the file; None skips the comparison.

    Raises:
        CheckpointError: missing, damaged, unsafe, changed since it was written, or no checkpoint of this library.
    """
    content = checkpoint.load(path)
    if digest is not None and checkpoint.digest(path) != digest:
        raise CheckpointError(f"{path}: not the file that the ledger knows; restore it, or use --overwrite.")
    if "state_dict" not in content:
        raise CheckpointError(f"{path}: has no state_dict; it is not a checkpoint of cassle.")
    if is_upstream(content):
        return Handoff(upstream_state(content["state_dict"], plan.build_model()), {})
    return Handoff(content["state_dict"], content.get("probes", {}), content.get("carried", {}))
