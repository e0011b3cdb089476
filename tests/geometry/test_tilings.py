"""Windows of a grid are regular, whichever of them are there; those of no grid are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.geometry.grids import grid
from tiler.geometry.tilings import fit_of

sides = st.integers(20, 700)


def fit(rects, *size):
    shape = np.array(rects, np.float64).reshape(-1, 4)
    return fit_of(shape, np.tile(np.array(size, np.float64), (len(shape), 1)))


@quick
@given(sides, sides, st.integers(20, 200), st.floats(0, 0.9), st.data())
def test_the_windows_of_a_grid_are_regular(width, height, tile, overlap, data):
    edge = data.draw(st.sampled_from(["shift", "trim", "pad"]))
    windows = grid(width, height, tile, int(overlap * tile), edge)
    rects = [tuple(window.bounds.tolist()) for window in windows]
    kept = data.draw(st.lists(st.sampled_from(rects), min_size=1, unique=True))
    found = fit(kept, width, height)
    assert found.regular and found.possible.all()


@pytest.mark.parametrize(
    ("rects", "regular", "possible"),
    [
        ([], True, []),
        ([(0, 0, 400, 400), (320, 0, 720, 400)], True, [1, 1]),
        ([(0, 0, 400, 400), (320, 0, 400, 400)], False, [1, 0]),  # a narrow one, not at the border
        ([(0, 0, 400, 400), (317, 0, 717, 400), (200, 0, 600, 400)], False, [1, 1, 1]),  # no stride
        ([(0, 0, 400, 400), (0, 320, 400, 720)], False, [1, 1]),  # shows nothing new
        ([(0, 0, 400, 400), (720, 0, 1120, 400)], False, [1, 0]),  # outside
        ([(0, 0, 9, 9)], False, [0]),  # smaller than any tile
        ([(0.5, 0, 400.5, 400)], False, [1]),
    ],
)
def test_other_windows_are_not(rects, regular, possible):
    found = fit(rects, 720, 400)
    assert (found.regular, found.possible.tolist()) == (regular, [*map(bool, possible)])
