"""The optimization component refuses what cannot be meant."""

import pytest

from cassle.errors import ConfigError
from cassle.optim.build import Optimization


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": 0.0}, "--lr 0.0: must be above 0; e.g. 0.3."),
        ({"lr": float("inf")}, "--lr inf: must be above 0; e.g. 0.3."),
        ({"weight_decay": -1e-4}, "--weight_decay -0.0001: must be at least 0; e.g. 0.0001."),
        ({"momentum": 1.0}, "--momentum 1.0: must be at least 0 and below 1; e.g. 0.9."),
        ({"eta_lars": 0.0}, "--eta_lars 0.0: must be above 0; e.g. 0.001."),
        ({"warmup_epochs": -1}, "--warmup_epochs -1: must be at least 0; e.g. 10."),
        ({"warmup_start_lr": -1.0}, "--warmup_start_lr -1.0: must be at least 0; or leave the flag out."),
        ({"min_lr": float("nan")}, "--min_lr nan: must be at least 0; e.g. 0.0."),
        ({"lr_decay_steps": [0, 3]}, "--lr_decay_steps 0 3: must be at least 1; or leave the flag out."),
    ],
)
def test_values_out_of_range(settings, message):
    with pytest.raises(ConfigError) as caught:
        Optimization(**settings)
    assert caught.value.problems == [message]


def test_all_problems_together():
    with pytest.raises(ConfigError) as caught:
        Optimization(lr=-1.0, momentum=2.0, lars=True, optimizer="adam", scheduler="step")
    assert len(caught.value.problems) == 4


def test_the_ends_of_the_ranges_are_allowed():
    lowest = Optimization(weight_decay=0.0, momentum=0.0, warmup_epochs=0, warmup_start_lr=0.0, min_lr=0.0)
    assert lowest.momentum == 0 and lowest.lr_at(100, total_steps=100, steps_per_epoch=10) == 0
