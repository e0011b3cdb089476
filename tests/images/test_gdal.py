"""Images read by strips with GDAL are those that were written, to the last bit; or they are
refused.
"""

import io
import os
import sys
import tarfile
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conftest import SHARED, needs_shared
from tests.images import encoded, noise, smooth, tiff, whole
from tiler.errors import SourceRefused
from tiler.images import gdal
from tiler.images.header import Header, probe


@pytest.fixture(scope="module")
def libgdal():
    pytest.importorskip("rasterio", reason="the extra `big` is not installed")


needs_gdal = pytest.mark.usefixtures("libgdal")
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SIZE = (333, 211)


def file_of(tmp_path, data, name="image"):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    with open(path, "wb") as file:
        file.write(data)
    return path


def read(tmp_path, data):
    with open(file_of(tmp_path, data), "rb") as file:
        header = probe(file)
        assert gdal.reads(header)
        rows = gdal.opened(file, header)
        try:
            return whole(rows)
        finally:
            rows.close()


def same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def values(dtype, shape):
    random = np.random.default_rng(len(shape))
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1e3, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def written(pixels, planar=False, **options):
    tifffile, buffer = pytest.importorskip("tifffile"), io.BytesIO()
    data = np.moveaxis(pixels, 2, 0) if planar else pixels
    config = ("separate" if planar else "contig") if pixels.shape[2] > 1 else None
    tifffile.imwrite(
        buffer,
        data if config else data[..., 0],
        photometric="minisblack",
        planarconfig=config,
        **options,
    )
    return buffer.getvalue()


@needs_gdal
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_depth_and_number_of_bands(tmp_path, dtype, bands, order):
    pixels = values(dtype, (101, 83, bands))
    kind = {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    for tile, big in ((None, False), (32, True)):
        data = tiff(pixels, order, big, tile, {339: (3, [kind] * bands), 274: (3, [6])})
        same(read(tmp_path, data), pixels)


FORMS = {
    "zlib": {"compression": "zlib", "rowsperstrip": 7},
    "lzw": {"compression": "lzw", "predictor": 2, "rowsperstrip": 200},
    "packbits": {"compression": "packbits", "rowsperstrip": 100},
    "zstd": {"compression": "zstd", "tile": (48, 16)},
    "lzma": {"compression": "lzma", "tile": (128, 64)},
    "raw": {"tile": (80, 32)},
}


@needs_gdal
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_compressed_and_planar(tmp_path, form, planar):
    for dtype, bands in (("u2", 5), ("u1", 3), ("i2", 1)):
        pixels = values(dtype, (211, 150, bands))
        same(read(tmp_path, written(pixels, planar and bands > 1, **FORMS[form])), pixels)


@needs_gdal
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("tiles", [{}, {"tile_size": (128, 100)}, {"irreversible": True}])
def test_jpeg_2000(tmp_path, mode, tiles):
    data = encoded(
        Image.blend(smooth("RGB", SIZE), noise("RGB", SIZE), 0.3).convert(mode), "JPEG2000", **tiles
    )
    expected = np.array(Image.open(io.BytesIO(data)))
    same(read(tmp_path, data), expected.reshape(*SIZE[::-1], -1))


@needs_gdal
def test_jpeg_2000_of_16_bits(tmp_path):
    data = encoded(noise("I;16", SIZE), "JPEG2000")
    same(read(tmp_path, data)[..., 0], np.array(noise("I;16", SIZE)))


@needs_gdal
def test_an_overview_is_not_the_picture(tmp_path):
    import rasterio

    pixels, path = values("u2", (4, 600, 700)), tmp_path / "geo.tif"
    form = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    place = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    with rasterio.open(
        path, "w", "GTiff", 700, 600, 4, "EPSG:32633", place, "uint16", nodata=7, **form
    ) as data:
        data.write(pixels)
        data.build_overviews([2, 4])
    same(read(tmp_path, path.read_bytes()), pixels.transpose(1, 2, 0))


@needs_gdal
def test_neighbours_are_not_read(tmp_path):
    """Nor written."""
    pixels = values("u1", (40, 50, 3))
    path = file_of(tmp_path, tiff(pixels), "a.tif")
    for name in ("a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "a.tfw"):
        file_of(tmp_path, b"<PAMDataset><broken", name)
    before = sorted(os.listdir(tmp_path))
    with open(path, "rb") as file:
        same(whole(gdal.opened(file, probe(file))), pixels)
    assert sorted(os.listdir(tmp_path)) == before


PARTS = {
    "tiles": (("u1", 3), {"tile": (80, 48), "compression": "zlib"}),
    "planar tiles": (("u2", 5), {"tile": (80, 48), "planar": True}),
    "tall strips": (("u1", 3), {"rowsperstrip": 100, "compression": "lzw"}),
    "one strip": (("f4", 2), {"rowsperstrip": 300, "compression": "zlib"}),
    "flat strips": (("i2", 3), {"rowsperstrip": 3}),
}


@needs_gdal
@pytest.mark.parametrize("at_once", [gdal.AT_ONCE, 1])
@pytest.mark.parametrize("name", [*PARTS, "JPEG 2000"])
def test_in_parts_by_many_threads(tmp_path, name, at_once, monkeypatch):
    monkeypatch.setattr(gdal, "AT_ONCE", at_once)
    if name == "JPEG 2000":
        expected = np.array(noise("RGB", SIZE))
        data = encoded(noise("RGB", SIZE), "JPEG2000", tile_size=(100, 70))
    else:
        (dtype, bands), form = PARTS[name]
        expected = values(dtype, (211, 333, bands))
        data = written(expected, **form)
    with open(file_of(tmp_path, data), "rb") as file:
        header = probe(file)
        for heights, gaps in (
            ((1, 7, 64, 3), (0,)),
            ((13, 100), (0, 5, 31)),
            ((1,), (2,)),
            ((160, 51), (0,)),
        ):
            rows, top, turn = gdal.opened(file, header), 0, 0
            while top < header.height:
                out = np.zeros(
                    (
                        min(heights[turn % len(heights)], header.height - top),
                        header.width,
                        rows.bands,
                    ),
                    rows.dtype,
                )
                thread = threading.Thread(target=rows.read, args=(top, out))
                thread.start()
                thread.join()
                same(out, expected[top : top + len(out)])
                top, turn = top + len(out) + gaps[turn % len(gaps)], turn + 1
            rows.close()


@needs_gdal
def test_a_row_of_blocks_is_decoded_once(tmp_path):
    """However rows are asked for."""
    pixels = values("u1", (400, 300, 3))
    with open(file_of(tmp_path, written(pixels, tile=(96, 96), compression="zlib")), "rb") as file:
        rows = gdal.opened(file, probe(file))
        decoded, decode = [], rows._decode
        rows._decode = lambda top, out: (decoded.append((top, len(out))), decode(top, out))
        for top in range(0, 400, 37):
            out = np.empty((min(37, 400 - top), 300, 3), "u1")
            rows.read(top, out)
            same(out, pixels[top : top + 37])
        assert decoded == [(0, 96), (96, 96), (192, 96), (288, 96), (384, 16)]


DAMAGED = {
    "raw": lambda: written(values("u1", SIZE[::-1] + (3,))),
    "tiles": lambda: written(values("u2", SIZE[::-1] + (5,)), tile=(64, 64), compression="zlib"),
    "planar": lambda: written(
        values("u2", SIZE[::-1] + (5,)), planar=True, rowsperstrip=32, compression="lzw"
    ),
    "JPEG 2000": lambda: encoded(noise("RGB", SIZE), "JPEG2000"),
    "JPEG 2000 tiles": lambda: encoded(noise("RGB", SIZE), "JPEG2000", tile_size=(128, 128)),
}


@pytest.mark.slow
@needs_gdal
@pytest.mark.parametrize("name", DAMAGED)
def test_truncated(tmp_path, name, capfd):
    data = DAMAGED[name]()
    expected = read(tmp_path, data)
    for length in sorted(
        {*range(40, len(data), len(data) // 30), *range(len(data) - 40, len(data), 5)}
    ):
        try:
            found = read(tmp_path, data[:length])
        except SourceRefused as error:
            assert error.code == "I03" and "\n" not in error.message
        else:
            same(found, expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_gdal
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(tmp_path, name, capfd):
    """An image of the header's size, or none."""
    data, random = DAMAGED[name](), np.random.default_rng(5)
    for n in range(60):
        broken = bytearray(data)
        for at in random.integers(0, len(data) if n % 2 else 300, 3):
            broken[at] = random.integers(256)
        try:
            header = probe(io.BytesIO(broken))
            if not gdal.reads(header) or header.pixels > 1e6 or header.bands > 9:
                continue
            assert read(tmp_path, bytes(broken)).shape == (
                header.height,
                header.width,
                header.bands,
            )
        except SourceRefused as error:
            assert error.code in ("I02", "I03", "I07")
    assert capfd.readouterr() == ("", "")


@needs_gdal
def test_another_size_than_the_header_says(tmp_path):
    with open(file_of(tmp_path, tiff(values("u1", (20, 30, 3)))), "rb") as file:
        for wrong in (
            Header("TIFF", 30, 21),
            Header("TIFF", 30, 20, bits=16),
            Header("TIFF", 30, 20, bands=4),
        ):
            with pytest.raises(SourceRefused, match="its header says") as caught:
                gdal.opened(file, wrong)
            assert caught.value.code == "I03"
        with pytest.raises(SourceRefused):  # only the driver of its format is tried
            gdal.opened(file, Header("JPEG 2000", 30, 20))


@needs_gdal
def test_profile_and_no_warning(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = file_of(tmp_path, encoded(noise("RGB", SIZE), "TIFF", icc_profile=profile))
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gdal.opened(file, probe(file)).profile == profile
        filters = list(warnings.filters)
        assert gdal.opened(file, probe(file)).profile == profile
        assert warnings.filters == filters


@needs_gdal
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such names")
@pytest.mark.parametrize(
    "name", ["with spaces [a=b].tif", "Grüße_日本語.tif", b"\xff\xfe.tif", "%s.tif", "zip:a!b.tif"]
)
def test_names(tmp_path, name):
    pixels = values("u1", (20, 30, 5))
    path = file_of(tmp_path, tiff(pixels), name)
    with open(path, "rb") as file:
        os.unlink(path)  # the file that is open counts, not its name
        same(whole(gdal.opened(file, probe(file))), pixels)


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise("P", (9, 9)), "TIFF"),
        encoded(noise("1", (9, 9)), "TIFF"),
        encoded(noise("RGB", (9, 9)).convert("LAB"), "TIFF"),
        encoded(noise("CMYK", (9, 9)), "TIFF"),
        encoded(noise("RGB", (9, 9)), "TIFF", compression="jpeg"),
        encoded(noise("RGB", (9, 9)), "PNG"),
        tiff(np.zeros((9, 9), "u1"), tags={262: (3, [0])}),
        tiff(np.zeros((9, 9), "u2"), tags={339: (3, [3])}),
    ],
    ids=lambda data: repr(data[:4]),  # the rest may tell the time of day
)
def test_not_read(data):
    assert not gdal.reads(probe(io.BytesIO(data)))


@needs_shared
@needs_gdal
def test_odd_pictures(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    seen = set()
    with tarfile.open(SHARED / "data/odd.tar") as archive:
        for member in archive:
            name = os.path.basename(member.name)
            if not name.endswith((".tif", ".jp2")):
                continue
            data = archive.extractfile(member).read()
            header = probe(io.BytesIO(data))
            if not gdal.reads(header):
                continue
            seen.add(name)
            if name == "truncated_tif.tif":
                with pytest.raises(SourceRefused) as caught:
                    read(tmp_path, data)
                assert caught.value.code == "I03"
                continue
            if name.endswith(".jp2"):
                expected = np.array(Image.open(io.BytesIO(data)))
            else:
                with tifffile.TiffFile(io.BytesIO(data)) as file:
                    expected = file.pages[0].asarray()
            if header.planar:
                expected = np.moveaxis(expected, 0, 2)
            expected = expected.astype(expected.dtype.newbyteorder("="))
            same(read(tmp_path, data), expected.reshape(header.height, header.width, header.bands))
    assert {
        "bands5.tif",
        "rgb16.tif",
        "bigtiff.tif",
        "j2k.jp2",
        "multipage.tif",
        "truncated_tif.tif",
    } <= seen


def test_missing(monkeypatch):
    monkeypatch.setattr(gdal, "find_spec", lambda name: None)
    assert gdal.missing()
