import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.models.frames import TileFrame
from tiler.models.resizing import bilinear

sides = st.integers(1, 90)
channels = st.sampled_from((1, 2, 3, 4, 6))


def noise(height, width, bands, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands)).astype(np.uint8)


@quick
@given(sides, sides, sides, sides, channels, st.integers(0, 9))
def test_opencv_resizes_to_the_same_bytes(height, width, down, across, bands, seed):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pixels = noise(height, width, bands, seed)
    expected = cv2.resize(pixels, (across, down), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(bilinear(pixels, across, down), expected.reshape(down, across, bands))


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("size", "target"),
    [((400, 300), (200, 150)), ((64, 64), (320, 320)), ((900, 700), (31, 640)), ((5, 5), (5, 5))],
)
def test_opencv_halves_and_doubles_to_the_same_bytes(size, target, bands):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pixels = noise(size[1], size[0], bands)
    expected = cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(bilinear(pixels, *target), expected.reshape(*target[::-1], bands))


def test_a_constant_stays_so():
    pixels = np.full((37, 91, 3), 201, np.uint8)
    assert (bilinear(pixels, 640, 13) == 201).all()
    assert bilinear(pixels, 91, 37) is pixels


@quick
@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from((32, 320, 640)))
def test_a_tile_lies_in_the_input_and_comes_back(width, height, side):
    for fit in ("centre", "corner", "stretch"):
        frame = TileFrame.of((width, height), (side, side), fit)
        assert 0 <= frame.left <= frame.left + frame.inner[0] <= side
        assert 0 <= frame.top <= frame.top + frame.inner[1] <= side
        corners = np.array([[frame.left, frame.top], np.add((frame.left, frame.top), frame.inner)])
        assert frame.points(corners.astype(float)) == pytest.approx(
            np.array([[0, 0], [width, height]]), abs=1e-9
        )


@pytest.mark.parametrize(
    ("size", "top", "bottom"),
    [((320, 199), 60, 61), ((320, 200), 60, 60), ((321, 320), 0, 1), ((1, 3000), 0, 0)],
)
def test_the_letterbox_is_grey_and_an_odd_row_is_at_its_end(size, top, bottom):
    tile = np.zeros((size[1], size[0], 3), np.uint8)
    square = TileFrame.of(size, (320, 320), "centre").filled(tile, "centre")
    assert square.shape == (320, 320, 3)
    is_grey = (square == 114).all(axis=(1, 2))
    assert is_grey.sum() == top + bottom
    assert is_grey[:top].all() and is_grey[320 - bottom :].all()


def test_a_tile_of_the_right_size_is_not_copied():
    tile = noise(320, 320, 3)
    assert TileFrame.of((320, 320), (320, 320), "centre").filled(tile, "centre") is tile
