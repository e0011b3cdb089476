"""Turned coordinates lie where Pillow puts the pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.strategies import quick
from tiler.geometry import turning
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings

orientations = st.integers(1, 8)
sides = st.integers(2, 40)


def upright(array, orientation):
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@quick
@given(orientations, sides, sides, st.data())
def test_a_painted_box_is_where_its_coordinates_are(orientation, width, height, data):
    x0 = data.draw(st.integers(0, width - 1))
    y0 = data.draw(st.integers(0, height - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    y1 = data.draw(st.integers(y0 + 1, height))
    stored = np.zeros((height, width), np.uint8)
    stored[y0:y1, x0:x1] = 255
    instances = Instances(np.zeros(1, np.int64), np.array([[x0, y0, x1, y1]], np.float64))
    moved = turning.turned_instances(instances, orientation, width, height)
    left, top, right, bottom = moved.boxes[0].astype(int)
    expected = np.zeros_like(upright(stored, orientation))
    expected[top:bottom, left:right] = 255
    assert (upright(stored, orientation) == expected).all()


@quick
@given(orientations, sides, sides, st.data())
def test_outlines_and_keypoints_turn_with_their_boxes(orientation, width, height, data):
    corner = st.tuples(st.floats(0, width), st.floats(0, height))
    points = np.array(data.draw(st.lists(corner, min_size=3, max_size=6)))
    rings = Rings.of([[points]])
    keypoints = np.concatenate([points, np.ones((len(points), 1))], axis=1)[None]
    instances = Instances(
        np.zeros(1, np.int64), rings.bounds(), rings=rings, keypoints=keypoints, task="pose"
    )
    moved = turning.turned_instances(instances, orientation, width, height)
    assert moved.rings.bounds() == pytest.approx(moved.boxes)
    assert moved.keypoints[0, :, :2] == pytest.approx(moved.rings.coords)
    side = (height, width) if orientation in turning.SWAPPED else (width, height)
    assert (moved.boxes >= 0).all()
    assert (moved.boxes[:, 2:] <= side).all()


@quick
@given(orientations, sides, sides)
def test_a_keypoint_that_is_not_labelled_stays(orientation, width, height):
    keypoints = np.array([[[0.0, 0, 0], [1, 1, 2]]])
    instances = Instances(
        np.zeros(1, np.int64), np.array([[0.0, 0, 2, 2]]), keypoints=keypoints, task="pose"
    )
    moved = turning.turned_instances(instances, orientation, width, height)
    assert moved.keypoints[0, 0].tolist() == [0, 0, 0]
    assert moved.keypoints[0, 1, 2] == 2


@quick
@given(orientations, sides, sides)
def test_there_and_back(orientation, width, height):
    back = {6: 8, 8: 6}.get(orientation, orientation)
    points = np.array([[0.0, 0], [1, 2], [width, height]])
    side = (height, width) if orientation in turning.SWAPPED else (width, height)
    there = turning.turned_points(points, orientation, width, height)
    assert turning.turned_points(there, back, *side) == pytest.approx(points)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_empty_is_ordinary(orientation):
    empty = np.empty((0, 2))
    assert turning.turned_points(empty, orientation, 4, 3).shape == (0, 2)
