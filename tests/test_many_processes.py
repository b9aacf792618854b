"""What processes do together: batch norm, features, and waiting for the one that works alone."""

import copy
import time

import pytest
import torch
from torch import nn

from cassle import processes
from cassle.data.module import TaskData
from cassle.data.recipe import Recipe
from cassle.engine.group import BatchNormSync
from cassle.errors import CassleError
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.features import extract_features, features_of_all
from cassle.evaluation.protocol import Evaluation
from cassle.losses.distributed import process_rank
from cassle.nn.synced_batch_norm import SyncedBatchNorm
from cassle.nn.tiny import TinyConvNet
from tests.two_processes import in_two_processes

NORMS = {
    "2d": nn.BatchNorm2d(3),
    "1d": nn.BatchNorm1d(3),
    "without parameters": nn.BatchNorm1d(3, affine=False),
    "cumulative": nn.BatchNorm2d(3, momentum=None),
    "without statistics": nn.BatchNorm2d(3, track_running_stats=False),
}
SIZES = {"a part is smaller": 22, "a process has none": 5, "whole batches": 20}


def values(name: str) -> torch.Tensor:
    """A batch of twelve, far from zero; the first process gets five of them."""
    shape = (12, 3, 2, 2) if "1d" not in name and "parameters" not in name else (12, 3)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 100 + noise * torch.linspace(1, 3, 12, dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))


def normalise(norm: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> dict:
    """Three steps of statistics, then the gradient of a sum over the rows that are here."""
    for _ in range(3):
        x = x.detach().requires_grad_()
        out = norm(x)
    (out.pow(3) * weights).sum().backward()
    gradients = [p.grad for p in norm.parameters()]
    return {"out": out.detach(), "x": x.grad, "parameters": gradients, "state": dict(norm.state_dict())}


def part(x: torch.Tensor, rank: int) -> torch.Tensor:
    return x[:5] if rank == 0 else x[5:]


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return TinyConvNet(8, width=4)


def images(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, 8, 8), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def rows() -> dict:
    """Accuracies on two tasks; some of the digits have no label."""
    digits = TaskData(dataset="digits", split_strategy="data", num_tasks=2).load(8)
    digits.train.targets[::3] = -1
    recipe = Recipe(size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    return accuracy_rows(encoder(), digits, recipe, Evaluation(few_labels=0, disable_linear_eval=True))


def failing(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) / (0 if process_rank() == 1 else 1)


def message(action) -> str:
    try:
        action()
    except (CassleError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def worker(rank: int) -> dict:
    processes.be_patient()
    found = {}
    for name, norm in NORMS.items():
        norm = copy.deepcopy(norm).double()
        sync = BatchNormSync(on_gpu=False)
        sync.apply(norm)
        x = values(name)
        found[name] = normalise(norm, part(x, rank), part(torch.arange(12.0).view(-1, *[1] * (x.dim() - 1)), rank))
        found[name]["kind"] = [type(norm).__name__, type(sync.revert(norm)).__name__]
    frozen = SyncedBatchNorm(3).eval()
    found["eval"] = torch.equal(frozen(torch.ones(1 + rank, 3)), nn.BatchNorm1d(3).eval()(torch.ones(1 + rank, 3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found["half"] = SyncedBatchNorm(3)(part(values("1d"), rank).bfloat16())
    for name, number in SIZES.items():
        found[name] = features_of_all(encoder(), images(number), batch_size=5)
    found["rows"] = rows()
    found["not finite"] = message(lambda: features_of_all(failing, images(20), batch_size=5))
    found["first"] = processes.from_first([rank])
    found["all"] = processes.of_all(rank)
    found["alone"] = processes.rows_to_first(torch.full((2, 3), float(rank)))
    if rank == 1:
        time.sleep(0.5)
        return found  # and it is gone, while the first process waits
    found["gone"] = message(lambda: [processes.of_all(0) for _ in range(2)])
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return in_two_processes(worker, tmp_path_factory.mktemp("gloo"))


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_unequal_parts_is_that_of_the_whole(found, name):
    x = values(name)
    expected = normalise(copy.deepcopy(NORMS[name]).double(), x, torch.arange(12.0).view(-1, *[1] * (x.dim() - 1)))
    for key in ("out", "x"):
        together = torch.cat([result[name][key] for result in found])
        torch.testing.assert_close(together, expected[key], rtol=1e-9, atol=1e-9)
    for i, gradient in enumerate(expected["parameters"]):
        torch.testing.assert_close(sum(result[name]["parameters"][i] for result in found), gradient)
    for result in found:
        torch.testing.assert_close(result[name]["state"], expected["state"], rtol=1e-12, atol=1e-12)
        assert result[name]["kind"] == ["SyncedBatchNorm", type(NORMS[name]).__name__]


def test_batch_norm_in_eval_mode_and_in_half_precision(found):
    assert all(result["eval"] for result in found)
    half, x = torch.cat([result["half"] for result in found]), values("1d").bfloat16().float()
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), nn.BatchNorm1d(3)(x).detach(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", SIZES)
def test_features_of_all_are_those_of_one_process_to_the_bit(found, name):
    expected = extract_features(encoder(), images(SIZES[name]), batch_size=5)
    assert torch.equal(found[0][name], expected) and len(found[1][name]) == 0
    assert torch.equal(features_of_all(encoder(), images(SIZES[name]), batch_size=5), expected)


def test_the_first_process_has_the_accuracies_of_one_process(found):
    assert found[0]["rows"] == rows() and found[1]["rows"] == {}


def test_a_diverged_encoder_stops_all_processes_with_one_message(found):
    assert found[0]["not finite"] == found[1]["not finite"] and "CassleError: encoder: NaN" in found[0]["not finite"]


def test_what_is_passed_around(found):
    assert [result["first"] for result in found] == [[0], [0]]
    assert [result["all"] for result in found] == [[0, 1], [0, 1]]
    assert found[0]["alone"].tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 2


def test_a_process_that_is_gone_is_an_error_and_no_wait_of_days(found):
    assert found[0]["gone"].startswith("CassleError: Another process of this run has ended")


def test_alone_there_is_nobody_to_wait_for():
    processes.be_patient()
    assert processes.from_first(3) == 3 and processes.of_all(3) == [3]
    assert torch.equal(processes.rows_to_first(torch.ones(2, 2)), torch.ones(2, 2))


@pytest.mark.parametrize("on_gpu, kind", [(False, SyncedBatchNorm), (True, nn.SyncBatchNorm)])
def test_a_synchronised_model_stays_itself(on_gpu, kind):
    model = nn.ModuleDict({"student": encoder(), "teacher": encoder().eval()})
    norm, names, x = model["student"].layers.bn1, [*model.state_dict()], images(4).float() / 255
    expected, weight = encoder().eval()(x), norm.weight
    sync = BatchNormSync(on_gpu=on_gpu)
    assert sync.apply(model) is model and model["student"].layers.bn1 is norm and type(norm) is kind
    assert norm.training and not model["teacher"].layers.bn1.training  # torch's own conversion back forgets this
    assert norm.weight is weight and [*model.state_dict()] == names
    assert torch.equal(model["teacher"](x), expected)
    assert sync.revert(model) is model and type(norm) is nn.BatchNorm2d and not model["teacher"].layers.bn1.training
    assert torch.equal(model["student"].eval()(x), expected) and not hasattr(norm, "process_group")
