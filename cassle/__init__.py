"""Continual self-supervised learning of visual representations.

The public names are imported when they are first used: ``import cassle`` itself loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "METHODS": "cassle.methods",
    "DISTILLERS": "cassle.distill",
    "STRATEGIES": "cassle.strategies",
    "MEMORIES": "cassle.memory",
    "BACKBONES": "cassle.nn",
    "BENCHMARKS": "cassle.data",
    "compose": "cassle.methods.compose",
    "Experiment": "cassle.engine.experiment",
    "load_backbone": "cassle.engine.pretrained",
    "compare": "cassle.engine.compare",
    "evaluate": "cassle.engine.linear",
    "export": "cassle.engine.export",
}
__all__ = [*_PUBLIC, "__version__"]

if TYPE_CHECKING:
    from cassle.data import BENCHMARKS as BENCHMARKS
    from cassle.distill import DISTILLERS as DISTILLERS
    from cassle.engine.compare import compare as compare
    from cassle.engine.experiment import Experiment as Experiment
    from cassle.engine.export import export as export
    from cassle.engine.linear import evaluate as evaluate
    from cassle.engine.pretrained import load_backbone as load_backbone
    from cassle.memory import MEMORIES as MEMORIES
    from cassle.methods import METHODS as METHODS
    from cassle.methods.compose import compose as compose
    from cassle.nn import BACKBONES as BACKBONES
    from cassle.strategies import STRATEGIES as STRATEGIES


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cassle' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
