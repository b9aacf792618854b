"""The resident loader: every sample once an epoch, the same numbers wherever a run was interrupted."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.data.batch import Batch
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.errors import ConfigError

RECIPES = [
    Recipe(size=6, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.4, hue=0.1, blur_prob=0.5),
    Recipe(size=4, mean=(0.5,) * 3, std=(0.25,) * 3, solarize_prob=0.5),
]
PIXELS = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MEMBERS = torch.arange(1, 40, 2)  # 20 of the 40


@dataclass
class Plan:
    batch_size: int = 6
    seed: int = 5
    task: int = 1
    rank: int = 0
    world_size: int = 1


def loader(**changes) -> ResidentLoader:
    return ResidentLoader(PIXELS, torch.arange(40) * 10, MEMBERS, RECIPES, **vars(Plan(**changes)))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip([a[0], *a[1], a[2]], [b[0], *b[1], b[2]], strict=True))


def test_an_epoch_has_every_sample_at_most_once():
    it = loader()
    assert len(it) == 3
    for _ in range(3):
        index = torch.cat([batch.index for batch in it])
        assert len(index) == 18 and len(set(index.tolist())) == 18 and set(index.tolist()) <= set(MEMBERS.tolist())
    assert sorted(torch.cat([batch.index for batch in loader(batch_size=5)]).tolist()) == MEMBERS.tolist()


def test_a_new_order_every_epoch_task_and_seed():
    it = loader()
    orders = [torch.cat([b.index for b in it]).tolist() for _ in range(3)]
    orders += [torch.cat([b.index for b in other]).tolist() for other in (loader(task=2), loader(seed=6))]
    assert len({tuple(order) for order in orders}) == 5
    assert orders[0] == torch.cat([b.index for b in loader()]).tolist()


def test_a_batch():
    batch = next(iter(loader()))
    assert [view.shape for view in batch.views] == [(6, 3, 6, 6), (6, 3, 4, 4)]
    assert all(view.dtype == torch.float32 and view.isfinite().all() for view in batch.views)
    assert torch.equal(batch.targets, batch.index * 10)


def test_views_belong_to_seed_task_and_step():
    """The same images, asked for by another seed, task or step, are seen in another way."""

    index = MEMBERS[:6]
    first = loader()._make(0, index)
    for other in (
        loader(seed=6)._make(0, index),
        loader(task=2)._make(0, index),
        loader()._make(1, index),
        loader(rank=1)._make(0, index),
    ):
        assert not torch.equal(first.views[0], other.views[0])
    assert same(first, loader()._make(0, index))
    twice = ResidentLoader(PIXELS, torch.arange(40), MEMBERS, RECIPES[:1] * 2, batch_size=6, seed=5, task=1)._make(
        0, index
    )
    assert not torch.equal(*twice.views)


def test_views_that_are_made_later_are_the_same():
    later, whole = loader(), loader()
    later.views_later = True
    for _ in range(2):
        for bare, batch in zip(later, whole, strict=True):
            assert not bare.views and same(later.with_views(bare), batch)


@settings(max_examples=15)
@given(st.integers(0, 9))
def test_a_resumed_loader_yields_the_rest(position):
    whole = loader()
    batches = [batch for _ in range(3) for batch in whole]

    stopped = loader()
    iterator = iter(stopped)
    for _ in range(position):
        try:
            next(iterator)
        except StopIteration:
            iterator = iter(stopped)
            next(iterator)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    rest = []
    while len(rest) < 9 - position:
        rest += list(resumed)
    assert len(rest) == 9 - position and all(same(a, b) for a, b in zip(rest, batches[position:], strict=True))


def test_the_state_is_saved_while_a_batch_is_trained_on():
    it = loader()
    next(iter(it))
    assert it.state_dict() == {"step": 1}


@given(st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=9)
def test_processes_share_every_global_batch(world, batch):
    parts = [list(loader(batch_size=batch, rank=rank, world_size=world)) for rank in range(world)]
    whole = list(loader(batch_size=batch * world))
    assert {len(part) for part in parts} == {len(whole)}
    for step, single in enumerate(whole):
        assert torch.equal(torch.cat([part[step].index for part in parts]), single.index)


def test_dealing_takes_a_part():
    it = loader(batch_size=3)
    it.deal(rank=1, world_size=2)
    assert len(it) == 3
    assert torch.equal(next(iter(it)).index, next(iter(loader())).index[3:])


def test_too_few_images():
    with pytest.raises(ConfigError, match="--batch_size 21: task 1 has only 20 images; use --batch_size 20 or less"):
        loader(batch_size=21)
    with pytest.raises(ConfigError, match=r"--batch_size 11 x 2 processes: .* --batch_size 10 or less"):
        loader(batch_size=11, world_size=2)
