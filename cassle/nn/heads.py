"""Multi-layer perceptrons: projectors and predictors."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(num_inputs: int, hidden: int, num_outputs: int, *, layers: int = 2, batch_norm: bool = True) -> nn.Sequential:
    """Return Linear(-BN)-ReLU-…-Linear.

    Args:
        num_inputs: width of the input.
        hidden: width of the layers in between.
        num_outputs: width of the output; the last layer is linear, without norm or activation.
        layers: number of linear layers.
        batch_norm: put a batch norm between each hidden linear layer and its ReLU.

    Shapes: (batch, num_inputs) in, (batch, num_outputs) out.
    """
    widths = [num_inputs, *[hidden] * (layers - 1)]
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules.append(nn.Linear(inputs, outputs))
        if batch_norm:
            modules.append(nn.BatchNorm1d(outputs))
        modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules, nn.Linear(widths[-1], num_outputs))
