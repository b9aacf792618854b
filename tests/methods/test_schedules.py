"""What objectives do at some times and not at others, as functions of the step and the epoch."""

import pytest
import torch

from cassle.methods.guard import NonFiniteLossError
from cassle.methods.progress import Progress
from cassle.optim.build import Optimization
from tests.methods import IMAGES, batch, build, losses


def at(model, epoch, epochs=10):
    """Put the model at the start of an epoch of three steps."""
    model.progress = Progress(3 * epoch, 3 * epochs, 3)
    return model


@pytest.mark.parametrize("method, flag", [("swav", "freeze_prototypes_epochs"), ("dino", "freeze_last_layer")])
def test_prototypes_rest_in_the_first_epochs(method, flag):
    model = build(method, **{flag: 2})
    assert [len(list(at(model, epoch).held_back())) for epoch in range(4)] == [1, 1, 0, 0]
    assert next(iter(at(model, 0).held_back())) is model.prototypes[0].weight


def test_dinos_teacher_temperature_warms_up():
    settings = {"warmup_teacher_temperature": 0.04, "teacher_temperature": 0.08}
    model = build("dino", warmup_teacher_temperature_epochs=4, **settings)
    found = [at(model, epoch).teacher_temperature for epoch in (0, 2, 4, 9)]
    assert found == pytest.approx([0.04, 0.06, 0.08, 0.08])
    assert at(build("dino", warmup_teacher_temperature_epochs=0, **settings), 0).teacher_temperature == 0.08


def test_dinos_centre_follows_the_teacher():
    model = build("dino")
    model.begin_task(0, None)
    before = model.centre.clone()
    with torch.no_grad():
        expected = torch.cat(model.targets(batch())).mean(dim=0)
    losses(model, batch())
    torch.testing.assert_close(model.centre, 0.9 * before + 0.1 * expected)


def test_simsiams_predictor_keeps_its_rate():
    model = build("simsiam")
    model.optimization = Optimization(lr=1.0, scheduler="cosine", optimizer="sgd")
    optimizer = model.configure_optimizers()
    model.optimization.set_lr(optimizer, 9, 10, 1)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in model.predictor.parameters()} == {1.0}
    assert all(rates[id(p)] < 0.1 for p in model.backbone.parameters())


def test_swavs_queue_begins_with_its_epoch():
    model = build("swav", epoch_queue_starts=2, queue_size=2 * IMAGES)
    for epoch, held in ((0, 0), (1, 0), (2, IMAGES), (3, 2 * IMAGES)):
        losses(at(model, epoch), batch(seed=epoch))
        assert [len(queue.rows) for queue in model.queues] == [held, held]
    assert len(build("swav", queue_size=0).queues) == 0


def test_deepcluster_finds_its_clusters_from_the_second_epoch_on():
    model = build("deepclusterv2")
    model.begin_task(0, None)
    at(model, 0).begin_epoch(0)
    assert losses(model, batch())["deepcluster"] == 0 and model.bank.seen.all()
    before = [prototypes.weight.clone() for prototypes in model.prototypes]
    at(model, 1).begin_epoch(1)
    for head, (prototypes, old) in enumerate(zip(model.prototypes, before, strict=True)):
        assert not torch.equal(prototypes.weight, old)
        nearest = (model.bank.rows[head % 2] @ prototypes.weight.T).argmax(dim=1)
        assert torch.equal(model.assignments[head], nearest)
    assert losses(model, batch())["deepcluster"] > 0
    model.begin_task(1, model.state_dict())
    assert not model.bank.seen.any() and (model.assignments == -1).all()


def test_processes_send_each_other_batch_norms_only():
    model = build("mocov2plus")
    kept = set(dict(model.named_buffers())) - set(model._ddp_params_and_buffers_to_ignore)
    assert kept and all(
        name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for name in kept
    )
    assert "queues.0.slots" not in kept and "momentum_teacher.tau" not in kept


def test_a_singular_covariance_names_the_remedy():
    model = build("wmse")
    model.guard.watch({"wmse": torch.tensor(float("nan"))}, torch.arange(4))
    with pytest.raises(NonFiniteLossError, match="raise --whitening_size, --batch_size or --whitening_eps"):
        model.guard.check(task=0, epoch=0, remedy=model.remedy)
