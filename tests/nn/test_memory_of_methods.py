"""What objectives remember: the queue, the bank, the prototypes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cassle.losses.distributed import from_the_first
from cassle.nn.bank import MemoryBank
from cassle.nn.heads import mlp
from cassle.nn.prototypes import Prototypes
from cassle.nn.queue import Queue
from tests.two_processes import in_two_processes


def rows(number: int, start: int = 0) -> torch.Tensor:
    """Return unit rows that can be told apart."""
    angle = (start + torch.arange(number)) * 0.01
    return torch.stack([angle.cos(), angle.sin()], dim=1)


@given(size=st.integers(1, 9), pushes=st.lists(st.integers(0, 12), max_size=6))
def test_the_queue_holds_the_last_rows(size, pushes):
    queue, everything = Queue(size, 2, random_start=False), torch.empty(0, 2)
    for number in pushes:
        new = rows(number, len(everything))
        queue.push(3 * new)  # normalised when it comes in
        everything = torch.cat([everything, new])
    kept = everything[-size:]
    assert len(queue.rows) == len(kept) and queue.num_pushed == len(everything)
    order = queue.rows[:, 1].argsort()
    torch.testing.assert_close(queue.rows[order], kept)
    # in their places: row number i of all lies in slot i modulo size
    for number in range(max(0, len(everything) - size), len(everything)):
        torch.testing.assert_close(queue.slots[number % size], everything[number])


def test_a_queue_with_a_random_start_counts_all_slots():
    queue = Queue(5, 2)
    before = queue.rows.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(5))
    queue.push(rows(2))
    torch.testing.assert_close(queue.rows, torch.cat([rows(2), before[2:]]))


def test_a_queue_may_be_pushed_to_while_its_rows_are_in_a_graph():
    queue, q = Queue(4, 2), torch.randn(3, 2, requires_grad=True)
    loss = (q @ queue.rows.T).square().sum()
    queue.push(rows(3))
    loss.backward()
    assert q.grad is not None


def test_a_queue_continues_from_its_state():
    queue, other = Queue(4, 2), Queue(4, 2)
    queue.push(rows(3))
    assert other.num_pushed == 0
    other.load_state_dict(queue.state_dict())
    for copy in (queue, other):
        copy.push(rows(3, 3))
    assert torch.equal(queue.slots, other.slots) and other.num_pushed == 6


def pushing(rank: int) -> dict:
    queue, bank = Queue(6, 2, random_start=False), MemoryBank(8, 2)
    for step in range(2):
        queue.push(rows(2, 4 * step + 2 * rank))
    index = torch.tensor([1, 5]) + rank
    bank.remember(index, [rows(2, 2 * rank), rows(2, 20 + 2 * rank)])
    first = from_the_first(torch.tensor([3, rank]))
    return {"first": first, "rows": queue.rows, "own": queue.own_rows, "bank": bank.rows, "seen": bank.seen}


def test_processes_have_the_same_queue_and_bank(tmp_path):
    first, second = in_two_processes(pushing, tmp_path)
    queue, bank = Queue(6, 2, random_start=False), MemoryBank(8, 2)
    for step in range(2):
        queue.push(rows(4, 4 * step))
    bank.remember(torch.tensor([1, 5, 2, 6]), [rows(4), rows(4, 20)])
    for found in (first, second):
        assert found["first"].tolist() == [3, 0]
        torch.testing.assert_close(found["rows"], queue.rows)
        torch.testing.assert_close(found["bank"], bank.rows)
        assert torch.equal(found["seen"], bank.seen)
    together = torch.stack([first["own"], second["own"]], dim=1).flatten(0, 1)
    torch.testing.assert_close(together, queue.rows)  # every row is in exactly one process's share


def test_the_bank_remembers_the_last_time():
    bank = MemoryBank(5, 2)
    bank.remember(torch.tensor([3, 0]), [2 * rows(2), rows(2, 5), rows(2, 9)])  # a third view is left out
    bank.remember(torch.tensor([3]), [rows(1, 7), rows(1, 8)])
    assert bank.seen.tolist() == [True, False, False, True, False]
    torch.testing.assert_close(bank.rows[0, 3], rows(1, 7)[0])
    torch.testing.assert_close(bank.rows[0, 0], rows(2)[1])
    torch.testing.assert_close(bank.rows[1, 3], rows(1, 8)[0])


def test_prototypes_score_by_the_cosine():
    prototypes, z = Prototypes(4, 3), torch.randn(5, 4)
    expected = torch.stack([F.cosine_similarity(z, w[None], dim=1) for w in prototypes.weight], dim=1)
    torch.testing.assert_close(prototypes(z), expected)
    with torch.no_grad():
        prototypes.weight.mul_(7)  # a step may leave the sphere
    torch.testing.assert_close(prototypes(2 * z), expected)


@pytest.mark.parametrize("last_norm, outputs", [("none", ["Linear"]), ("affine", ["Linear", "BatchNorm1d"])])
def test_heads(last_norm, outputs):
    kinds = [type(layer).__name__ for layer in mlp(3, 4, 5, layers=3, last_norm=last_norm)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + outputs
    plain = mlp(3, 4, 5, bias=False, last_norm="plain")
    assert not plain[-1].affine and all(layer.bias is None for layer in plain if isinstance(layer, torch.nn.Linear))
    spread = mlp(64, 256, 64, std=0.02)
    assert spread[0].weight.std().item() == pytest.approx(0.02, rel=0.1) and not spread[0].bias.any()
