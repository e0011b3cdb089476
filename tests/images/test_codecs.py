"""The faster codecs make what Pillow makes, and leave to it whatever it would refuse."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import codecs, reading
from tiler.images.header import probe
from tiler.run.work_sharing import done

from . import chunk, encoded, exif_block, noise, oriented, smooth
from .test_reading import decode as by_pillow

SIZES = [(33, 21), (64, 48), (17, 16), (1, 1), (3, 50)]
QUALITIES = (5, 60, 95, 100)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def fast():
    pytest.importorskip("imagecodecs", reason="the extra `fast` is not installed")
    if codecs.library() is None:
        pytest.skip(f"switched off by {codecs.OFF}, or imagecodecs lacks a codec")


needs_fast = pytest.mark.usefixtures("fast")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("images") / "image"


def photo(mode="RGB", size=(33, 21)):
    """Neither smooth nor noise, so that JPEG has something of everything."""
    return Image.blend(smooth("RGB", size), noise("RGB", size), 0.3).convert(mode)


def banded(image):
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def decoded(data):
    return codecs.decode(data, probe(io.BytesIO(data)))


def as_pillow_does(data):
    found, expected = decoded(data), banded(Image.open(io.BytesIO(data)))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def opened(path, data):
    """The upright image as splitting would find it, or None where it is refused."""
    path.write_bytes(data)
    try:
        with open(path, "rb") as file:
            header = probe(file)
            with reading.opened(file, header, 1_000_000) as picture:
                window = Window(0, 0, *header.size)
                ((crop, _),) = picture.sweep([window], done)
                return banded(crop(window))
    except SourceRefused:
        return None


def same_verdict(path, data):
    """Refused if Pillow refuses it, else the same pixels."""
    found = opened(path, data)
    try:
        expected = banded(by_pillow(data, 1_000_000))
    except SourceRefused:
        assert found is None
        return
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def interlaced(pixels):
    height, width = pixels.shape[:2]
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    raw = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = pixels[y::dy, x::dx]
        raw += b"".join(
            b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part if part.size
        )
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    header = chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, 1)
    )
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def without_segment(data, marker):
    at = data.index(marker)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def with_segments(data, *segments):
    """A JPEG with these behind its JFIF segment, if it has one."""
    at = 2 + 18 * data.startswith(b"\xff\xe0", 2)
    return data[:at] + b"".join(segments) + data[at:]


def adobe(transform):
    return b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(4) + bytes([transform])


THUMBNAIL = encoded(photo(size=(16, 16)), "JPEG")
PLAIN = encoded(photo(), "JPEG")
WITH_THUMBNAIL = encoded(photo(), "JPEG", exif=b"Exif\0\0" + exif_block(1) + THUMBNAIL)
GAMMA, SRGB = chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"sRGB", b"\0")
PNG_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


@needs_fast
class TestDecoded:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("form", ["L", "4:4:4", "4:2:2", "4:2:0", "4:1:1"])
    def test_jpeg(self, form, progressive):
        for size in SIZES:
            for quality in QUALITIES:
                options = {"quality": quality, "progressive": progressive}
                image = photo("L", size) if form == "L" else photo("RGB", size)
                as_pillow_does(
                    encoded(
                        image, "JPEG", **options, **({} if form == "L" else {"subsampling": form})
                    )
                )

    @pytest.mark.parametrize("size", SIZES)
    def test_jpeg_of_4_4_0(self, size):
        data = bytes(
            codecs.library().jpeg8_encode(
                np.asarray(photo("RGB", size)), level=80, subsampling="440"
            )
        )
        as_pillow_does(data)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(encoded(photo(), "JPEG", restart_marker_rows=1), id="restarts"),
            pytest.param(encoded(photo(), "JPEG", keep_rgb=True), id="kept RGB"),
            pytest.param(
                without_segment(encoded(photo(), "JPEG", keep_rgb=True), b"\xff\xee"),
                id="RGB by its component names",
            ),
            pytest.param(without_segment(PLAIN, b"\xff\xe0"), id="no JFIF"),
            pytest.param(
                with_segments(without_segment(PLAIN, b"\xff\xe0"), adobe(0)), id="Adobe RGB"
            ),
            pytest.param(
                with_segments(without_segment(PLAIN, b"\xff\xe0"), adobe(1)), id="Adobe YCbCr"
            ),
            pytest.param(with_segments(PLAIN, adobe(0)), id="JFIF against Adobe RGB"),
            pytest.param(with_segments(PLAIN, b"\xff\xfe\0\4\xff\xd9"), id="an end in a comment"),
            pytest.param(with_segments(PLAIN, b"\xff\xff\xff"), id="filled between segments"),
            pytest.param(encoded(photo(), "JPEG", icc_profile=PROFILE * 200), id="profile"),
            pytest.param(encoded(photo(), "JPEG", exif=oriented(6)), id="turned"),
            pytest.param(WITH_THUMBNAIL, id="thumbnail"),
            pytest.param(
                encoded(photo(), "MPO", save_all=True, append_images=[photo(size=(16, 16))]),
                id="MPO",
            ),
            pytest.param(PLAIN + b"and more", id="trailing bytes"),
        ],
    )
    def test_odd_jpeg(self, data):
        as_pillow_does(data)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(encoded(photo("CMYK"), "JPEG"), id="CMYK JPEG"),
            pytest.param(encoded(noise("RGB", (9, 7)), "PNG"), id="PNG"),
            pytest.param(encoded(noise("RGB", (9, 7)), "WEBP", lossless=True), id="WebP"),
            pytest.param(encoded(noise("RGB", (9, 7)), "TIFF"), id="TIFF"),
        ],
    )
    def test_what_is_left_to_pillow(self, data):
        assert decoded(data) is None


def test_without_the_library_all_is_left_to_pillow(monkeypatch):
    monkeypatch.setattr(codecs, "library", lambda: None)
    assert decoded(PLAIN) is None
    assert not codecs.encodes("JPEG", "RGB", {"quality": 90})


def test_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(codecs.OFF, "1")
    assert codecs.library.__wrapped__() is None


# What else may stand in a file than its pixels, and where it may be cut
DAMAGED = {
    "grey": encoded(photo("L", (17, 16)), "JPEG"),
    "colour": PLAIN,
    "progressive": encoded(photo(size=(17, 16)), "JPEG", progressive=True),
    "restarts": encoded(photo(), "JPEG", restart_marker_rows=1, exif=oriented(8)),
    "thumbnail": WITH_THUMBNAIL,
    "MPO": encoded(photo(size=(9, 9)), "MPO", save_all=True, append_images=[photo(size=(8, 8))]),
}


def within_a_marker(data, length):
    """Whether a JPEG is cut there between the two bytes of a marker, before its pixels."""
    return (
        data[:2] == b"\xff\xd8"
        and 2 < length <= data.rindex(b"\xff\xda") + 1
        and data[length - 1] == 0xFF
    )


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGED)
    def test_cut_anywhere(self, path, name):
        data = DAMAGED[name]
        for length in range(len(data)):
            if not within_a_marker(data, length):
                same_verdict(path, data[:length])

    def test_cut_within_a_marker(self, path):
        for data in DAMAGED.values():
            for length in (length for length in range(len(data)) if within_a_marker(data, length)):
                same_verdict(path, data[:length])

    def test_a_whole_thumbnail_does_not_make_up_for_a_cut_picture(self, path):
        assert THUMBNAIL in WITH_THUMBNAIL
        for missing in (2, 10, 200):
            assert opened(path, WITH_THUMBNAIL[:-missing]) is None
        assert opened(path, WITH_THUMBNAIL) is not None

    @given(
        st.sampled_from(sorted(DAMAGED)),
        st.lists(
            st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
            min_size=1,
            max_size=3,
        ),
    )
    @settings(max_examples=400, deadline=None)
    def test_bent_bytes(self, path, name, changes):
        data = bytearray(DAMAGED[name])
        for where, change in changes:
            data[int(where * len(data))] ^= change
        same_verdict(path, bytes(data))

    @given(
        st.floats(0, 1, exclude_max=True), st.integers(1, 20), st.binary(max_size=4), st.booleans()
    )
    @settings(max_examples=150, deadline=None)
    def test_bytes_missing_or_put_in(self, path, where, number, put, progressive):
        data = DAMAGED["progressive" if progressive else "thumbnail"]
        at = int(where * (len(data) - 2))
        same_verdict(path, data[:at] + put + data[at + number :])


def written(pixels, format, mode, **options):
    return codecs.encode(pixels, format, options)


@needs_fast
class TestEncoded:
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("size", SIZES)
    def test_a_jpeg_shows_what_pillows_shows(self, size, subsampling):
        """To the last bit where both have the same libjpeg-turbo; its decoders differ by one,
        elsewhere.
        """
        image = photo("RGB", size)
        for quality in (1, 30, 75, 95, 100):
            data = written(
                np.asarray(image), "JPEG", "RGB", quality=quality, subsampling=subsampling
            )
            reference = encoded(image, "JPEG", quality=quality, subsampling=subsampling)
            found, expected = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(reference))
            assert found.quantization == expected.quantization
            assert probe(io.BytesIO(data)) == probe(io.BytesIO(reference))
            assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1

    @pytest.mark.parametrize("size", SIZES)
    def test_a_grey_jpeg(self, size):
        image = photo("L", size)
        for quality in (1, 50, 100):
            data = written(banded(image), "JPEG", "L", quality=quality)
            reference = encoded(image, "JPEG", quality=quality)
            assert probe(io.BytesIO(data)) == probe(io.BytesIO(reference))
            found, expected = (
                np.asarray(Image.open(io.BytesIO(data))),
                np.asarray(Image.open(io.BytesIO(reference))),
            )
            assert np.abs(found.astype(int) - expected).max() <= 1

    @given(st.sampled_from(PNG_MODES), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
    @settings(max_examples=150, deadline=None)
    def test_a_png_is_its_pixels(self, mode, width, height, level):
        pixels = banded(noise(mode, (width, height)))
        data = written(pixels, "PNG", mode, compress_level=level)
        image = Image.open(io.BytesIO(data))
        assert image.mode == mode
        np.testing.assert_array_equal(banded(image), pixels)

    @given(
        st.sampled_from([("JPEG", "L"), ("JPEG", "RGB"), *(("PNG", mode) for mode in PNG_MODES)]),
        st.integers(0, 29),
        st.integers(0, 19),
        st.data(),
    )
    @settings(max_examples=150, deadline=None)
    def test_a_part_of_a_picture_is_written_as_its_copy(self, kind, x, y, data):
        format, mode = kind
        part = banded(noise(mode, (30, 20)))[
            y : data.draw(st.integers(y + 1, 20)), x : data.draw(st.integers(x + 1, 30))
        ]
        options = {"quality": 80} if format == "JPEG" else {"compress_level": 1}
        assert written(part, format, mode, **options) == written(
            part.copy(), format, mode, **options
        )

    def test_the_same_bytes_each_time_and_nothing_but_pixels(self):
        pixels = np.asarray(photo())
        for format, options in (("JPEG", {"quality": 90}), ("PNG", {"compress_level": 1})):
            data = written(pixels, format, "RGB", **options)
            assert data == written(pixels, format, "RGB", **options)
            assert set(Image.open(io.BytesIO(data)).info) <= {
                "jfif",
                "jfif_version",
                "jfif_unit",
                "jfif_density",
            }

    @pytest.mark.parametrize(
        ("format", "mode", "options", "able"),
        [
            ("JPEG", "RGB", {"quality": 90, "subsampling": "4:2:0"}, True),
            ("JPEG", "L", {"quality": 90}, True),
            ("JPEG", "CMYK", {"quality": 90}, False),
            ("JPEG", "RGB", {"qtables": {}}, False),
            ("JPEG", "RGB", {"quality": 90, "icc_profile": b"x"}, False),
            ("PNG", "I;16", {"compress_level": 1}, True),
            ("PNG", "RGB", {"compress_level": 1, "transparency": (1, 2, 3)}, False),
            ("PNG", "P", {"compress_level": 1}, False),
            ("PNG", "1", {"compress_level": 1}, False),
            ("TIFF", "RGB", {}, False),
            ("WEBP", "RGB", {"quality": 90}, False),
            ("BMP", "RGB", {}, False),
        ],
    )
    def test_what_it_encodes(self, format, mode, options, able):
        assert codecs.encodes(format, mode, options) == able
