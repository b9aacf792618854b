"""Two processes with half a batch each find the loss and the gradient of one process with the whole batch."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cassle.losses.barlow_twins import barlow_twins
from cassle.losses.byol import byol
from cassle.losses.contrastive_distillation import contrastive_distillation
from cassle.losses.distributed import gather_with_gradient, sum_over_processes
from cassle.losses.info_nce import info_nce
from cassle.losses.moco import moco_info_nce
from cassle.losses.nnclr import nearest_neighbours, nnclr
from cassle.losses.simclr import nt_xent
from cassle.losses.simsiam import simsiam
from cassle.losses.supcon import supcon
from cassle.losses.vicreg import vicreg
from tests.two_processes import WORLD, in_two_processes

BATCH, WIDTH, DIM = 8, 6, 5


def two_views(loss, e1, e2, t1, t2):
    return loss(e1, e2)


def three_views(loss, e1, e2, t1, t2):
    return loss(e1, e2, e1 * e2)


def to_the_past(loss, e1, e2, t1, t2):
    return loss(torch.stack([e1, e2]), torch.stack([t1, t2]))


def to_target(loss, e1, e2, t1, t2):
    return loss(e1, t1) + loss(e2, t2)


def labels(t1):
    """Classes 0 and 1, and -1 for no label, read from the targets' first feature."""
    return t1[:, 0].round().long() % 3 - 1


def with_labels(loss, e1, e2, t1, t2):
    return loss(e1, e2, targets=labels(t1))


def against_a_queue(loss, e1, e2, t1, t2):
    return loss(e1, t2, queue()) + loss(e2, t1, queue())


def with_neighbours(loss, e1, e2, t1, t2):
    return loss(nearest_neighbours(t1, queue()), e2) + loss(nearest_neighbours(t2, queue()), e1)


def queue() -> Tensor:
    """The same in all processes, as a queue of gathered keys is."""
    return torch.randn(11, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def by_row(e1):
    """A loss that notices the order of the rows."""
    rows = gather_with_gradient(e1)
    return (rows.pow(3) * torch.arange(1.0, len(rows) + 1).unsqueeze(1)).sum()


def own_rows_against_all(e1):
    """A loss that differs between the processes: only a backward that asks all of them is right."""
    everyone = gather_with_gradient(e1)
    return (e1 @ everyone.T).tanh().square().mean()


def own_rows_against_the_sum(e1):
    return (e1 * sum_over_processes(e1.sum(dim=0))).tanh().mean()


LOSSES = {
    "gather_with_gradient": lambda e1, e2, t1, t2: by_row(e1) + by_row(e2),
    "gather_with_gradient, own rows": lambda e1, e2, t1, t2: own_rows_against_all(e1) + own_rows_against_all(e2),
    "sum_over_processes, own rows": lambda e1, e2, t1, t2: own_rows_against_the_sum(e1) + own_rows_against_the_sum(e2),
    "nt_xent": partial(two_views, nt_xent),
    "nt_xent, three views": partial(three_views, nt_xent),
    "supcon": partial(with_labels, supcon),
    "info_nce": partial(two_views, info_nce),
    "moco_info_nce": partial(against_a_queue, moco_info_nce),
    "nnclr": partial(with_neighbours, nnclr),
    "simsiam": partial(to_target, simsiam),
    "vicreg": partial(two_views, vicreg),
    "barlow_twins": partial(two_views, partial(barlow_twins, scale_loss=1.0, lamb=0.1)),
    "byol": partial(to_target, byol),
    **{
        f"contrastive_distillation, {negatives}": partial(
            to_the_past, partial(contrastive_distillation, negatives=negatives)
        )
        for negatives in ("all", "exclude_other_view", "with_predictions")
    },
}
# Means over the rows that a process holds: the processes' values differ, their mean is the value on the whole batch.
OWN_ROWS = {"byol", "simsiam", "info_nce", "moco_info_nce", "nnclr", "vicreg"} | {n for n in LOSSES if "own rows" in n}
LOCAL_LOSSES = {
    "nt_xent": partial(two_views, partial(nt_xent, gather=False)),
    "supcon": partial(with_labels, partial(supcon, gather=False)),
    "info_nce": partial(two_views, partial(info_nce, gather=False)),
    "nnclr": partial(with_neighbours, partial(nnclr, gather=False)),
    "vicreg": partial(two_views, partial(vicreg, gather=False)),
    "barlow_twins": partial(two_views, partial(barlow_twins, gather=False)),
    "contrastive_distillation": partial(to_the_past, partial(contrastive_distillation, gather=False)),
}
GATHERED = {"contrastive_distillation": "contrastive_distillation, exclude_other_view"}


def batch() -> list[Tensor]:
    """Two views of the images and two targets; the halves differ in mean and spread."""
    g = torch.Generator().manual_seed(1)
    views = [torch.randn(BATCH, size, generator=g, dtype=torch.float64) for size in (WIDTH, WIDTH, DIM, DIM)]
    return [torch.cat([x[: BATCH // 2], 3 * x[BATCH // 2 :] + 1]) for x in views]


class TwoViews(nn.Module):
    """One linear encoder, applied to both views in one call, as DistributedDataParallel wants it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(WIDTH, DIM, dtype=torch.float64)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x1), self.encoder(x2)


def value_and_gradient(model: nn.Module, loss, data: list[Tensor]) -> tuple[Tensor, Tensor]:
    x1, x2, t1, t2 = data
    value = loss(*model(x1, x2), t1, t2)
    value.backward()
    return value.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def half(rank: int) -> list[Tensor]:
    return [x.chunk(WORLD)[rank] for x in batch()]


def worker(rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """All losses in one job: starting the processes costs more than everything that they compute."""
    found = {
        name: value_and_gradient(DistributedDataParallel(TwoViews()), loss, half(rank)) for name, loss in LOSSES.items()
    }
    for name, loss in LOCAL_LOSSES.items():
        found[f"local {name}"] = value_and_gradient(TwoViews(), loss, half(rank))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return in_two_processes(worker, tmp_path_factory.mktemp("gloo"))


@pytest.mark.parametrize("name", LOSSES)
def test_equals_one_process_on_the_whole_batch(found, name):
    value, gradient = value_and_gradient(TwoViews(), LOSSES[name], batch())
    values = torch.stack([result[name][0] for result in found])
    torch.testing.assert_close(values.mean(), value)
    if name not in OWN_ROWS:
        torch.testing.assert_close(values[0], values[1])
    assert gradient.abs().max() > 1e-6
    for result in found:
        torch.testing.assert_close(result[name][1], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_gather_false_stays_with_its_own_half(found, name):
    for rank in range(WORLD):
        value, gradient = value_and_gradient(TwoViews(), LOCAL_LOSSES[name], half(rank))
        torch.testing.assert_close(found[rank][f"local {name}"][0], value)
        torch.testing.assert_close(found[rank][f"local {name}"][1], gradient)


@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_gather_makes_a_difference(found, name):
    """The two tests above could not tell gathering from not gathering if it made none."""
    for result in found:
        assert (result[f"local {name}"][1] - result[GATHERED.get(name, name)][1]).abs().max() > 1e-6


def test_positives_and_unlabelled_images_are_in_both_halves():
    first, second = (set(labels(half(rank)[2]).tolist()) for rank in range(WORLD))
    assert first & second >= {-1, 1}


def test_alone_nothing_is_gathered():
    x = torch.randn(3, 2)
    assert gather_with_gradient(x) is x
