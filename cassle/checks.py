"""Ranges of settings, stated where the settings are: ``lr: Positive = 0.3``, ``output_dim: Count = 2048``.

A range is an annotation of the type, so it changes nothing for those who call a component. The command line and
``cassle.Experiment`` check it before anything is built; a component that is often made by hand checks itself with
:func:`out_of_range`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class Range:
    """The values that a setting may have.

    Args:
        words: what follows "must be" in the error.
        holds: whether a number is in the range; false for NaN.
    """

    words: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Range("at least 1", lambda value: value >= 1)]
Whole = Annotated[int, Range("at least 0", lambda value: value >= 0)]
Seed = Annotated[int, Range("from 0 to 2**63 - 1", lambda value: 0 <= value < 2**63)]
Positive = Annotated[float, Range("above 0", lambda value: 0 < value < math.inf)]
NonNegative = Annotated[float, Range("at least 0", lambda value: 0 <= value < math.inf)]
Part = Annotated[float, Range("above 0, up to 1", lambda value: 0 < value <= 1)]
Share = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
Momentum = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]


@cache
def ranges(component: Callable[..., Any]) -> dict[str, tuple[Range, Any]]:
    """Return the range and the default of every keyword-only argument of a class (with its bases) or function."""
    functions = [component]
    if inspect.isclass(component):
        functions = [
            vars(base)["__init__"] for base in component.__mro__ if inspect.isfunction(vars(base).get("__init__"))
        ]
    found: dict[str, tuple[Range | None, Any]] = {}
    for function in functions:
        settings = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        own = SimpleNamespace(__annotations__={p.name: p.annotation for p in settings if p.annotation is not p.empty})
        hints = get_type_hints(own, globalns=function.__globals__, include_extras=True)
        for setting in settings:
            found.setdefault(setting.name, (_range(hints.get(setting.name)), setting.default))
    return {name: (limits, default) for name, (limits, default) in found.items() if limits}


def _range(hint: Any) -> Range | None:
    """Find the range in a type, also inside ``list[...]`` and ``... | None``."""
    if isinstance(hint, Range):
        return hint
    inside = [*getattr(hint, "__metadata__", ()), *get_args(hint)]
    return next((limits for limits in map(_range, inside) if limits), None)


def out_of_range(component: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Return by name one sentence for each of ``values`` that is outside its range; None is not looked at."""
    found = {}
    for name, (limits, default) in ranges(component).items():
        value = values.get(name)
        numbers = value if isinstance(value, list | tuple) else [] if value is None else [value]
        if not all(map(limits.holds, numbers)):
            given = " ".join(map(str, numbers))
            example = "or leave the flag out" if default is None else f"e.g. {default}"
            found[name] = f"--{name} {given}: must be {limits.words}; {example}."
    return found
