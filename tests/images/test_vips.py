"""Images read by strips with libvips are those of Pillow, or of whoever wrote them, to the last
bit; or they are refused.
"""

import io
import os
import struct
import subprocess
import sys
import tarfile
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.conftest import SHARED, needs_shared
from tests.images import encoded, noise, oriented, png, smooth, tiff, whole
from tiler.errors import SourceRefused
from tiler.images import vips
from tiler.images.header import Header, probe


@pytest.fixture(scope="module")
def libvips():
    pytest.importorskip(
        "pyvips", reason="the extra `big` is not installed", exc_type=(ImportError, OSError)
    )


needs_vips = pytest.mark.usefixtures("libvips")


def file_of(tmp_path, data, name="image"):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    with open(path, "wb") as file:
        file.write(data)
    return path


def header_of(data):
    return probe(io.BytesIO(data))


def read(tmp_path, data):
    with open(file_of(tmp_path, data), "rb") as file:
        header = probe(file)
        assert vips.reads(header)
        return whole(vips.opened(file, header))


def pillow(data):
    """As stored: of the formats that the tests turn, Pillow turns only TIFF by itself."""
    image = Image.open(io.BytesIO(data))
    if image.format == "TIFF" and image.tag_v2.get(274, 1) != 1:
        return pillow(
            data.replace(
                struct.pack("<HHI", 274, 3, 1) + b"\6", struct.pack("<HHI", 274, 3, 1) + b"\1"
            )
        )
    pixels = np.array(image)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


SIZE = (333, 211)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(mode="RGB"):
    """Neither smooth nor noise, so that JPEG has something of everything."""
    image = Image.blend(smooth("RGB", SIZE), noise("RGB", SIZE), 0.3)
    return image.convert(mode)


JPEGS = {
    "rgb": encoded(photo(), "JPEG"),
    "4:4:4": encoded(photo(), "JPEG", subsampling=0, quality=95),
    "4:2:2": encoded(photo(), "JPEG", subsampling=1),
    "kept RGB": encoded(photo(), "JPEG", keep_rgb=True),
    "grey": encoded(photo("L"), "JPEG"),
    "cmyk": encoded(photo("CMYK"), "JPEG"),
    "progressive": encoded(photo(), "JPEG", progressive=True),
    "progressive cmyk": encoded(photo("CMYK"), "JPEG", progressive=True),
    "restarts": encoded(photo(), "JPEG", restart_marker_rows=1),
    "turned": encoded(photo(), "JPEG", exif=oriented(6)),
    "profile": encoded(photo(), "JPEG", icc_profile=PROFILE * 200),
}
PNGS = {
    **{mode: encoded(noise(mode, SIZE), "PNG") for mode in ("L", "LA", "RGB", "RGBA", "I;16")},
    "turned": encoded(noise("RGB", SIZE), "PNG", exif=oriented(8)),
    "profile": encoded(noise("RGB", SIZE), "PNG", icc_profile=PROFILE),
    "transparent colour": encoded(noise("RGB", SIZE), "PNG", transparency=(1, 2, 3)),
    "transparent grey": encoded(noise("L", SIZE), "PNG", transparency=7),
    "grey of 2 bits": png(2, 0, (37, 20)),
    "grey of 4 bits": png(4, 0, (37, 20)),
}
TIFFS = {
    **{
        mode: encoded(noise(mode, SIZE), "TIFF")
        for mode in ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "F")
    },
    **{
        how: encoded(noise("RGB", SIZE), "TIFF", compression=how)
        for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
    **{
        f"jpeg in {mode}": encoded(photo(mode), "TIFF", compression="jpeg")
        for mode in ("L", "RGB", "YCbCr", "CMYK")
    },
    "turned": encoded(noise("RGB", SIZE), "TIFF", tiffinfo={274: 6}),
    "profile": encoded(noise("RGB", SIZE), "TIFF", icc_profile=PROFILE),
}
PICTURES = {
    **{f"JPEG {k}": v for k, v in JPEGS.items()},
    **{f"PNG {k}": v for k, v in PNGS.items()},
    **{f"TIFF {k}": v for k, v in TIFFS.items()},
}


@needs_vips
@pytest.mark.parametrize("name", PICTURES)
def test_equal_to_pillow(tmp_path, name):
    data = PICTURES[name]
    with open(file_of(tmp_path, data), "rb") as file:
        rows = vips.opened(file, probe(file))
        assert vips.reads(probe(file))
        same(whole(rows), pillow(data))
        assert rows.profile == Image.open(io.BytesIO(data)).info.get("icc_profile")


@needs_vips
def test_cmyk_without_adobe(tmp_path):
    data = JPEGS["cmyk"]
    at = data.index(b"\xff\xee")
    data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert b"Adobe" not in data
    same(read(tmp_path, data), pillow(data))


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4"]


def values(dtype, shape):
    random = np.random.default_rng(len(shape))
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1e3, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@needs_vips
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiffs_that_pillow_would_mutilate(tmp_path, dtype, bands, order):
    pixels = values(dtype, (101, 83, bands))
    kind = {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    for tile, big in ((None, False), (32, True)):
        extra = {} if bands % 2 else {338: (3, [2])}
        data = tiff(pixels, order, big, tile, {339: (3, [kind] * bands), 65000: (4, [7])} | extra)
        same(read(tmp_path, data), pixels)


@needs_vips
def test_16_bit_pngs(tmp_path):
    for colour, bands in ((2, 3), (4, 2), (6, 4)):
        pixels = values("u2", (31, 40, bands))
        raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        same(read(tmp_path, png(16, colour, (40, 31), data=zlib.compress(raw))), pixels)


@needs_vips
@pytest.mark.parametrize("tile", [None, (64, 48)])
@pytest.mark.parametrize("how", ["zlib", "lzw", "packbits", "zlib+2"])
def test_compressed_tiffs(tmp_path, how, tile):
    tifffile = pytest.importorskip("tifffile")
    pixels, buffer = values("u2", (200, 150, 3)), io.BytesIO()
    more = {"predictor": 2} if how.endswith("+2") else {}
    rows = {} if tile else {"rowsperstrip": 16}
    tifffile.imwrite(
        buffer, pixels, photometric="rgb", compression=how.split("+")[0], tile=tile, **more, **rows
    )
    same(read(tmp_path, buffer.getvalue()), pixels)


@needs_vips
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_jpeg_in_tiff(tmp_path, subsampling, tile):
    tifffile, buffer = pytest.importorskip("tifffile"), io.BytesIO()
    rows = {} if tile else {"rowsperstrip": 32}
    tifffile.imwrite(
        buffer,
        np.array(photo()),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=subsampling,
        tile=tile,
        **rows,
    )
    same(read(tmp_path, buffer.getvalue()), pillow(buffer.getvalue()))


@needs_vips
def test_georeferenced_with_overviews(tmp_path):
    """Unknown tags are no damage, and an overview is not the image."""
    rasterio = pytest.importorskip("rasterio")
    pixels, path = values("u1", (3, 600, 700)), tmp_path / "geo.tif"
    place = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    form = {
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "photometric": "rgb",
    }
    with rasterio.open(
        path, "w", "GTiff", 700, 600, 3, "EPSG:32633", place, "uint8", nodata=0, **form
    ) as data:
        data.write(pixels)
        data.build_overviews([2, 4])
    same(read(tmp_path, path.read_bytes()), pixels.transpose(1, 2, 0))


@needs_vips
@pytest.mark.parametrize("name", ["onebit", "palette", "palette_trns", "fax", "palette TIFF"])
def test_indexed_ones_too_large_for_pillow(tmp_path, name, monkeypatch):
    mode = {"onebit": "L", "fax": "L", "palette_trns": "RGBA"}.get(name, "RGB")
    if name == "onebit":
        data = encoded(noise("1", SIZE), "PNG")
    elif name == "fax":
        data = encoded(smooth("1", SIZE), "TIFF", compression="group4")
    elif name == "palette TIFF":
        data = encoded(noise("P", SIZE), "TIFF")
    else:
        data = encoded(
            noise("P", SIZE),
            "PNG",
            **({"transparency": bytes(range(256))} if mode == "RGBA" else {}),
        )
    assert not vips.reads(header_of(data))
    monkeypatch.setattr(vips, "WHOLE", 100)
    expected = np.array(Image.open(io.BytesIO(data)).convert(mode))
    same(read(tmp_path, data), expected.reshape(*expected.shape[:2], -1))


READ_IN_PARTS = [
    "JPEG rgb",
    "JPEG progressive",
    "PNG RGBA",
    "PNG transparent colour",
    "TIFF tiff_lzw",
    "TIFF jpeg in RGB",
]


@needs_vips
@pytest.mark.parametrize("name", [*READ_IN_PARTS, "tiled"])
def test_in_parts_by_many_threads(tmp_path, name):
    data = PICTURES.get(name) or tiff(values("u1", (211, 333, 3)), tile=48)
    with open(file_of(tmp_path, data), "rb") as file:
        header = probe(file)
        expected = whole(vips.opened(file, header))
        for heights, gaps in (((1, 7, 64, 3), (0,)), ((13, 100), (0, 5, 31)), ((1,), (2,))):
            rows, top, turn = vips.opened(file, header), 0, 0
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
                file.seek(0)  # its position is not shared
                file.read(1000)
                thread.join()
                same(out, expected[top : top + len(out)])
                top, turn = top + len(out) + gaps[turn % len(gaps)], turn + 1
            rows.close()


@pytest.mark.slow
@needs_vips
@pytest.mark.parametrize("name", READ_IN_PARTS)
def test_truncated(tmp_path, name, capfd):
    data = PICTURES[name]
    expected = read(tmp_path, data)
    for length in sorted(
        {*range(40, len(data), len(data) // 40), *range(len(data) - 40, len(data), 3)}
    ):
        try:
            found = read(tmp_path, data[:length])
        except SourceRefused as error:
            assert error.code == "I03" and "\n" not in error.message
        else:
            same(found, expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_vips
@pytest.mark.parametrize(
    "name", ["JPEG rgb", "PNG RGB", "TIFF tiff_adobe_deflate", "TIFF tiff_lzw", "TIFF jpeg in RGB"]
)
def test_damaged(tmp_path, name, capfd):
    """What Pillow still decodes has the same pixels here, or is refused."""
    data, random = PICTURES[name], np.random.default_rng(5)
    for _ in range(60):
        broken = bytearray(data)
        for at in random.integers(0, len(data), 3):
            broken[at] = random.integers(256)
        try:
            header = header_of(broken)
            if not vips.reads(header) or header.pixels > 1e6:
                continue
            found = read(tmp_path, bytes(broken))
        except SourceRefused as error:
            assert error.code in ("I02", "I03", "I07")
            continue
        assert found.shape[:2] == (header.height, header.width)
        if name == "JPEG rgb":
            try:
                expected = pillow(bytes(broken))
            except Exception:
                continue
            if expected.shape == found.shape:
                same(found, expected)


@needs_vips
def test_another_size_than_the_header_says(tmp_path):
    data = JPEGS["rgb"]
    with open(file_of(tmp_path, data), "rb") as file:
        with pytest.raises(SourceRefused, match="its header says") as caught:
            vips.opened(file, Header("JPEG", SIZE[0], SIZE[1] + 1))
        assert caught.value.code == "I03"
        with pytest.raises(SourceRefused):  # only the loader of its format is tried
            vips.opened(file, Header("PNG", *SIZE))


@needs_vips
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such names")
@pytest.mark.parametrize(
    "name", ["with spaces [a=b].jpg", "Grüße_日本語.jpg", b"\xff\xfe.jpg", "%s.jpg", "-x.jpg"]
)
def test_names(tmp_path, name):
    path = file_of(tmp_path, JPEGS["rgb"], name)
    with open(path, "rb") as file:
        os.unlink(path)  # the file that is open counts, not its name
        same(whole(vips.opened(file, probe(file))), pillow(JPEGS["rgb"]))


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise("P", (9, 9)), "PNG"),
        encoded(noise("1", (9, 9)), "PNG"),
        encoded(noise("P", (9, 9)), "TIFF"),
        encoded(noise("RGB", (9, 9)).convert("LAB"), "TIFF"),
        encoded(noise("RGB", (9, 9)), "WEBP"),
        encoded(noise("RGB", (9, 9)), "BMP"),
        tiff(np.zeros((9, 9), "u1"), tags={262: (3, [0])}),
        tiff(np.zeros((9, 9), "f8")),
        tiff(np.zeros((9, 9, 5), "u1")),
        tiff(np.zeros((9, 9, 3), "u1"), tags={284: (3, [2])}),
    ],
    ids=lambda data: repr(data[:4]),  # the rest may tell the time of day
)
def test_not_read(data):
    assert not vips.reads(header_of(data))


def test_interlaced_is_not_read():
    assert not vips.reads(Header("PNG", 9, 9, gradual=True))


@needs_shared
@needs_vips
def test_odd_pictures(tmp_path, monkeypatch):
    """Same verdict and same pixels as Pillow."""
    tifffile = pytest.importorskip("tifffile")
    seen = set()
    with tarfile.open(SHARED / "data/odd.tar") as archive:
        for member in archive:
            if not member.isfile() or "/images/" not in member.name:
                continue
            name, data = os.path.basename(member.name), archive.extractfile(member).read()
            try:
                header = header_of(data)
            except SourceRefused:
                continue
            if not vips.reads(header) or header.pixels > 1e8:
                continue
            seen.add(name)
            try:
                expected = pillow(data)
            except (OSError, SyntaxError):
                with pytest.raises(SourceRefused) as caught:
                    read(tmp_path, data)
                assert caught.value.code == "I03"
                continue
            if header.problem is not None and header.format == "TIFF":
                expected = tifffile.imread(io.BytesIO(data), key=0)
            if name == "rgb16_png.png":
                same((read(tmp_path, data) >> 8).astype(np.uint8), expected)
            else:
                same(read(tmp_path, data), expected)
    refused = {
        "truncated_half.jpg",
        "truncated_noeoi.jpg",
        "truncated.png",
        "corrupt_crc.png",
        "truncated_tif.tif",
    }
    assert (
        refused | {"corrupt_middle.jpg", "trailing_garbage.jpg", "mpo.mpo", "cmyk.jpg", "rgb16.tif"}
        <= seen
    )


def test_importing_is_light():
    code = (
        "import sys, tiler.images.vips, tiler.images.gdal; assert not {'pyvips', 'rasterio'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing(monkeypatch):
    monkeypatch.setattr(vips, "find_spec", lambda name: None)
    assert vips.missing()
    monkeypatch.setattr(vips, "find_spec", lambda name: name)
    monkeypatch.setattr(vips, "library", vips.library.__wrapped__)
    monkeypatch.setitem(sys.modules, "pyvips", None)
    assert vips.missing()
