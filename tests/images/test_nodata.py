"""Which pixels have no data, by a ten-line oracle; how many of each window have; resampling."""

import io
import math
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst
from PIL import Image

from tests.conftest import needs_big
from tests.images import chunk, encoded, oriented, png, smooth, tiff
from tests.strategies import quick
from tiler.geometry.window import Window
from tiler.images import nodata, reading
from tiler.images.encoding import BANDS
from tiler.images.header import Header, probe
from tiler.images.nodata import NoData, number, possible, resampled_data, window_counts
from tiler.images.pixels import turned
from tiler.images.stretch import Histogram, limits

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4")
NUMBERS = ("0", "1", "7", "-1", "-9999", "255", "65535", "nan", "-3.4028234663852886e+38", "0.1")
TAG = 42113


def header_of(dtype, text, **more):
    dtype = np.dtype(dtype)
    bits = 8 * dtype.itemsize
    return Header("TIFF", 10, 10, bits=bits, kind=dtype.kind, nodata=text, colour="grey", **more)


def rule(pixels, text, alpha=False):
    """The same, pixel by pixel."""
    result = np.ones(pixels.shape[:2], bool)
    value = float(text) if text else math.nan
    with np.errstate(over="ignore"):
        value = float(np.float64(value).astype(pixels.dtype)) if pixels.dtype.kind == "f" else value
    for row, column in np.ndindex(pixels.shape[:2]):
        bands = [float(v) for v in pixels[row, column]]
        transparent = alpha and bands.pop() == 0
        empty = all(math.isnan(v) or v == value for v in bands)
        result[row, column] = not (transparent or empty)
    return result


@st.composite
def pictures(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    text = draw(st.sampled_from(NUMBERS))
    shape = draw(nst.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))
    few = [0, 1, 2, 7, 127]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            few += [math.nan, math.inf, float(np.float64(text).astype(dtype)), 0.1]
    elif text in ("-1", "-9999", "255", "65535"):
        limit = np.iinfo(dtype)
        few += [int(text)] * (limit.min <= int(text) <= limit.max)
    values = draw(
        st.lists(st.sampled_from(few), min_size=math.prod(shape), max_size=math.prod(shape))
    )
    return np.array(values, np.float64 if dtype.kind == "f" else object).astype(dtype).reshape(
        shape
    ), text


@given(pictures(), st.booleans())
@quick
def test_a_pixel_has_no_data_by_the_rule(case, alpha):
    pixels, text = case
    bands = pixels.shape[2]
    alpha = alpha and bands > 1
    found = NoData.of(header_of(pixels.dtype, text, alpha=alpha), BANDS, bands, pixels.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        has_data = found.has_data(pixels)
    np.testing.assert_array_equal(has_data, rule(pixels, text, alpha))
    if not possible(header_of(pixels.dtype, text, alpha=alpha)):
        assert has_data.all()


@given(pictures(), st.sampled_from(["minmax", "percentile"]))
@quick
def test_limits_are_numpys_of_the_data(case, method):
    pixels, text = case
    exact = pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2
    if not (exact or method == "minmax"):
        return
    histogram = Histogram.of_kind(pixels.dtype, pixels.shape[2])
    found = NoData.of(header_of(pixels.dtype, text), BANDS, pixels.shape[2], pixels.dtype)
    histogram.count(pixels, found.has_data(pixels))
    for band, pair in enumerate(limits(histogram, method, shared=False)):
        values = pixels[..., band][rule(pixels, text)].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            assert pair == (0.0, 1.0)
        elif method == "minmax":
            assert pair == (values.min(), values.max())
        else:
            assert pair == tuple(np.percentile(values, [1, 99], method="inverted_cdf"))


@given(
    nst.arrays(bool, nst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)),
    st.integers(1, 7),
    st.data(),
)
@quick
def test_counts_of_windows_are_sums(mask, rows, data):
    height, width = mask.shape
    windows = []
    for _ in range(data.draw(st.integers(0, 6))):
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        windows.append(Window(x, y, w, h))
    pieces = [mask[top : top + rows] for top in range(0, height, rows)]
    found = window_counts(pieces, windows)
    sums = [int(mask[w.y : w.bottom, w.x : w.right].sum()) for w in windows]
    assert found.tolist() == sums


# --- what the header says


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("text", ["-9999", "nan", "0", "65535", "-3.4028234663852886e+38"])
def test_the_tag_is_read_by_our_own_code(order, big, text):
    value = list(text.encode() + b"\0")
    data = tiff(np.zeros((12, 15), np.uint16), order, big, tags={TAG: (2, value)})
    assert probe(io.BytesIO(data)).nodata == text


def test_that_of_pillow_is_read_too():
    data = encoded(smooth("F"), "TIFF", tiffinfo={TAG: "-9999 "})
    assert probe(io.BytesIO(data)).nodata == "-9999"


@pytest.mark.parametrize("kind", [3, 12])
def test_a_tag_of_another_type_says_nothing(kind):
    data = tiff(np.zeros((12, 15), np.uint16), tags={TAG: (kind, [7])})
    assert probe(io.BytesIO(data)).nodata == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-9999", -9999),
        ("1e3", 1000.0),
        ("9" * 400, math.inf),
        ("9" * 5000, math.inf),
        ("inf", math.inf),
        ("-1.#IND", None),
        ("1.#QNAN0", "no"),
    ],
)
def test_numbers(text, value):
    found = number(text)
    if value is None:
        assert math.isnan(found)
    else:
        assert found == (None if value == "no" else value)


@pytest.mark.parametrize("text", ["", "none", "n/a", "-9999,5", "9" * 5000 + "x"])
def test_what_is_no_number_is_named_once_and_shortly(text):
    header = header_of("u2", text)
    assert not possible(header)
    why = nodata.problem(header, "auto")
    assert (why is None) == (not text)
    assert why is None or ("expected a number" in why and len(why) < 120)


@pytest.mark.parametrize(
    ("dtype", "text", "found"),
    [("u1", "-9999", False), ("u1", "255", True), ("u1", "nan", False), ("i2", "-9999", True)]
    + [("u2", "0.5", False), ("f4", "0.5", True), ("f4", "1e300", False), ("f8", "1e300", True)]
    + [("f4", "9" * 30, True), ("i4", "9" * 400, False)],
)
def test_a_value_that_no_sample_can_have_is_said_if_it_was_chosen(dtype, text, found):
    header = header_of(dtype, text)
    assert nodata.problem(header, "auto") is None
    assert (nodata.problem(header, text) is None) == found
    stands = NoData.of(header, BANDS, 1, np.dtype(dtype))
    assert bool(stands.colours) == found


def test_64_bits_are_compared_as_whole_numbers():
    largest = 2**63 - 1
    pixels = np.array([[[largest], [largest - 1]]], np.int64)
    found = NoData.of(header_of("i8", str(largest)), BANDS, 1, pixels.dtype)
    assert found.has_data(pixels).tolist() == [[False, True]]


def test_a_float32_has_the_value_that_its_text_is_rounded_to():
    pixels = np.array([[[-3.4e38], [0.1], [-9999]]], np.float32)
    for text, want in (("-3.4e+38", 0), ("0.1", 1), ("-9999.0", 2)):
        found = NoData.of(header_of("f4", text), "F", 1, pixels.dtype).has_data(pixels)[0]
        assert found.tolist() == [i != want for i in range(3)]


# --- transparent colours and indices of PNG


@pytest.mark.parametrize(
    ("bits", "colour", "content", "samples"),
    [(8, 0, (7,), (7,)), (16, 0, (300,), (300,)), (8, 2, (1, 2, 3), (1, 2, 3)), (4, 0, (9,), (9,))],
)
def test_a_transparent_colour_is_read(bits, colour, content, samples):
    header = probe(
        io.BytesIO(
            png(bits, colour, before=chunk(b"tRNS", struct.pack(f">{len(content)}H", *content)))
        )
    )
    assert header.transparent == samples
    assert possible(header)


def test_indices_that_are_transparent_are_read():
    header = probe(io.BytesIO(png(8, 3, before=chunk(b"tRNS", bytes([255, 0, 128, 0])))))
    assert header.transparent == (1, 3)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\1\2", bytes(2000)])
def test_a_transparent_colour_of_the_wrong_length_says_nothing(content):
    assert probe(io.BytesIO(png(8, 2, before=chunk(b"tRNS", content)))).transparent == ()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_compared_as_they_are_decoded(bits):
    largest = 2**bits - 1
    mode, scale = ("1", 1) if bits == 1 else ("L", 255 // largest)
    header = Header("TIFF", 4, 4, bits=bits, bands=1, colour="grey", nodata=str(largest))
    found = NoData.of(header, mode, 1, np.dtype("u1"))
    assert found.colours == ((largest * scale,),)
    assert found.tags[0][3] == f"{largest * scale}\0".encode()
    inverted = Header("TIFF", 4, 4, bits=bits, bands=1, colour="inverted grey", nodata="0")
    assert NoData.of(inverted, mode, 1, np.dtype("u1")).colours == ((largest * scale,),)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colour", [0, 1])
def test_they_are_decoded_to_that(bits, colour):
    """Of a TIFF of few bits, the pixels of the largest stored value."""
    stored = np.arange(16).reshape(2, 8) % 2**bits
    packed = b"".join(
        int("".join(f"{v:0{bits}b}" for v in row), 2).to_bytes(bits, "big") for row in stored
    )
    data = tiff(
        np.frombuffer(packed, np.uint8).reshape(2, bits),
        tags={
            256: (3, [8]),
            258: (3, [bits]),
            262: (3, [colour]),
            339: (3, [1]),
            TAG: (2, [*b"1\0"]),
        },
    )
    header = probe(io.BytesIO(data))
    file = io.BytesIO(data)
    pixels = np.atleast_3d(np.asarray(reading.decode(file, header)))
    mode = reading.decode(file, header).mode
    found = NoData.of(header, mode, 1, np.dtype("u1")).has_data(pixels)
    np.testing.assert_array_equal(found, stored != 1)


# --- images, by every reader


@pytest.fixture(params=["whole", "by rows"])
def by_rows(request, monkeypatch):
    if request.param == "by rows":
        request.getfixturevalue("big")
        monkeypatch.setattr(reading, "LARGE", 0)
    return request.param == "by rows"


def counted(path, windows):
    with open(path, "rb") as file:
        header = probe(file)
        assert possible(header)
        with reading.opened(file, header) as image:
            return type(image._rows).__name__, image.data_counts(windows).tolist()


def grey(dtype="u2", size=(60, 44)):
    """Some values, 7 among them, in a block that lies to one side."""
    pixels = np.random.default_rng(1).integers(0, 20, size[::-1]).astype(dtype)
    pixels[:20, :33] = 7
    return pixels


WINDOWS = [Window(0, 0, 60, 44), Window(0, 0, 33, 20), Window(10, 5, 40, 30), Window(50, 40, 10, 4)]


def sums(mask, windows):
    return [int(mask[w.y : w.bottom, w.x : w.right].sum()) for w in windows]


def tagged(pixels, text="7", **more):
    return tiff(pixels, tags={TAG: (2, [*text.encode(), 0]), **more})


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_pixels_with_data_are_counted(tmp_path, dtype, by_rows):
    pixels = grey(dtype)
    path = tmp_path / "a.tif"
    path.write_bytes(tagged(pixels))
    reader, found = counted(path, WINDOWS)
    assert (reader == "NoneType") == (not by_rows)
    assert found == sums(pixels != 7, WINDOWS)


@needs_big
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("dtype", ["i2", "u4", "i4", "f8", "u1"])
def test_of_many_bands_all_must_be_without(tmp_path, dtype, planar):
    pixels = np.stack([grey(dtype), grey(dtype), grey(dtype)[::-1]], axis=-1)
    pixels[:20, :33] = 7
    pixels = np.concatenate([pixels, pixels[..., :2]], axis=-1)
    data = tagged(pixels) if planar == 1 else None
    path = tmp_path / "a.tif"
    if data is None:
        from tifffile import imwrite

        planes = pixels.transpose(2, 0, 1)
        extra = [(TAG, "s", 2, "7", True)]
        imwrite(
            path,
            planes,
            planarconfig="separate",
            photometric="minisblack",
            extratags=extra,
            metadata=None,
        )
    else:
        path.write_bytes(data)
    _, found = counted(path, WINDOWS)
    assert found == sums((pixels != 7).any(axis=-1), WINDOWS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_windows_of_turned_images_are_upright(tmp_path, orientation, format, by_rows):
    pixels = np.random.default_rng(2).integers(0, 255, (44, 60, 4)).astype(np.uint8)
    pixels[..., 3] = grey("u1") != 7
    save = {"exif": oriented(orientation)} if format == "PNG" else {"tiffinfo": {274: orientation}}
    path = tmp_path / "a"
    path.write_bytes(encoded(Image.fromarray(pixels), format, **save))
    upright = turned(pixels, orientation)
    height, width = upright.shape[:2]
    windows = [Window(0, 0, width, height), Window(3, 4, 25, 17), Window(20, 10, width - 20, 30)]
    _, found = counted(path, windows)
    assert found == sums(upright[..., 3] > 0, windows)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB"])
def test_transparent_pixels_have_no_data(tmp_path, mode):
    pixels = np.repeat(grey("u1")[..., None] * 9, 4, axis=-1)
    pixels[..., 3] = np.where(grey("u1") == 7, 0, 200)
    image = Image.fromarray(pixels)
    save = {}
    if mode == "P":
        image = Image.fromarray(grey("u1")).convert("P")
        image.putpalette([i % 256 for i in range(768)])
        save = {"transparency": 7}
    elif mode == "RGB":
        image = image.convert("RGB")
        save = {"transparency": (63, 63, 63)}
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image.convert(mode), "PNG", **save))
    _, found = counted(path, WINDOWS)
    assert found == sums(grey("u1") != 7, WINDOWS)


def test_alpha_of_webp(tmp_path):
    pixels = np.full((44, 60, 4), 90, np.uint8)
    pixels[..., 3] = np.where(grey("u1") == 7, 0, 200)
    path = tmp_path / "a.webp"
    path.write_bytes(encoded(Image.fromarray(pixels), "WEBP", lossless=True, exact=True))
    assert counted(path, WINDOWS)[1] == sums(grey("u1") != 7, WINDOWS)


def bmp(alpha):
    """A BMP of 32 bits, V4, with masks for blue, green, red, and perhaps alpha."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000 if alpha else 0)
    head = struct.pack("<IiiHHIIiiII", 108, 6, 4, 1, 32, 3, 96, 0, 0, 0, 0) + masks + bytes(52)
    pixels = np.full((4, 6, 4), 200, np.uint8)
    pixels[:2, :, 3] = 0
    return b"BM" + struct.pack("<IHHI", 14 + 108 + 96, 0, 0, 14 + 108) + head + pixels.tobytes()


def test_alpha_of_bmp():
    data = bmp(True)
    header = probe(io.BytesIO(data))
    image = reading.decode(io.BytesIO(data), header)
    assert (header.alpha, image.mode) == (True, "RGBA")
    found = NoData.of(header, image.mode, 4, np.dtype("u1")).has_data(np.asarray(image))
    assert found.sum() == 12
    assert not possible(probe(io.BytesIO(bmp(False))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_a_photo_is_all_data_and_known_to_be(format):
    assert not possible(probe(io.BytesIO(encoded(smooth(), format))))


# --- resampling


def kept(dtype, bands=1, text="-9999"):
    return NoData.of(header_of(dtype, text), BANDS, bands, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8", "i8"])
@pytest.mark.parametrize("size", [(20, 20), (80, 80), (13, 31)])
def test_resampled_values_are_those_of_data_or_none(dtype, size):
    pixels = np.random.default_rng(0).integers(500, 1500, (40, 40, 2)).astype(dtype)
    pixels[:, :17] = -9999
    found = resampled_data(pixels, BANDS, kept(dtype, 2), size)
    assert found.shape == (*size[::-1], 2)
    assert found.dtype == pixels.dtype
    empty = (found == -9999).all(axis=-1)
    assert ((found[~empty] >= 500) & (found[~empty] <= 1500)).all()
    np.testing.assert_allclose(empty.mean(), 17 / 40, atol=0.06)
    assert (empty == empty[:1]).all()


def test_a_nan_takes_no_neighbour_with_it():
    pixels = np.ones((40, 40, 1), np.float32)
    pixels[:, :20] = np.nan
    for text, empty in (("", np.nan), ("nan", np.nan), ("-9999", -9999)):
        found = resampled_data(pixels, BANDS, kept("f4", 1, text), (20, 20))[..., 0]
        np.testing.assert_array_equal(found[:, :10], empty)
        np.testing.assert_allclose(found[:, 10:], 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F", "RGBA", "CMYK", "1", "P"])
def test_without_such_pixels_nothing_changes(mode):
    image = smooth(mode)
    bands = len(image.getbands())
    header = Header("TIFF", 24, 16, bands=bands, nodata="-77")
    stands = NoData.of(header, mode, bands, np.dtype(reading.PILLOW_TYPES.get(mode, "u1")))
    found = resampled_data(image, mode, stands, (11, 9))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(nodata.resampled(image, (11, 9))))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F", "CMYK"])
def test_images_of_pillow_keep_their_mode(mode):
    pixels = np.array(smooth(mode))
    pixels[:8] = 0
    image = Image.fromarray(pixels) if mode != "CMYK" else smooth(mode)
    if mode == "CMYK":
        image.paste((0, 0, 0, 0), (0, 0, 24, 8))
    header = Header("TIFF", 24, 16, bands=len(image.getbands()), nodata="0")
    stands = NoData.of(header, mode, len(image.getbands()), pixels.dtype)
    found = resampled_data(image, mode, stands, (12, 8))
    assert (found.mode, found.size) == (mode, (12, 8))
    assert not np.asarray(found)[:4].any()
    assert np.asarray(found)[5:].any()
