import io
import random
import struct
import tempfile
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, JpegImagePlugin

from tiler.errors import SourceRefused
from tiler.images import header, reading

from . import LIMIT, chunk, encoded, exif_block, noise, oriented, png, smooth, tiff

FRAME_HEADER = 0xC0  # of a baseline JPEG


def probe(data, max_pixels=LIMIT):
    return reading.plain_header(io.BytesIO(data), max_pixels)


def probe_file(data):
    """From a true file, which unlike a buffer refuses to seek to where no file can reach."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return reading.plain_header(file, LIMIT)


def refused(data, max_pixels=LIMIT):
    with pytest.raises(SourceRefused) as caught:
        probe(data, max_pixels)
    return caught.value


def agrees_with_pillow(data):
    """The header, after a look at whether Pillow finds the same size, turn, bands and frames."""
    found = probe(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        frames = getattr(image, "n_frames", 1)
        orientation = image.getexif().get(274, 1)
        image.load()
        upright = image.size if found.format == "TIFF" else ImageOps.exif_transpose(image).size
    assert found.size == upright
    assert found.orientation == orientation
    assert found.bands == len(image.getbands())
    assert found.frames == min(frames, 2)
    assert found.problem is None
    return found


def jpeg_with(data, frame=FRAME_HEADER, bits=None, height=None, width=None, factors=None):
    """A JPEG with another frame header."""
    data = bytearray(data)
    at = data.index(b"\xff\xc0") + 1
    data[at] = frame
    if bits is not None:
        data[at + 3] = bits
    if height is not None:
        data[at + 4 : at + 6] = struct.pack(">H", height)
    if width is not None:
        data[at + 6 : at + 8] = struct.pack(">H", width)
    for i, factor in enumerate(factors or ()):
        data[at + 10 + 3 * i] = factor
    return bytes(data)


def vp8x(width, height):
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bmp(width, height, bits=24, pixels=b""):
    return (
        b"BM"
        + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 0, 0, 0, 0)
        + pixels
    )


RGB = np.asarray(noise("RGB", (13, 7)))
GREY = RGB[..., 0]

# One of each form; the small ones are also cut and bent, byte by byte.
SAMPLES = {
    "jpeg": encoded(smooth(), "JPEG", exif=oriented(6)),
    "jpeg-progressive": encoded(smooth(), "JPEG", progressive=True),
    "png": encoded(smooth(), "PNG", exif=oriented(6)),
    "png-palette": encoded(smooth("P"), "PNG", transparency=b"\0\1\2"),
    "png-16": encoded(smooth("I;16"), "PNG"),
    "webp": encoded(smooth(), "WEBP", exif=oriented(6)),
    "webp-simple": encoded(smooth(), "WEBP"),
    "webp-lossless": encoded(smooth(), "WEBP", lossless=True),
    "tiff": tiff(RGB, directory_first=True, tags={274: (3, [6])}),
    "tiff-big-endian": tiff(RGB, ">", directory_first=True, second={254: (4, [0])}),
    "tiff-lzw": encoded(smooth(), "TIFF", compression="tiff_lzw"),
    "bigtiff": tiff(RGB, big=True, directory_first=True, second={254: (4, [0])}),
    "bigtiff-big-endian": tiff(RGB, ">", big=True, directory_first=True),
    "bigtiff-after": tiff(RGB, big=True),
    "bmp": encoded(smooth(), "BMP"),
}


class TestJpeg:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("orientation", [1, 6])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_agrees_with_pillow(self, mode, subsampling, orientation, progressive):
        options = {} if mode == "CMYK" else {"subsampling": subsampling}
        data = encoded(
            smooth(mode, (33, 17)),
            "JPEG",
            progressive=progressive,
            exif=oriented(orientation),
            **options,
        )
        found = agrees_with_pillow(data)
        assert (found.format, found.width, found.height) == ("JPEG", 33, 17)
        assert (found.bits, found.lossless) == (8, False)
        assert found.subsampling == (subsampling if mode == "RGB" else None)

    def test_subsampling_is_the_one_that_pillow_reads(self):
        names = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
        for quality in (30, 75, 95):
            for wanted in names:
                data = encoded(smooth(), "JPEG", quality=quality, subsampling=wanted)
                image = Image.open(io.BytesIO(data))
                assert probe(data).subsampling == names[JpegImagePlugin.get_sampling(image)]

    @pytest.mark.parametrize(
        "factors", [(0x12, 0x11, 0x11), (0x41, 0x11, 0x11), (0x22, 0x21, 0x21)]
    )
    def test_other_samplings_have_no_name(self, factors):
        assert probe(jpeg_with(SAMPLES["jpeg"], factors=factors)).subsampling is None

    def test_fill_bytes_comments_and_restarts_before_the_frame_are_skipped(self):
        plain = encoded(smooth(), "JPEG")
        comment = b"\xff\xfe" + struct.pack(">H", 8) + b"\xff\xc0\xff\xd8\xff\xda"
        assert probe(b"\xff\xd8" + b"\xff\xff\xff" + comment[1:] + plain[2:]) == probe(plain)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_in_either_byte_order(self, orientation, order):
        block = b"Exif\0\0" + exif_block(orientation, order=order)
        assert agrees_with_pillow(encoded(smooth(), "JPEG", exif=block)).orientation == orientation

    @pytest.mark.parametrize("orientation", [0, 9, 255])
    def test_an_orientation_that_is_none_counts_as_upright(self, orientation):
        assert (
            probe(encoded(smooth(), "JPEG", exif=b"Exif\0\0" + exif_block(orientation))).orientation
            == 1
        )

    @pytest.mark.parametrize(
        "block", [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"\xff" * 40, b"XX*\0\x08\0\0\0"]
    )
    def test_a_broken_exif_block_counts_as_upright(self, block):
        assert probe(encoded(smooth(), "JPEG", exif=b"Exif\0\0" + block)).orientation == 1

    @pytest.mark.parametrize("kind", [1, 4])
    def test_another_entry_that_points_nowhere_does_not_hide_the_orientation(self, kind):
        stale = struct.pack("<HHII", 0xC4A5, kind, 40, 5_000_000)
        assert (
            agrees_with_pillow(
                encoded(smooth(), "JPEG", exif=b"Exif\0\0" + exif_block(6, stale))
            ).orientation
            == 6
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [({"bits": 12}, "12 bits"), ({"frame": 0xC3}, "lossless"), ({"frame": 0xC9}, "")],
    )
    def test_what_cannot_be_decoded_is_refused(self, change, said):
        error = refused(jpeg_with(SAMPLES["jpeg"], **change))
        assert error.code == "I06"
        assert said in error.message

    def test_no_frame_header(self):
        assert refused(b"\xff\xd8\xff\xd9").code == "I03"
        assert refused(b"\xff\xd8\xff\xda\0\x08").code == "I03"


class TestPng:
    @pytest.mark.parametrize(
        "exif", [b"", exif_block(8), exif_block(3, order=">")], ids=["", "turned", "big-endian"]
    )
    @pytest.mark.parametrize(
        ("colour", "bits"),
        [
            (colour, bits)
            for colour, depths in {
                0: (1, 2, 4, 8, 16),
                2: (8,),
                3: (1, 2, 4, 8),
                4: (8,),
                6: (8,),
            }.items()
            for bits in depths
        ],
    )
    def test_agrees_with_pillow(self, colour, bits, exif):
        found = agrees_with_pillow(
            png(bits, colour, (11, 5), before=chunk(b"eXIf", exif) if exif else b"")
        )
        assert (found.format, found.width, found.height) == ("PNG", 11, 5)
        assert (found.bits, found.lossless, found.subsampling) == (bits, True, None)

    def test_an_orientation_after_the_pixels_counts(self):
        """As it does for Pillow and for OpenCV, so for the trainer."""
        data = png(8, 2, after=chunk(b"eXIf", exif_block(6)))
        image = Image.open(io.BytesIO(data))
        image.load()
        assert probe(data).orientation == image.getexif()[274] == 6

    def test_an_animated_png_has_frames(self):
        data = encoded(smooth(), "PNG", save_all=True, append_images=[smooth().rotate(180)])
        assert agrees_with_pillow(data).frames == 2

    @pytest.mark.parametrize(("colour", "name"), [(2, "RGB"), (4, "grey with alpha"), (6, "RGBA")])
    def test_16_bit_colour_is_refused(self, colour, name):
        error = refused(png(16, colour))
        assert error.code == "I06"
        assert f"16-bit {name} PNG" in error.message

    def test_unknown_colour_type_or_first_chunk(self):
        assert refused(png(8, 5)).code == "I02"
        assert refused(png(8, 2).replace(b"IHDR", b"IDAT", 1)).code == "I02"


class TestTiff:
    @pytest.mark.parametrize("tile", [None, 16])
    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        "pixels", [RGB, GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.float32)]
    )
    def test_says_what_it_was_built_with(self, pixels, order, big, tile):
        for first in (False, True):
            found = probe(tiff(pixels, order, big, tile, directory_first=first))
            assert (found.format, found.width, found.height) == ("TIFF", 13, 7)
            assert (found.bits, found.bands) == (pixels.itemsize * 8, 3 if pixels.ndim == 3 else 1)
            assert (found.orientation, found.frames, found.lossless, found.compression) == (
                1,
                1,
                True,
                1,
            )

    @pytest.mark.parametrize("tile", [None, 16])
    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
    def test_agrees_with_pillow(self, order, big, tile):
        for pixels in (RGB, GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.float32)):
            agrees_with_pillow(tiff(pixels, order, big, tile))

    @pytest.mark.parametrize(
        "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
    )
    @pytest.mark.parametrize(
        "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB"]
    )
    def test_agrees_with_pillow_in_every_mode(self, mode, compression):
        if compression == "jpeg" and mode not in ("L", "RGB"):
            pytest.skip("no JPEG of this mode")
        found = agrees_with_pillow(encoded(noise(mode, (20, 9)), "TIFF", compression=compression))
        assert found.bits == {"1": 1, "I;16": 16, "F": 32}.get(mode, 8)
        assert found.lossless == (compression != "jpeg")

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, orientation):
        found = agrees_with_pillow(tiff(RGB, tags={274: (3, [orientation])}))
        assert found.orientation == orientation
        assert found.size == ((7, 13) if orientation > 4 else (13, 7))

    @pytest.mark.parametrize("big", [False, True])
    def test_pages_are_frames_and_an_overview_is_not(self, big):
        assert probe(tiff(RGB, big=big, second={254: (4, [0])})).frames == 2
        assert probe(tiff(RGB, big=big, second={254: (4, [2])})).frames == 2
        assert probe(tiff(RGB, big=big, second={254: (4, [1])})).frames == 1

    def test_multipage_of_pillow(self):
        agrees_with_pillow(
            encoded(smooth(), "TIFF", save_all=True, append_images=[smooth("L", (5, 5))])
        )

    @pytest.mark.parametrize(
        ("pixels", "tags"),
        [
            pytest.param(RGB.astype(np.uint16), {}, id="16-bit RGB"),
            pytest.param(RGB, {284: (3, [2])}, id="planar"),
            pytest.param(np.dstack([RGB, GREY]), {}, id="4 bands, no word on the fourth"),
            pytest.param(
                np.dstack([RGB, GREY]), {338: (3, [0])}, id="4 bands, the fourth unspecified"
            ),
            pytest.param(np.dstack([RGB, GREY]), {262: (3, [1])}, id="4 grey bands"),
            pytest.param(
                np.dstack([RGB, GREY]),
                {262: (3, [5]), 338: (3, [2])},
                id="CMYK with an extra sample",
            ),
            pytest.param(np.dstack([RGB, GREY, GREY]), {338: (3, [0, 0])}, id="5 bands"),
            pytest.param(np.dstack([RGB, GREY, GREY]), {338: (3, [2, 0])}, id="RGBA and one more"),
            pytest.param(RGB[..., :2], {}, id="2 bands"),
            pytest.param(GREY.astype(np.float64), {}, id="float64"),
            pytest.param(GREY.astype(np.float16), {}, id="float16"),
            pytest.param(RGB.astype(np.float32), {}, id="float RGB"),
            pytest.param(GREY.astype(np.uint32), {}, id="32-bit"),
            pytest.param(GREY, {339: (3, [2])}, id="signed 8-bit"),
            pytest.param(GREY.astype(np.uint16), {339: (3, [2])}, id="signed 16-bit"),
            pytest.param(RGB, {258: (3, [8, 8, 16])}, id="bands of unequal depth"),
            pytest.param(GREY, {262: (3, [32803])}, id="sensor data"),
            pytest.param(RGB, {259: (3, [6])}, id="old JPEG"),
            pytest.param(RGB, {259: (3, [34712])}, id="JPEG 2000 inside"),
        ],
    )
    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_what_would_lose_bands_or_depth_is_refused(self, pixels, tags, order, big):
        error = refused(tiff(pixels, order, big, tags=tags))
        assert error.code == "I06"
        assert error.message.startswith("a TIFF of ")

    @pytest.mark.parametrize("bands", [64, 65, 200])
    def test_many_bands_are_refused(self, bands):
        assert (
            refused(
                tiff(np.zeros((2, 2, bands), np.uint8), tags={338: (3, [0] * (bands - 3))})
            ).code
            == "I06"
        )

    @pytest.mark.parametrize("probe", [probe, probe_file])
    @pytest.mark.parametrize("at", [2**32, 2**50, 2**63 - 1, 2**63, 2**64 - 1])
    def test_an_offset_beyond_any_file_is_a_cut_file(self, at, probe):
        entries = struct.pack("<QHHQQ", 1, 258, 3, 5, at) + bytes(8)
        for rest in (struct.pack("<Q", at), struct.pack("<Q", 16) + entries):
            with pytest.raises(SourceRefused) as caught:
                probe(b"II+\0\x08\0\0\0" + rest)
            assert caught.value.code == "I03"

    @pytest.mark.parametrize("probe", [probe, probe_file])
    @pytest.mark.parametrize("at", [2**32, 2**50, 2**63 - 1, 2**63, 2**64 - 1])
    def test_a_second_directory_beyond_any_file_is_none(self, at, probe):
        sound = tiff(RGB, big=True, directory_first=True)
        end = 16 + 8 + 20 * struct.unpack_from("<Q", sound, 16)[0]
        found = probe(sound[:end] + struct.pack("<Q", at) + sound[end + 8 :])
        assert (found.size, found.frames) == ((13, 7), 1)

    def test_a_directory_that_follows_itself_ends(self):
        data = bytearray(tiff(RGB, directory_first=True))
        (entries,) = struct.unpack_from("<H", data, 8)
        struct.pack_into("<I", data, 10 + 12 * entries, 8)
        assert probe(bytes(data)).frames == 1


class TestWebp:
    @pytest.mark.parametrize("orientation", [None, *range(1, 9)])
    @pytest.mark.parametrize("lossless", [False, True])
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_agrees_with_pillow(self, mode, lossless, orientation):
        options = {} if orientation is None else {"exif": oriented(orientation)}
        found = agrees_with_pillow(
            encoded(smooth(mode, (33, 17)), "WEBP", lossless=lossless, **options)
        )
        assert (found.format, found.width, found.height) == ("WEBP", 33, 17)
        assert (found.bits, found.lossless, found.orientation) == (8, lossless, orientation or 1)

    def test_exif_with_and_without_the_jpeg_prefix(self):
        for prefix in (b"", b"Exif\0\0"):
            assert probe(encoded(smooth(), "WEBP", exif=prefix + exif_block(6))).orientation == 6

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    @pytest.mark.parametrize("lossless", [False, True])
    def test_animated(self, lossless, mode):
        images = [smooth(mode), smooth(mode).rotate(180)]
        found = agrees_with_pillow(
            encoded(images[0], "WEBP", lossless=lossless, save_all=True, append_images=images[1:])
        )
        assert found.frames == 2
        assert found.lossless == lossless


class TestBmp:
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
    def test_agrees_with_pillow(self, mode):
        found = agrees_with_pillow(encoded(smooth(mode, (13, 7)), "BMP"))
        assert (found.format, found.width, found.height) == ("BMP", 13, 7)
        assert (found.bits, found.lossless) == (1 if mode == "1" else 8, True)

    def test_rows_from_the_top_have_a_negative_height(self):
        assert agrees_with_pillow(bmp(4, -3, pixels=bytes(36))).size == (4, 3)

    def test_the_short_header_of_os2(self):
        data = (
            b"BM"
            + struct.pack("<IHHI", 26 + 36, 0, 0, 26)
            + struct.pack("<IHHHH", 12, 4, 3, 1, 24)
            + bytes(36)
        )
        assert agrees_with_pillow(data).size == (4, 3)


class TestJpeg2000:
    @pytest.mark.parametrize("boxed", [True, False])
    @pytest.mark.parametrize(
        ("mode", "bits", "bands"), [("L", 8, 1), ("RGB", 8, 3), ("RGBA", 8, 4), ("I;16", 16, 1)]
    )
    def test_agrees_with_pillow(self, mode, bits, bands, boxed):
        data = encoded(smooth(mode, (50, 34)), "JPEG2000", no_jp2=not boxed)
        found = header.probe(io.BytesIO(data))
        assert (found.format, found.size, found.bits, found.bands, found.kind) == (
            "JPEG 2000",
            (50, 34),
            bits,
            bands,
            "u",
        )

    def test_pillow_is_not_asked_to_decode_it(self):
        assert refused(encoded(smooth(), "JPEG2000")).code == "I07"

    @pytest.mark.parametrize("length", [4, 12, 20, 40])
    def test_cut_off(self, length):
        for data in (encoded(smooth(), "JPEG2000"), encoded(smooth(), "JPEG2000", no_jp2=True)):
            assert refused(data[:length]).code in ("I02", "I03")


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (encoded(smooth("P"), "GIF"), "GIF"),
            (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF"),
            (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
            (b"\0\0\0\x18ftypheix" + bytes(40), "HEIC"),
            (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIF"),
            (b"%PDF-1.7\n", "PDF"),
            (b"\x93NUMPY\x01\0", "numpy array"),
        ],
    )
    def test_other_formats_are_named(self, data, name):
        error = refused(data)
        assert error.code == "I07"
        assert name in error.message

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\n",
            b"\x89",
            b"\x89PNG",
            b"II",
            b"this is text\n",
            b"<!DOCTYPE html>",
            bytes(64),
            b"RIFF\0\0\0\0WAVE",
        ],
    )
    def test_no_picture(self, data):
        error = refused(data)
        assert error.code == "I02"
        assert "empty" in error.message or data

    @pytest.mark.parametrize(
        "data",
        [
            png(8, 2, (0, 10), data=b""),
            png(8, 2, (10, 0), data=b""),
            jpeg_with(SAMPLES["jpeg"], height=0),
            jpeg_with(SAMPLES["jpeg"], width=0),
            tiff(RGB, tags={256: (3, [0])}),
            tiff(RGB, tags={257: (3, [0])}),
            tiff(RGB, tags={256: (1, [0])}),
            bmp(0, 4),
            bmp(4, 0),
            bmp(-4, 4),
            b"RIFF\x04\0\0\0WEBP",
        ],
    )
    def test_no_size(self, data):
        assert refused(data).code == "I02"

    @pytest.mark.parametrize(
        "data",
        [
            png(1, 0, (100_000, 100_000), data=bytes(20)),
            png(8, 2, (2**32 - 1, 2**32 - 1), data=b""),
            jpeg_with(SAMPLES["jpeg"], width=65_500, height=65_500),
            tiff(RGB, tags={256: (4, [2**32 - 1]), 257: (4, [2**32 - 1])}),
            tiff(RGB, big=True, tags={256: (16, [2**60]), 257: (16, [2**60])}),
            vp8x(2**24, 2**24),
            bmp(2**31 - 1, 2**31 - 1),
            bmp(2**31 - 1, -(2**31)),
        ],
        ids=["png", "png-huge", "jpeg", "tiff", "bigtiff", "webp", "bmp", "bmp-down"],
    )
    def test_a_bomb_is_refused_before_memory_is_spent(self, data, monkeypatch):
        monkeypatch.setattr(Image, "open", None)
        tracemalloc.start()
        try:
            error = refused(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert error.code == "I04"
        assert "more than --max-pixels" in error.message
        assert peak < 1 << 20

    @pytest.mark.parametrize(
        "data",
        [
            b"II*\0\x08\0\0\0\xff\xff",
            b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**64 - 1),
            b"\xff\xd8\xff\xe1\xff\xffExif\0\0II*\0\x08\0\0\0\xff\xff",
            png(8, 2)[:33] + struct.pack(">I4s", 2**32 - 1, b"tEXt"),
            b"RIFF\xff\xff\xff\xffWEBPJUNK\xff\xff\xff\xff",
        ],
    )
    def test_lengths_that_lie_cost_no_memory(self, data):
        tracemalloc.start()
        try:
            with pytest.raises(SourceRefused):
                probe(data)
                raise SourceRefused("I03", "only the pixels are missing")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    def test_the_limit_itself_is_allowed(self):
        data = png(8, 2, (11, 5))
        assert probe(data, max_pixels=55).size == (11, 5)
        assert refused(data, max_pixels=54).code == "I04"

    def test_too_large_comes_before_bands(self):
        assert refused(png(16, 2), max_pixels=1).code == "I04"


class TestDamage:
    """Whatever the bytes, a header comes out or the image is refused."""

    @staticmethod
    def survives(data):
        try:
            found = probe_file(data)
        except SourceRefused as error:
            assert error.code in ("I02", "I03", "I04", "I06", "I07")
        else:
            assert found.width > 0
            assert found.height > 0
            assert found.orientation in range(1, 9)

    @pytest.mark.parametrize("name", SAMPLES)
    def test_cut_at_every_length(self, name):
        data = SAMPLES[name]
        for length in range(len(data)):
            self.survives(data[:length])

    @pytest.mark.parametrize("name", SAMPLES)
    def test_every_byte_bent(self, name):
        data = bytearray(SAMPLES[name])
        for at in range(min(200, len(data))):
            before = data[at]
            for value in (0, 1, 3, 16, 127, 128, 255, before ^ 1, before ^ 128):
                data[at] = value
                self.survives(bytes(data))
            data[at] = before

    @given(
        st.sampled_from(sorted(SAMPLES)),
        st.lists(st.tuples(st.integers(0, 199), st.binary(min_size=1, max_size=8)), max_size=6),
    )
    @settings(max_examples=400, deadline=None)
    def test_runs_of_bytes_bent(self, name, changes):
        data = bytearray(SAMPLES[name])
        for at, values in changes:
            data[at : at + len(values)] = values
        self.survives(bytes(data))

    @given(st.sampled_from([data[:12] for data in SAMPLES.values()]), st.binary(max_size=300))
    @settings(max_examples=400, deadline=None)
    def test_anything_after_the_magic(self, start, rest):
        self.survives(start + rest)

    def test_a_jpeg_without_any_marker_ends(self):
        filler = random.Random(0).randbytes(50_000).replace(b"\xff", b"\0")
        assert refused(b"\xff\xd8\xff\0" + filler).code == "I03"


def test_suffixes():
    jpeg = probe(SAMPLES["jpeg"])
    assert header.suffix_fits("a/b.JPG", jpeg)
    assert header.suffix_fits("DJI_0001.mpo", jpeg)
    assert not header.suffix_fits("b.png", jpeg)
    assert not header.suffix_fits("jpg", jpeg)
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"} <= set(header.formats())
