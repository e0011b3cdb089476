"""What Pillow has no mode for is written bit for bit, as several readers find it, and as the
trainer does.
"""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from tiler.geometry.window import Window
from tiler.images import beyond_pillow, pixels
from tiler.images.encoding import BANDS, Encoding

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COMPRESSIONS = (None, "tiff_lzw", "packbits", "tiff_adobe_deflate")
DEEP = {"LA;16": 2, "RGB;16": 3, "RGBA;16": 4}


@pytest.fixture(scope="module")
def tifffile():
    return pytest.importorskip("tifffile", reason="the extra `big` is not installed")


@pytest.fixture(scope="module")
def pyvips():
    return pytest.importorskip(
        "pyvips", reason="the extra `big` is not installed", exc_type=(ImportError, OSError)
    )


def values(dtype, bands, size=(13, 9)):
    random, (width, height) = np.random.default_rng(bands), size
    if np.dtype(dtype).kind == "f":
        found = random.normal(0, 1e3, (height, width, bands)).astype(dtype)
        found[0, 0], found[0, 1], found[1, 0] = np.nan, np.inf, -0.0
        return found
    limits = np.iinfo(dtype)
    return random.integers(
        limits.min, limits.max, (height, width, bands), dtype=dtype, endpoint=True
    )


def tif(array, mode=BANDS, compression="tiff_adobe_deflate", **options):
    options |= {"compression": compression} if compression else {}
    return beyond_pillow.encode(array, Encoding("TIFF", ".tif", mode, options, direct=True))


def png(array, mode, **options):
    return beyond_pillow.encode(array, Encoding("PNG", ".png", mode, options, direct=True))


def pages(tifffile, data):
    """All pages, `(height, width, bands)`, as tifffile finds them."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = [page.asarray() for page in file.pages]
    return found[0] if found[0].ndim == 3 else np.stack(found, axis=-1)


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


class TestTiff:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
    def test_bit_for_bit(self, tifffile, dtype, bands, compression):
        array = values(dtype, bands)
        same(pages(tifffile, tif(array, compression=compression)), array)

    @pytest.mark.parametrize("dtype", ["u8", "i8"])
    def test_integers_of_64_bits(self, tifffile, dtype):
        array = values(dtype, 2)
        same(pages(tifffile, tif(array)), array)

    @given(
        st.sampled_from(["u1", "u2", "i2", "f4"]).flatmap(
            lambda dtype: arrays.arrays(
                dtype, st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 9))
            )
        ),
        st.sampled_from(COMPRESSIONS),
    )
    @settings(max_examples=150, deadline=None)
    def test_of_any_shape(self, tifffile, array, compression):
        same(pages(tifffile, tif(array, compression=compression)), array)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize(("mode", "bands"), DEEP.items())
    def test_colour_of_16_bits(self, tifffile, pyvips, mode, bands, compression):
        array = values("u2", bands)
        data = tif(array, mode, compression)
        same(pages(tifffile, data), array)
        if bands > 2:
            image = pyvips.Image.new_from_buffer(data, "")
            same(image.numpy(), array)
            assert image.interpretation == "rgb16"

    def test_alpha_is_said_to_be_one(self, tifffile):
        with tifffile.TiffFile(io.BytesIO(tif(values("u2", 4), "RGBA;16"))) as file:
            assert file.pages[0].extrasamples == (2,)
            assert len(file.pages) == 1

    @pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
    def test_as_gdal_reads_it(self, tifffile, dtype, tmp_path):
        rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
        for bands in (3, 5):
            array, path = values(dtype, bands), tmp_path / f"{bands}.tif"
            path.write_bytes(tif(array))
            names = (
                [path]
                if bands == 3
                else [f"GTIFF_DIR:{page}:{path}" for page in range(1, bands + 1)]
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                found = []
                for name in names:
                    with rasterio.open(name) as data:
                        found += list(data.read())
            same(np.stack(found, axis=-1), array)

    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    @pytest.mark.parametrize("bands", [2, 4, 5, 8])
    def test_a_page_for_each_band_as_the_trainer_reads_them(self, tifffile, dtype, bands):
        array = values(dtype, bands)
        for compression in COMPRESSIONS:
            with Image.open(io.BytesIO(tif(array, compression=compression))) as image:
                assert image.n_frames == bands
                for band in range(bands):
                    image.seek(band)
                    same(np.asarray(image), array[..., band])

    def test_three_bands_in_one_page(self, tifffile):
        array = values("u1", 3)
        with Image.open(io.BytesIO(tif(array))) as image:
            assert (image.n_frames, image.mode) == (1, "RGB")
            same(np.asarray(image), array)

    @pytest.mark.parametrize("bands", [3, 4, 5])
    def test_the_profile_is_kept(self, tifffile, bands):
        mode = "RGBA;16" if bands == 4 else BANDS
        data = tif(values("u2", bands), mode, icc_profile=PROFILE)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert file.pages[0].iccprofile == PROFILE

    @pytest.mark.parametrize("bands", [3, 5])
    def test_the_same_bytes_each_time_and_nothing_of_when_or_by_what(self, tifffile, bands):
        array = values("u2", bands)
        data = tif(array)
        assert data == tif(array)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            for page in file.pages:
                assert not {270, 305, 306, 315, 316} & set(page.tags.keys()), (
                    "description, software, date, artist, host"
                )

    def test_smaller_where_it_can_be(self, tifffile):
        smooth = np.broadcast_to(np.arange(64, dtype="u2")[:, None, None] * 700, (64, 64, 5))
        assert len(tif(smooth)) < len(tif(smooth, compression=None)) / 8


class TestPng:
    @pytest.mark.parametrize(("mode", "bands"), DEEP.items())
    @pytest.mark.parametrize("size", [(13, 9), (1, 1), (1, 7), (7, 1)])
    def test_bit_for_bit(self, pyvips, mode, bands, size):
        array = values("u2", bands, size)
        same(pyvips.Image.new_from_buffer(png(array, mode), "").numpy().reshape(array.shape), array)

    @pytest.mark.parametrize(("mode", "bands"), DEEP.items())
    def test_as_other_decoders_find_it(self, pyvips, mode, bands):
        imagecodecs = pytest.importorskip("imagecodecs", reason="the extra `fast` is not installed")
        array = values("u2", bands)
        same(imagecodecs.png_decode(png(array, mode)), array)

    @pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16"])
    def test_the_profile_is_kept(self, pyvips, mode):
        data = png(values("u2", DEEP[mode]), mode, icc_profile=PROFILE)
        assert Image.open(io.BytesIO(data)).info["icc_profile"] == PROFILE
        assert "icc_profile" not in Image.open(io.BytesIO(png(values("u2", DEEP[mode]), mode))).info

    @pytest.mark.parametrize(("mode", "bands"), DEEP.items())
    def test_the_same_bytes_each_time_and_nothing_of_when_or_by_what(self, pyvips, mode, bands):
        array = values("u2", bands)
        data = png(array, mode)
        assert data == png(array, mode)
        assert not [kind for kind in (b"tEXt", b"iTXt", b"zTXt", b"tIME") if kind in data]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_and_padded(tifffile, pyvips, orientation):
    stored = values("u2", 4)
    shown = pixels.turned(stored, orientation)
    height, width = shown.shape[:2]
    inner, window = Window(0, 0, width, height), Window(-2, -3, width + 7, height + 4)
    for mode in ("RGBA;16", BANDS):
        encoding = Encoding("TIFF", ".tif", mode, {"compression": "tiff_lzw"}, direct=True)
        tile = pixels.fitted(shown, mode, inner, window, (window.width, window.height), encoding)
        found = pages(tifffile, beyond_pillow.encode(tile, encoding))
        same(found, tile)
        same(found[3 : 3 + height, 2 : 2 + width], shown)
    found = pyvips.Image.new_from_buffer(png(tile, "RGBA;16"), "").numpy()
    same(found, tile)
    same(pyvips.Image.new_from_buffer(png(shown, "RGBA;16"), "").numpy(), shown)
    same(pages(tifffile, tif(shown)), shown)
