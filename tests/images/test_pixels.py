import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tiler.geometry.window import Window
from tiler.images import pixels
from tiler.images.encoding import BANDS, Encoding
from tiler.images.header import Header
from tiler.images.pixels import FILL, as_image, fitted, paint_out, stored, turned

from . import noise
from .test_reading import UPRIGHT

WIDTH, HEIGHT = 23, 14
MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F", "CMYK")
DEEP = {"LA;16": 2, "RGB;16": 3, "RGBA;16": 4}
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def banded(image):
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def values(dtype, bands, size=(WIDTH, HEIGHT)):
    random, (width, height) = np.random.default_rng(bands), size
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1e3, (height, width, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(
        limits.min, limits.max, (height, width, bands), dtype=dtype, endpoint=True
    )


@st.composite
def windows(draw, width=WIDTH, height=HEIGHT):
    """Inside an image."""
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Window(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


@st.composite
def margins(draw):
    """A window inside an image, and one around it."""
    inner = draw(windows())
    left, top, right, bottom = (draw(st.integers(0, 5)) for _ in range(4))
    return inner, Window(
        inner.x - left, inner.y - top, inner.width + left + right, inner.height + top + bottom
    )


def part_of(array, window):
    return array[window.y : window.bottom, window.x : window.right]


def fit(array, mode, inner, window, size=None, to=None, direct=True):
    encoding = Encoding("TIFF", ".tif", to or mode, direct=direct)
    return fitted(array, mode, inner, window, size or (window.width, window.height), encoding)


class TestTurned:
    @given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9), st.data())
    @settings(max_examples=400, deadline=None)
    def test_a_window_turned_is_the_window_of_the_picture_turned(
        self, orientation, width, height, data
    ):
        array = np.arange(width * height * 2).reshape(height, width, 2)
        header = Header("JPEG", width, height, orientation)
        window = data.draw(windows(*header.size))
        lying = stored(window, header)
        assert Window(0, 0, width, height).intersection(lying) == lying
        found = turned(part_of(array, lying), orientation)
        np.testing.assert_array_equal(found, part_of(UPRIGHT[orientation](array), window))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_as_exif_defines_it(self, orientation):
        array = values("u2", 3)
        np.testing.assert_array_equal(turned(array, orientation), UPRIGHT[orientation](array))
        assert np.shares_memory(turned(array, orientation), array)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_as_pillow_does_it(self, orientation):
        image = noise("RGB", (WIDTH, HEIGHT))
        expected = np.asarray(image.transpose(pixels.TURNS[orientation]))
        np.testing.assert_array_equal(turned(np.asarray(image), orientation), expected)


class TestAsImage:
    @given(st.sampled_from(MODES), windows())
    @settings(max_examples=150, deadline=None)
    def test_is_the_array(self, mode, window):
        source = noise(mode, (WIDTH, HEIGHT))
        image = as_image(part_of(banded(source), window), mode)
        expected = source.crop((window.x, window.y, window.right, window.bottom))
        assert (image.mode, image.size) == (mode, expected.size)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("orientation", [2, 6, 7])
    def test_of_a_turned_array(self, mode, orientation):
        array = banded(noise(mode, (WIDTH, HEIGHT)))
        image = as_image(turned(array, orientation), mode)
        np.testing.assert_array_equal(banded(image), UPRIGHT[orientation](array))


class TestFitted:
    @given(
        st.sampled_from([*DEEP.items(), (BANDS, 1), (BANDS, 2), (BANDS, 4), (BANDS, 5)]),
        st.sampled_from(DTYPES),
        margins(),
    )
    @settings(max_examples=300, deadline=None)
    def test_beyond_the_picture_lies_the_fill_colour(self, form, dtype, margin):
        (mode, bands), (inner, window) = form, margin
        array = values("u2" if mode in DEEP else dtype, bands)
        part = part_of(array, inner)
        tile = fit(part, mode, inner, window)
        assert tile.dtype == array.dtype
        assert tile.shape == (window.height, window.width, bands)
        outside = np.ones(tile.shape[:2], bool)
        x, y = inner.x - window.x, inner.y - window.y
        outside[y : y + inner.height, x : x + inner.width] = False
        np.testing.assert_array_equal(tile[y : y + inner.height, x : x + inner.width], part)
        if array.dtype == np.uint8:
            expected = [FILL] * bands
        elif array.dtype == np.uint16:
            expected = [FILL * 257] * bands
            expected[-1:] = [65535] if mode in ("LA;16", "RGBA;16") else expected[-1:]
        else:
            expected = pixels.fill(part)
            assert (part.min(axis=(0, 1)) <= expected).all()
            assert (expected <= part.max(axis=(0, 1))).all()
        assert (tile[outside] == np.array(expected, tile.dtype)).all()

    @pytest.mark.parametrize("mode", [*DEEP, BANDS])
    def test_a_tile_has_its_own_memory(self, mode):
        array = values("u2", DEEP.get(mode, 5))
        window = Window(0, 0, WIDTH, HEIGHT)
        assert not np.shares_memory(fit(array, mode, window, window), array)

    @given(st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16", "F", "CMYK"]), margins(), st.data())
    @settings(max_examples=200, deadline=None)
    def test_arrays_of_pillows_modes_become_what_images_do(self, mode, margin, data):
        inner, window = margin
        image = noise(mode, (WIDTH, HEIGHT))
        part = image.crop((inner.x, inner.y, inner.right, inner.bottom))
        size = data.draw(st.sampled_from([(window.width, window.height), (9, 5), (40, 31)]))
        to = data.draw(
            st.sampled_from(
                {"LA": ["LA", "RGBA", "L"], "RGBA": ["RGBA", "RGB"], "L": ["L", "RGB"]}.get(
                    mode, [mode]
                )
            )
        )
        expected = fit(part, mode, inner, window, size, to)
        found = fit(
            part_of(banded(image), inner), mode, inner, window, size, to, data.draw(st.booleans())
        )
        assert isinstance(found, np.ndarray) or found.mode == to
        np.testing.assert_array_equal(banded(found), banded(expected))

    @pytest.mark.parametrize("size", [(7, 40), (40, 7), (WIDTH, 3), (1, 1)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_an_even_picture_stays_even(self, dtype, size):
        window = Window(0, 0, WIDTH, HEIGHT)
        limits = np.iinfo(dtype) if np.dtype(dtype).kind in "ui" else np.finfo("f4")
        for value in (
            0,
            1,
            100,
            limits.max // 3 if limits.bits <= 16 else 2**24,
            limits.max if limits.bits <= 16 else 77,
        ):
            tile = fit(np.full((HEIGHT, WIDTH, 2), value, dtype), BANDS, window, window, size)
            assert (tile.dtype, tile.shape) == (np.dtype(dtype), (size[1], size[0], 2))
            assert (tile == np.array(value, dtype)).all()

    @pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
    @pytest.mark.parametrize(
        ("dtype", "value"),
        [("u4", 2**32 - 1), ("i4", 2**31 - 1), ("i4", 2**24 + 1), ("u4", 2**24 + 1), ("f8", 1.1)],
    )
    def test_an_even_picture_of_many_digits_stays_as_it_is(self, dtype, value):
        window = Window(0, 0, WIDTH, HEIGHT)
        tile = fit(np.full((HEIGHT, WIDTH, 2), value, dtype), BANDS, window, window, (9, 5))
        assert (tile == np.array(value, dtype)).all()

    @given(
        st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"]),
        st.sampled_from([(9, 5), (40, 31), (23, 7)]),
    )
    @settings(deadline=None)
    def test_resampled_values_stay_in_their_type(self, dtype, size):
        """Lanczos overshoots at edges, which must not turn white into black."""
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -(2**20)), min(limits.max, 2**20)
        array = np.full((HEIGHT, WIDTH, 1), low, dtype)
        array[:, WIDTH // 2 :] = high
        window = Window(0, 0, WIDTH, HEIGHT)
        tile = fit(array, BANDS, window, window, size)[..., 0].astype(np.int64)
        assert (tile[:, : size[0] // 3] < (low + high) / 2).all()
        assert (tile[:, -size[0] // 3 :] > (low + high) / 2).all()

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_every_band_is_resampled_by_itself_as_grey_is(self, dtype):
        array, window = values(dtype, 5), Window(0, 0, WIDTH, HEIGHT)
        tile = fit(array, BANDS, window, window, (11, 9))
        for band in range(5):
            expected = Image.fromarray(np.ascontiguousarray(array[..., band])).resize(
                (11, 9), Image.Resampling.LANCZOS
            )
            np.testing.assert_array_equal(tile[..., band], np.asarray(expected))


def ring(*corners):
    return [np.array(corners, float)]


HIDDEN = [ring((2, 2), (12.5, 3), (9, 11)), ring((15, 1), (22, 1), (22, 6), (15, 6))]
SHOWN = [ring((5, 4), (8, 4), (8, 7), (5, 7))]


class TestPaintOut:
    @pytest.mark.parametrize("shown", [[], SHOWN], ids=["nothing", "something"])
    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
    def test_arrays_as_images(self, mode, shown):
        image = noise(mode, (WIDTH, HEIGHT))
        array = banded(image)
        paint_out(array, HIDDEN, shown, mode)
        paint_out(image, HIDDEN, shown)
        np.testing.assert_array_equal(array, banded(image))

    @pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_only_what_is_hidden_and_not_shown(self, dtype, bands):
        array = values(dtype, bands)
        before, colour = array.copy(), pixels.fill(array)
        paint_out(array, HIDDEN, SHOWN)
        assert (array[3, 18] == colour).all()
        assert (array[8, 9] == colour).all()
        for y, x in ((5, 6), (0, 0), (13, 22), (9, 20)):
            np.testing.assert_array_equal(array[y, x], before[y, x])

    def test_nothing_hidden_is_nothing_done(self):
        array = values("u2", 3)
        before = array.copy()
        paint_out(array, [], SHOWN)
        np.testing.assert_array_equal(array, before)
