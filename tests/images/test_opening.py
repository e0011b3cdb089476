"""Which reader an image gets, and that all of them make the same of it."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import gdal, memory, reading, vips
from tiler.images.header import Header, probe
from tiler.run.work_sharing import SharedThreads, done

from . import encoded, noise, oriented, png, smooth, tiff
from .test_reading import UPRIGHT
from .test_reading import decode as by_pillow

SIZE = (43, 29)


@pytest.fixture
def installed(monkeypatch):
    """Both readers, or as a test says."""

    def says(vips_too=True, gdal_too=True):
        monkeypatch.setattr(vips, "missing", lambda: not vips_too)
        monkeypatch.setattr(gdal, "missing", lambda: not gdal_too)

    says()
    return says


@pytest.fixture
def by_rows(monkeypatch):
    """Every image by rows, where a reader is installed."""
    monkeypatch.setattr(reading, "LARGE", 0)


WAYS = ["by rows", "by rows of libvips", "whole"]
needs_rows = pytest.mark.usefixtures("rows_reader")


@pytest.fixture
def rows_reader():
    """Both readers, truly."""
    pytest.importorskip(
        "pyvips", reason="the extra `big` is not installed", exc_type=(ImportError, OSError)
    )
    pytest.importorskip("rasterio", reason="the extra `big` is not installed")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """How images are read; without the extra, all of them are read whole."""
    if request.param != "whole":
        monkeypatch.setattr(reading, "LARGE", 0)
    if request.param == "by rows of libvips":
        monkeypatch.setattr(gdal, "missing", lambda: True)
    return request.param


def refused(header, size=10**9, max_pixels=None):
    with pytest.raises(SourceRefused) as caught:
        reading.choose(header, size, max_pixels)
    return caught.value


DEEP_PNG = Header("PNG", 300, 200, bits=16, problem="a 16-bit RGB PNG")
PLANAR = Header("TIFF", 300, 200, problem="planar", planar=True, compression=8)
BANDED = Header("TIFF", 300, 200, bits=16, bands=8, problem="bands", colour="grey", compression=8)
JPEG_2000 = Header("JPEG 2000", 300, 200, problem="a JPEG 2000 file")
HUGE = {"width": 30_000, "height": 20_000}  # px, more than Pillow's limit
LARGER = {"width": 10_000, "height": 10_000}  # less, but not small


class TestChoose:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
    @pytest.mark.parametrize("max_pixels", [None, 60_000, 10**9])
    def test_a_small_picture_is_decoded_whole_without_a_look_at_what_is_installed(
        self, monkeypatch, format, max_pixels
    ):
        def asked():
            raise AssertionError("asked")

        monkeypatch.setattr(vips, "missing", asked)
        monkeypatch.setattr(gdal, "missing", asked)
        assert reading.choose(Header(format, 300, 200), 1, max_pixels) is None

    @pytest.mark.parametrize(
        ("header", "reader"),
        [
            (DEEP_PNG, vips),
            (BANDED, gdal),
            (PLANAR, gdal),
            (JPEG_2000, gdal),
            (Header("JPEG", **LARGER), vips),
            (Header("PNG", **LARGER), vips),
            (Header("TIFF", **LARGER, compression=1), gdal),
            (Header("TIFF", **LARGER, compression=7, colour="YCbCr"), vips),
            (Header("TIFF", **LARGER, compression=50000), gdal),
            (Header("JPEG", **HUGE), vips),
            (Header("PNG", **HUGE, colour="palette", bands=1), vips),
            (Header("PNG", **LARGER, colour="palette", bands=1), None),
            (Header("PNG", **LARGER, gradual=True), None),
            (Header("WEBP", **LARGER), None),
            (Header("BMP", **LARGER), None),
        ],
    )
    def test_the_reader(self, installed, header, reader):
        assert reading.choose(header, 10**9, None) is (reader and reader.opened)

    @pytest.mark.parametrize(
        ("header", "code"),
        [
            (DEEP_PNG, "I06"),
            (PLANAR, "I06"),
            (BANDED, "I06"),
            (JPEG_2000, "I07"),
            (Header("JPEG", **HUGE), "I04"),
        ],
    )
    def test_without_the_extra_it_is_named(self, installed, header, code):
        installed(False, False)
        error = refused(header)
        assert error.code == code
        assert error.message.endswith("; pip install 'tilestitch[big]' reads it")

    @pytest.mark.parametrize(
        ("header", "code"),
        [
            (Header("WEBP", **HUGE), "I04"),
            (Header("BMP", **HUGE), "I04"),
            (Header("PNG", **HUGE, gradual=True), "I04"),
            (Header("JPEG", 300, 200, bits=12, problem="12 bits"), "I06"),
            (Header("TIFF", 300, 200, colour="LAB", bands=3, bits=16, problem="16-bit LAB"), "I06"),
        ],
    )
    @pytest.mark.parametrize("extra", [False, True])
    def test_what_nothing_reads_names_no_extra(self, installed, header, code, extra):
        installed(extra, extra)
        error = refused(header)
        assert error.code == code
        assert "pip" not in error.message

    def test_either_reader_may_be_the_only_one(self, installed):
        large = Header("TIFF", **LARGER, compression=1)
        installed(vips_too=False)
        assert reading.choose(large, 10**9, None) is gdal.opened
        assert refused(DEEP_PNG).code == "I06"
        installed(gdal_too=False)
        assert reading.choose(large, 10**9, None) is vips.opened
        assert refused(PLANAR).code == "I06"

    def test_between_small_and_pillows_limit_pillow_is_enough(self, installed):
        installed(False, False)
        assert reading.choose(Header("JPEG", **LARGER), 1, None) is None

    @pytest.mark.parametrize("extra", [False, True])
    def test_a_limit_of_ones_own(self, installed, extra):
        installed(extra, extra)
        huge, small = Header("JPEG", **HUGE), Header("JPEG", 300, 200)
        reader = vips.opened if extra else None
        assert reading.choose(huge, 1, 600_000_000) is reader
        assert refused(huge, max_pixels=599_999_999).code == "I04"
        assert reading.choose(small, 1, 60_000) is None
        error = refused(small, max_pixels=59_999)
        assert error.code == "I04"
        assert "300 x 200 = 60000 px, more than --max-pixels 59999" in error.message
        for header in (DEEP_PNG, PLANAR, JPEG_2000):
            assert refused(header, max_pixels=59_999).code == "I04"

    @pytest.mark.parametrize(
        ("bands", "bits", "decoded"),
        [(3, 8, 1_800_000_000), (1, 8, 600_000_000), (4, 16, 4_800_000_000)],
    )
    def test_a_bomb(self, installed, bands, bits, decoded):
        header, enough = Header("PNG", **HUGE, bands=bands, bits=bits), decoded // reading.DENSEST
        error = refused(header, enough - 1)
        assert error.code == "I04"
        assert "--max-pixels 600000000 allows it" in error.message
        assert reading.choose(header, enough, None) is vips.opened
        assert reading.choose(header, 1, 600_000_000) is vips.opened
        installed(False, False)
        assert refused(header, enough - 1).code == "I04"

    def test_what_pillow_takes_is_no_bomb(self, installed):
        assert reading.choose(Header("PNG", **LARGER), 1, None) is vips.opened

    def test_a_progressive_jpeg_for_which_memory_is_too_little(self, installed, monkeypatch):
        gradual, plain = Header("JPEG", **HUGE, gradual=True), Header("JPEG", **HUGE)
        monkeypatch.setattr(memory, "available", lambda: 5 * gradual.pixels - 1)
        error = refused(gradual)
        assert error.code == "I04"
        assert "progressive" in error.message
        assert reading.choose(plain, 10**9, None) is vips.opened
        for left in (5 * gradual.pixels, None):
            monkeypatch.setattr(memory, "available", lambda left=left: left)
            assert reading.choose(gradual, 10**9, None) is vips.opened


def photo(mode="RGB"):
    return Image.blend(smooth("RGB", SIZE), noise("RGB", SIZE), 0.3).convert(mode)


PILLOWS = {  # orientation -> file, of what Pillow reads
    **{
        f"{mode} jpg": lambda o, mode=mode: encoded(photo(mode), "JPEG", exif=oriented(o))
        for mode in ("L", "RGB", "CMYK")
    },
    "progressive jpg": lambda o: encoded(photo(), "JPEG", progressive=True, exif=oriented(o)),
    "4:4:4 jpg": lambda o: encoded(photo(), "JPEG", subsampling=0, exif=oriented(o)),
    **{
        f"{mode} png": lambda o, mode=mode: encoded(noise(mode, SIZE), "PNG", exif=oriented(o))
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    },
    "transparent png": lambda o: encoded(
        noise("RGB", SIZE), "PNG", transparency=(1, 2, 3), exif=oriented(o)
    ),
    "2-bit png": lambda o: png(2, 0, SIZE),
    **{
        f"{mode} tif": lambda o, mode=mode: encoded(noise(mode, SIZE), "TIFF", tiffinfo={274: o})
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK", "LAB")
    },
    "lzw tif": lambda o: encoded(
        noise("RGB", SIZE), "TIFF", compression="tiff_lzw", tiffinfo={274: o}
    ),
    "jpeg tif": lambda o: encoded(photo(), "TIFF", compression="jpeg", tiffinfo={274: o}),
    "tiled big-endian tif": lambda o: tiff(
        np.asarray(noise("I;16", SIZE)), ">", tile=16, tags={274: (3, [o])}
    ),
    "white is zero tif": lambda o: tiff(
        np.asarray(noise("L", SIZE)), tags={262: (3, [0]), 274: (3, [o])}
    ),
    "webp": lambda o: encoded(
        noise("RGBA", SIZE), "WEBP", lossless=True, exact=True, exif=oriented(o)
    ),
    "bmp": lambda o: encoded(noise("RGB", SIZE), "BMP"),
}
DEPTHS = {"u2": 3, "u1": 5, "i2": 2, "f4": 4, "u4": 1}


def windows_in(size):
    """Of several heights, overlapping, to the edges."""
    width, height = size
    found = [
        Window(x, y, min(15, width - x), min(11, height - y))
        for y in range(0, height, 8)
        for x in range(0, width, 12)
    ]
    return [
        *found,
        Window(0, 0, width, height),
        Window(width - 1, height - 1, 1, 1),
        Window(3, 2, 7, height - 5),
    ]


def banded(pixels):
    pixels = np.asarray(pixels)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def crops(path, data, later=done):
    """The mode, and the crop of every window."""
    path.write_bytes(data)
    with open(path, "rb") as file:
        header = probe(file)
        windows, found = windows_in(header.size), {}
        with reading.opened(file, header) as picture:
            for crop, here in picture.sweep(windows, later):
                found |= {windows[i]: banded(crop(windows[i])).copy() for i in here}
        assert len(found) == len(set(windows))
        return picture.mode, found


def equal(found, upright):
    for w, pixels in found.items():
        expected = upright[w.y : w.bottom, w.x : w.right]
        assert pixels.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(pixels, expected)


class TestSweep:
    @pytest.mark.parametrize("name", PILLOWS)
    def test_crops_are_pillows(self, tmp_path, way, name):
        for orientation in range(1, 9):
            data = PILLOWS[name](orientation)
            expected = by_pillow(data)
            mode, found = crops(tmp_path / "a", data)
            assert mode.removesuffix("B") == expected.mode.removesuffix("B")
            equal(found, banded(expected))

    @pytest.mark.parametrize("name", ["RGB jpg", "I;16 png", "CMYK tif"])
    def test_in_threads(self, tmp_path, by_rows, name):
        threads = SharedThreads(3)
        for orientation in (1, 6):
            data = PILLOWS[name](orientation)
            with threads.busy():
                _, found = crops(tmp_path / "a", data, threads.later)
            equal(found, banded(by_pillow(data)))

    @needs_rows
    @pytest.mark.parametrize("dtype", DEPTHS)
    def test_crops_of_what_pillow_has_no_mode_for(self, tmp_path, dtype):
        random = np.random.default_rng(0)
        stored = random.integers(0, 100, (*SIZE[::-1], DEPTHS[dtype])).astype(dtype)
        kind = {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
        for orientation in range(1, 9):
            data = tiff(stored, tags={339: (3, [kind] * stored.shape[2]), 274: (3, [orientation])})
            mode, found = crops(tmp_path / "a", data)
            assert mode == ("RGB;16" if dtype == "u2" else "bands")
            equal(found, UPRIGHT[orientation](stored))

    @needs_rows
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_crops_of_a_planar_picture(self, tmp_path, orientation):
        tifffile, buffer = (
            pytest.importorskip("tifffile", reason="the extra `big` is not installed"),
            io.BytesIO(),
        )
        stored = np.asarray(noise("RGB", SIZE))
        extra = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(
            buffer,
            stored.transpose(2, 0, 1),
            photometric="rgb",
            planarconfig="separate",
            extratags=extra,
        )
        mode, found = crops(tmp_path / "a", buffer.getvalue())
        assert mode == "RGB"
        equal(found, UPRIGHT[orientation](stored))

    @pytest.mark.parametrize("profile", [None, b"a profile" * 20])
    def test_the_profile(self, tmp_path, way, profile):
        (tmp_path / "a").write_bytes(encoded(noise("RGB", SIZE), "TIFF", icc_profile=profile))
        with open(tmp_path / "a", "rb") as file, reading.opened(file, probe(file)) as picture:
            assert picture.info.get("icc_profile") == profile

    @needs_rows
    def test_premultiplied_alpha(self, tmp_path, by_rows):
        data = tiff(np.asarray(noise("RGBA", SIZE)), tags={338: (3, [1])})
        equal(crops(tmp_path / "a", data)[1], banded(by_pillow(data)))

    @needs_rows
    @pytest.mark.parametrize("transparency", [None, bytes(range(256))])
    def test_a_palette_too_large_for_pillow_becomes_colour(
        self, tmp_path, by_rows, monkeypatch, transparency
    ):
        monkeypatch.setattr(vips, "WHOLE", 0)
        data = encoded(noise("P", SIZE), "PNG", transparency=transparency)
        expected = Image.open(io.BytesIO(data)).convert("RGBA" if transparency else "RGB")
        mode, found = crops(tmp_path / "a", data)
        equal(found, banded(expected))
        assert mode == expected.mode

    def test_the_file_is_not_closed_while_another_thread_reads_it(self, tmp_path, monkeypatch):
        class Slow:
            width, height, bands, dtype, profile = 4, 40, 1, np.dtype("u1"), None
            reading = closed_while_reading = False
            under_way = threading.Event()

            def read(self, top, out):
                if top:
                    self.reading = True
                    self.under_way.set()
                    time.sleep(0.3)
                    self.reading = False

            def close(self):
                self.closed_while_reading = self.reading

        rows, threads = Slow(), SharedThreads(2)
        monkeypatch.setattr(reading, "choose", lambda *_: lambda *_: rows)
        (tmp_path / "a").write_bytes(b"")
        windows = [Window(0, y, 4, 10) for y in (0, 10, 20)]
        with (
            pytest.raises(OSError, match="full"),
            open(tmp_path / "a", "rb") as file,
            threads.busy(),
            reading.opened(file, Header("PNG", 4, 40, bands=1)) as picture,
        ):
            for _ in picture.sweep(windows, threads.later):
                rows.under_way.wait(5)
                raise OSError("the disk is full")
        assert not rows.closed_while_reading


class TestVerify:
    @pytest.mark.parametrize("name", PILLOWS)
    def test_whole_ones_pass_and_cut_ones_do_not(self, tmp_path, way, name):
        path, data = tmp_path / "a", PILLOWS[name](6)
        path.write_bytes(data)
        with open(path, "rb") as file:
            header = probe(file)
            reading.verify(file, header, None)
        # All but Pillow's TIFFs and ours without compression have their pixels last
        for kept in (0.5, 0.7, 0.9):
            path.write_bytes(data[: int(kept * len(data))])
            with open(path, "rb") as file, pytest.raises(SourceRefused) as caught:
                reading.verify(file, probe(file), None)
            assert caught.value.code == "I03"

    def test_all_rows_as_stored(self, tmp_path, way):
        path, pixels = tmp_path / "a", np.asarray(noise("RGB", SIZE))
        path.write_bytes(encoded(noise("RGB", SIZE), "PNG"))
        with open(path, "rb") as file, reading.opened(file, probe(file)) as picture:
            np.testing.assert_array_equal(np.concatenate(list(picture.bands_of_rows(5))), pixels)

    def test_too_large(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(encoded(smooth(), "PNG"))
        with open(path, "rb") as file, pytest.raises(SourceRefused) as caught:
            reading.verify(file, probe(file), 24 * 16 - 1)
        assert caught.value.code == "I04"


class TestLittleFilesThatTakeMuch:
    def test_a_webp_of_34_bytes(self, tmp_path):
        header = Header("WEBP", 16383, 10900, bands=3)
        for size in (34, 2_000_000):
            with pytest.raises(SourceRefused, match="a decompression bomb") as caught:
                reading.choose(header, size, None)
            assert caught.value.code == "I04"
        assert reading.choose(header, 34, header.pixels) is None
        assert reading.choose(header, 3_000_000, None) is None

    def test_what_takes_little_memory_is_none(self):
        for header in (
            Header("PNG", 13_000, 13_000),
            Header("WEBP", 6000, 4000),
            Header("JPEG", 8000, 6000, gradual=True),
        ):
            assert (
                reading.choose(header, 100_000_000, None) is None or header.pixels > reading.LARGE
            )
            assert reading.cost(header) <= reading.FREE

    def test_bands_are_bounded_before_a_decoder(self):
        header = Header(
            "TIFF",
            64,
            64,
            bands=reading.MOST_BANDS + 1,
            problem="bands",
            colour="grey",
            compression=1,
        )
        with pytest.raises(SourceRefused, match="2049 bands") as caught:
            reading.choose(header, 10**9, None)
        assert caught.value.code == "I06"
