"""Orders of numbers: those of numpy's stable sort, in less time."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.geometry.ragged import by_number, falling

finite = st.floats(allow_nan=False, allow_infinity=False)
confidences = st.one_of(st.floats(0, 1), st.sampled_from([0.0, -0.0, 0.5, 0.1, 0.1 + 2**-56, 1.0]))


@quick
@given(st.one_of(st.lists(confidences, max_size=30), st.lists(finite, max_size=30)))
@example([0.1, np.nextafter(0.1, 1), 0.1])  # which differ in the last bit only
def test_numbers_fall_as_a_stable_sort_has_them(values):
    given = np.array(values, np.float64)
    assert falling(given).tolist() == np.argsort(-given, kind="stable").tolist()


@quick
@given(st.lists(st.one_of(st.integers(-2, 5), st.integers(2**15 - 2, 2**40)), max_size=30))
def test_whole_numbers_rise_as_a_stable_sort_has_them(values):
    given = np.array(values, np.int64)
    assert by_number(given).tolist() == np.argsort(given, kind="stable").tolist()
