"""Where to look closer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tiler.geometry.window import Window
from tiler.inspecting.showing.places import densest, side_of, zoom_for

SIZE = (400, 300)


def boxes_at(middles):
    middles = np.array(middles, float).reshape(-1, 2)
    return np.concatenate([middles - 2, middles + 2], axis=1)


points = st.lists(st.tuples(st.integers(0, 399), st.integers(0, 299)), max_size=60)


def count(middles, window):
    x, y = np.array(middles, float).reshape(-1, 2).T
    inside = (x >= window.x) & (x < window.right) & (y >= window.y) & (y < window.bottom)
    return int(inside.sum())


@given(points, st.sampled_from([40, 100, 390]), st.integers(1, 5))
def test_windows_lie_apart_in_the_image_and_the_first_is_nearly_the_fullest(middles, side, most):
    windows = densest(boxes_at(middles), SIZE, side, most)
    assert len(windows) <= most
    assert bool(windows) == bool(middles)
    for i, window in enumerate(windows):
        assert (window.width, window.height) == (min(side, 400), min(side, 300))
        assert 0 <= window.x <= 400 - window.width
        assert 0 <= window.y <= 300 - window.height
        assert not any(window.intersection(other) for other in windows[:i])
    if windows:
        # no window of some less than the side holds twice as many
        best = 0
        for x, y in middles:
            smaller = Window(x, y, int(0.7 * side), int(0.7 * side))
            best = max(best, count(middles, smaller))
        assert count(middles, windows[0]) >= 0.5 * best


@given(points, st.randoms(use_true_random=False))
def test_the_order_of_objects_does_not_matter(middles, random):
    shuffled = list(middles)
    random.shuffle(shuffled)
    assert densest(boxes_at(middles), SIZE, 60, 3) == densest(boxes_at(shuffled), SIZE, 60, 3)


def test_a_cluster_is_found():
    rng = np.random.default_rng(0)
    cluster = rng.normal((300, 200), 10, (50, 2))
    spread = rng.uniform((0, 0), SIZE, (100, 2))
    (window,) = densest(boxes_at(np.concatenate([spread, cluster])), SIZE, 80, 1)
    assert count(cluster, window) >= 45


def test_a_huge_image_costs_little():
    boxes = boxes_at([(99_000, 99_000), (99_010, 99_010), (5, 5)])
    (window,) = densest(boxes, (100_000, 100_000), 120, 1)
    assert count([(99_000, 99_000), (99_010, 99_010)], window) == 2


def test_sides():
    assert side_of(np.empty(0), 50) == np.inf
    assert zoom_for(np.inf) == 1
    assert zoom_for(0.0) == 4
