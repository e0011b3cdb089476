import io
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tiler.errors import SourceRefused
from tiler.images import reading

from . import LIMIT, chunk, encoded, exif_block, noise, oriented, png, smooth, tiff
from .test_header import SAMPLES

UPRIGHT = {  # as EXIF defines the orientations: what to do with the stored array
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def decode(data, max_pixels=LIMIT):
    file = io.BytesIO(data)
    found = reading.plain_header(file, max_pixels)
    image = reading.decode(file, found)
    assert image.size == found.size
    return image


def refused(data):
    with pytest.raises(SourceRefused) as caught:
        decode(data)
    return caught.value


def pillow(data):
    """What Pillow alone makes of it, upright."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return ImageOps.exif_transpose(image)


def same(one, other):
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


class TestUpright:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_jpeg(self, mode, orientation):
        turned = encoded(smooth(mode), "JPEG", exif=oriented(orientation), quality=90)
        stored = encoded(smooth(mode), "JPEG", quality=90)
        image = decode(turned)
        assert same(image, pillow(turned))
        assert np.array_equal(np.asarray(image), UPRIGHT[orientation](np.asarray(decode(stored))))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    def test_png(self, mode, orientation):
        data = encoded(smooth(mode), "PNG", exif=oriented(orientation))
        image = decode(data)
        assert same(image, pillow(data))
        assert np.array_equal(np.asarray(image), UPRIGHT[orientation](np.asarray(smooth(mode))))
        if mode == "P":
            assert image.getpalette() == smooth("P").getpalette()

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_webp(self, mode, orientation):
        data = encoded(smooth(mode), "WEBP", lossless=True, exact=True, exif=oriented(orientation))
        image = decode(data)
        assert same(image, pillow(data))
        assert np.array_equal(np.asarray(image), UPRIGHT[orientation](np.asarray(smooth(mode))))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
    def test_tiff(self, mode, compression, orientation):
        data = encoded(smooth(mode), "TIFF", compression=compression, exif=oriented(orientation))
        assert np.array_equal(
            np.asarray(decode(data)), UPRIGHT[orientation](np.asarray(smooth(mode)))
        )

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
    def test_tiff_by_hand(self, order, big, orientation):
        for pixels in (np.asarray(noise("RGB", (13, 7))), np.asarray(noise("I;16", (13, 7)))):
            for tile in (None, 16):
                data = tiff(pixels, order, big, tile, tags={274: (3, [orientation])})
                assert np.array_equal(np.asarray(decode(data)), UPRIGHT[orientation](pixels))

    def test_an_orientation_that_is_none(self):
        for orientation in (0, 9, 255):
            data = encoded(smooth(), "JPEG", exif=b"Exif\0\0" + exif_block(orientation))
            assert decode(data).size == (24, 16)

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_only_the_tag_turns_a_tiff(self, compression):
        """Not XMP, which neither the header nor the trainer looks at."""
        xmp = (
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
            b'tiff:Orientation="6"/></x:xmpmeta>'
        )
        data = encoded(smooth(), "TIFF", compression=compression, tiffinfo={700: xmp})
        assert same(decode(data), smooth())

    def test_an_orientation_after_the_pixels_of_a_png(self):
        data = png(8, 2, (9, 4), after=chunk(b"eXIf", exif_block(6)))
        assert same(decode(data), pillow(data))


class TestPixels:
    @pytest.mark.parametrize("name", [name for name in SAMPLES if name != "bigtiff-big-endian"])
    def test_as_pillow_reads_them(self, name):
        image = decode(SAMPLES[name])
        found = reading.plain_header(io.BytesIO(SAMPLES[name]), LIMIT)
        reference = Image.open(io.BytesIO(SAMPLES[name]))
        reference.load()
        assert same(
            image, reference if found.format == "TIFF" else ImageOps.exif_transpose(reference)
        )

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("big_endian", ["<", ">"])
    def test_white_is_zero_in_a_tiff(self, bits, big_endian):
        """Light is light: at 8 bits and under the pixels are inverted."""
        width = 16
        stored = np.arange(width * bits // 8 * 4, dtype=np.uint8).reshape(4, -1)
        tags = {256: (3, [width]), 258: (3, [bits]), 262: (3, [0])}
        inverted = np.asarray(decode(tiff(stored, big_endian, tags=tags)))
        plain = np.asarray(decode(tiff(stored, big_endian, tags=tags | {262: (3, [1])})))
        assert np.array_equal(inverted, ~plain if bits == 1 else 255 - plain)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_white_is_zero_at_16_bits_is_inverted_too_or_refused(self, order):
        stored = np.asarray(smooth("I;16"))
        try:
            image = decode(tiff(stored, order, tags={262: (3, [0])}))
        except SourceRefused:
            return
        assert np.array_equal(np.asarray(image), 65535 - stored)

    def test_the_first_picture_of_an_mpo(self):
        first, second = smooth(), smooth().rotate(180)
        data = encoded(
            first, "MPO", save_all=True, append_images=[second], quality=95, subsampling="4:4:4"
        )
        image = decode(data)
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - np.asarray(first)).mean() < 3

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_a_turned_mpo(self, orientation):
        data = encoded(
            smooth(),
            "MPO",
            save_all=True,
            append_images=[smooth("RGB", (8, 8))],
            exif=oriented(orientation),
        )
        assert same(decode(data), pillow(data))

    @pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
    def test_the_first_of_several_frames(self, format):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(
            smooth(), format, save_all=True, append_images=[smooth().rotate(180)], **options
        )
        assert same(decode(data), smooth())

    def test_a_wrong_suffix_does_not_matter(self, tmp_path):
        path = tmp_path / "image.png"
        path.write_bytes(SAMPLES["tiff"])
        with open(path, "rb") as file:
            image = reading.decode(file, reading.plain_header(file, LIMIT))
            assert not file.closed
        assert image.size == (7, 13)


class TestDamage:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(encoded(smooth(), "JPEG"), id="jpeg"),
            pytest.param(
                encoded(smooth("RGB", (64, 48)), "JPEG", restart_marker_rows=1), id="jpeg-restart"
            ),
            pytest.param(
                encoded(smooth("RGB", (64, 48)), "JPEG", progressive=True), id="jpeg-progressive"
            ),
            pytest.param(encoded(smooth("L"), "JPEG", exif=oriented(6)), id="jpeg-grey-turned"),
            pytest.param(encoded(smooth("CMYK"), "JPEG"), id="jpeg-cmyk"),
            pytest.param(encoded(smooth(), "PNG", exif=oriented(6)), id="png"),
            pytest.param(encoded(smooth("P"), "PNG"), id="png-palette"),
            pytest.param(encoded(noise("RGB", (40, 30)), "PNG"), id="png-noise"),
            pytest.param(encoded(smooth(), "WEBP", exif=oriented(6)), id="webp"),
            pytest.param(encoded(smooth("RGBA"), "WEBP", lossless=True), id="webp-lossless"),
            pytest.param(encoded(smooth(), "BMP"), id="bmp"),
            pytest.param(tiff(np.asarray(smooth()), directory_first=True), id="tiff"),
            pytest.param(
                tiff(np.asarray(smooth()), tile=16, directory_first=True), id="tiff-tiled"
            ),
            pytest.param(tiff(np.asarray(smooth()), big=True, directory_first=True), id="bigtiff"),
            pytest.param(encoded(smooth(), "TIFF", compression="tiff_lzw"), id="tiff-lzw"),
            pytest.param(encoded(smooth(), "TIFF", compression="jpeg"), id="tiff-jpeg"),
        ],
    )
    def test_a_cut_file_is_refused_or_whole(self, data):
        whole = decode(data)
        taken = 0
        for length in range(len(data)):
            try:
                image = decode(data[:length])
            except SourceRefused as error:
                assert error.code in ("I02", "I03")
            else:
                assert same(image, whole), f"{length} of {len(data)} bytes"
                taken += 1
        assert taken <= 24, "only checksums and end marks may be missing"

    def test_pixels_that_fail_their_checksum(self):
        data = bytearray(encoded(noise("RGB", (40, 30)), "PNG"))
        data[len(data) // 2] ^= 0x10
        assert refused(bytes(data)).code == "I03"

    def test_a_size_that_the_pixels_do_not_have(self):
        data = bytearray(encoded(smooth("RGBA"), "WEBP", lossless=True, exif=oriented(1)))
        at = data.index(b"VP8X") + 12
        data[at : at + 3] = (30).to_bytes(3, "little")
        assert refused(bytes(data)).code == "I03"

    def test_what_a_pillow_plugin_raises_is_a_refusal(self, monkeypatch):
        def fails(*args, **kwargs):
            raise ZeroDivisionError("in the decoder")

        monkeypatch.setattr(Image, "open", fails)
        error = refused(SAMPLES["png"])
        assert error.code == "I03"
        assert "ZeroDivisionError: in the decoder" in error.message

    def test_too_little_memory_is_not_the_fault_of_the_file(self, monkeypatch):
        def fails(*args, **kwargs):
            raise MemoryError

        monkeypatch.setattr(Image, "open", fails)
        with pytest.raises(MemoryError):
            decode(SAMPLES["png"])

    @given(
        st.sampled_from(sorted(SAMPLES)),
        st.lists(st.tuples(st.integers(0, 199), st.binary(min_size=1, max_size=4)), max_size=4),
    )
    @settings(max_examples=400, deadline=None)
    def test_bent_bytes_are_refused_or_decode_to_the_size_promised(self, name, changes):
        data = bytearray(SAMPLES[name])
        for at, values in changes:
            data[at : at + len(values)] = values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                decode(bytes(data), max_pixels=1_000_000)
            except SourceRefused as error:
                assert error.code in ("I02", "I03", "I04", "I06", "I07")


class TestPillowsLimit:
    @pytest.mark.parametrize("limit", [200, LIMIT, None])
    def test_is_put_back(self, limit, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for name in ("jpeg", "png", "webp", "tiff", "tiff-lzw", "bmp"):
            decode(SAMPLES[name])
            assert limit == Image.MAX_IMAGE_PIXELS

    def test_is_put_back_after_an_error(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        for name in ("jpeg", "png", "webp", "tiff", "bmp"):
            refused(SAMPLES[name][:-40] if name != "tiff" else SAMPLES[name][:-200])
            assert Image.MAX_IMAGE_PIXELS == 100

    @pytest.mark.parametrize(
        ("format", "options"),
        [
            ("JPEG", {}),
            ("PNG", {}),
            ("WEBP", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ],
    )
    def test_a_picture_above_it_opens_without_a_warning(self, format, options, monkeypatch):
        data = encoded(smooth("RGB", (64, 48)), format, **options)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode(data).size == (64, 48)

    def test_stands_again_when_many_threads_have_decoded(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        sizes = []
        threads = [
            threading.Thread(
                target=lambda: sizes.extend(decode(SAMPLES["jpeg"]).size for _ in range(30))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(sizes) == {(16, 24)}
        assert len(sizes) == 120
        assert Image.MAX_IMAGE_PIXELS == 100
