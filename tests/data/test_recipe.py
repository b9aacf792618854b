"""The recipe and its flags: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import dataclasses

import jsonargparse
import pytest

from cassle.data.recipe import Augmentation, Recipe
from cassle.errors import ConfigError

STATS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def test_recipe_is_immutable_and_comparable():
    recipe = Recipe(size=32, **STATS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.size = 64
    assert recipe == Recipe(size=32, **STATS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 0}, "--size 0"),
        ({"scale": (0.5, 0.2)}, "--min_scale 0.5 --max_scale 0.2"),
        ({"scale": (0.0, 1.0)}, "--min_scale 0.0"),
        ({"ratio": (2.0, 1.0)}, "ratio 2.0, 1.0"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma 0.0, 1.0"),
        ({"brightness": -0.1}, "--brightness -0.1"),
        ({"contrast": float("nan")}, "--contrast nan"),
        ({"hue": 0.6}, "--hue 0.6"),
        ({"gray_prob": 1.5}, "--gray_scale_prob 1.5"),
        ({"blur_prob": -1.0}, "--gaussian_prob -1.0"),
        ({"solarize_threshold": 300}, "solarize_threshold 300"),
        ({"mean": (0.5, 0.5)}, "--mean (0.5, 0.5)"),
        ({"std": (0.5, 0.0, 0.5)}, "--std (0.5, 0.0, 0.5)"),
    ],
)
def test_out_of_range_values_are_named(wrong, words):
    with pytest.raises(ConfigError, match="give") as caught:
        Recipe(**{"size": 32, **STATS, **wrong})
    assert len(caught.value.problems) == 1
    assert words in caught.value.problems[0]


def test_all_problems_are_collected():
    with pytest.raises(ConfigError) as caught:
        Recipe(size=-1, hue=2.0, flip_prob=2.0, **STATS)
    assert len(caught.value.problems) == 3


def test_defaults_give_equal_views_of_the_benchmarks_size():
    first, second = Augmentation().recipes(size=32, **STATS)
    assert first == second
    assert first.size == 32
    assert (first.brightness, first.contrast, first.saturation, first.hue) == (0.4, 0.4, 0.2, 0.1)
    assert (first.scale, first.blur_prob, first.solarize_prob) == ((0.08, 1.0), 0.5, 0.0)
    assert (first.mean, first.std) == (STATS["mean"], STATS["std"])


def test_lists_make_the_views_differ():
    augmentation = Augmentation(gaussian_prob=[1.0, 0.1], solarization_prob=[0.0, 0.2], min_scale=[0.2], size=[64, 48])
    first, second = augmentation.recipes(size=32, **STATS)
    assert (first.blur_prob, second.blur_prob) == (1.0, 0.1)
    assert (first.solarize_prob, second.solarize_prob) == (0.0, 0.2)
    assert first.scale == second.scale == (0.2, 1.0)
    assert (first.size, second.size) == (64, 48)


def test_one_recipe_per_crop():
    assert len(Augmentation(num_crops=5, hue=[0.0, 0.1, 0.2, 0.3, 0.4]).recipes(size=8, **STATS)) == 5


def test_lists_of_a_wrong_length_are_all_named():
    with pytest.raises(ConfigError) as caught:
        Augmentation(num_crops=2, brightness=[0.1, 0.2, 0.3], hue=[])
    assert caught.value.problems == [
        "--brightness 0.1 0.2 0.3: 3 values for 2 views; give 1 value or 2 (--num_crops 2).",
        "--hue (empty): 0 values for 2 views; give 1 value or 2 (--num_crops 2).",
    ]


def test_values_are_checked_at_once_and_each_problem_is_told_once():
    with pytest.raises(ConfigError) as caught:
        Augmentation(hue=0.7, gaussian_prob=[0.5, 1.1])
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match="--size 0"):
        Augmentation(size=0)
    with pytest.raises(ConfigError, match="--num_crops 0"):
        Augmentation(num_crops=0)


def test_the_signature_is_the_command_line():
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(Augmentation)
    config = parser.parse_args(["--gaussian_prob=[0.0, 0.2]", "--brightness=0.8", "--size=64"])
    assert config.gaussian_prob == [0.0, 0.2]
    assert config.brightness == 0.8
    assert config.size == 64
    assert parser.parse_args([]).size is None
    views = Augmentation(**config.as_dict()).recipes(size=32, **STATS)
    assert [view.blur_prob for view in views] == [0.0, 0.2]
    assert "chance of a Gaussian blur" in parser.format_help()
