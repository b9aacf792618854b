"""Every random draw comes from a generator that is keyed by what it is for.

A generator is a pure function of (seed, purpose, task, step, …), so a run that was killed and continued draws exactly
what an uninterrupted run draws: there is no generator state to save, to restore, or to get out of step.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def key(seed: int, purpose: str, *coordinates: int) -> int:
    """Return a 63-bit integer that depends on every argument and on nothing else.

    Args:
        seed: the seed of the run.
        purpose: what is drawn, e.g. ``"augment"``; two purposes never share numbers.
        coordinates: the place in the run, e.g. task, step, view.
    """
    text = ":".join([str(seed), purpose, *map(str, coordinates)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *coordinates: int) -> torch.Generator:
    """Return a fresh CPU generator for one purpose at one place of the run (arguments as in :func:`key`)."""
    import torch

    return torch.Generator().manual_seed(key(seed, purpose, *coordinates))
