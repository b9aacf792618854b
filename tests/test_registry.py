"""Names to components: lazily, with aliases, and with a hint when the name is wrong."""

import sys

import pytest

from cassle.errors import ConfigError
from cassle.registry import Registry, did_you_mean


@pytest.fixture
def registry():
    return Registry("shape", {"square": "fractions:Fraction", "circle": "antigravity:fly"}, {"quad": "square"})


def test_a_name_is_imported_when_it_is_asked_for(registry):
    from fractions import Fraction

    assert registry["square"] is Fraction
    assert registry["quad"] is Fraction
    assert "antigravity" not in sys.modules


def test_aliases_resolve_but_are_not_listed(registry):
    assert list(registry) == ["square", "circle"] and len(registry) == 2
    assert "quad" in registry and registry.canonical("quad") == "square"
    assert repr(registry) == "Registry(square, circle)"


def test_an_unknown_name_gets_a_hint_and_the_list(registry):
    with pytest.raises(ConfigError) as caught:
        registry["sqare"]
    assert str(caught.value) == "--shape sqare: unknown. Did you mean 'square'? Known: square, circle."


def test_nothing_close_gets_no_hint(registry):
    with pytest.raises(ConfigError) as caught:
        registry.canonical("xyz")
    assert "Did you mean" not in str(caught.value)
    assert "xyz" not in registry


def test_did_you_mean_takes_the_closest():
    assert did_you_mean("batchsize", ["batch_size", "size"]) == " Did you mean 'batch_size'?"
    assert did_you_mean("batchsize", []) == ""


def member(name):
    """Stand for a library of components: knows the names of even length."""
    if len(name) % 2:
        raise ConfigError(f"no {name}")
    return lambda: name


@pytest.fixture
def family():
    return Registry("shape", {"square": "fractions:Fraction"}, families={"poly/": f"{__name__}:member"})


def test_a_family_resolves_what_follows_its_prefix(family):
    assert family["poly/gons"]() == "gons" and family.canonical("poly/gons") == "poly/gons"
    assert "poly/gons" in family and "poly/gon" not in family and "gons" not in family and 3 not in family
    with pytest.raises(ConfigError, match="no gon"):
        family.canonical("poly/gon")


def test_a_family_is_named_but_not_listed(family):
    assert list(family) == ["square"] and len(family) == 1
    with pytest.raises(ConfigError) as caught:
        family["circle"]
    assert str(caught.value) == "--shape circle: unknown. Known: square, poly/NAME."
