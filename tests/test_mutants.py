"""A few of the broken files of `python -m tests.mutants`, which reads 20,000."""

import random

import pytest

from tests import mutants

pytestmark = pytest.mark.slow  # of readers, which are ours

KINDS = mutants.kinds()


@pytest.mark.parametrize("name", KINDS)
def test_broken_files_are_read_or_refused_soon(tmp_path, name):
    kind = KINDS[name]
    rng = random.Random(name)
    outcome, why = mutants.attempt(kind, kind.seed, tmp_path)
    assert outcome != "broken", why
    for _ in range(12):
        data = mutants.mutant(kind.seed, rng)
        outcome, why = mutants.attempt(kind, data, tmp_path)
        assert outcome != "broken", (data[:2000], why)
