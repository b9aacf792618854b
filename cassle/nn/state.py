"""Loading weights strictly: what does not fit is an error that lists the keys."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cassle.errors import CheckpointError


def _listing(title: str, keys: list[str]) -> str:
    return f"{title}: {', '.join(keys[:6])}" + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return in words what of ``state`` does not fit ``own``: missing, unexpected, misshapen; empty if all fits."""
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
            for k in own.keys() & state.keys()
            if state[k].shape != own[k].shape
        ),
    }
    return "; ".join(_listing(title, keys) for title, keys in problems.items() if keys)


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], *, ignore: tuple[str, ...] = (), source: str = "the checkpoint"
) -> None:
    """Load ``state`` into ``module``; every key must be there, with the right shape.

    Args:
        module: takes the weights.
        state: name to tensor.
        ignore: prefixes that may be absent on either side, e.g. a teacher that lives for one task.
        source: what the error calls the origin of ``state``.

    Raises:
        CheckpointError: lists the missing, unexpected and misshapen keys.
    """
    state = {k: v for k, v in state.items() if not k.startswith(ignore)} if ignore else dict(state)
    own = {k: v for k, v in module.state_dict().items() if not (ignore and k.startswith(ignore))}
    if found := misfits(own, state):
        raise CheckpointError(
            f"{source} does not fit this architecture ({found}). "
            "Use the --method, --backbone and dimensions that it was trained with."
        )
    # Every shared key was compared above; what is absent is exactly what `ignore` names.
    module.load_state_dict({**module.state_dict(), **state})
