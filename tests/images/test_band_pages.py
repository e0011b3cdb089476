import io

import numpy as np
import pytest
from PIL import Image

from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import reading
from tiler.images.band_pages import Pages, stand_for_bands
from tiler.images.header import probe
from tiler.images.row_reader import bands_of
from tiler.run.work_sharing import done

from . import encoded, noise, smooth, tiff, whole

SIZE = (40, 30)


def bands_in(mode, number=4, **options):
    """A TIFF of so many pages, and what it holds."""
    images = [noise(mode, SIZE, seed) for seed in range(number)]
    data = encoded(images[0], "TIFF", save_all=True, append_images=images[1:], **options)
    return data, np.stack([np.asarray(image) for image in images], axis=-1)


def paged(data, bands):
    file = io.BytesIO(data)
    header = probe(file)
    return Pages(file, header, bands) if stand_for_bands(file, header, bands) else None


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
@pytest.mark.parametrize("number", [2, 4, 7])
def test_equal_pages_are_bands(mode, compression, number):
    data, expected = bands_in(mode, number, compression=compression)
    rows = paged(data, number)
    assert (rows.width, rows.height, rows.bands, rows.dtype) == (*SIZE, number, expected.dtype)
    np.testing.assert_array_equal(whole(rows), expected)
    np.testing.assert_array_equal(np.concatenate(list(bands_of(rows, 7))), expected)
    rows.close()


@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_big_endian(mode, tile):
    """In the machine's order afterwards, and both of its pages, which here are equal."""
    plane = np.asarray(noise(mode, SIZE))
    rows = paged(tiff(plane, ">", False, tile, second={}), 2)
    assert rows.dtype == plane.dtype
    assert rows.dtype.isnative
    np.testing.assert_array_equal(whole(rows), np.stack([plane, plane], axis=-1))


def test_pages_of_16_bits_in_big_endian_order():
    planes = [np.asarray(noise("I;16", SIZE, seed)) for seed in range(3)]
    images = [Image.fromarray(plane.astype(">u2")) for plane in planes]
    rows = paged(encoded(images[0], "TIFF", save_all=True, append_images=images[1:]), 3)
    np.testing.assert_array_equal(whole(rows), np.stack(planes, axis=-1))


def stack(*images, **options):
    return encoded(images[0], "TIFF", save_all=True, append_images=list(images[1:]), **options)


GREY = noise("L", SIZE)


@pytest.mark.parametrize(
    ("data", "bands"),
    [
        pytest.param(stack(GREY, GREY, GREY), 4, id="fewer pages"),
        pytest.param(stack(GREY, GREY, GREY), 2, id="more pages"),
        pytest.param(stack(GREY, noise("L", (39, 30))), 2, id="another width"),
        pytest.param(stack(GREY, noise("L", (40, 31))), 2, id="another height"),
        pytest.param(stack(GREY, noise("I;16", SIZE)), 2, id="another depth"),
        pytest.param(stack(noise("F", SIZE), Image.new("I", SIZE)), 2, id="another kind"),
        pytest.param(stack(GREY, noise("RGB", SIZE)), 2, id="other bands"),
        pytest.param(stack(noise("RGB", SIZE), noise("RGB", SIZE)), 2, id="colour"),
        pytest.param(stack(noise("1", SIZE), noise("1", SIZE)), 2, id="single bits"),
        pytest.param(stack(GREY, GREY, tiffinfo={274: 6}), 2, id="turned"),
        pytest.param(encoded(GREY, "TIFF"), 2, id="one page"),
        pytest.param(tiff(np.asarray(GREY), second={254: (4, [1])}), 2, id="an overview"),
        pytest.param(encoded(GREY, "PNG"), 2, id="PNG"),
        pytest.param(
            encoded(
                smooth(), "PNG", save_all=True, append_images=[GREY.convert("RGB").resize((24, 16))]
            ),
            2,
            id="APNG",
        ),
    ],
)
def test_what_is_no_picture_of_bands(data, bands):
    assert paged(data, bands) is None


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_cut_file_is_refused_or_whole(compression):
    data, expected = bands_in("L", 3, compression=compression)
    refused = 0
    for length in range(0, len(data), 7):
        try:
            rows = paged(data[:length], 3)
        except SourceRefused as error:
            assert error.code in ("I02", "I03")
            refused += 1
        else:
            assert rows is None or np.array_equal(whole(rows), expected)
    assert refused > 5


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_damaged_page_is_told(page):
    data = stack(GREY, GREY, GREY, compression="tiff_adobe_deflate")
    starts = [i for i in range(len(data)) if data.startswith(b"\x78\x9c", i)]
    at = starts[page] + 40
    with pytest.raises(SourceRefused, match=f"page {page + 1}") as caught:
        paged(data[:at] + b"\xff" * 30 + data[at + 30 :], 3)
    assert caught.value.code == "I03"


@pytest.mark.parametrize(("mode", "shown"), [("L", "bands"), ("I;16", "bands"), ("F", "bands")])
def test_opened(tmp_path, mode, shown):
    data, expected = bands_in(mode)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    windows = [Window(0, 0, 40, 30), Window(3, 2, 10, 5), Window(30, 25, 10, 5)]
    with open(path, "rb") as file, reading.opened(file, probe(file), pages=4) as picture:
        assert (picture.mode, picture.bands, picture.dtype) == (shown, 4, expected.dtype)
        for crop, here in picture.sweep(windows, done):
            for w in (windows[i] for i in here):
                np.testing.assert_array_equal(crop(w), expected[w.y : w.bottom, w.x : w.right])


def test_all_pages_together_are_within_the_limit(tmp_path):
    data, _ = bands_in("L")
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with open(path, "rb") as file:
        header = probe(file)
        reading.verify(file, header, 4 * header.pixels, 4)
        with pytest.raises(SourceRefused) as caught:
            reading.verify(file, header, 4 * header.pixels - 1, 4)
    assert caught.value.code == "I04"


def test_pages_above_pillows_limit(monkeypatch):
    data, expected = bands_in("L")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    np.testing.assert_array_equal(whole(paged(data, 4)), expected)


def test_a_picture_without_pages_is_measured_as_one(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(GREY, "PNG"))
    with open(path, "rb") as file:
        header = probe(file)
        reading.verify(file, header, header.pixels, pages=5)
