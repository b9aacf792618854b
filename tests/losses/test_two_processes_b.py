"""The clustering, whitening, coding-rate, masked and SIGReg losses: two processes equal one on the whole batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cassle.losses.deepcluster import deepcluster
from cassle.losses.dino import dino, dino_centre
from cassle.losses.emp_ssl import emp_ssl, total_coding_rate
from cassle.losses.labelled import labelled_cross_entropy
from cassle.losses.lejepa import lejepa, random_directions, sigreg
from cassle.losses.mae import mae
from cassle.losses.ressl import ressl
from cassle.losses.soft_label import soft_label
from cassle.losses.swav import sinkhorn, swav
from cassle.losses.wmse import wmse
from tests.losses.test_two_processes import BATCH, DIM, TwoViews, half, labels, value_and_gradient
from tests.losses.test_two_processes import batch as whole
from tests.two_processes import WORLD, in_two_processes

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def constant(*shape: int) -> Tensor:
    """The same numbers on every process, for what does not belong to a row."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def permutations(rows: int) -> Tensor:
    g = torch.Generator().manual_seed(6)
    return torch.stack([torch.randperm(rows, generator=g) for _ in range(2)])


def swapped(gather: bool) -> Loss:
    """Both directions of SwAV, with a smooth code (epsilon 1): at 0.05 these scores would give hard ones."""

    def loss(e1: Tensor, e2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
        q1, q2 = (sinkhorn(e, epsilon=1.0, gather=gather) for e in (e1, e2))
        return swav(e1, q2) + swav(e2, q1)

    return loss


def whitened(rows: int, gather: bool, size: int, eps: float) -> Loss:
    options = {"permutations": permutations(rows), "whitening_size": size, "whitening_eps": eps, "gather": gather}
    return lambda e1, e2, t1, t2: wmse(e1, e2, **options)


def clustered(e1: Tensor, e2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    # One unassigned row in each half: the mean counts assigned rows, and both processes have equally many.
    first = torch.arange(len(e1)) % (BATCH // WORLD) == 0
    return deepcluster(e1, t1.argmax(dim=1).masked_fill(first, -1))


def painted(e1: Tensor, e2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    """A row is an image of one channel and DIM x 1 pixels, every pixel a patch; the same three hidden in each."""
    mask = (torch.arange(DIM) < 3).expand(len(e1), DIM)
    return mae(e1.unsqueeze(2), t1.reshape(len(t1), 1, DIM, 1), mask, patch_size=1)


def distilled(e1: Tensor, e2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    return dino([e1, e2], [t1, t2], dino_centre([t1, t2]))


def lines() -> Tensor:
    return random_directions(7, DIM, torch.Generator().manual_seed(3)).double()


def narrow(gather: bool) -> Loss:
    """The coding rate of more rows than columns: sums travel."""
    return lambda e1, e2, t1, t2: -total_coding_rate(e1[:, :3], gather=gather)


def wide(gather: bool) -> Loss:
    """The coding rate of more columns than rows, in all processes together: rows travel."""
    return lambda e1, e2, t1, t2: -total_coding_rate(torch.cat([e1, e2], dim=1), gather=gather)


# Means over the rows that a process holds: their values differ between the processes, and only the mean is the whole's.
MEANS = ("deepcluster", "dino", "ressl", "mae", "swav", "emp_ssl", "lejepa", "soft_label", "some labels")
LOSSES: dict[str, Loss] = {
    "swav": swapped(gather=True),
    "deepcluster": clustered,
    "dino": distilled,
    "ressl": lambda e1, e2, t1, t2: ressl(e1, t1, constant(9, DIM)),
    "wmse": whitened(BATCH, gather=True, size=BATCH, eps=0.0),
    "wmse, sub-batches": whitened(BATCH, gather=True, size=3, eps=0.1),
    "mae": painted,
    "coding rate": narrow(gather=True),
    "coding rate, wide": wide(gather=True),
    "emp_ssl": lambda e1, e2, t1, t2: emp_ssl(torch.stack([e1, e2]), invariance_weight=2.0),
    "sigreg": lambda e1, e2, t1, t2: sigreg(e1, lines()) + sigreg(e2, lines()),
    "lejepa": lambda e1, e2, t1, t2: lejepa(torch.stack([e1, e2]), lines(), lamb=0.5),
    "soft_label": lambda e1, e2, t1, t2: soft_label(e1, t1, temperature=2.0),
    "some labels": lambda e1, e2, t1, t2: labelled_cross_entropy(e1, labels(t1)),
}
LOCAL_LOSSES: dict[str, Loss] = {
    "swav": swapped(gather=False),
    "dino_centre": lambda e1, e2, t1, t2: (dino_centre([t1, t2], gather=False) * e1).sum(),
    "wmse": whitened(BATCH // WORLD, gather=False, size=BATCH, eps=0.1),
    "coding rate": narrow(gather=False),
    "coding rate, wide": wide(gather=False),
    "emp_ssl": lambda e1, e2, t1, t2: emp_ssl(torch.stack([e1, e2]), invariance_weight=2.0, gather=False),
    "sigreg": lambda e1, e2, t1, t2: sigreg(e1, lines(), gather=False) + sigreg(e2, lines(), gather=False),
    "lejepa": lambda e1, e2, t1, t2: lejepa(torch.stack([e1, e2]), lines(), lamb=0.5, gather=False),
}


def without_gradient(data: list[Tensor]) -> dict[str, Tensor]:
    _, _, t1, t2 = data
    return {"codes": sinkhorn(t1, epsilon=1.0), "centre": dino_centre([t1, t2])}


def worker(rank: int) -> dict:
    """All losses in one job: starting the processes costs more than everything that they compute."""
    found = {
        name: value_and_gradient(DistributedDataParallel(TwoViews()), loss, half(rank)) for name, loss in LOSSES.items()
    }
    for name, loss in LOCAL_LOSSES.items():
        found[f"local {name}"] = value_and_gradient(TwoViews(), loss, half(rank))
    return found | without_gradient(half(rank))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return in_two_processes(worker, tmp_path_factory.mktemp("gloo"))


@pytest.mark.parametrize("name", LOSSES)
def test_equals_one_process_on_the_whole_batch(found, name):
    value, gradient = value_and_gradient(TwoViews(), LOSSES[name], whole())
    values = torch.stack([result[name][0] for result in found])
    torch.testing.assert_close(values.mean(), value)
    if name not in MEANS:
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


def test_codes_and_centre_are_the_whole_batch_s(found):
    expected = without_gradient(whole())
    torch.testing.assert_close(torch.cat([result["codes"] for result in found]), expected["codes"])
    for result in found:
        torch.testing.assert_close(result["centre"], expected["centre"])


@pytest.mark.parametrize("name", ["swav", "coding rate", "sigreg", "wmse"])
def test_the_halves_alone_would_not_do(name):
    """Otherwise the tests above could not tell a loss that gathers from one that does not."""
    local = torch.stack([value_and_gradient(TwoViews(), LOCAL_LOSSES[name], half(r))[1] for r in range(WORLD)])
    _, gradient = value_and_gradient(TwoViews(), LOSSES[name], whole())
    assert (local.mean(dim=0) - gradient).abs().max() > 1e-3
