"""An image divided in blocks: a tile's width lies between the tiles of two splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tests.tiling.test_planning import cuts
from tiler.options import SplitOptions
from tiler.splitting.blocks import blocks_of, counts_in
from tiler.tiling.planning import planned_tiles

SHARES = [(0.8, 0.2), (0.7, 0.15, 0.15), (0.5, 0.5), (0.6, 0.1, 0.3)]


def windows_of(width, height, options):
    return np.array([tile.window.bounds for tile in planned_tiles("", width, height, options)])


def boxes_in(width, height, count, seed, clustered=False):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, [width - 9, height - 9], (count, 2))
    if clustered:
        corners *= 0.3
    return np.hstack([corners, corners + rng.uniform(1, 9, (count, 2))]), rng.integers(0, 3, count)


@st.composite
def images(draw):
    """Tiles of an image, its objects, shares, and which way round comes first."""
    width, height, options = draw(cuts())
    longer = draw(st.integers(1, 8))
    windows = windows_of(width * longer, height, options)
    count = draw(st.sampled_from([0, 1, 5, 60]))
    objects = boxes_in(width * longer, height, count, draw(st.integers(0, 99)), draw(st.booleans()))
    return windows, *objects, np.array(draw(st.sampled_from(SHARES))), draw(st.booleans())


@quick
@given(images())
def test_blocks_keep_a_tile_apart_and_their_homes_leave_no_gap(made):
    windows, boxes, class_id, shares, mirrored = made
    blocks = blocks_of(windows, boxes, class_id, shares, mirrored)
    if blocks is None:
        return
    assert len(blocks) == len(shares)
    assert len({block.axis for block in blocks}) == 1
    axis = blocks[0].axis
    spans = windows[:, [axis, axis + 2]]
    longest = (spans[:, 1] - spans[:, 0]).max()
    held = [spans[block.holds(windows)] for block in blocks]
    assert all(len(of) for of in held)
    for one in range(len(held)):
        for other in range(one):
            ahead = held[one][:, 0].min() - held[other][:, 1].max()
            behind = held[other][:, 0].min() - held[one][:, 1].max()
            assert max(ahead, behind) >= longest
    homes = np.stack([block.is_home(windows) for block in blocks])
    assert (homes.sum(axis=0) == 1).all()
    homes = np.stack([block.is_home(boxes) for block in blocks])
    assert (homes.sum(axis=0) == 1).all()
    own = np.stack([block.holds(windows) for block in blocks])
    assert (own.sum(axis=0) <= 1).all()
    assert not (own & ~np.stack([block.is_home(windows) for block in blocks])).any()
    assert [block.first for block in blocks].count(True) == 1


@quick
@given(images())
def test_none_only_where_no_cut_is_possible(made):
    """By trying every place that a block may begin or end at."""
    windows, boxes, class_id, shares, mirrored = made
    blocks = blocks_of(windows, boxes, class_id, shares, mirrored)
    width, height = windows[:, 2:].max(axis=0) - windows[:, :2].min(axis=0)
    axis = int(height > width)
    starts, ends = windows[:, axis], windows[:, axis + 2]
    guard = (ends - starts).max()
    last = starts.max()
    first = ends.min() + guard if len(shares) == 3 else -np.inf
    room = ((starts >= first) & (ends <= last - guard)).any()
    assert (blocks is not None) == room


@pytest.mark.parametrize("shares", SHARES)
def test_of_a_long_image_the_shares_are_met(shares):
    windows = windows_of(500, 40_000, SplitOptions(tile=100))
    boxes, class_id = boxes_in(500, 40_000, 5000, 1)
    blocks = blocks_of(windows, boxes, class_id, np.array(shares), False)
    counts = counts_in(blocks, boxes, class_id, 3)
    assert blocks[0].axis == 1
    assert counts.sum(axis=1) / counts.sum() == pytest.approx(np.array(shares), rel=0.06)


def test_the_side_that_has_all_classes_is_taken():
    """One class is on the left only: of 20 % on either side, the left has some of both."""
    windows = windows_of(10_000, 300, SplitOptions(tile=100))
    places = np.linspace(50, 9950, 400)
    boxes = np.stack([places - 5, np.full(400, 10.0), places + 5, np.full(400, 20.0)], axis=1)
    class_id = ((np.arange(400) % 2 == 0) & (places < 3000)).astype(int)
    for mirrored in (False, True):
        blocks = blocks_of(windows, boxes, class_id, np.array([0.8, 0.2]), mirrored)
        assert blocks[1].inside[0] < 0


def test_where_both_ways_are_equal_the_caller_decides():
    windows = windows_of(1000, 100, SplitOptions(tile=100, overlap=0))
    none = np.empty((0, 4)), np.empty(0, np.int64)
    for mirrored in (False, True):
        blocks = blocks_of(windows, *none, np.array([0.8, 0.2]), mirrored)
        assert (blocks[1].inside[0] < 0) == mirrored
