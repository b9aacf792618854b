"""A classifier on features: made from its widths, or from its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from cassle.nn.state import load_strictly


def classifier(num_features: int, hidden: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return Linear-ReLU-…-Linear, without normalisation; one linear layer if ``hidden`` is empty.

    Args:
        num_features: width of the features.
        hidden: widths of the layers in between.
        num_classes: width of the logits.

    Shapes: (batch, num_features) in, (batch, num_classes) out.
    """
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise([num_features, *hidden, num_classes]):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1])  # no activation after the last layer


def classifier_of(state: Mapping[str, Tensor], prefix: str = "classifier.") -> nn.Sequential | None:
    """Return the classifier whose weights are in a state dict under ``prefix``; None where there is none.

    Raises:
        CheckpointError: the weights under the prefix are not those of :func:`classifier`.
    """
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    matrices = [value.shape for name, value in own.items() if name.endswith("weight")]
    if not matrices:
        return None
    made = classifier(matrices[0][1], [shape[0] for shape in matrices[:-1]], matrices[-1][0])
    load_strictly(made, own, source="the classifier in the checkpoint")
    return made
