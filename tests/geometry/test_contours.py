import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.strategies import quick
from tiler.geometry.tracing import contours

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@quick
@given(masks)
def test_opencv_finds_the_same_points(mask):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    expected, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    theirs = [sorted(map(tuple, ring.reshape(-1, 2).tolist())) for ring in expected]
    ours = [sorted(map(tuple, ring.astype(int).tolist())) for ring in contours(mask)]
    assert sorted(ours) == sorted(theirs)


def test_holes_and_what_is_in_them_are_left_out():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    (ring,) = contours(mask)
    assert sorted(ring.tolist()) == [[0, 0], [0, 6], [6, 0], [6, 6]]


def test_corners_join():
    (ring,) = contours(np.eye(3, dtype=bool))
    assert sorted(ring.tolist()) == [[0, 0], [2, 2]]


def test_nothing():
    assert contours(np.zeros((3, 3), bool)) == []
    assert contours(np.zeros((0, 3), bool)) == []
