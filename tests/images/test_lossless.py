"""Copied windows show the source's pixels, and nothing else of it."""

from __future__ import annotations

import ctypes.util
import io
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, JpegImagePlugin

from tests.conftest import SHARED, needs_shared
from tiler.errors import SourceRefused, TilerError
from tiler.geometry.window import Window
from tiler.images import lossless
from tiler.images.header import Header, probe
from tiler.images.lossless import copied, missing, unit

needs_library = pytest.mark.skipif(missing() is not None, reason=missing() or "")

KINDS = {"grey": (8, 8), "4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16)}
# px that may differ at a cut edge, across and down
CUT = {"grey": (0, 0), "4:4:4": (0, 0), "4:2:2": (1, 0), "4:2:0": (1, 1)}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def jpeg(kind="4:2:0", width=83, height=59, seed=0, **save):
    """Noise over patches of colour, so that a block in the wrong place, or a colour out of place,
    shows.
    """
    rng = np.random.default_rng(seed)
    patches = (
        rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
        .repeat(4, 0)
        .repeat(4, 1)[:height, :width]
    )
    pixels = (patches * 0.8 + rng.integers(0, 52, (height, width, 3))).astype(np.uint8)
    image = Image.fromarray(pixels)
    if kind == "grey":
        image = image.convert("L")
    else:
        save["subsampling"] = kind
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **({"quality": 90} | save))
    return buffer.getvalue()


def opened(data, mode=None):
    image = Image.open(io.BytesIO(data))
    if mode:
        image.draft(mode, image.size)
    image.load()
    return image


def decoded(data, mode=None):
    return np.asarray(opened(data, mode))


def differing(tile, data, window, mode=None):
    """(height, width) bool: where a copied window's pixels are not the source's."""
    there = decoded(data, mode)[window.y : window.bottom, window.x : window.right]
    here = decoded(tile, mode)
    assert here.shape == there.shape
    return (here != there).reshape(*here.shape[:2], -1).any(axis=2)


def assert_same(tile, data, window, kind):
    """The pixels are the source's, but for the smoothed colours at the edges that were cut."""
    assert not differing(tile, data, window, "L").any()
    height, width = decoded(data).shape[:2]
    if CUT[kind][0] and window.width < 5:
        return  # colour so narrow is not smoothed at all
    wrong = differing(tile, data, window)
    across, down = CUT[kind]
    left, right = across * (window.x > 0), across * (window.right < width)
    top, bottom = down * (window.y > 0), down * (window.bottom < height)
    assert not wrong[top : window.height - bottom, left : window.width - right].any()


# Windows of an image of 83 x 59 px: at each border, in its midst, of sizes that no block divides,
# and all of it
WINDOWS = [
    Window(0, 0, 83, 59),
    Window(0, 0, 32, 32),
    Window(16, 16, 32, 32),
    Window(16, 16, 25, 21),
    Window(48, 0, 35, 16),
    Window(0, 48, 16, 11),
    Window(64, 48, 19, 11),
    Window(80, 16, 3, 7),
    Window(16, 0, 67, 59),
    Window(32, 16, 1, 1),
    Window(32, 32, 5, 1),
]


@pytest.fixture
def elsewhere():
    """The library is looked for anew, in the test and after it."""
    lossless._library.cache_clear()
    yield
    lossless._library.cache_clear()


class TestMissing:
    @pytest.fixture
    def no_wheel(self, monkeypatch, elsewhere):
        def files(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "files", files)

    def test_it_says_what_to_install(self, monkeypatch, no_wheel):
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
        assert "pip install 'tilestitch[lossless]'" in missing()
        with pytest.raises(TilerError, match=r"tilestitch\[lossless\]"):
            copied(jpeg(), [])

    @pytest.mark.parametrize("found", [ctypes.util.find_library("c"), "/no/such/libturbojpeg.so"])
    def test_an_older_library_of_the_system_is_none(self, monkeypatch, no_wheel, found):
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: found)
        assert missing() is not None

    @needs_library
    def test_a_library_of_the_system_will_do(self, monkeypatch, no_wheel):
        there = next(
            f for f in metadata.distribution("turbojpeg").files if f.name.startswith("libturbojpeg")
        )
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: str(there.locate()))
        assert missing() is None
        assert len(copied(jpeg(), WINDOWS)) == len(WINDOWS)

    @needs_library
    def test_another_module_of_the_same_name_does_not_matter(self, monkeypatch, elsewhere):
        monkeypatch.setitem(sys.modules, "turbojpeg", None)  # importing it fails
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
        assert missing() is None

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("libturbojpeg-dd00d054.so.0.3.0", True),
            ("libturbojpeg.0.3.0.dylib", True),
            ("turbojpeg-c526d70e86230491ec9849d550e5d1db.dll", True),
            ("libstdc++-a9383cce.so.6.0.28", False),
            ("turbojpeg.cpython-311-x86_64-linux-gnu.so", False),
            ("turbojpeg.cpython-311-darwin.so", False),
            ("turbojpeg.cp311-win_amd64.pyd", False),
            ("METADATA", False),
        ],
    )
    def test_the_library_among_the_files_of_the_wheels(self, name, expected):
        assert lossless._is_library(name) is expected


class TestUnit:
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_what_pillow_writes(self, kind):
        assert unit(probe(io.BytesIO(jpeg(kind)))) == KINDS[kind]

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_a_turned_picture_has_none(self, orientation):
        assert unit(Header("JPEG", 64, 64, orientation, subsampling="4:2:0")) is None

    @pytest.mark.parametrize(
        "header",
        [
            Header("PNG", 64, 64),
            Header("TIFF", 64, 64, bands=1),
            Header("JPEG", 64, 64, bits=12, subsampling="4:2:0"),
            Header("JPEG", 64, 64, subsampling=None),
            Header("JPEG", 64, 64, bands=4),
            Header("JPEG", 64, 64, bands=2),
            Header("JPEG", 64, 64, subsampling="4:4:4", problem="a lossless JPEG"),
        ],
    )
    def test_nor_has_what_cannot_be_copied(self, header):
        assert unit(header) is None


@needs_library
class TestPixels:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_the_sources(self, kind, progressive):
        data = jpeg(kind, progressive=progressive)
        tiles = copied(data, WINDOWS)
        for tile, window in zip(tiles, WINDOWS, strict=True):
            assert opened(tile).size == (window.width, window.height)
            assert_same(tile, data, window, kind)

    @pytest.mark.parametrize("kind", ["4:2:2", "4:2:0"])
    def test_only_smoothing_of_colour_differs(self, kind):
        """Were nothing to differ, the exception made for cut edges would hide nothing: the test
        would be too lax.
        """
        data = jpeg(kind)
        window = Window(16, 16, 32, 32)
        wrong = differing(copied(data, [window])[0], data, window)
        assert wrong[:, 0].any() and wrong[:, -1].any()
        assert wrong[0, 1:-1].any() == wrong[-1, 1:-1].any() == (kind == "4:2:0")

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_of_any_window_of_any_picture(self, data):
        kind = data.draw(st.sampled_from(sorted(KINDS)))
        width, height = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 70))
        source = jpeg(
            kind,
            width,
            height,
            seed=data.draw(st.integers(0, 9)),
            quality=data.draw(st.sampled_from([20, 75, 98])),
            progressive=data.draw(st.booleans()),
        )
        windows = []
        for _ in range(data.draw(st.integers(0, 4))):
            x = data.draw(st.integers(0, (width - 1) // KINDS[kind][0])) * KINDS[kind][0]
            y = data.draw(st.integers(0, (height - 1) // KINDS[kind][1])) * KINDS[kind][1]
            windows.append(
                Window(
                    x,
                    y,
                    data.draw(st.integers(1, width - x)),
                    data.draw(st.integers(1, height - y)),
                )
            )
        tiles = copied(source, windows)
        assert len(tiles) == len(windows)
        for tile, window in zip(tiles, windows, strict=True):
            assert_same(tile, source, window, kind)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_window_of_a_window_is_the_window(self, kind):
        """To the byte, since no coefficient changes."""
        data = jpeg(kind)
        outer, inner = Window(16, 16, 67, 43), Window(32, 16, 29, 27)
        once = copied(data, [replace(inner, x=inner.x + outer.x, y=inner.y + outer.y)])
        assert copied(copied(data, [outer])[0], [inner]) == once
        whole = Window(0, 0, 83, 59)
        assert copied(copied(data, [whole])[0], [whole]) == copied(data, [whole])

    def test_restart_markers_and_full_colour(self):
        window = Window(16, 16, 40, 30)
        data = jpeg(restart_marker_blocks=2)
        assert_same(copied(data, [window])[0], data, window, "4:2:0")
        data = jpeg("4:4:4", keep_rgb=True)
        assert_same(copied(data, [window])[0], data, window, "4:4:4")

    def test_grey_whose_header_says_that_it_is_subsampled(self):
        plain = jpeg("grey")
        at = plain.index(b"\xff\xc0") + 11
        assert plain[at] == 0x11
        odd = plain[:at] + b"\x22" + plain[at + 1 :]
        window = Window(8, 24, 50, 30)
        assert unit(probe(io.BytesIO(odd))) == (8, 8)
        assert copied(odd, [window]) == copied(plain, [window])
        assert_same(copied(odd, [window])[0], odd, window, "grey")


@needs_library
class TestWhatIsWritten:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_baseline_with_the_tables_of_the_source(self, kind, progressive):
        data = jpeg(kind, progressive=progressive, quality=61)
        for tile in copied(data, WINDOWS):
            image = opened(tile)
            assert image.quantization == opened(data).quantization
            assert JpegImagePlugin.get_sampling(image) == JpegImagePlugin.get_sampling(opened(data))
            assert "progressive" not in image.info
            assert tile[:2] == b"\xff\xd8" and tile[-2:] == b"\xff\xd9"

    def test_nothing_of_the_metadata(self):
        exif = Image.Exif()
        exif[274], exif[271] = 6, "the maker"
        full = jpeg(exif=exif, icc_profile=ICC, comment=b"a comment", xmp=b"<x:xmpmeta/>")
        assert {"exif", "icc_profile", "comment", "xmp"} <= set(opened(full).info)
        plain = jpeg()
        expected = copied(plain, WINDOWS)
        for data in (full, plain, full, plain):  # nothing goes from one call to the next
            tiles = copied(data, WINDOWS)
            assert tiles == expected
        for tile in expected:
            image = opened(tile)
            assert set(image.app) == {"APP0"}  # JFIF
            assert not set(image.info) & {"exif", "icc_profile", "comment", "xmp"}

    def test_of_two_pictures_in_a_file_the_first(self):
        first = opened(jpeg())
        buffer = io.BytesIO()
        first.save(
            buffer,
            "MPO",
            save_all=True,
            append_images=[opened(jpeg(seed=1))],
            quality=90,
            subsampling="4:2:0",
        )
        data = buffer.getvalue()
        assert opened(data).n_frames == 2
        for tile, window in zip(copied(data, WINDOWS), WINDOWS, strict=True):
            assert_same(tile, data, window, "4:2:0")
            assert "MPF" not in str(opened(tile).applist)

    def test_what_follows_a_picture_does_not_count(self):
        assert copied(jpeg() + b"\xff\xd8garbage" * 100, WINDOWS) == copied(jpeg(), WINDOWS)

    def test_no_window_is_no_tile(self):
        assert copied(jpeg(), []) == []

    def test_many_threads_write_the_same(self):
        sources = [
            jpeg(kind, 208, 160, seed, quality=70, progressive=bool(seed % 2))
            for kind in KINDS
            for seed in range(3)
        ]
        windows = [Window(x, y, 96, 96) for x in range(0, 113, 16) for y in range(0, 65, 16)]
        expected = [copied(data, windows) for data in sources]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(4):
                assert list(pool.map(lambda data: copied(data, windows), sources)) == expected

    def test_the_library_is_called_once(self, monkeypatch):
        calls = []
        lib = lossless._library()

        class Counting:
            def __getattr__(self, name):
                calls.append(name)
                return getattr(lib, name)

        monkeypatch.setattr(lossless, "_library", Counting)
        copied(jpeg(), WINDOWS)
        assert calls.count("tj3Transform") == 1
        assert calls.count("tj3Destroy") == 1
        assert calls.count("tj3Free") == len(WINDOWS)

    @pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is counted in /proc")
    def test_memory_is_given_back(self):
        def used():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        data = jpeg("4:4:4", 256, 256, quality=98)
        windows = [Window(0, 0, 256, 256)] * 8
        size = sum(map(len, copied(data, windows)))

        def work(times):
            for _ in range(times):
                copied(data, windows)
                with pytest.raises(OSError):
                    copied(data[:-2000], windows)

        work(5)
        before = used()
        work(60)
        assert used() - before < 10 * size


@needs_library
class TestRefused:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_window_that_is_not_aligned(self, kind):
        across, down = KINDS[kind]
        for window in (
            Window(across // 2, 0, 16, 16),
            Window(0, down // 2, 16, 16),
            Window(1, 1, 1, 1),
        ):
            with pytest.raises(
                ValueError, match=f"expected x a multiple of {across} and y of {down}"
            ):
                copied(jpeg(kind), [Window(0, 0, 16, 16), window])

    @pytest.mark.parametrize(
        "window",
        [
            Window(0, 0, 84, 59),
            Window(0, 0, 83, 60),
            Window(-16, 0, 32, 32),
            Window(0, -16, 32, 32),
            Window(96, 0, 1, 1),
        ],
    )
    def test_a_window_outside(self, window):
        with pytest.raises(ValueError, match="not inside the image of 83 x 59 px"):
            copied(jpeg(), [Window(0, 0, 16, 16), window])

    @pytest.mark.parametrize("progressive", [False, True])
    def test_a_picture_that_is_cut_off(self, progressive):
        data = jpeg(progressive=progressive)
        for length in (0, 2, 20, 200, 400, len(data) // 2, len(data) - 20, len(data) - 2):
            with pytest.raises(OSError):
                copied(data[:length], [Window(0, 0, 16, 16)])

    def test_the_library_says_why(self):
        with pytest.raises(OSError, match="Premature end of JPEG file"):
            copied(jpeg()[:-2], [Window(0, 0, 16, 16)])

    def test_a_damaged_picture(self):
        data = bytearray(jpeg())
        at = data.index(b"\xff\xda") + 100
        data[at : at + 2] = b"\xff\xc4"  # a table among the blocks
        with pytest.raises(OSError, match=r"."):
            copied(bytes(data), [Window(0, 0, 16, 16)])
        assert copied(jpeg(), [Window(0, 0, 16, 16)])

    @pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCB])
    def test_lossless_and_arithmetic(self, marker):
        data = jpeg().replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
        with pytest.raises(OSError):
            copied(data, [Window(0, 0, 16, 16)])

    def test_arithmetic_coding_that_the_library_could_read(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(lossless, "COPY_NONE", 64 | 128)  # TJXOPT_ARITHMETIC
            (data,) = copied(jpeg(), [Window(0, 0, 83, 59)])
        assert b"\xff\xc9" in data
        with pytest.raises(OSError):
            copied(data, [Window(0, 0, 16, 16)])

    def test_other_forms(self):
        def saved(image, format, **options):
            buffer = io.BytesIO()
            image.save(buffer, format, **options)
            return buffer.getvalue()

        at = jpeg("4:4:4").index(b"\xff\xc0") + 11
        tall = jpeg("4:4:4")[:at] + b"\x12" + jpeg("4:4:4")[at + 1 :]  # 4:4:0
        for data in (
            saved(opened(jpeg()), "PNG"),
            saved(opened(jpeg()).convert("CMYK"), "JPEG"),
            tall,
        ):
            with pytest.raises(OSError, match="expected a JPEG, grey or of 4:4:4, 4:2:2 or 4:2:0"):
                copied(data, [Window(0, 0, 16, 16)])
        for data in (b"", b"hello, world", b"%PDF-1.4"):
            with pytest.raises(OSError):
                copied(data, [Window(0, 0, 16, 16)])

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_damage_is_an_error_or_a_picture(self, data):
        """No crash, and tiles that can be opened."""
        source = bytearray(
            jpeg(data.draw(st.sampled_from(sorted(KINDS))), progressive=data.draw(st.booleans()))
        )
        for _ in range(data.draw(st.integers(1, 4))):
            source[data.draw(st.integers(2, len(source) - 1))] = data.draw(st.integers(0, 255))
        windows = [Window(0, 0, 16, 16), Window(16, 16, 24, 17)]
        try:
            tiles = copied(bytes(source), windows)
        except (OSError, ValueError):
            return
        assert [opened(tile).size for tile in tiles] == [(w.width, w.height) for w in windows]


@pytest.fixture(scope="module")
def pictures():
    """{name: bytes} of those with a JPEG's first bytes."""
    found = {}
    with tarfile.open(SHARED / "data" / "odd.tar") as tar:
        for member in tar:
            if member.isfile() and member.name.startswith("odd/images/"):
                data = tar.extractfile(member).read()
                if data[:3] == b"\xff\xd8\xff":
                    found[member.name.removeprefix("odd/images/")] = data
    return found


@needs_library
@needs_shared
class TestOddPictures:
    @pytest.mark.parametrize(
        "name",
        ["truncated_half.jpg", "truncated_head.jpg", "truncated_noeoi.jpg", "bomb_header_jpg.jpg"],
    )
    def test_damage_is_told(self, pictures, name):
        with pytest.raises(OSError, match=r"(?i)premature end"):
            copied(pictures[name], [Window(0, 0, 16, 16)])

    def test_all_others_are_copied(self, pictures):
        done = 0
        for name, data in pictures.items():
            if name.startswith(("truncated", "bomb")):
                continue
            try:
                header = probe(io.BytesIO(data))
            except SourceRefused:
                continue
            size = unit(header)
            if size is None:
                assert header.orientation > 1 or header.bands == 4, name
                continue
            windows = [Window(0, 0, header.width, header.height)]
            if header.width > 40:
                windows += [
                    Window(16, 16, header.width - 16, header.height - 16),
                    Window(32, 16, 64, 64),
                ]
            for tile, window in zip(copied(data, windows), windows, strict=True):
                assert_same(tile, data, window, header.subsampling or "grey")
                assert set(opened(tile).app) == {"APP0"}, name
            done += 1
        assert done >= 30
