"""Whole images assigned to splits: near to the shares in every class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.splitting.assigning import assigned, missed, stratified

SHARES = [(0.8, 0.2), (0.7, 0.2, 0.1), (0.5, 0.5), (0.9, 0.05, 0.05), (0.2, 0.8)]


@st.composite
def sets(draw):
    """Amounts of up to 40 images in up to 4 classes, their sizes, and shares."""
    images, classes = draw(st.integers(1, 40)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    amounts = rng.poisson(draw(st.sampled_from([0.2, 1, 20])), (images, classes + 1)).astype(float)
    amounts[:, -1] = rng.integers(1, draw(st.sampled_from([2, 50])), images)
    return amounts, np.array(draw(st.sampled_from(SHARES)))


@quick
@given(sets())
def test_every_image_has_a_split_and_none_is_empty_if_there_are_enough(made):
    amounts, shares = made
    splits = assigned(amounts, shares)
    assert len(splits) == len(amounts)
    assert set(splits) <= set(range(len(shares)))
    if len(amounts) >= len(shares):
        assert len(set(splits)) == len(shares)
    else:
        assert len(set(splits)) == len(amounts)


@quick
@given(sets())
def test_sizes_are_as_near_to_the_shares_as_whole_images_allow(made):
    """Moving any one image from the fullest to the emptiest split would bring them no nearer, or
    they are within a tenth of their shares."""
    amounts, shares = made
    splits = assigned(amounts, shares)
    sizes = amounts[:, -1] / amounts[:, -1].sum()
    missing = shares - np.bincount(splits, sizes, len(shares))
    if len(amounts) < len(shares) or np.abs(missing / shares).max() <= 0.1:
        return
    counts = np.bincount(splits, minlength=len(shares))
    full = np.argmin(np.where(counts > 1, missing / shares, np.inf))
    gap = missing[np.argmax(missing / shares)] - missing[full]
    assert sizes[splits == full].min() >= gap - 1e-9


@quick
@given(st.integers(1, 5), st.integers(1, 40), st.sampled_from(SHARES))
def test_of_one_class_an_image_equal_images_come_within_one_image_of_the_share(
    count, images, shares
):
    """In every class, if its images hold nothing else."""
    amounts = np.zeros((count * images, count + 1))
    for class_id in range(count):
        amounts[class_id * images : (class_id + 1) * images, class_id] = 3
    amounts[:, -1] = 1
    splits = stratified(amounts, np.array(shares))
    for class_id in range(count):
        own = splits[class_id * images : (class_id + 1) * images]
        got = np.bincount(own, minlength=len(shares))
        assert (np.abs(got - np.array(shares) * images) <= 1 + 1e-9).all()


def test_a_class_in_few_images_is_in_every_split():
    """Two of 100 images hold a rare class: each split gets one."""
    amounts = np.ones((100, 3))
    amounts[:, 1] = 0
    amounts[[17, 63], 1] = 5
    splits = assigned(amounts, np.array([0.5, 0.5]))
    assert sorted(splits[[17, 63]]) == [0, 1]
    assert np.bincount(splits).tolist() == [50, 50]


def test_many_rare_classes_do_not_leave_a_split_empty():
    """Each class of ten images would give the small split none; all together give it its share."""
    amounts = np.zeros((1000, 101))
    for image in range(1000):
        amounts[image, image % 100] = 1
    amounts[:, -1] = 1
    splits = assigned(amounts, np.array([0.96, 0.04]))
    assert np.bincount(splits).tolist() == pytest.approx([960, 40], abs=5)
    of_each = np.bincount(np.flatnonzero(splits == 1) % 100, minlength=100)
    assert of_each.max() == 1


def test_a_large_set_is_divided_in_seconds():
    rng = np.random.default_rng(0)
    amounts = rng.poisson(0.3, (20_000, 41)).astype(float)
    amounts[:, -1] = 1
    splits = assigned(amounts, np.array([0.8, 0.1, 0.1]))
    got = np.stack([amounts[splits == s].sum(axis=0) for s in range(3)]) / amounts.sum(axis=0)
    assert np.abs(got - np.array([[0.8], [0.1], [0.1]])).max() < 0.03


@pytest.mark.parametrize(
    ("achieved", "expected"),
    [((0.8, 0.2), False), ((0.7, 0.3), False), ((0.69, 0.31), True), ((0.91, 0.09), True)],
)
def test_missed_by_more_than_half(achieved, expected):
    assert missed(np.array(achieved), np.array([0.8, 0.2])) is expected
