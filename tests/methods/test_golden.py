"""The losses of every method's first twenty steps are those that were written down."""

import json

import pytest

from cassle.methods import METHODS
from tests.methods.golden import FILE, STEPS, golden

GOLDEN = json.loads(FILE.read_text())


def test_every_method_has_a_list():
    assert set(GOLDEN) == set(METHODS)
    assert all(len(values) == STEPS and len(set(values)) > 2 for values in GOLDEN.values())


@pytest.mark.parametrize("name", METHODS)
def test_golden(name):
    # Versions of torch add in another order; twenty steps carry that to about 1e-5.
    assert golden(name) == pytest.approx(GOLDEN[name], rel=1e-3, abs=1e-4)
