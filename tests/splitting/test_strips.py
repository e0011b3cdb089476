"""Images that are read by strips of rows give the tiles of whole ones, to the byte (the extra
`big`).
"""

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from tests.conftest import Dataset, needs_big, picture, rows_of, tree
from tests.images import encoded, noise, oriented, smooth, tiff
from tests.splitting.test_split import split
from tiler.formats import manifest
from tiler.images import gdal, lossless, reading, vips
from tiler.splitting.tile_files import SourceTilesWriter

ROWS = "".join(f"{i % 3} {0.1 + 0.13 * i:.2f} {0.15 + 0.11 * i:.2f} 0.11 0.13\n" for i in range(7))
SIZE = (333, 211)
# libtiff 4.7.1 (in Pillow 12.3) encodes the same pixels to other bytes by LZW, now and then
LZW = (
    "tiff_lzw"
    if tuple(map(int, features.version("libtiff").split("."))) >= (4, 7, 2)
    else "tiff_adobe_deflate"
)


@pytest.fixture
def by_strips(monkeypatch):
    """From here on no image is small; each strip that is read is counted."""
    read = []

    def start():
        monkeypatch.setattr(reading, "LARGE", 0)
        real = reading.row_reader.sweep

        def sweep(rows, *more):
            read.append(type(rows).__name__)
            return real(rows, *more)

        monkeypatch.setattr(reading.row_reader, "sweep", sweep)
        return read

    return start


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(mode="RGB"):
    return Image.blend(smooth("RGB", SIZE), noise("RGB", SIZE), 0.3).convert(mode)


def as_array(mode):
    return np.asarray(noise(mode, SIZE))


PICTURES = {
    **{f"turned{i}.jpg": encoded(photo(), "JPEG", exif=oriented(i)) for i in range(1, 9)},
    "grey.jpg": encoded(photo("L"), "JPEG"),
    "cmyk.jpg": encoded(photo("CMYK"), "JPEG"),
    "gradual.jpg": encoded(photo(), "JPEG", progressive=True),
    **{f"{mode}.png": encoded(noise(mode, SIZE), "PNG") for mode in ("L", "LA", "RGB", "RGBA")},
    "deep.png": encoded(noise("I;16", SIZE), "PNG"),
    "turned.png": encoded(noise("RGB", SIZE), "PNG", exif=oriented(6)),
    **{
        f"{mode}.tif": encoded(noise(mode, SIZE), "TIFF", compression=LZW)
        for mode in ("L", "LA", "RGB", "RGBA", "CMYK")
    },
    "profile.jpg": encoded(photo(), "JPEG", icc_profile=PROFILE),
    "jpeg.tif": encoded(photo(), "TIFF", compression="jpeg"),
    "jpeg-ycc.tif": encoded(photo("YCbCr"), "TIFF", compression="jpeg"),
    "deep.tif": encoded(noise("I;16", SIZE), "TIFF"),
    "float.tif": encoded(noise("F", SIZE), "TIFF"),
    "turned.tif": encoded(noise("RGB", SIZE), "TIFF", tiffinfo={274: 6}),
    "tiled.tif": tiff(as_array("RGB"), tile=64),
    "tiled16.tif": tiff(as_array("I;16"), tile=64),
    "tiled-big.tif": tiff(as_array("RGB"), tile=64, big=True),
    "big-endian.tif": tiff(as_array("I;16"), order=">"),
}

HIDDEN = {
    "hidden.png": encoded(noise("RGB", SIZE), "PNG", transparency=(1, 2, 3)),
    "hidden-grey.png": encoded(noise("L", SIZE), "PNG", transparency=7),
}


def made(root, pictures):
    data = Dataset(root)
    for name, content in pictures.items():
        data.add(name, ROWS, content)
    data.add("v.png", "", picture(64, 64), "val")
    return data


def both(data, tmp_path, by_strips, **options):
    """The trees of a split by whole images and of one by strips."""
    split(data, tmp_path / "whole", **options)
    read = by_strips()
    report = split(data, tmp_path / "strips", **options)
    assert len(read) >= report.splits["train"].counts.sources
    assert {f.code for f in report.findings} <= {"I12", "I13", "P03"}
    return tree(tmp_path / "whole"), tree(tmp_path / "strips")


# --- the same tiles


@needs_big
@pytest.mark.parametrize("name", PICTURES)
def test_each_form_gives_the_same_tree(tmp_path, by_strips, name):
    data = made(tmp_path / "data", {name: PICTURES[name]})
    whole, strips = both(data, tmp_path, by_strips)
    assert len(whole) == 2 * 9 + 4
    assert whole == strips


@needs_big
@pytest.mark.parametrize("name", HIDDEN)
def test_a_transparent_colour_gives_the_same_tree(tmp_path, by_strips, name):
    data = made(tmp_path / "data", {name: HIDDEN[name]})
    whole, strips = both(data, tmp_path, by_strips)
    assert whole == strips


@needs_big
@pytest.mark.parametrize("edge", ["shift", "pad", "trim", "balance"])
@pytest.mark.parametrize(
    "options", [{"scale": "1,0.5,0.25"}, {"truncated": "mask", "min_visible": 0.8, "rescue": False}]
)
def test_every_grid_gives_the_same_tree(tmp_path, by_strips, edge, options):
    whole, strips = both(
        made(tmp_path / "data", PICTURES), tmp_path, by_strips, edge=edge, **options
    )
    assert len(whole) > 300
    assert whole == strips


@needs_big
@pytest.mark.parametrize("background", ["none", 0.5])
def test_windows_that_are_left_out_change_no_other(tmp_path, by_strips, background):
    data = made(tmp_path / "data", {})
    for name, content in PICTURES.items():
        data.add(name, "0 0.9 0.9 0.1 0.1\n1 0.1 0.2 0.1 0.1\n", content)
    whole, strips = both(data, tmp_path, by_strips, background=background, overlap=0, tile=64)
    assert whole == strips


def pixels_of(out):
    found = {}
    for path in sorted((out / "images").rglob("*.*")):
        with Image.open(path) as image:
            found[path.name] = image.mode, image.tobytes()
    return found


FORMATS = ["jpg", "png", "tif", "webp"]


def held(format):
    """The images that a format can hold."""
    deep = ("float", *(() if format in ("png", "tif") else ("deep", "16", "endian")))
    return {name: data for name, data in PICTURES.items() if not any(word in name for word in deep)}


@needs_big
@pytest.mark.parametrize(
    "format",
    FORMATS,
)
def test_another_format_gives_the_same_tree(tmp_path, by_strips, format):
    whole, strips = both(
        made(tmp_path / "data", held(format)), tmp_path, by_strips, format=format, edge="pad"
    )
    assert whole == strips


@needs_big
def test_png_of_all_has_the_same_pixels(tmp_path, by_strips):
    both(made(tmp_path / "data", held("png")), tmp_path, by_strips, format="png", edge="pad")
    assert pixels_of(tmp_path / "whole") == pixels_of(tmp_path / "strips")


@needs_big
@pytest.mark.skipif(lossless.missing() is not None, reason=lossless.missing() or "")
@pytest.mark.parametrize(
    "options",
    [{"edge": "trim", "overlap": 16, "tile": 112}, {"edge": "shift", "truncated": "mask"}],
)
def test_kept_coefficients_give_the_same_tree(tmp_path, by_strips, options):
    chosen = {name: data for name, data in PICTURES.items() if name.endswith("jpg")}
    data = made(tmp_path / "data", chosen)
    split(data, tmp_path / "whole", jpeg="keep", **options)
    by_strips()
    report = split(data, tmp_path / "strips", jpeg="keep", **options)
    assert report.total.counts.copied > 0
    assert tree(tmp_path / "whole") == tree(tmp_path / "strips")


@needs_big
@pytest.mark.parametrize("how", ["minmax", "percentile"])
def test_stretching_gives_the_same_tree(tmp_path, by_strips, how):
    chosen = {
        name: data
        for name, data in PICTURES.items()
        if name in ("deep.png", "deep.tif", "float.tif", "tiled16.tif", "L.png")
    }
    whole, strips = both(made(tmp_path / "data", chosen), tmp_path, by_strips, stretch=how)
    assert whole == strips


@needs_big
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_change_no_byte(tmp_path, by_strips, workers):
    data = made(tmp_path / "data", PICTURES)
    by_strips()
    options = {"edge": "pad", "scale": "1,0.5", "truncated": "mask"}
    split(data, tmp_path / "one", **options)
    split(data, tmp_path / "many", workers=workers, backend="threading", **options)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


@needs_big
def test_one_picture_and_many_hands_change_no_byte(tmp_path, by_strips):
    data = made(tmp_path / "data", {"a.png": encoded(noise("RGB", (700, 900)), "PNG")})
    by_strips()
    split(data, tmp_path / "one", tile=64, truncated="mask")
    for workers in (2, 4):
        split(
            data,
            tmp_path / "many",
            tile=64,
            truncated="mask",
            workers=workers,
            backend="threading",
            overwrite=True,
        )
        assert tree(tmp_path / "one") == tree(tmp_path / "many")


# --- damaged


@needs_big
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["turned1.jpg", "RGB.png", "RGB.tif", "deep.png", "L.tif"])
def test_a_picture_that_is_cut_off_leaves_no_tile(tmp_path, by_strips, name, workers):
    sound = {other: PICTURES[other] for other in ("LA.png", "grey.jpg", "deep.tif")}
    split(made(tmp_path / "sound", sound), tmp_path / "want")
    data = made(
        tmp_path / "data", sound | {f"b_{name}": PICTURES[name][: len(PICTURES[name]) * 95 // 100]}
    )
    by_strips()
    report = split(data, tmp_path / "out", tile=128, workers=workers)
    assert [(f.path, f.code) for f in report.findings if f.level == "error"] == [
        (f"images/train/b_{name}", "I03")
    ]
    assert report.splits["train"].counts.refused == report.exit_code() == 1
    for kind in ("images", "labels"):
        assert tree(tmp_path / "out" / kind) == tree(tmp_path / "want" / kind)
    entries = {entry.source: entry for entry in manifest.read_sources(tmp_path / "out/tiles.jsonl")}
    assert entries[f"images/train/b_{name}"].tiles == []


@needs_big
def test_some_tiles_of_it_were_written_before_the_damage_was_seen(tmp_path, by_strips, monkeypatch):
    """So that the tests above show something."""
    data = made(tmp_path / "data", {"b.png": PICTURES["RGB.png"][:-2000]})
    by_strips()
    removed = []
    real = SourceTilesWriter.remove

    def remove(self):
        removed.extend((tmp_path / ".out.partial").rglob("b__*.png"))
        real(self)

    monkeypatch.setattr(SourceTilesWriter, "remove", remove)
    split(data, tmp_path / "out")
    assert len(removed) >= 4


# --- larger than what is decoded whole

SIDE = 14_000  # 196 Mpx
PATTERN = np.random.default_rng(0).integers(96, 160, (1000, 1000), dtype=np.uint8)


def huge(path):
    """PATTERN again and again."""
    import pyvips

    image = pyvips.Image.new_from_array(PATTERN).replicate(SIDE // 1000, SIDE // 1000)
    options = {
        "jpg": {"Q": 80},
        "png": {"compression": 1, "filter": "none"},
        "tif": {"tile": True, "compression": "none"},
    }
    image.write_to_file(str(path), **options[path.suffix[1:]])


@needs_big
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_picture_beyond_the_limit_is_cut_with_the_extra_and_refused_without(
    dataset, tmp_path, monkeypatch, suffix
):
    path = dataset.root / f"images/train/a.{suffix}"
    huge(path)
    dataset.add("v.png", "", picture(64, 64), "val")
    rows = "0 0.001 0.001 0.001 0.001\n1 0.5 0.5 0.001 0.001\n2 0.999 0.999 0.001 0.001\n"
    (dataset.root / "labels/train/a.txt").write_text(rows)
    report = split(dataset, tmp_path / "out", tile=640, background="none")
    assert (report.findings, report.total.counts.tiles, report.total.objects.whole) == ([], 3, 3)
    (source, _) = manifest.read_sources(tmp_path / "out/tiles.jsonl")
    assert (source.width, source.height) == (SIDE, SIDE)
    assert len(rows_of(tmp_path / "out")) == 3
    for tile in source.tiles:
        with Image.open(tmp_path / f"out/images/train/{tile.name}.{suffix}") as image:
            found = np.asarray(image).astype(int)
        there = PATTERN[
            np.ix_(np.arange(tile.y, tile.y + 640) % 1000, np.arange(tile.x, tile.x + 640) % 1000)
        ]
        assert found.shape == (640, 640)
        assert np.abs(found - there).mean() < (8 if suffix == "jpg" else 1e-9)
    monkeypatch.setattr(vips, "missing", lambda: True)
    monkeypatch.setattr(gdal, "missing", lambda: True)
    refused = split(dataset, tmp_path / "refused", background="none")
    assert [(f.path, f.code) for f in refused.findings] == [(f"images/train/a.{suffix}", "I04")]
    assert "14000 x 14000 = 196000000 px" in refused.findings[0].message
    assert refused.findings[0].message.endswith("pip install 'tilestitch[big]' reads it")
    assert (refused.exit_code(), refused.total.counts.tiles) == (1, 0)
