import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.evaluation.regions import dropped

SIDE = 24


@st.composite
def whole_boxes(draw, smallest, most=8):
    """`(N, 4)` on whole pixels, and the image of each."""
    n = draw(st.integers(0, most))
    ends = [
        [sorted((draw(st.integers(0, SIDE)), draw(st.integers(0, SIDE)))) for _ in range(2)]
        for _ in range(n)
    ]
    rows = [(x0, y0, max(x1, x0 + smallest), max(y1, y0 + smallest)) for (x0, x1), (y0, y1) in ends]
    image = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return np.array(rows, float).reshape(-1, 4), np.array(image, np.int64)


def by_pixels(boxes, image, regions, region_image, share):
    result = []
    for (x0, y0, x1, y1), own in zip(boxes.astype(int), image, strict=True):
        painted = np.zeros((SIDE + 2, SIDE + 2), bool)
        here = regions[region_image == own].astype(int)
        for a, b, c, d in here:
            painted[b:d, a:c] = True
        if x1 > x0 and y1 > y0:
            result.append(bool(painted[y0:y1, x0:x1].mean() >= share))
        else:
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            sized = here[(here[:, 2:] > here[:, :2]).all(axis=1)]
            result.append(any(a <= x <= c and b <= y <= d for a, b, c, d in sized))
    return result


@quick
@given(whole_boxes(0), whole_boxes(0, 5), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_it_is_what_counting_pixels_says(boxes, regions, share):
    assert dropped(*boxes, *regions, share).tolist() == by_pixels(*boxes, *regions, share)


def test_many_at_once():
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.integers(0, SIDE, (2, 3000, 2)), axis=0)
    boxes, image = np.concatenate([low, high + 1], axis=1).astype(float), rng.integers(0, 9, 3000)
    regions, of = boxes[:40] / [4, 4, 2, 2] // 1, rng.integers(0, 9, 40)
    found = dropped(boxes, image, regions, of)
    assert found.tolist() == by_pixels(boxes, image, regions, of, 0.5)
    assert 0.1 < found.mean() < 0.9


@quick
@given(whole_boxes(1), whole_boxes(1, 5))
def test_the_order_of_the_regions_and_one_twice_count_for_nothing(boxes, regions):
    backwards = np.arange(2 * len(regions[0]))[::-1] // 2
    assert (
        dropped(*boxes, regions[0][backwards], regions[1][backwards]).tolist()
        == dropped(*boxes, *regions).tolist()
    )


@quick
@given(whole_boxes(1), whole_boxes(1, 5), st.integers(-(10**6), 10**6))
def test_where_the_image_begins_counts_for_nothing(boxes, regions, shift):
    moved = dropped(boxes[0] + shift, boxes[1], regions[0] + shift, regions[1])
    assert moved.tolist() == dropped(*boxes, *regions).tolist()


def one(box, *regions, share=0.5):
    of = np.zeros(len(regions), int)
    return bool(
        dropped(
            np.array([box], float),
            np.zeros(1, int),
            np.array(regions, float).reshape(-1, 4),
            of,
            share,
        )[0]
    )


def test_half_is_enough_and_less_is_not():
    assert one([0, 0, 10, 10], [0, 0, 5, 10])
    assert not one([0, 0, 10, 10], [0, 0, 4.999, 10])
    assert one([0.1, 0.1, 0.3, 0.3], [0.2, 0, 1, 1], share=0.499)
    assert one([0, 0, 10, 10], [0, 0, 2.5, 10], [7.5, 0, 99, 10])


def test_what_two_regions_cover_counts_once():
    assert not one([0, 0, 10, 10], [0, 0, 4, 10], [1, 0, 4.5, 10])
    assert one([0, 0, 10, 10], [0, 0, 4, 10], [1, 0, 5, 10])
    assert one([0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 3, 10])  # 51


def test_all_of_the_area():
    assert one([2, 2, 8, 8], [0, 0, 5, 9], [5, 0, 9, 9], share=1)
    assert not one([2, 2, 8, 8], [0, 0, 5, 9], [5.001, 0, 9, 9], share=1)


@pytest.mark.parametrize(
    ("box", "expected"),
    [([5, 5, 5, 5], True), ([2, 5, 6, 5], True), ([0, 5, 4, 5], False), ([9, 0, 9, 4], False)],
)
def test_without_area_the_centre_decides(box, expected):
    assert one(box, [4, 4, 8, 8]) is expected
    assert one(box, [3, 4, 8, 8], [40, 40, 50, 50]) is expected


def test_a_centre_on_an_edge_lies_in_it():
    assert one([4, 0, 4, 10], [4, 4, 8, 8])
    assert one([8, 8, 8, 8], [4, 4, 8, 8])
    assert not one([8.01, 8, 8.01, 8], [4, 4, 8, 8])


def test_regions_of_other_images_do_not_count():
    box, image = np.array([[0, 0, 9, 9.0]] * 3), np.array([5, 1, 10**12])
    assert dropped(box, image, box[:1], np.array([10**12])).tolist() == [False, False, True]


def test_nothing():
    none, image = np.empty((0, 4)), np.empty(0, np.int64)
    box, zero = np.array([[0, 0, 9, 9.0]]), np.zeros(1, int)
    assert dropped(none, image, none, image).shape == dropped(none, image, box, zero).shape == (0,)
    assert dropped(box, zero, none, image).tolist() == [False]
    assert dropped(box, zero, np.array([[3, 3, 3, 9.0]]), zero).tolist() == [False]
