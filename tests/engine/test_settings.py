"""Signatures become settings."""

from pathlib import Path
from typing import Literal

import pytest

from cassle.engine.settings import Component, Schema, plain
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
