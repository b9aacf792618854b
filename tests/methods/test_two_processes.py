"""Two processes train as one does on their batches together: gradients, statistics, queues, teachers, losses.

In float64, so that the bounds speak of the algorithm: in float32 the two ways to sum a batch differ in the last digit,
and twenty steps enlarge that.
"""

import os

import pytest
import pytorch_lightning as pl
import torch

from cassle.data.batch import Batch
from cassle.engine.callbacks import Seeding
from cassle.engine.trainer import Training, quiet
from cassle.methods import METHODS
from cassle.nn.tiny import TinyConvNet
from cassle.optim.build import Optimization
from tests.methods import small
from tests.two_processes import WORLD, in_two_processes

EPOCHS, STEPS = 2, 20  # two epochs of ten
BOUND = 1e-6  # Adam enlarges rounding where the gradient is zero, to 2e-8; the others stay below 1e-11
IMAGES = 16  # of both processes
LARS = {"lars": True, "lr": 6.0, "eta_lars": 0.02, "exclude_bias_n_norm": True}
SGD = {"lr": 4.0, "momentum": 0.9}
OPTIMIZERS = {
    "simclr": LARS, "mocov2plus": SGD, "barlow_twins": LARS, "vicreg": {"optimizer": "adamw", "lr": 0.05},
    "swav": SGD, "byol": LARS,
}  # fmt: skip
#: the second epoch of SwAV has moving prototypes, and a queue; 19 rows are not as many in both processes
EXTRA = {"swav": {"epoch_queue_starts": 1, "freeze_prototypes_epochs": 1, "queue_size": 19}}
#: what makes a difference: the comparison would notice if it were left out
MUTANTS = {
    "batch norm": ("byol", {}, False),
    "negatives": ("simclr", {"gather": False}, True),
    "correlation": ("barlow_twins", {"gather": False}, True),
    "variances": ("vicreg", {"gather": False}, True),
    "codes": ("swav", {"gather": False}, True),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]


def images(step: int, rank: int, world: int) -> Batch:
    """Return the part of one process; the halves of the whole batch differ in mean and spread."""
    draws = torch.Generator().manual_seed(step)
    whole = torch.randn(IMAGES, 3, 8, 8, generator=draws, dtype=torch.float64)
    whole[IMAGES // 2 :] = 2 * whole[IMAGES // 2 :] + 1
    views = [whole + 0.3 * torch.randn(whole.shape, generator=draws, dtype=torch.float64) for _ in range(2)]
    own = [view.chunk(world)[rank] for view in views]
    return Batch(torch.arange(IMAGES).chunk(world)[rank], own, torch.zeros(IMAGES // world, dtype=torch.int64), 2)


class Recorder(pl.Callback):
    def __init__(self):
        self.gradients, self.losses = {}, []

    def on_before_optimizer_step(self, trainer, model, optimizer):
        if trainer.global_step == 0:
            self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.losses.append(torch.stack(list(outputs["terms"].values())).sum())


class Epochs:
    """Batches in epochs."""

    def __init__(self, length: int, rank: int, world: int) -> None:
        self.length, self.rank, self.world, self.epoch = length, rank, world, 0

    def __len__(self):
        return self.length

    def __iter__(self):
        steps = range(self.epoch * len(self), (self.epoch + 1) * len(self))
        self.epoch += 1
        return (images(step, self.rank, self.world) for step in steps)


def model_of(name, **settings):
    torch.manual_seed(0)
    kind, optimization = METHODS[name], Optimization(**OPTIMIZERS[name], warmup_epochs=1)
    return kind(TinyConvNet(8, width=4), optimization, **{**small(kind), **EXTRA.get(name, {}), **settings}).double()


def train(name, folder, rank=0, world=1, *, steps=STEPS, sync=True, **settings):
    many = {"devices": world, "trainer_strategy": "ddp", "sync_batchnorm": sync} if world > 1 else {}
    training = Training(max_epochs=EPOCHS, batch_size=IMAGES // world, accelerator="cpu", **many)
    model = model_of(name, **settings)
    model.optimization.images_per_step = training.images_per_step
    model.begin_task(0, None)
    recorder = Recorder()
    trainer = training.make_trainer(folder, [Seeding(0, 0), recorder], progress_bar=False)
    kinds = [type(module) for module in model.modules()]
    trainer.fit(model, Epochs(steps // EPOCHS, rank, world))
    assert trainer.world_size == world and trainer.global_step == steps
    assert [type(module) for module in model.modules()] == kinds
    return {"gradients": recorder.gradients, "state": model.state_dict(), "losses": torch.stack(recorder.losses)}


def worker(rank: int, folder: str) -> dict:
    """All methods in one job: starting the processes costs more than everything that they compute."""
    os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    quiet()
    found = {name: train(name, folder, rank, WORLD) for name in OPTIMIZERS}
    for what, (name, settings, sync) in MUTANTS.items():
        found[what] = train(name, folder, rank, WORLD, steps=EPOCHS, sync=sync, **settings)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    return in_two_processes(worker, folder, str(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    quiet()
    return {name: train(name, tmp_path_factory.mktemp("alone")) for name in OPTIMIZERS}


def difference(result: dict, expected: dict) -> float:
    """Return the largest difference of named tensors, each relative to its largest number.

    What should be zero (the gradient of a bias before a batch norm) is compared with the largest number of all.
    """
    assert result.keys() == expected.keys()
    sizes = {name: value.double().abs().max() for name, value in expected.items()}
    least = 1e-6 * max(sizes.values())
    errors = [(result[n].double() - expected[n].double()).abs().max() / max(sizes[n], least) for n in sizes]
    return float(max(errors))


def losses(results: list[dict]) -> torch.Tensor:
    return torch.stack([result["losses"] for result in results]).mean(dim=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_processes_train_as_one_on_the_whole_batch(found, alone, name):
    results, expected = [result[name] for result in found], alone[name]
    for result in results:
        for part in ("gradients", "state"):
            assert difference(result[part], expected[part]) < BOUND, part
    torch.testing.assert_close(losses(results), expected["losses"], rtol=BOUND, atol=0)
    assert expected["losses"].unique().numel() == STEPS
    assert len(expected["gradients"]) == sum(p.requires_grad for p in model_of(name).parameters())


@pytest.mark.parametrize("what", MUTANTS)
def test_without_synchronisation_it_is_another_training(found, alone, what):
    results, expected = [result[what] for result in found], alone[MUTANTS[what][0]]
    assert difference(results[0]["gradients"], expected["gradients"]) > 1e-3
    if what != "codes":  # they are balanced differently, but their cross-entropies are alike
        assert (losses(results)[0] / expected["losses"][0] - 1).abs() > 1e-4
