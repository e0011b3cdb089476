import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import header, pixels, reading, writing
from tiler.images.encoding import encoding as encoding_of

from . import LIMIT, encoded, exif_block, noise, oriented, smooth, tiff

SIZE = (40, 30)
WHOLE = Window(0, 0, *SIZE)
ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd.tar"


def opened(data):
    """An image upright, and its header."""
    file = io.BytesIO(data)
    found = reading.plain_header(file, LIMIT)
    return reading.decode(file, found), found


def cut(image, window, size, encoding):
    """A tile, as splitting cuts it out of a whole image."""
    inner = window.intersection(Window(0, 0, *image.size))
    with reading.allowed(inner.width * inner.height):
        part = image.crop((inner.x, inner.y, inner.right, inner.bottom))
    return pixels.fitted(part, image.mode, inner, window, size, encoding)


def tile_of(data, path, window=WHOLE, wanted="same", quality=90, size=None):
    """Cut and save one tile: the tile as a reader finds it, and how it was encoded."""
    image, found = opened(data)
    encoding = encoding_of(image, found, wanted, quality)
    tile = cut(image, window, size or (window.width, window.height), encoding)
    assert writing.save(tile, path, encoding) == path.stat().st_size
    written = Image.open(io.BytesIO(path.read_bytes()))
    written.load()
    return written, encoding


def crop(data, window=WHOLE):
    return opened(data)[0].crop((window.x, window.y, window.right, window.bottom))


def array(image):
    return np.asarray(image)


def lossless_sources():
    sources = {
        f"{mode} png": encoded(noise(mode, SIZE), "PNG")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    }
    sources |= {
        f"{mode} tif": encoded(noise(mode, SIZE), "TIFF", compression="tiff_lzw")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK", "LAB")
    }
    sources |= {f"{mode} bmp": encoded(noise(mode, SIZE), "BMP") for mode in ("1", "L", "P", "RGB")}
    sources |= {
        f"{mode} webp": encoded(noise(mode, SIZE), "WEBP", lossless=True, exact=True)
        for mode in ("RGB", "RGBA")
    }
    sources["one colour of P png transparent"] = encoded(noise("P", SIZE), "PNG", transparency=7)
    sources["P png with alphas"] = encoded(noise("P", SIZE), "PNG", transparency=bytes(range(256)))
    sources["one colour of RGB png transparent"] = encoded(
        noise("RGB", SIZE), "PNG", transparency=noise("RGB", SIZE).getpixel((9, 9))
    )
    sources["one colour of L png transparent"] = encoded(noise("L", SIZE), "PNG", transparency=7)
    sources["16-bit big-endian tif"] = tiff(array(noise("I;16", SIZE)), ">")
    sources["tiled float tif"] = tiff(array(noise("F", SIZE)), ">", tile=16)
    sources["uncompressed RGB tif"] = tiff(array(noise("RGB", SIZE)))
    sources["16-bit turned png"] = encoded(noise("I;16", SIZE[::-1]), "PNG", exif=oriented(6))
    sources["16-bit big-endian turned tif"] = tiff(
        array(noise("I;16", SIZE[::-1])), ">", tags={274: (3, [8])}
    )
    return sources


LOSSLESS = lossless_sources()
KEPT = {"I;16B": "I;16"}  # the one mode that becomes another, with the same values
FILL = {
    "1": 0,
    "L": 114,
    "LA": (114, 255),
    "RGB": (114, 114, 114),
    "RGBA": (114, 114, 114, 255),
    "I;16": 114 * 257,
    "CMYK": (0, 0, 0, 141),
}


def filled(values, mode, pixels=None):
    """Whether an array of pixels has the fill colour everywhere."""
    if mode == "P":
        palette = np.array(pixels.getpalette("RGB")).reshape(-1, 3)
        distance = ((palette.astype(int) - 114) ** 2).sum(1)
        return (distance[values] == distance.min()).all()
    if mode == "F":
        return np.unique(values).size == 1
    if mode == "LAB":
        return (values.reshape(-1, 3) == values.reshape(-1, 3)[0]).all() and abs(
            int(values.reshape(-1, 3)[0, 0]) - 122
        ) < 2
    return (values == np.array(FILL[mode])).all()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("tiles") / "tile"


@st.composite
def windows(draw):
    x, y = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
    return Window(x, y, draw(st.integers(1, SIZE[0] - x)), draw(st.integers(1, SIZE[1] - y)))


class TestLossless:
    @given(st.sampled_from(sorted(LOSSLESS)), windows())
    @settings(max_examples=300, deadline=None)
    def test_a_tile_is_the_crop(self, path, name, window):
        data = LOSSLESS[name]
        tile, encoding = tile_of(data, path, window)
        expected = crop(data, window)
        assert tile.mode == KEPT.get(expected.mode, expected.mode)
        assert encoding.note is None
        assert np.array_equal(array(tile), array(expected))

    @pytest.mark.parametrize("name", LOSSLESS)
    def test_for_every_source(self, path, name):
        tile, encoding = tile_of(LOSSLESS[name], path)
        expected = crop(LOSSLESS[name])
        assert tile.mode == KEPT.get(expected.mode, expected.mode)
        assert encoding.note is None
        assert np.array_equal(array(tile), array(expected))
        written, again = opened(path.read_bytes())
        assert np.array_equal(array(written), array(expected))
        assert (again.orientation, again.frames, again.lossless, again.size) == (1, 1, True, SIZE)

    @pytest.mark.parametrize(
        "name", [name for name in LOSSLESS if name.startswith("P ") or "of P" in name]
    )
    def test_the_palette_and_its_transparency_are_kept(self, path, name):
        for window in (WHOLE, Window(30, 20, 20, 20)):
            tile, _ = tile_of(LOSSLESS[name], path, window)
            source = crop(LOSSLESS[name])
            assert tile.getpalette() == source.getpalette()
            assert tile.info.get("transparency") == source.info.get("transparency")

    @pytest.mark.parametrize("name", LOSSLESS)
    @pytest.mark.parametrize("wanted", ["jpg", "png", "webp", "tif"])
    def test_nothing_is_lost_in_silence(self, path, name, wanted):
        source = crop(LOSSLESS[name])
        try:
            tile, encoding = tile_of(LOSSLESS[name], path, wanted=wanted)
        except SourceRefused as error:
            assert error.code == "I06"
            return
        if encoding.note is not None:
            assert "written as" in encoding.note
        elif wanted == "jpg":
            assert array(source.convert("RGBA"))[..., 3].min() == 255
        elif source.mode in ("I;16", "I;16B", "F", "LAB", "CMYK"):
            assert np.array_equal(array(tile), array(source))
        else:
            assert np.array_equal(array(tile.convert("RGBA")), array(source.convert("RGBA")))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", None])
    def test_a_tiff_keeps_its_lossless_compression(self, path, compression):
        data = encoded(smooth(), "TIFF", compression=compression)
        tile, _ = tile_of(data, path, Window(0, 0, 24, 16))
        assert tile.info["compression"] == (compression or "raw")

    @pytest.mark.parametrize("compression", ["jpeg", "tiff_adobe_deflate", "zstd"])
    def test_other_compressions_become_deflate(self, path, compression):
        data = encoded(smooth(), "TIFF", compression=compression)
        tile, _ = tile_of(data, path, Window(0, 0, 24, 16))
        assert tile.info["compression"] == "tiff_adobe_deflate"
        assert np.array_equal(array(tile), array(crop(data, Window(0, 0, 24, 16))))


class TestJpeg:
    @pytest.mark.parametrize("quality", [60, 95])
    @pytest.mark.parametrize("orientation", [1, 3, 6])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    def test_subsampling_of_the_source_at_the_quality_asked_for(
        self, path, subsampling, orientation, quality
    ):
        data = encoded(
            smooth("RGB", (64, 48)),
            "JPEG",
            quality=80,
            subsampling=subsampling,
            exif=oriented(orientation),
        )
        tile, _ = tile_of(data, path, Window(8, 8, 32, 32), quality=quality)
        turned = orientation == 6 and subsampling == "4:2:2"  # would be 4:4:0
        assert header.probe(io.BytesIO(path.read_bytes())).subsampling == (
            "4:4:4" if turned else subsampling
        )
        assert (
            tile.quantization
            == Image.open(io.BytesIO(encoded(smooth(), "JPEG", quality=quality))).quantization
        )
        assert tile.getexif().get(274) is None

    def test_colour_is_full_where_the_source_has_no_subsampling(self, path):
        tile_of(LOSSLESS["RGB png"], path, wanted="jpg")
        assert header.probe(io.BytesIO(path.read_bytes())).subsampling == "4:4:4"

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_keeps_the_mode_and_looks_the_same(self, path, mode):
        data = encoded(smooth(mode, (64, 48)), "JPEG", quality=95)
        window = Window(8, 8, 40, 32)
        tile, encoding = tile_of(data, path, window, quality=95)
        assert (tile.mode, encoding.note, encoding.suffix) == (mode, None, ".jpg")
        assert np.abs(array(tile).astype(int) - array(crop(data, window))).mean() < 3

    def test_a_higher_quality_makes_a_larger_file(self, path):
        sizes = []
        for quality in (30, 60, 90):
            tile_of(LOSSLESS["RGB png"], path, wanted="jpg", quality=quality)
            sizes.append(path.stat().st_size)
        assert sizes == sorted(set(sizes))


class TestWebp:
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    @pytest.mark.parametrize("lossless", [True, False])
    def test_stays_what_it_was(self, path, lossless, mode):
        data = encoded(smooth(mode), "WEBP", lossless=lossless)
        tile, encoding = tile_of(data, path, Window(0, 0, 24, 16))
        assert header.probe(io.BytesIO(path.read_bytes())).lossless == lossless
        assert (tile.mode, encoding.suffix) == (mode, ".webp")
        assert np.abs(array(tile).astype(int) - array(crop(data, Window(0, 0, 24, 16)))).mean() < (
            1 if lossless else 8
        )

    @pytest.mark.parametrize(
        ("data", "lossless"),
        [(LOSSLESS["RGB png"], True), (encoded(smooth("RGB", SIZE), "JPEG"), False)],
    )
    def test_follows_the_source_of_another_format(self, path, data, lossless):
        tile_of(data, path, wanted="webp")
        assert header.probe(io.BytesIO(path.read_bytes())).lossless == lossless

    def test_an_animated_lossless_one_stays_lossless(self, path):
        frames = [noise("RGB", SIZE), noise("RGB", SIZE, seed=1)]
        tile, _ = tile_of(
            encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:]), path
        )
        assert np.array_equal(array(tile), array(frames[0]))


class TestConversion:
    @pytest.mark.parametrize(
        ("name", "wanted", "mode", "noted"),
        [
            ("1 png", "jpg", "L", True),
            ("1 png", "webp", "RGB", True),
            ("1 png", "tif", "1", False),
            ("L png", "jpg", "L", False),
            ("L png", "webp", "RGB", True),
            ("LA png", "jpg", "L", True),
            ("LA png", "webp", "RGBA", True),
            ("LA png", "tif", "LA", False),
            ("P png", "jpg", "RGB", True),
            ("P png", "webp", "RGB", True),
            ("P png", "tif", "P", False),
            ("one colour of P png transparent", "webp", "RGBA", True),
            ("one colour of P png transparent", "jpg", "RGB", True),
            ("RGBA png", "jpg", "RGB", True),
            ("RGBA png", "webp", "RGBA", False),
            ("RGBA tif", "png", "RGBA", False),
            ("CMYK tif", "png", "RGB", True),
            ("CMYK tif", "webp", "RGB", True),
            ("CMYK tif", "jpg", "CMYK", False),
            ("I;16 png", "tif", "I;16", False),
            ("I;16 tif", "png", "I;16", False),
            ("16-bit big-endian tif", "png", "I;16", False),
            ("RGB bmp", "png", "RGB", False),
            ("1 bmp", "tif", "1", False),
        ],
    )
    def test_rule(self, path, name, wanted, mode, noted):
        tile, encoding = tile_of(LOSSLESS[name], path, wanted=wanted)
        assert encoding.mode == mode
        assert (encoding.note is not None) == noted
        assert encoding.suffix == f".{wanted}"
        assert tile.mode == mode
        if noted:
            assert f"written as {mode}" in encoding.note

    @pytest.mark.parametrize(
        "name", ["I;16 png", "I;16 tif", "16-bit big-endian tif", "F tif", "LAB tif"]
    )
    @pytest.mark.parametrize("wanted", ["jpg", "webp"])
    def test_depth_that_the_format_lacks_is_refused(self, path, name, wanted):
        with pytest.raises(SourceRefused) as caught:
            tile_of(LOSSLESS[name], path, wanted=wanted)
        assert caught.value.code == "I06"
        assert "use --format" in caught.value.message

    @pytest.mark.parametrize("name", ["F tif", "LAB tif"])
    def test_png_has_no_float_and_no_lab(self, path, name):
        with pytest.raises(SourceRefused, match="PNG cannot hold"):
            tile_of(LOSSLESS[name], path, wanted="png")

    @pytest.mark.parametrize(
        ("name", "suffix"),
        [
            ("RGB png", ".png"),
            ("F tif", ".tif"),
            ("RGB webp", ".webp"),
            ("L bmp", ".bmp"),
            ("P bmp", ".bmp"),
        ],
    )
    def test_same_is_the_format_of_the_source(self, path, name, suffix):
        tile, encoding = tile_of(LOSSLESS[name], path)
        assert encoding.suffix == suffix
        assert tile.format == encoding.format

    @pytest.mark.parametrize("wanted", ["same", "jpg", "webp", "tif"])
    def test_the_colour_profile_is_kept(self, path, wanted):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        tile, _ = tile_of(
            encoded(smooth("RGB", SIZE), "PNG", icc_profile=profile), path, wanted=wanted
        )
        assert tile.info["icc_profile"] == profile

    @pytest.mark.parametrize("wanted", ["png", "webp"])
    def test_a_profile_of_another_colour_space_is_not(self, path, wanted):
        """RGB pixels under a CMYK profile would be shown wrong, or not at all."""
        data = encoded(smooth("CMYK", SIZE), "JPEG", icc_profile=b"a profile for CMYK")
        tile, _ = tile_of(data, path, wanted=wanted)
        assert "icc_profile" not in tile.info

    def test_other_metadata_stays_behind(self, path):
        data = encoded(
            smooth("RGB", SIZE),
            "JPEG",
            exif=b"Exif\0\0" + exif_block(6),
            comment=b"hello",
            dpi=(300, 300),
        )
        tile, _ = tile_of(data, path, Window(0, 0, 30, 40))
        assert not tile.getexif()
        assert "comment" not in tile.info


class TestPadding:
    @pytest.mark.parametrize(
        "window", [Window(30, 20, 24, 16), Window(-6, -5, 20, 20), Window(-3, -4, 50, 40)]
    )
    @pytest.mark.parametrize("name", LOSSLESS)
    def test_beyond_the_border_lies_the_fill_colour(self, path, name, window):
        tile, encoding = tile_of(LOSSLESS[name], path, window)
        inner = window.intersection(WHOLE)
        left, top = inner.x - window.x, inner.y - window.y
        inside = np.zeros((window.height, window.width), bool)
        inside[top : top + inner.height, left : left + inner.width] = True
        values = array(tile)
        assert values.shape[:2] == (window.height, window.width)
        expected = array(crop(LOSSLESS[name], inner))
        assert np.array_equal(values[inside].reshape(expected.shape), expected)
        assert filled(values[~inside], encoding.mode, tile)
        if encoding.mode == "F":
            assert expected.min() <= values[~inside][0] <= expected.max()

    def test_grey_is_grey_in_every_colour_space(self):
        for mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
            pixel = (
                Image.new(mode, (1, 1), pixels.fill(Image.new(mode, (1, 1))))
                .convert("RGB")
                .getpixel((0, 0))
            )
            assert pixel == (114, 114, 114)
        lab = Image.new("LAB", (1, 1), pixels.fill(Image.new("LAB", (1, 1))))
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        shown = ImageCms.applyTransform(
            lab, ImageCms.buildTransform(*profiles, "LAB", "RGB")
        ).getpixel((0, 0))
        assert np.abs(np.array(shown) - 114).max() <= 4

    def test_padding_of_a_converted_tile(self, path):
        for name in ("CMYK tif", "P png", "LA png", "1 png"):
            tile, _ = tile_of(LOSSLESS[name], path, Window(30, 20, 24, 16), wanted="webp")
            expected = 0 if name == "1 png" else 114
            spread = 40 if name == "P png" else 0
            assert np.abs(array(tile)[-1, -1, :3].astype(int) - expected).max() <= spread, name


class TestResampling:
    @pytest.mark.parametrize("size", [(20, 15), (13, 7), (80, 60), (1, 1)])
    @pytest.mark.parametrize("name", LOSSLESS)
    def test_size_and_mode(self, path, name, size):
        tile, encoding = tile_of(LOSSLESS[name], path, size=size)
        assert tile.size == size
        assert tile.mode == encoding.mode
        assert set(array(tile).ravel().tolist()) <= set(
            array(crop(LOSSLESS[name])).ravel().tolist()
        ) or tile.mode not in (
            "1",
            "P",
        )

    @pytest.mark.parametrize(
        ("pixels", "value"),
        [
            (np.full((30, 40), 40_000, np.uint16), 40_000),
            (np.full((30, 40), 0.125, np.float32), 0.125),
            (np.full((30, 40, 3), (10, 200, 90), np.uint8), (10, 200, 90)),
            (np.full((30, 40), 201, np.uint8), 201),
        ],
    )
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_one_colour_stays_that_colour(self, path, order, pixels, value):
        for size in ((20, 15), (61, 47)):
            tile, _ = tile_of(tiff(pixels, order), path, size=size)
            assert (array(tile) == np.array(value)).all()

    def test_the_picture_is_the_same_at_another_size(self, path):
        data = encoded(smooth("RGB", SIZE), "PNG")
        tile, _ = tile_of(data, path, Window(4, 2, 32, 24), size=(16, 12))
        back = array(tile.resize((32, 24), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(back - array(crop(data, Window(4, 2, 32, 24)))).mean() < 4

    def test_colours_under_transparent_pixels_do_not_bleed(self, path):
        pixels = np.zeros((30, 40, 4), np.uint8)
        pixels[:, :20] = (255, 0, 0, 0)
        pixels[:, 20:] = (0, 0, 255, 255)
        tile, _ = tile_of(encoded(Image.fromarray(pixels), "PNG"), path, size=(20, 15))
        seen = array(tile)[array(tile)[..., 3] > 128]
        assert seen[:, 0].max() <= 2


class TestPillowsLimit:
    def test_a_tile_may_have_more_pixels(self, monkeypatch):
        image, found = opened(LOSSLESS["RGB png"])
        encoding = encoding_of(image, found, "same", 90)
        expected = array(image.crop((1, 1, 31, 21)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        tile = cut(image, Window(1, 1, 30, 20), (30, 20), encoding)
        assert np.array_equal(array(tile), expected)
        assert Image.MAX_IMAGE_PIXELS == 100


def ring(*points):
    return np.array(points, np.float64)


SQUARE = ring((10, 8), (30, 8), (30, 24), (10, 24))
TRIANGLE = ring((3.3, 4.7), (36.2, 9.1), (14.8, 27.6))
HOLE = ring((15, 12), (25, 12), (25, 20), (15, 20))
ISLAND = ring((18.5, 14.5), (22, 14.5), (22, 18), (18.5, 18))
BEYOND = ring((-20, -30), (12.5, -5), (60, 14), (14, 80))

SHAPES = {
    "a square": ([[SQUARE]], []),
    "a triangle": ([[TRIANGLE]], []),
    "an outline beyond the tile": ([[BEYOND]], []),
    "a hole": ([[SQUARE, HOLE]], []),
    "an island in a hole": ([[SQUARE, HOLE, ISLAND]], []),
    "two parts": ([[TRIANGLE - 20, TRIANGLE + 10]], []),
    "two objects": ([[SQUARE], [TRIANGLE]], []),
    "under an object shown": ([[SQUARE]], [[TRIANGLE]]),
    "a shown object with a hole": ([[BEYOND]], [[SQUARE, HOLE]]),
    "all of it shown": ([[HOLE]], [[SQUARE]]),
    "nothing": ([], [[SQUARE]]),
}


def region(objects):
    """The union of objects, each filled even-odd."""
    shapes = []
    for rings in objects:
        shape = shapely.Polygon()
        for one in rings:
            shape = shape.symmetric_difference(shapely.Polygon(one))
        shapes.append(shape)
    return shapely.union_all(shapes) if shapes else shapely.Polygon()


def certain(objects, size):
    """Pixels well inside and well outside of what objects cover."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    centres = shapely.points(x, y)
    shape = region(objects)
    if shape.is_empty:
        return np.zeros(x.shape, bool), np.ones(x.shape, bool)
    clear = shapely.distance(shape.boundary, centres) > 1.5
    within = shapely.contains(shape, centres)
    return within & clear, ~within & clear


def triangles():
    """Objects of one ring that have an area."""
    corners = st.lists(
        st.tuples(st.integers(-20, 60), st.integers(-20, 50)), min_size=3, max_size=3
    )
    return corners.filter(lambda points: shapely.Polygon(points).area >= 1).map(
        lambda points: [ring(*points)]
    )


class TestPaintOut:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("name", LOSSLESS)
    def test_paints_what_is_hidden_and_nothing_else(self, name, shape):
        hidden, shown = SHAPES[shape]
        image, found = opened(LOSSLESS[name])
        tile = cut(image, WHOLE, SIZE, encoding_of(image, found, "same", 90))
        before = array(tile).copy()
        pixels.paint_out(tile, hidden, shown)
        self.check(tile, before, hidden, shown)

    @staticmethod
    def check(tile, before, hidden, shown):
        inside, outside = certain(hidden, tile.size)
        kept, uncovered = certain(shown, tile.size)
        after = array(tile)
        painted, untouched = inside & uncovered, outside | kept
        assert np.array_equal(after[untouched], before[untouched])
        if painted.any():
            assert filled(after[painted], tile.mode, tile)

    @given(st.lists(triangles(), max_size=3), st.lists(triangles(), max_size=2))
    @settings(max_examples=80, deadline=None)
    def test_any_triangles(self, hidden, shown):
        tile = noise("RGB", SIZE)
        before = array(tile).copy()
        pixels.paint_out(tile, hidden, shown)
        self.check(tile, before, hidden, shown)

    @pytest.mark.parametrize("wanted", ["jpg", "png", "webp", "tif"])
    def test_in_the_mode_of_the_tile(self, wanted):
        """Which is not always the mode of the image."""
        for name in ("CMYK tif", "P png", "LA png", "1 png", "L bmp"):
            image, found = opened(LOSSLESS[name])
            tile = cut(image, WHOLE, SIZE, encoding_of(image, found, wanted, 90))
            before = array(tile).copy()
            pixels.paint_out(tile, [[SQUARE]], [])
            self.check(tile, before, [[SQUARE]], [])


class TestSave:
    @pytest.mark.parametrize("name", LOSSLESS)
    def test_returns_the_size_of_the_file(self, tmp_path, name):
        path = tmp_path / "a"
        tile_of(LOSSLESS[name], path)
        assert path.stat().st_size > 60

    def test_the_same_bytes_each_time(self, tmp_path):
        for name in ("RGB png", "F tif", "RGBA webp", "P bmp"):
            tile_of(LOSSLESS[name], tmp_path / "a")
            tile_of(LOSSLESS[name], tmp_path / "b")
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("name", ["RGB png", "RGB tif", "RGB bmp"])
    def test_an_end_that_is_missing_is_written_again(self, tmp_path, monkeypatch, name):
        tile_of(LOSSLESS[name], tmp_path / "a")
        monkeypatch.setattr(writing, "_ended", lambda *_: False)
        tile_of(LOSSLESS[name], tmp_path / "b")
        assert np.array_equal(array(Image.open(tmp_path / "a")), array(Image.open(tmp_path / "b")))

    @pytest.mark.parametrize(
        "format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "TIFF lzw", "TIFF deflate"]
    )
    def test_a_full_disk_is_an_oserror_or_the_file_is_whole(self, tmp_path, format):
        pytest.importorskip("resource", reason="no limit on file sizes here")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FULL_DISK, format, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        outcomes = json.loads(done.stdout)
        assert outcomes["files"] > 20
        assert outcomes["torn"] == []
        assert outcomes["errors"] == ["OSError"]


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from PIL import Image
from tiler.images import writing
from tiler.images.encoding import Encoding

kind, compression = (sys.argv[1].split() + [""])[:2]
names = {"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate"}
options = {"compression": names[compression]} if compression in names else {}
if kind == "WEBP":
    options = {"lossless": True, "quality": 0, "method": 0}
tile = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8))
encoding = Encoding(kind, "", "RGB", options)
whole = Path(sys.argv[2], "whole")
size = writing.save(tile, whole, encoding)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
torn, errors = [], set()
limits = [0, 1, 100, *range(1000, size, size // 25), size - 9, size - 1, size]
for limit in limits:
    path = Path(sys.argv[2], str(limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        writing.save(tile, path, encoding)
        torn += [limit] * (path.read_bytes() != whole.read_bytes())
    except OSError:
        errors.add("OSError")
    except Exception as error:
        errors.add(repr(error))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps({"files": len(limits), "torn": torn, "errors": sorted(errors)}))
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The odd images of shared/data, by name."""
    if not ODD.exists():
        pytest.skip(f"{ODD} is not here")
    folder = tmp_path_factory.mktemp("odd")
    with tarfile.open(ODD) as archive:
        archive.extractall(folder, filter="data")
    root = folder / "odd" / "images"
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


LONG_NAME = "n" * 180 + ".jpg"
# the mode of a tile, with the source's where that is another; or the code of the refusal
OUTCOMES = {
    "I02": (
        ".DS_Store",
        "._plain.jpg",
        "Thumbs.db",
        "html404.jpg",
        "one_byte.png",
        "text.jpg",
        "zero_byte.jpg",
        "zero_dim.png",
    ),
    "I03": (
        "corrupt_crc.png",
        "truncated.png",
        "truncated_half.jpg",
        "truncated_head.jpg",
        "truncated_noeoi.jpg",
        "truncated_tif.tif",
    ),
    "I04": ("bomb_header.png", "bomb_header_jpg.jpg", "bomb_real.png"),
    "I06": ("bands5.tif", "rgb16.tif", "rgb16_png.png"),
    "I07": ("animated.gif", "avif.avif", "bands4.npy", "j2k.jp2"),
    "1": ("onebit.png",),
    "L": ("gray.jpg", "gray_png.png"),
    "LA": ("gray_alpha.png",),
    "P": ("palette.png", "palette_16.png", "palette_trns.png"),
    "RGBA": ("rgba.png",),
    "CMYK": ("cmyk.jpg", "cmyk_tif.tif"),
    "LAB": ("lab.tif",),
    "F": ("float32.tif",),
    "I;16": ("gray12in16.tif", "gray16.tif", "gray16_png.png"),
    "I;16B as I;16": ("bigendian.tif",),
    "RGB": (
        "-dash first.jpg",
        "0_0.jpg",
        "Grüße_日本語.jpg",
        "[glob]*?.jpg",
        "a.b.c.v2.jpg",
        "bigtiff.tif",
        "bmp.bmp",
        "cafe\u0301_nfd.jpg",
        "corrupt_middle.jpg",
        "deep/er/nested.jpg",
        *(f"exif_{orientation}.jpg" for orientation in range(1, 9)),
        "exif_garbage.jpg",
        "exif_invalid.jpg",
        "exif_png.png",
        "exif_webp.webp",
        "images.jpg",
        "jpg_named.png",
        "labels/inner.jpg",
        "lossless.webp",
        "lzw.tif",
        "mpo.mpo",
        "mpo_named.JPG",
        "multipage.tif",
        "name with spaces.jpg",
        LONG_NAME,
        "nolabel.jpg",
        "percent%20and#hash.jpg",
        "plain.jpg",
        "plain_640_0_640_640.jpg",
        "png_named.jpg",
        "progressive.jpg",
        "quote'and,comma.jpg",
        "samestem.jpg",
        "samestem.png",
        "small_40x30.jpg",
        "tall_1x5000.png",
        "tiled_deflate.tif",
        "tiny_1x1.png",
        "trailing_garbage.jpg",
        "upper.JPG",
        "upper2.JPEG",
        "webp_named.jpg",
        "wide_5000x1.png",
    ),
}
EXPECTED = {name: outcome for outcome, names in OUTCOMES.items() for name in names}
OF_THE_CROP = (480, 320)  # the size of most of them, upright


class TestOddPictures:
    def test_the_table_names_all(self, odd):
        assert set(EXPECTED) == set(odd)

    @pytest.mark.parametrize("name", EXPECTED)
    def test_outcome(self, odd, path, name):
        data = odd[name].read_bytes()
        try:
            image, found = opened(data)
            encoding = encoding_of(image, found, "same", 95)
        except SourceRefused as error:
            assert error.code == EXPECTED[name]
            return
        assert (
            image.mode if image.mode == encoding.mode else f"{image.mode} as {encoding.mode}"
        ) == EXPECTED[name]
        assert encoding.note is None
        window = Window(0, 0, *image.size)
        tile, _ = tile_of(data, path, window, quality=95)
        if found.lossless:
            assert np.array_equal(array(tile), array(image))
        else:
            assert np.abs(array(tile).astype(int) - array(image)).mean() < 3

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, outcome in EXPECTED.items()
            if outcome in ("RGB", "L", "P", "CMYK", "1", "I;16", "I;16B as I;16")
        ],
    )
    def test_shows_the_crop_upright(self, odd, name):
        image, _ = opened(odd[name].read_bytes())
        if abs(image.width / image.height - 1.5) > 0.02 or name == "corrupt_middle.jpg":
            pytest.skip("another shape, or wrong pixels on purpose")
        plain, _ = opened(odd["plain.jpg"].read_bytes())
        reference = (
            array(plain.convert("L").resize((48, 32), Image.Resampling.BOX)).astype(float).ravel()
        )
        if image.mode.startswith("I;16"):
            image = Image.fromarray(
                (array(image).astype(float) / array(image).max() * 255).astype(np.uint8)
            )
        shown = (
            array(image.convert("L").resize((48, 32), Image.Resampling.BOX)).astype(float).ravel()
        )
        assert np.corrcoef(shown, reference)[0, 1] > 0.97


def test_16_bit_grey_with_a_transparent_value_keeps_its_16_bits(tmp_path):
    values = (np.arange(64 * 64).reshape(64, 64) * 15).astype(np.uint16)
    source = tmp_path / "a.png"
    Image.fromarray(values).save(source, transparency=5)
    tile, encoding = tile_of(
        source.read_bytes(), tmp_path / "t", Window(0, 0, 64, 64), wanted="tif"
    )
    assert encoding.mode == "I;16"
    assert np.array_equal(array(tile), values)
    with pytest.raises(SourceRefused) as caught:
        tile_of(source.read_bytes(), tmp_path / "t", Window(0, 0, 64, 64), wanted="webp")
    assert caught.value.code == "I06"
