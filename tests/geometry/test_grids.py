from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.geometry.grids import MIN_SIDE, divided, grid, overlap_px, spans

EDGES = ("shift", "pad", "trim", "balance")


@st.composite
def layouts(draw, edges=EDGES, smallest=10):
    """Arguments of `grid`."""
    tile = draw(st.integers(10, 60)), draw(st.integers(10, 60))
    overlap = draw(st.one_of(st.floats(0, 0.9), st.integers(1, min(tile) - 1)))
    edge = draw(st.sampled_from(edges))
    return draw(st.integers(smallest, 300)), draw(st.integers(smallest, 300)), tile, overlap, edge


def lines(windows):
    """The columns and the rows of a grid: start and size."""
    return sorted({(w.x, w.width) for w in windows}), sorted({(w.y, w.height) for w in windows})


@quick
@given(layouts())
def test_every_pixel_is_covered(layout):
    width, height, *_ = layout
    covered = np.zeros((height, width), bool)
    for w in grid(*layout):
        covered[w.y : w.bottom, w.x : w.right] = True
    assert covered.all()


@quick
@given(layouts())
def test_no_window_twice_and_row_by_row(layout):
    windows = grid(*layout)
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows, key=lambda w: (w.y, w.x))
    columns, rows = lines(windows)
    assert len(windows) == len(columns) * len(rows)


@quick
@given(layouts())
def test_windows_lie_in_the_image_unless_padded(layout):
    width, height, _, _, edge = layout
    for w in grid(*layout):
        assert w.x >= 0 and w.y >= 0
        assert w.x < width and w.y < height
        assert edge == "pad" or (w.right <= width and w.bottom <= height)


@quick
@given(layouts())
def test_neighbours_share_at_least_the_overlap(layout):
    _, _, tile, overlap, _ = layout
    for line, side in zip(lines(grid(*layout)), tile, strict=True):
        asked = overlap * side if overlap < 1 else overlap
        for (x0, size), (x1, _) in pairwise(line):
            assert x0 + size - x1 >= asked - 1e-6


@quick
@given(layouts(smallest=1))
def test_no_window_is_under_ten_pixels(layout):
    width, height, *_, edge = layout
    assume(edge == "pad" or min(width, height) >= MIN_SIDE)
    assert min(min(w.width, w.height) for w in grid(*layout)) >= MIN_SIDE


@quick
@given(layouts(edges=("shift", "balance")))
def test_shifted_and_balanced_tiles_are_full_size(layout):
    width, height, (tile_width, tile_height), *_ = layout
    for w in grid(*layout):
        assert (w.width, w.height) == (min(tile_width, width), min(tile_height, height))


@quick
@given(layouts(edges=("pad",), smallest=1))
def test_padded_tiles_are_full_size_whatever_the_image(layout):
    assert {(w.width, w.height) for w in grid(*layout)} == {layout[2]}


@quick
@given(layouts(edges=("trim",)))
def test_only_the_last_window_of_a_line_is_trimmed_and_it_ends_at_the_border(layout):
    width, height, tile, *_ = layout
    for line, length, side in zip(lines(grid(*layout)), (width, height), tile, strict=True):
        assert all(size == side for _, size in line[:-1])
        assert sum(line[-1]) == length


@quick
@given(layouts())
def test_there_are_no_more_windows_than_needed(layout):
    width, height, tile, overlap, _ = layout
    for line, length, side in zip(lines(grid(*layout)), (width, height), tile, strict=True):
        shared, fewer = overlap_px(overlap, side), len(line) - 1
        assert fewer == 0 or side + (fewer - 1) * (side - shared) < length


@quick
@given(layouts(edges=("balance",)))
def test_balanced_windows_are_spread_evenly(layout):
    for line in lines(grid(*layout)):
        strides = [b[0] - a[0] for a, b in pairwise(line)]
        assert not strides or max(strides) - min(strides) <= 1


@quick
@given(st.integers(1, 99), st.integers(10, 2000))
def test_a_fraction_in_hundredths_is_rounded_up_exactly(hundredths, tile):
    exact = -(-hundredths * tile // 100)
    if exact < tile:
        assert overlap_px(hundredths / 100, tile) == exact


def test_029_of_100_is_29():
    assert overlap_px(0.29, 100) == 29  # 0.29 * 100 is 28.999999999999996
    assert overlap_px(0.07, 100) == 7  # 0.07 * 100 is 7.000000000000001


@pytest.mark.parametrize(
    ("edge", "overlap", "expected"),
    [
        ("shift", 0.2, [(0, 640), (5, 640)]),
        ("balance", 0.2, [(0, 640), (5, 640)]),
        ("trim", 0.2, [(0, 640), (512, 133)]),
        ("pad", 0.2, [(0, 640), (512, 640)]),
        ("shift", 0, [(0, 640), (5, 640)]),
        ("trim", 0, [(0, 640), (635, 10)]),
        ("pad", 0, [(0, 640), (640, 640)]),
    ],
)
def test_an_image_five_pixels_larger_than_the_tile_has_two_windows_a_side(edge, overlap, expected):
    columns, rows = lines(grid(645, 645, 640, overlap, edge))
    assert columns == rows == expected


@pytest.mark.parametrize("edge", EDGES)
def test_an_image_of_the_tiles_size_is_one_window(edge):
    (window,) = grid(640, 640, 640, 0.2, edge)
    assert (window.x, window.y, window.width, window.height) == (0, 0, 640, 640)


@pytest.mark.parametrize(
    ("edge", "size"),
    [("shift", (300, 200)), ("trim", (300, 200)), ("balance", (300, 200)), ("pad", (640, 640))],
)
def test_a_small_image_is_one_window(edge, size):
    (window,) = grid(300, 200, 640, 0.2, edge)
    assert (window.x, window.y, window.width, window.height) == (0, 0, *size)


def test_the_sides_of_a_tile_have_each_their_overlap():
    columns, rows = lines(grid(1900, 1900, (1000, 500), 0.1))
    assert columns == [(0, 1000), (900, 1000)]
    assert rows == [(0, 500), (450, 500), (900, 500), (1350, 500), (1400, 500)]


def test_spans_do_not_drift_over_a_gigapixel():
    starts = [x for x, _ in spans(1_000_003, 640, 128, "balance")]
    assert starts[0] == 0 and starts[-1] == 1_000_003 - 640
    assert max(b - a for a, b in pairwise(starts)) <= 512


@pytest.mark.parametrize(
    "wrong",
    [
        {"tile": 9},
        {"tile": 0},
        {"tile": -640},
        {"tile": (640, 9)},
        {"width": 9},
        {"height": 0},
        {"width": -5, "edge": "pad"},
        {"overlap": -0.1},
        {"overlap": -128},
        {"overlap": float("nan")},
        {"overlap": float("inf")},
        {"overlap": 640},
        {"overlap": 500, "tile": (640, 480)},
        {"overlap": 0.999},
        {"edge": "shfit"},
    ],
    ids=str,
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(TilerError):
        grid(**{"width": 1000, "height": 1000, "tile": 640, **wrong})


# --- overlap by axis


@quick
@given(layouts(), st.one_of(st.floats(0, 0.9), st.integers(1, 9)))
def test_an_overlap_by_axis_is_that_of_each_axis_alone(layout, down):
    width, height, tile, across, edge = layout
    columns, rows = lines(grid(width, height, tile, (across, down), edge))
    assert columns == lines(grid(width, height, tile, across, edge))[0]
    assert rows == lines(grid(width, height, tile, down, edge))[1]


@quick
@given(layouts())
def test_the_same_overlap_twice_is_one_for_both(layout):
    width, height, tile, overlap, edge = layout
    assert grid(width, height, tile, (overlap, overlap), edge) == grid(*layout)


# --- a number of windows

overlaps = st.one_of(st.floats(0, 0.95), st.integers(1, 60))


def smallest(length, count, overlap):
    """The smallest side of `count` windows that cover the axis, by trying each."""
    for side in range(1, length + 1):
        reach = side + (count - 1) * max(0, side - overlap)
        if reach >= length:
            return side
    return length


@quick
@given(st.integers(10, 400), st.integers(1, 12), overlaps)
def test_exactly_so_many_windows_of_one_size_cover_the_axis_and_overlap(length, count, overlap):
    try:
        found = divided(length, count, overlap)
    except TilerError:
        assume(False)
    starts, sizes = zip(*found, strict=True)
    side = sizes[0]
    assert len(set(starts)) == len(found) == count
    assert set(sizes) == {side} and side >= MIN_SIDE
    assert starts[0] == 0 and starts[-1] + side == length
    asked = overlap * side if overlap < 1 else overlap
    for before, after in pairwise(starts):
        assert before < after
        assert before + side - after >= asked - 1e-6
    strides = [after - before for before, after in pairwise(starts)]
    assert not strides or max(strides) - min(strides) <= 1


@quick
@given(st.integers(10, 200), st.integers(1, 8), st.one_of(st.just(0), st.integers(1, 60)))
def test_the_side_is_the_smallest_that_does(length, count, overlap):
    side = smallest(length, count, overlap)
    try:
        (_, found), *_ = divided(length, count, overlap)
    except TilerError:
        assert side < MIN_SIDE or length - side < count - 1
    else:
        assert found == side


@quick
@given(st.integers(10, 300), st.integers(10, 300), st.integers(1, 6), st.integers(1, 6), overlaps)
def test_a_grid_of_columns_and_rows(width, height, columns, rows, overlap):
    try:
        windows = grid(width, height, grid=(columns, rows), overlap=overlap)
    except TilerError:
        assume(False)
    assert len(set(windows)) == len(windows) == columns * rows
    assert len({(w.width, w.height) for w in windows}) == 1
    covered = np.zeros((height, width), bool)
    for w in windows:
        covered[w.y : w.bottom, w.x : w.right] = True
    assert covered.all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": (0, 1)},
        {"grid": (1, -2)},
        {"grid": (1.5, 2)},
        {"grid": (200, 1)},  # under 10 px
        {"grid": (3, 3), "overlap": 999},
        {"grid": (3, 3), "overlap": -1},
        {"grid": (3, 3), "overlap": float("nan")},
        {"grid": (3, 3), "tile": 640},
        {"grid": (3, 3), "edge": "pad"},
        {"grid": (1, 1), "width": 9},
        {"grid": (1, 1), "height": 0},
    ],
    ids=str,
)
def test_a_number_of_windows_that_cannot_be_is_refused(wrong):
    with pytest.raises(TilerError):
        grid(**{"width": 1000, "height": 1000, **wrong})


def test_one_window_is_the_whole_image():
    (window,) = grid(1000, 700, grid=(1, 1), overlap=0.5)
    assert (window.x, window.y, window.width, window.height) == (0, 0, 1000, 700)
