"""Softmax, normalisation and covariance want more digits than half precision has."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run ``loss`` outside autocast, with its half-precision tensors widened to float32.

    Widening the inputs alone is not enough: inside an autocast region a product of float32 matrices is rounded to
    half again, and a similarity of 1 divided by a temperature of 0.1 then carries an error of about 0.03 in bfloat16.
    float32 and float64 tensors pass through as they are.
    """

    @functools.wraps(loss)
    def wide(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        devices = (value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(next(devices, "cpu"), enabled=False):
            return loss(*map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()})

    return wide


def _widen(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value
