"""A draw is a function of what it is for, and of nothing else."""

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from cassle.randomness import generator, key
from tests.conftest import REPOSITORY

COORDINATES = st.tuples(
    st.integers(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters=":")), st.lists(st.integers())
)


@given(COORDINATES, COORDINATES)
def test_keys_differ_where_the_purpose_does(a, b):
    first, second = key(a[0], a[1], *a[2]), key(b[0], b[1], *b[2])
    assert 0 <= first < 2**63
    assert (first == second) == (a == b)


def test_the_key_is_the_same_in_every_process_and_version():
    # A changed key silently changes every result; this number is part of the format.
    assert key(5, "augment", 1, 2) == 552903672863838843
    out = subprocess.run(
        [sys.executable, "-c", "from cassle.randomness import key; print(key(5, 'augment', 1, 2))"],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert int(out.stdout) == key(5, "augment", 1, 2)


def test_generators_are_fresh_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    a, b = (torch.rand(8, generator=generator(5, "order", 1)) for _ in range(2))
    c = torch.rand(8, generator=generator(5, "order", 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
