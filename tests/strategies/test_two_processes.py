"""What is decided at the end of a task, in two processes: by both alike, and as one process would."""

from unittest import mock

import pytest
import torch
from torch import nn

from cassle.data.batch import Batch
from cassle.errors import CheckpointError
from cassle.memory.balanced import ClassBalanced
from cassle.memory.dealt import whole_state
from cassle.memory.fifo import FIFO, FIFOLast
from cassle.memory.minred import MinRed
from cassle.memory.reservoir import Reservoir
from cassle.methods.compose import compose
from cassle.methods.progress import Progress
from cassle.methods.simclr import SimCLR
from cassle.randomness import generator
from cassle.strategies import STRATEGIES
from tests.two_processes import in_two_processes

PIXELS = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5


class Still:
    """Images without augmentation, so that a batch looks the same however it is spread over processes."""

    num_large = 2

    def __init__(self, batch_size):
        self.members, self.targets, self.batch_size = torch.arange(24), torch.arange(60) % 3, batch_size

    def views_of(self, index, purpose, pixels=None):
        return [PIXELS[index], PIXELS[index].flip(3)]

    def centre_of(self, index, pixels=None):
        return PIXELS[index] + 0.1

    def ahead(self):
        return iter(())


class Linear(nn.Module):
    num_features = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 4)

    def forward(self, x):
        return self.layer(x.flatten(1))


def finished(strategy, batch_size, **settings):
    torch.manual_seed(1)
    kind = compose(SimCLR, STRATEGIES[strategy])
    model = kind(Linear(), output_dim=4, proj_hidden_dim=8, **settings)
    if strategy != "ewc":
        model.memory = FIFO(model.mem_size, model.stored_dim)
    model.settle(seed=3, num_train=60, num_classes=3, images=Still(batch_size))
    model.begin_task(0, None)
    model.end_task()
    return model


def end_of_task(rank, batch_size, at_once):
    """Return the exemplars of CCL and of simple replay, and the importance of EWC."""
    with mock.patch("cassle.strategies.ccl.IMAGES_AT_ONCE", at_once):
        kept = [finished(name, batch_size, n_save=4, mem_size=12).memory.keys for name in ("ccl", "simple_replay")]
    return [*kept, finished("ewc", batch_size, ewc_batches=2).importance]


def trained(rank, world):
    """Return, for two kinds of replay, the memory after some steps, and what each step drew: in all, for this rank."""
    found = []
    for strategy, kind in (("er", Reservoir), ("minred", MinRed)):
        torch.manual_seed(1)
        model = compose(SimCLR, STRATEGIES[strategy])(Linear(), output_dim=4, proj_hidden_dim=8, mem_size=10)
        model.replay_batch_size = 4
        model.memory = kind(10, model.stored_dim, **({"feature_on_arrival": True} if kind is MinRed else {}))
        model.settle(seed=3, num_train=60, num_classes=3, images=Still(4))
        model.begin_task(0, None)
        drawn, own = [], []
        for step in range(4):
            model.progress = Progress(step, 4, 4)
            index = torch.arange(8 * step, 8 * step + 8).view(world, -1)[rank]
            views = model.images.views_of(index, "augment")
            batch = model.compose_batch(Batch(index, views, index % 3))
            model.losses(batch, model.forward_views(batch.views))
            if batch.num_replay:
                drawn.append(model.drawn.tolist())
                own.append(model.recalled.keys.tolist())
        found += [model.memory.keys.tolist(), drawn, own]
    return found


KINDS = {"fifo": FIFO, "fifo_last": FIFOLast, "reservoir": Reservoir, "balanced": ClassBalanced, "minred": MinRed}


def dealt(rank, world):
    """Return by kind, for memories whose images are dealt: what each draw gave, the rows here, and the whole of it.

    The images say which they are. Not the number of the slots nor that of the rows is a multiple of the processes'.
    """
    found = {}
    for name, kind in KINDS.items():
        on_arrival = name == "minred"
        memory = kind(7, 2, (3, 2, 2), **({"feature_on_arrival": True} if on_arrival else {}))
        memory.deal(rank, world)
        given = []
        for turn in range(6):
            keys = torch.arange(5 * turn, 5 * turn + 5)
            pixels = (keys[:, None, None, None] + torch.arange(12).view(3, 2, 2) * 17).to(torch.uint8)
            features = torch.stack([keys.cos(), (3.0 * keys).sin()], dim=1) if on_arrival else None
            draws = generator(turn, "arrive")
            memory.insert(keys, keys % 3, features=features, payload=pixels, generator=draws)
            slots, past = memory.recall(4 // world, generator(turn, "draw"))
            assert torch.equal(past.payload[:, 0, 0, 0], past.keys.to(torch.uint8))
            given.append([slots, past.keys, past.payload])
        with mock.patch("cassle.memory.dealt.AT_ONCE", 24):  # two images at a time
            whole = whole_state(nn.ModuleDict({"memory": memory})).get("memory.payload")
        parts = memory.own_part(torch.arange(7 * 12, dtype=torch.uint8).view(7, 3, 2, 2))
        assert world == 1 or parts[0].equal(torch.arange(rank * 12, rank * 12 + 12, dtype=torch.uint8).view(3, 2, 2))
        whole = memory.payload if world == 1 else whole
        found[name] = [given, len(memory.payload), torch.empty(0) if whole is None else whole, memory.keys]
    return found


def everything(rank, batch_size, at_once):
    return [end_of_task(rank, batch_size, at_once), trained(rank, 2), dealt(rank, 2)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_two_processes(everything, tmp_path_factory.mktemp("two"), 4, 5)  # the images in five parts: 3 and 2


def test_two_processes_decide_as_one(two):
    alone = end_of_task(0, 8, 24)
    for found, *_ in two:
        assert found[0].tolist() == alone[0].tolist() and found[1].tolist() == alone[1].tolist()
        torch.testing.assert_close(found[2], alone[2], rtol=1e-4, atol=1e-8)
    assert (alone[2] > 0).any() and (alone[0] >= 0).all()


def test_two_processes_keep_one_memory_and_replay_it_in_parts(two):
    first, second = (found for _, found, _ in two)
    for part in (0, 3):  # of both strategies
        keys, drawn, own = first[part : part + 3]
        assert keys == second[part] and -1 not in keys
        assert len(drawn) >= 2 and drawn == second[part + 1]
        assert all(a != b and len(a) == len(b) == 4 for a, b in zip(own, second[part + 2], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_dealt_come_to_who_drew_them(kind, two):
    given, rows, whole, keys = dealt(0, 1)[kind]
    (first, rows_1, whole_1, keys_1), (second, rows_2, whole_2, _) = (found[2][kind] for found in two)
    assert (rows, rows_1, rows_2) == (7, 4, 4)
    assert torch.equal(keys, keys_1) and torch.equal(whole, whole_1) and not len(whole_2)
    for one, a, b in zip(given, first, second, strict=True):
        assert torch.equal(one[0], a[0]) and torch.equal(one[0], b[0])
        assert torch.equal(one[1], torch.cat([a[1], b[1]])) and torch.equal(one[2], torch.cat([a[2], b[2]]))


def test_a_dealt_memory_hands_out_no_images_by_slot():
    memory = FIFO(4, 0, (3, 2, 2))
    memory.deal(1, 2)
    with pytest.raises(ValueError, match="draw them with recall"):
        memory.entries(torch.tensor([0]))
    with pytest.raises(ValueError, match="rank=2, world=2"):
        memory.deal(2, 2)
    with pytest.raises(CheckpointError, match="2 images, and --mem_size 4"):  # a part, and not the whole
        memory.own_part(memory.payload)
