"""Twenty losses of every method, kept in golden.json: a change of them is a change of the method.

python -m tests.methods.golden        write them anew, after a change that is meant
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.progress import Progress
from cassle.optim.build import Optimization
from tests.methods import batch, build, losses, num_views

FILE = Path(__file__).with_name("golden.json")
STEPS, EPOCH = 20, 5
#: rates at which the losses move, but no rounding error grows
LR = {"vicreg": 0.01, "emp_ssl": 0.03}


def train(model: SSLMethod, steps: int = STEPS, *, name: str) -> list[float]:
    """Train on the same two batches in turn, as the trainer would; return the sum of the terms of every step."""
    model.optimization = Optimization(lr=LR.get(name, 0.3), scheduler="none")
    model.optimization.images_per_step = 16
    optimizer = model.configure_optimizers()
    found = []
    for step in range(steps):
        model.progress = Progress(step, steps, EPOCH)
        if step % EPOCH == 0:
            model.begin_epoch(step // EPOCH)
        loss = torch.stack(list(losses(model, batch(num_views(name), seed=step % 2)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.held_back():
            parameter.grad = None
        optimizer.step()
        model.after_step(step + 1, steps)
        found.append(loss.item())
    return found


def golden(name: str) -> list[float]:
    """Return the losses of a method."""
    model = build(name)
    model.begin_task(0, None)
    return train(model, name=name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    lines = [f'  "{name}": {json.dumps([round(v, 6) for v in golden(name)])}' for name in METHODS]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
