import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassle.errors import ConfigError
from cassle.optim.build import Optimization
from cassle.optim.schedule import SCHEDULES, constant, cosine, exit_decay, step_decay, triangle, warmup_cosine

rates = st.floats(1e-6, 10)


@given(lr=rates, start=rates, end=rates, warmup=st.integers(1, 50), rest=st.integers(1, 200))
def test_warmup_cosine_is_exact_at_its_three_points(lr, start, end, warmup, rest):
    options = {"total_steps": warmup + rest, "warmup_steps": warmup, "lr": lr, "min_lr": end, "warmup_start_lr": start}
    assert warmup_cosine(0, **options) == start
    assert warmup_cosine(warmup, **options) == lr
    assert warmup_cosine(warmup + rest, **options) == end
    assert warmup_cosine(warmup + rest + 7, **options) == end


@given(step=st.integers(0, 120), warmup=st.integers(0, 130), total=st.integers(0, 100), lr=rates)
def test_warmup_cosine_stays_in_its_range_for_every_length(step, warmup, total, lr):
    value = warmup_cosine(step, total_steps=total, warmup_steps=warmup, lr=lr, min_lr=lr / 10, warmup_start_lr=lr / 2)
    assert lr / 10 * (1 - 1e-12) <= value <= lr * (1 + 1e-12)


def test_warmup_cosine_is_linear_and_then_half_a_cosine():
    options = {"total_steps": 30, "warmup_steps": 10, "lr": 1.0, "min_lr": 0.2, "warmup_start_lr": 0.1}
    for step in range(11):
        assert warmup_cosine(step, **options) == pytest.approx(0.1 + 0.9 * step / 10)
    for step in range(10, 31):
        expected = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 20))
        assert warmup_cosine(step, **options) == pytest.approx(expected)


@pytest.mark.parametrize("total", [0, 4, 10])
def test_a_run_shorter_than_its_warmup_ends_on_the_ramp(total):
    options = {"total_steps": total, "warmup_steps": 10, "lr": 1.0, "min_lr": 0.0}
    assert warmup_cosine(4, **options) == pytest.approx(0.4)
    assert warmup_cosine(10, **options) == 1.0
    assert warmup_cosine(12, **options) == 1.0


def test_without_warmup_it_is_the_cosine():
    for step in range(8):
        expected = cosine(step, total_steps=7, lr=0.3, min_lr=0.1)
        assert warmup_cosine(step, total_steps=7, warmup_steps=0, lr=0.3, min_lr=0.1, warmup_start_lr=9.0) == expected


@given(total=st.integers(1, 300), lr=rates)
def test_cosine_never_rises(total, lr):
    values = [cosine(step, total_steps=total, lr=lr) for step in range(total + 3)]
    assert values == sorted(values, reverse=True)
    assert values[0] == lr and values[total:] == [0.0, 0.0, 0.0]


def test_step_decay_falls_at_each_milestone():
    values = [step_decay(step, lr=1.0, decay_steps=[60, 80], gamma=0.1) for step in (0, 59, 60, 79, 80, 99)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert step_decay(5, lr=0.3, decay_steps=[]) == 0.3


def test_the_names_that_the_flag_takes():
    known = {"warmup_cosine": warmup_cosine, "cosine": cosine, "step": step_decay, "triangle": triangle}
    assert {**known, "none": constant} == SCHEDULES
    assert SCHEDULES["none"](10**6, lr=0.3) == 0.3


def test_triangle_goes_there_and_back():
    found = [triangle(step, lr=0.1, max_lr=0.5, period=4) for step in range(9)]
    assert found == pytest.approx([0.1, 0.3, 0.5, 0.3, 0.1, 0.3, 0.5, 0.3, 0.1])


def test_exit_decay_is_half_a_cosine_at_the_end():
    found = [exit_decay(step, total_steps=10, share=0.4) for step in range(11)]
    assert found[:7] == [1.0] * 7 and found[8] == pytest.approx(0.5) and found[10] == 0
    assert [exit_decay(step, total_steps=10, share=0.0) for step in (0, 9, 10)] == [1.0] * 3


def test_the_settings_of_a_stream():
    made = Optimization(scheduler="triangle", lr=0.1, triangle_lr=0.5, triangle_period=4, exit_decay=0.5)
    assert [made.lr_at(step, 16, 16) for step in (0, 2, 4)] == pytest.approx([0.1, 0.5, 0.1])
    assert made.lr_at(10, 16, 16) == pytest.approx(0.5 * exit_decay(10, total_steps=16, share=0.5))
    assert made.lr_at(16, 16, 16) == 0
    with pytest.raises(ConfigError, match="--triangle_lr: goes with"):
        Optimization(scheduler="triangle")
    with pytest.raises(ConfigError, match="--triangle_lr: goes with"):
        Optimization(triangle_lr=0.1)
    with pytest.raises(ConfigError, match="--triangle_period 100: is for --scheduler triangle"):
        Optimization(triangle_period=100)
