"""Signatures become settings."""

from pathlib import Path
from typing import Literal

import pytest

from cassle.checks import Count, Positive, Share, out_of_range, ranges
from cassle.engine.plan import Plan
from cassle.engine.settings import Component, Schema, belonging, canonical_names, plain
from cassle.errors import ConfigError


class Base:
    def __init__(self, backbone, *, width: int = 3, kind: Literal["a", "b"] = "a") -> None:
        """Make it.

        Args:
            backbone: handed in.
            width: how wide.
            kind: which.
        """


class Mixin(Base):
    def __init__(self, *args, share: float = 0.5, **kwargs) -> None:
        """Make it.

        Args:
            args: of Base.
            share: how much.
            kwargs: of Base.
        """
        super().__init__(*args, **kwargs)


@pytest.fixture(scope="module")
def schema():
    return Schema([Component("Class", Mixin)])


def test_settings_are_the_keyword_only_arguments_of_all_bases(schema):
    assert set(schema.names) == {"share", "width", "kind"}
    assert schema.resolve({}) == {"share": 0.5, "width": 3, "kind": "a"}


def test_functions_too():
    def only(image_size: int, *, folder: Path | None = None, flag: bool = False, ids: list[int] | None = None) -> None:
        """Do it.

        Args:
            image_size: handed in.
            folder: where.
            flag: whether.
            ids: which ones.
        """

    schema = Schema([Component("Function", only)])
    values = schema.resolve({"folder": "a/b", "flag": "true", "ids": ["1", "2"]})
    assert values == {"folder": Path("a/b"), "flag": True, "ids": [1, 2]}
    assert plain(values) == {"folder": "a/b", "flag": True, "ids": [1, 2]}
    assert schema.arguments(only, values) == values and schema.arguments(print, values) == {}


def test_texts_become_the_type_of_the_signature(schema):
    assert schema.resolve({"width": "7", "share": "1", "kind": "b"}) == {"width": 7, "share": 1.0, "kind": "b"}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"width": "x"}, "--width x: must be an integer."),
        ({"width": 1.5}, "--width 1.5: must be an integer."),
        ({"share": "x"}, "--share x: must be a number."),
        ({"kind": "c"}, "--kind c: must be one of ['a', 'b']."),
        ({"widht": 1}, "--widht: unknown. Did you mean 'width'?"),
    ],
)
def test_wrong_values(schema, values, message):
    assert schema.problems(values) == [message]
    with pytest.raises(ConfigError) as caught:
        schema.resolve(values)
    assert caught.value.problems == [message]


def test_all_wrong_values_together(schema):
    with pytest.raises(ConfigError) as caught:
        schema.resolve({"width": "x", "kind": "c", "nonsense": 1, "share": 0.1})
    assert len(caught.value.problems) == 3


class Ranged(Base):
    def __init__(self, *args, share: Share = 0.5, steps: list[Count] | None = None, **kwargs) -> None:
        """Make it.

        Args:
            args: of Base.
            share: how much.
            steps: when.
            kwargs: of Base.
        """
        super().__init__(*args, **kwargs)


class Wider(Ranged):
    def __init__(self, *args, share: Positive = 3.0, **kwargs) -> None:
        """Make it.

        Args:
            args: of Base.
            share: how much, now without an end.
            kwargs: of Base.
        """
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, "2"])
def test_values_out_of_range(value):
    schema = Schema([Component("Class", Ranged)])
    values, problems = schema.read({"share": value, "width": 2})
    assert problems == [f"--share {float(value)}: must be from 0 to 1; e.g. 0.5."]
    assert values["share"] == 0.5 and values["width"] == 2  # the rest can still be looked at


def test_ranges_of_lists_and_of_subclasses():
    schema = Schema([Component("Class", Wider)])
    assert schema.problems({"steps": [3, 0]}) == ["--steps 3 0: must be at least 1; or leave the flag out."]
    assert schema.resolve({"share": 2, "steps": None})["share"] == 2.0
    assert set(ranges(Wider)) == {"share", "steps"} and ranges(Base) == {}
    assert out_of_range(Wider, {"share": 0.0, "other": 1}) == {"share": "--share 0.0: must be above 0; e.g. 3.0."}


def test_one_value_for_a_list():
    schema = Schema([Component("Class", Ranged)])
    assert schema.resolve({"steps": "5"})["steps"] == [5] and schema.resolve({"steps": (5, 6)})["steps"] == [5, 6]
    assert schema.problems({"steps": "x"}) == ["--steps x: must be one or more integers."]


def test_none_is_no_value_of_a_number(schema):
    assert schema.problems({"width": None}) == ["--width none: must be an integer."]


def test_where_a_setting_belongs():
    classes = {"base": Base, "mixin": Mixin}
    where = belonging({"class": (classes, "base"), "other": ({"ranged": Ranged}, None)})
    assert where("share") == "belongs to --class mixin, not base." and where("nonsense") is None
    assert where("steps") == "needs --other."
    schema = Schema([Component("Class", Base)], elsewhere=where)
    assert schema.problems({"steps": 1, "share": 1}) == [f"--{name}: {where(name)}" for name in ("steps", "share")]


def test_settings_under_two_names():
    assert canonical_names({"encoder": "a", "lr": 1}) == {"backbone": "a", "lr": 1}
    with pytest.raises(ConfigError, match="--encoder and --backbone: are the same flag"):
        canonical_names({"encoder": "a", "backbone": "a"})


def test_the_callers_values_stay_as_they_are():
    values = {"method": "simclr", "backbone": "tiny", "gpus": ["0"]}
    Plan(values)
    assert values == {"method": "simclr", "backbone": "tiny", "gpus": ["0"]}


def test_a_seed_has_a_folder_of_its_own():
    settings = {"method": "simclr", "backbone": "tiny", "distiller": "auto"}
    assert Plan(settings).name == Plan({**settings, "seed": 5}).name == "simclr-contrastive-digits"
    assert Plan({**settings, "seed": 6}).name == "simclr-contrastive-digits-seed6"
    assert Plan({**settings, "seed": 6, "name": "mine"}).folder.name == "mine"
