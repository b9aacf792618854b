"""Learning rates as pure functions of the step: no state, hence nothing to save and nothing to get out of step.

``step`` counts optimizer steps from 0 (any unit will do, fractions too, as long as all arguments share it).
"""

import math
from collections.abc import Callable, Iterable


def warmup_cosine(
    step: float,
    *,
    total_steps: float,
    warmup_steps: float,
    lr: float,
    min_lr: float = 0.0,
    warmup_start_lr: float = 0.0,
) -> float:
    """Rise linearly from ``warmup_start_lr`` at step 0 to ``lr`` at ``warmup_steps``, then fall as a half cosine.

    Goyal et al. 2017 (warm-up) and Loshchilov & Hutter 2017, eq. 5 (cosine). A run that is shorter than its warm-up
    stays on the same ramp and just ends early; past it, the rate stays at ``lr``.

    Args:
        step: where the run is.
        total_steps: the step at which ``min_lr`` is reached; the rate stays there afterwards.
        warmup_steps: length of the rise; 0 or less means none.
        lr: the peak.
        min_lr: the end.
        warmup_start_lr: the beginning.
    """
    if step < warmup_steps:
        return _between(warmup_start_lr, lr, max(step, 0) / warmup_steps)
    warmup_steps = max(warmup_steps, 0)
    return cosine(step - warmup_steps, total_steps=total_steps - warmup_steps, lr=lr, min_lr=min_lr)


def cosine(step: float, *, total_steps: float, lr: float, min_lr: float = 0.0) -> float:
    """Fall from ``lr`` at step 0 to ``min_lr`` at ``total_steps`` along half a cosine, and stay there.

    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts. With ``total_steps`` of 0 or less there is no time to
    fall: the rate stays at ``lr``.
    """
    if total_steps <= 0:
        return lr
    progress = min(max(step / total_steps, 0.0), 1.0)
    return _between(min_lr, lr, (1 + math.cos(math.pi * progress)) / 2)


def step_decay(step: float, *, lr: float, decay_steps: Iterable[float], gamma: float = 0.1) -> float:
    """Return ``lr`` times ``gamma`` for every one of ``decay_steps`` that has been reached."""
    return lr * gamma ** sum(step >= milestone for milestone in decay_steps)


def triangle(step: float, *, lr: float, max_lr: float, period: float) -> float:
    """Rise linearly from ``lr`` to ``max_lr`` and fall back, again and again: one way there and back is a ``period``.

    Smith 2017, "Cyclical learning rates", the policy triangular.
    """
    phase = (step % period) / period
    return _between(lr, max_lr, 1 - abs(2 * phase - 1))


def exit_decay(step: float, *, total_steps: float, share: float) -> float:
    """Return the factor of a rate that falls as half a cosine to 0 in the last ``share`` of the steps; 1 before.

    A constant rate suits a stream whose end nobody knows; a decay at the end is what makes its last network a good one.
    """
    begin = (1 - share) * total_steps
    return 1.0 if step < begin or not share else cosine(step - begin, total_steps=share * total_steps, lr=1.0)


def constant(step: float, *, lr: float) -> float:
    """Return ``lr``."""
    return lr


def _between(low: float, high: float, share: float) -> float:
    # Exact at both ends, which low + share * (high - low) is not.
    return low * (1 - share) + high * share


SCHEDULES: dict[str, Callable[..., float]] = {
    "warmup_cosine": warmup_cosine,
    "cosine": cosine,
    "step": step_decay,
    "triangle": triangle,
    "none": constant,
}
