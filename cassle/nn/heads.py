"""Multi-layer perceptrons: projectors and predictors."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn


def mlp(
    num_inputs: int,
    hidden: int,
    num_outputs: int,
    *,
    layers: int = 2,
    batch_norm: bool = True,
    last_norm: Literal["none", "affine", "plain"] = "none",
    bias: bool = True,
    activation: type[nn.Module] = nn.ReLU,
    std: float | None = None,
) -> nn.Sequential:
    """Return Linear(-BN)-activation-…-Linear(-BN).

    Args:
        num_inputs: width of the input.
        hidden: width of the layers in between.
        num_outputs: width of the output; no activation follows the last layer.
        layers: number of linear layers.
        batch_norm: put a batch norm between each hidden linear layer and its activation.
        last_norm: batch norm after the last layer: none, affine, or plain (without scale and shift).
        bias: biases of the hidden linear layers; a batch norm that follows makes them idle.
        activation: class of the activations.
        std: spread of the truncated normal distribution that weights start from; default: PyTorch's initialisation.

    Shapes: (batch, num_inputs) in, (batch, num_outputs) out.
    """
    widths = [num_inputs, *[hidden] * (layers - 1)]
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules.append(nn.Linear(inputs, outputs, bias=bias))
        if batch_norm:
            modules.append(nn.BatchNorm1d(outputs))
        modules.append(activation())
    modules.append(nn.Linear(widths[-1], num_outputs, bias=last_norm == "none"))
    if last_norm != "none":
        modules.append(nn.BatchNorm1d(num_outputs, affine=last_norm == "affine"))
    for layer in modules:
        if std is not None and isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*modules)
