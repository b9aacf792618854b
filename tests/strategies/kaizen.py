"""What the tests of Kaizen share: a tiny model on tiny images whose labels, tasks and positions are known."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.data.batch import Batch
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.distill import DISTILLERS
from cassle.memory import MEMORIES
from cassle.methods import METHODS
from cassle.methods.base import SSLMethod
from cassle.methods.compose import compose
from cassle.optim.build import Optimization
from cassle.strategies.kaizen import Kaizen
from tests.methods import small, small_backbone

IMAGES, CLASSES, TASKS = 64, 4, 2
DRAWS = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (IMAGES, 3, 8, 8), dtype=torch.uint8, generator=DRAWS)
TARGETS = torch.arange(IMAGES) % CLASSES
RECIPE = Recipe(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4)


def loader(task: int, targets: Tensor = TARGETS, views: int = 2) -> ResidentLoader:
    """Return the loader of a task: two classes each."""
    members = (TARGETS.div(CLASSES // TASKS, rounding_mode="floor").eq(task)).nonzero().flatten()
    return ResidentLoader(PIXELS, targets, members, [RECIPE] * views, batch_size=16, seed=0, task=task)


def fresh(
    method: str = "simclr", distiller: str | None = None, memory: str = Kaizen.default_memory, **settings
) -> SSLMethod:
    """Return a small model that knows nothing of the data yet."""
    torch.manual_seed(0)
    kind = compose(METHODS[method], *([DISTILLERS[distiller]] if distiller else []), Kaizen)
    settings = {**small(kind), "replay_proportion": 0.25, "replay_batch_size": 6, **settings}
    model = kind(small_backbone(method), Optimization(lr=0.01, scheduler="none"), **settings)
    model.memory = MEMORIES[memory](model.mem_size, model.stored_dim)
    return model


def begun(task: int = 0, handoff: dict | None = None, targets: Tensor = TARGETS, **settings) -> SSLMethod:
    """Return a small model at the beginning of a task."""
    model = fresh(**settings)
    views = METHODS[settings.get("method", "simclr")].max_views or 2
    model.settle(seed=0, num_train=IMAGES, num_classes=CLASSES, images=loader(task, targets, views))
    model.begin_task(task, handoff)
    return model


def step(model: SSLMethod) -> tuple[Batch, dict[str, Tensor]]:
    """Make the next batch and its losses, without moving a weight."""
    batch = model.compose_batch(next(iter(model.images)))
    return batch, model.losses(batch, model.forward_views(batch.views))


def first_task(**settings) -> dict[str, Tensor]:
    """Return the hand-off of a task 0 in which every weight and statistic has moved."""
    model = begun(**settings)
    optimizer = model.configure_optimizers()
    torch.stack(list(step(model)[1].values())).sum().backward()
    optimizer.step()
    model.end_task()
    return {name: value.clone() for name, value in model.state_dict().items()}


def second_task(targets: Tensor = TARGETS, **settings) -> SSLMethod:
    """Return a model at the beginning of task 1, with a hand-off of its own kind."""
    return begun(1, first_task(targets=targets, **settings), targets, **settings)
