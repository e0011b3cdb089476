"""No-data: out of the limits of --stretch, 0 afterwards, and tiles without data are not written."""

import json

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.cli.test_cli import run
from tests.conftest import Dataset, needs_big, picture, tree
from tests.images import encoded, oriented, tiff
from tests.splitting.test_placed import NORTH_UP, tags
from tests.splitting.test_split import split
from tests.splitting.test_stretch import ends, mapped
from tiler.formats import manifest
from tiler.images import geo, lossless, reading
from tiler.images.header import probe

TAG = 42113
WAYS = ["minmax", "percentile"]
LABEL = "0 0.9 0.1 0.05 0.05\n"


def field(dtype, empty, seed=0, size=(300, 256)):
    """Values of 500 to 1500, the left third without data."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(500, 1501, (height, width)).astype(dtype)
    pixels[:, : width // 3] = empty
    return pixels


def tagged(pixels, text):
    return tiff(
        pixels, tags={TAG: (2, [*text.encode(), 0]), 339: (3, [FORMATS[pixels.dtype.kind]])}
    )


FORMATS = {"u": 1, "i": 2, "f": 3}


def filled(data, images, suffix=".tif"):
    *train, last = images
    for i, image in enumerate(train):
        data.add(f"a{i}{suffix}", LABEL, image)
    data.add(f"v{suffix}", LABEL, last, "val")
    return data


def tiles(out, suffix):
    """(source's number, tile, its path)"""
    for number, source in enumerate(manifest.read_sources(out / "tiles.jsonl")):
        for tile in source.tiles:
            yield number, tile, out / "images" / source.split / (tile.name + suffix)


def shown(pixels, tile):
    return pixels[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(params=["whole", "by rows"])
def by_rows(request, monkeypatch):
    if request.param == "by rows":
        request.getfixturevalue("big")
        monkeypatch.setattr(reading, "LARGE", 0)


# --- --stretch


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("dtype", "text", "empty"),
    [("f4", "-9999", -9999), ("u2", "65535", 65535), ("u2", "0", 0), ("f4", "nan", np.nan)],
)
@pytest.mark.parametrize("said", ["by the tag", "by the option", "over a wrong tag"])
def test_limits_are_those_of_the_data(dataset, tmp_path, by_rows, how, dtype, text, empty, said):
    images = [field(dtype, empty, seed) for seed in range(2)]
    tag = {"by the tag": text, "by the option": None, "over a wrong tag": "700"}[said]
    data = [tiff(image) if tag is None else tagged(image, tag) for image in images]
    options = {} if said == "by the tag" else {"nodata": text}
    report = split(filled(dataset, data), tmp_path / "out", stretch=how, **options)
    everywhere = np.stack(images)
    has_data = ~(np.isnan(everywhere) | (everywhere == empty))
    limits = ends(how, everywhere[has_data])
    (found,) = report.stretch.values()
    np.testing.assert_allclose(found, [limits], rtol=0 if dtype == "u2" else 1 / 128)
    for number, tile, path in tiles(tmp_path / "out", ".tif"):
        want = mapped(shown(images[number], tile), *found[0])
        want[~shown(has_data[number], tile)] = 0
        np.testing.assert_array_equal(pixels_of(path), want)
        with open(path, "rb") as file:
            assert probe(file).nodata == ""  # 0 is a value of data as well
    assert report.findings == []


def test_none_ignores_the_tag(dataset, tmp_path):
    data = filled(dataset, [tagged(field("u2", 65535, seed), "65535") for seed in range(2)])
    report = split(data, tmp_path / "out", stretch="minmax", nodata="none")
    assert report.stretch == {"I;16 u2x1": [(500, 65535)]}
    assert report.total.counts.without_data == 0


@needs_big
@pytest.mark.parametrize("how", WAYS)
def test_transparent_pixels_do_not_count(dataset, tmp_path, how):
    """Of many bands, and of 16 bits with alpha."""
    pixels = np.stack([field("u2", 60_000, seed) for seed in range(4)], axis=-1)
    pixels[..., 3] = np.where(pixels[..., 3] == 60_000, 0, 40_000)
    data = tiff(pixels, tags={338: (3, [2])})
    report = split(filled(dataset, [data, data]), tmp_path / "out", stretch=how, format="png")
    limits = ends(how, pixels[:, 100:, :3])
    assert report.stretch == {"RGBA;16 u2x4": [limits] * 3 + [(0, 65535)]}
    for _, tile, path in tiles(tmp_path / "out", ".png"):
        here = shown(pixels, tile)
        want = mapped(here[..., :3], *limits)
        want[here[..., 3] == 0] = 0
        np.testing.assert_array_equal(pixels_of(path)[..., :3], want)


@needs_big
def test_of_many_bands_all_must_be_without(dataset, tmp_path):
    pixels = np.stack([field("i2", -9999, seed) for seed in range(5)], axis=-1)
    pixels[:40, 120:, 2] = -200  # data, and so is what one band alone has as
    pixels[40:50, 120:, 3] = -9999
    data = tagged(pixels, "-9999")
    report = split(filled(dataset, [data, data]), tmp_path / "out", stretch="minmax")
    found = [low for low, _ in report.stretch["bands i2x5"]]
    assert found == [500, 500, -200, -9999, 500]


# --- --min-data


def shares(has_data, tile):
    height, width = has_data.shape
    inside = has_data[tile.y : min(tile.y + tile.h, height), tile.x : min(tile.x + tile.w, width)]
    return inside.sum() / (tile.w * tile.h)


def holes(size=(410, 330), seed=0):
    """RGBA of which most is transparent."""
    width, height = size
    alpha = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        x, y = rng.integers(0, width), rng.integers(0, height)
        alpha[y : y + 50, x : x + 90] = rng.integers(1, 256)
    pixels = np.array(picture(*size, seed, "RGBA"))
    pixels[..., 3] = alpha
    return pixels


def written(out):
    return {tile.name: tile for _, tile, _ in tiles(out, ".png")}


@pytest.mark.parametrize("min_data", [0, 0.1, 0.5, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"edge": "pad"},
        {"scale": "1,0.5"},
        {"edge": "balance", "overlap": 0.5},
        {"edge": "trim"},
    ],
    ids=str,
)
def test_tiles_without_data_are_not_written(dataset, tmp_path, by_rows, min_data, options):
    images = [holes(seed=seed) for seed in range(2)]
    data = [encoded(Image.fromarray(image), "PNG") for image in images]
    filled(dataset, data, ".png")
    every = split(dataset, tmp_path / "all", min_data=0, **options)
    report = split(dataset, tmp_path / "out", min_data=min_data, **options)
    want = set()
    for number, tile, _ in tiles(tmp_path / "all", ".png"):
        if tile.rows or shares(images[number][..., 3] > 0, tile) >= min_data - 1e-12:
            want.add(tile.name)
    assert set(written(tmp_path / "out")) == want
    counts, total = report.total.counts, every.total.counts.tiles
    assert counts.tiles == len(want)
    assert (counts.without_data, counts.left_out) == (total - len(want),) * 2
    assert report.total.objects == every.total.objects
    kept, plain = tree(tmp_path / "out"), tree(tmp_path / "all")
    for name in kept:
        if name.startswith(("images", "labels")):
            assert kept[name] == plain[name]
    dry = split(dataset, tmp_path / "dry", min_data=min_data, dry_run=True, **options)
    for name in ("tiles", "background", "left_out", "without_data", "clean"):
        assert getattr(dry.total.counts, name) == getattr(counts, name)
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_measured_as_they_are_shown(dataset, tmp_path, by_rows, orientation):
    for where in ("train", "val"):
        dataset.add("a.png", "", Image.fromarray(holes()), where, exif=oriented(orientation))
    split(dataset, tmp_path / "all", min_data=0, workers=2)
    split(dataset, tmp_path / "out", workers=2)
    names = written(tmp_path / "out")
    for _, tile, path in tiles(tmp_path / "all", ".png"):
        assert (tile.name in names) == ((pixels_of(path)[..., 3] > 0).mean() >= 0.1)
    assert 0 < len(names) < len(written(tmp_path / "all"))


@pytest.mark.parametrize("ratio", [0.5, 1, 3, 100])
def test_a_ratio_draws_tiles_with_data_only(dataset, tmp_path, ratio):
    images = [holes(seed=seed) for seed in range(4)]
    filled(dataset, [encoded(Image.fromarray(image), "PNG") for image in images], ".png")
    report = split(dataset, tmp_path / "out", background=ratio)
    every = split(dataset, tmp_path / "every")
    for name, part in report.splits.items():
        counts = part.counts
        labelled = counts.tiles - counts.background
        there = every.splits[name].counts
        assert counts.background == min(round(ratio * labelled), there.background, counts.clean)
        assert (counts.clean, counts.without_data) == (there.clean, there.without_data)
    assert set(written(tmp_path / "out")) <= set(written(tmp_path / "every"))
    dry = split(dataset, tmp_path / "dry", background=ratio, dry_run=True)
    assert dry.total.counts.tiles == report.total.counts.tiles


def test_a_tile_with_a_label_is_always_written(dataset, tmp_path):
    pixels = np.zeros((128, 256, 4), np.uint8)
    for where in ("train", "val"):
        dataset.add("a.png", "1 0.1 0.5 0.1 0.1\n", Image.fromarray(pixels), where)
    report = split(dataset, tmp_path / "out", overlap=0, min_data=1)
    assert {(tile.x, tile.y) for tile in written(tmp_path / "out").values()} == {(0, 0)}
    assert (report.total.counts.tiles, report.total.counts.without_data) == (2, 2)
    assert report.total.objects.whole == 2


def test_nan_is_no_data_whether_declared_or_not(dataset, tmp_path):
    pixels = field("f4", np.nan, size=(384, 128))
    report = split(filled(dataset, [tiff(pixels)] * 2), tmp_path / "out", overlap=0)
    assert (report.total.counts.tiles, report.total.counts.without_data) == (4, 2)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_black_border_is_no_data_if_that_is_said(dataset, tmp_path, format):
    pixels = np.array(picture(384, 128)) | 1
    pixels[:, :150] = 0  # a JPEG blurs its end
    suffix = {"JPEG": ".jpg", "TIFF": ".tif"}.get(format, f".{format.lower()}")
    filled(dataset, [encoded(Image.fromarray(pixels), format)] * 2, suffix)
    report = split(dataset, tmp_path / "out", overlap=0)
    assert (report.total.counts.without_data, report.total.counts.flat) == (0, 2)
    report = split(dataset, tmp_path / "said", overlap=0, nodata=0)
    counts = report.total.counts
    assert (counts.without_data, counts.tiles, counts.flat) == (2, 4, 0)


@pytest.mark.skipif(lossless.missing() is not None, reason=lossless.missing() or "")
def test_coefficients_are_copied_of_what_is_left(dataset, tmp_path):
    pixels = np.array(picture(384, 128)) | 1
    pixels[:, :128] = 0
    filled(dataset, [encoded(Image.fromarray(pixels), "JPEG", subsampling=0)] * 2, ".jpg")
    report = split(dataset, tmp_path / "out", overlap=0, nodata=0, jpeg="keep")
    counts = report.total.counts
    assert (counts.copied, counts.tiles, counts.without_data) == (4, 4, 2)


def test_ordinary_photos_are_decoded_once(filled, tmp_path, monkeypatch):
    """And only if they are written."""
    count, real = 0, reading.decode

    def decode(*arguments):
        nonlocal count
        count += 1
        return real(*arguments)

    monkeypatch.setenv("TILER_PILLOW_ONLY", "1")
    monkeypatch.setattr(reading.codecs, "library", lambda: None)
    monkeypatch.setattr(reading, "decode", decode)
    split(filled, tmp_path / "dry", dry_run=True, background=0.5)
    assert count == 0
    split(filled, tmp_path / "out", background=0.5)
    assert count == 4


def test_the_options_change_nothing_of_ordinary_photos(filled, tmp_path):
    filled.add("f.png", "", picture(mode="L"))
    split(filled, tmp_path / "off", min_data=0, nodata="none")
    split(filled, tmp_path / "on", min_data=1)
    one, other = tree(tmp_path / "off"), tree(tmp_path / "on")
    assert one.keys() == other.keys()
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"args.yaml", "tiles.jsonl"}  # which have the options


# --- the tag of tiles


def nodata_of(path):
    with open(path, "rb") as file:
        return probe(file).nodata


@pytest.mark.parametrize("text", ["-9999", "-9999.0", "nan", "-3.4028234663852886e+38"])
def test_tiles_that_keep_the_values_keep_the_tag(dataset, tmp_path, by_rows, text):
    pixels = field("f4", np.float32(float(text)))
    split(filled(dataset, [tagged(pixels, text)] * 2), tmp_path / "out")
    for _, tile, path in tiles(tmp_path / "out", ".tif"):
        assert nodata_of(path) == text
        np.testing.assert_array_equal(pixels_of(path), shown(pixels, tile))


@needs_big
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_gdal_reads_it(dataset, tmp_path, dtype, bands):
    import rasterio

    pixels = np.stack([field("f8", 7, seed) // 10 for seed in range(bands)], -1).astype(dtype)
    split(filled(dataset, [tagged(pixels, "0")] * 2), tmp_path / "out")
    with rasterio.open(next((tmp_path / "out/images/train").iterdir())) as tile:
        assert set(tile.nodatavals) == {0}


def test_it_stands_beside_the_tags_of_the_place(dataset, tmp_path):
    image = Image.fromarray(field("f4", -9999))
    for where in ("train", "val"):
        info = tags(NORTH_UP)
        info[TAG] = "-9999"
        dataset.add("a.tif", LABEL, image, where, tiffinfo=info)
    split(dataset, tmp_path / "out")
    for _, _, path in tiles(tmp_path / "out", ".tif"):
        with open(path, "rb") as file:
            header = probe(file)
            assert header.nodata == "-9999"
            assert geo.located(file, header, path).geo.crs == "EPSG:32632"


@needs_big
def test_bands_on_pages_are_measured_too(dataset, tmp_path):
    """Tiles of many bands, cut again."""
    pixels = np.stack([field("u2", 65535, seed) for seed in range(5)], axis=-1)
    filled(dataset, [tagged(pixels, "65535")] * 2)
    first = split(dataset, tmp_path / "out", tile=256, edge="trim", overlap=0)
    assert (first.channels, first.total.counts.tiles) == (5, 4)
    again = tiler.split(tmp_path / "out", out=tmp_path / "again", tile=64, overlap=0, workers=1)
    assert again.bands == {"5": 4}
    assert again.total.counts.without_data > 0
    for _, _, path in tiles(tmp_path / "again", ".tif"):
        assert nodata_of(path) == "65535"


def test_a_chosen_value_is_that_of_tiles(dataset, tmp_path):
    data = [tagged(field("f4", -9999), "-1"), encoded(picture(300, 256), "PNG")]
    split(filled(dataset, data), tmp_path / "out", nodata=-9999, format="tif")
    assert {nodata_of(path) for _, _, path in tiles(tmp_path / "out", ".tif")} == {"-9999"}
    split(dataset, tmp_path / "none", nodata="none", format="tif")
    assert not any(nodata_of(path) for _, _, path in tiles(tmp_path / "none", ".tif"))


def test_beyond_the_image_tiles_have_no_data(dataset, tmp_path, by_rows):
    """As their tag says; painted-out objects too."""
    pixels = field("f4", -9999)
    filled(dataset, [tagged(pixels, "-9999")] * 2)
    split(dataset, tmp_path / "out", tile=200, edge="pad", truncated="mask", min_size=90)
    for _, tile, path in tiles(tmp_path / "out", ".tif"):
        found = pixels_of(path)
        assert ((found == -9999) | ((found >= 500) & (found <= 1500))).all()
        inside = shown(pixels, tile)
        height, width = inside.shape
        assert (found[height:] == -9999).all() and (found[:, width:] == -9999).all()


def test_a_palette_becomes_colours_before_it_is_scaled(dataset, tmp_path):
    image = picture(128, 128).quantize(16)
    for where in ("train", "val"):
        dataset.add("a.png", LABEL, image, where, transparency=3)
    split(dataset, tmp_path / "out", scale=0.5, format="tif", nodata=0)
    for _, _, path in tiles(tmp_path / "out", ".tif"):
        image.info["transparency"] = 3
        want = image.convert("RGBA").resize((64, 64), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(pixels_of(path), np.asarray(want))


def test_scaled_tiles_are_made_of_data(dataset, tmp_path, by_rows):
    pixels = field("f4", -9999)
    filled(dataset, [tagged(pixels, "-9999")] * 2)
    split(dataset, tmp_path / "out", scale="0.5,1.5")
    for _, tile, path in tiles(tmp_path / "out", ".tif"):
        found = pixels_of(path)
        assert ((found == -9999) | ((found > 0) & (found < 2000))).all()
        assert abs((found == -9999).mean() - (shown(pixels, tile) == -9999).mean()) < 0.02


# --- what is said


def test_what_cannot_be_looked_for_is_said(dataset, tmp_path):
    filled(dataset, [tagged(field("u2", 0), "zero"), encoded(picture(), "PNG")])
    report = split(dataset, tmp_path / "out", stretch="minmax")
    assert [(f.code, f.path) for f in report.findings if f.code == "I15"] == [
        ("I15", "images/train/a0.tif")
    ]
    report = split(dataset, tmp_path / "chosen", stretch="minmax", nodata=300)
    assert [(f.code, f.path) for f in report.findings if f.code == "I15"] == [
        ("I15", "images/val/v.tif")
    ]
    assert report.exit_code() == 0


def orthomosaic(data):
    for seed, where in enumerate(("train", "val")):
        pixels = np.array(picture(1000, 800, seed)) | 1
        pixels[:, :600] = 0
        pixels[500:] = 0
        data.add(f"{where}.png", "0 0.8 0.2 0.05 0.05\n", Image.fromarray(pixels), where)
    return ("split", "data/dataset.yaml", "--tile", "200", "--overlap", "0")


def test_from_the_command_line(dataset, tmp_path):
    command = orthomosaic(dataset)
    done = run(*command, "--out", "plain", cwd=tmp_path)
    assert done.returncode == 0
    assert "tiles of a single value: 28" in done.stdout
    assert "--nodata" in done.stdout
    done = run(*command, "--out", "out", "--nodata", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "28 tiles have too little data" in done.stdout
    assert "single value" not in done.stdout
    assert (
        json.loads((tmp_path / "out/report.json").read_text())["splits"]["train"]["counts"][
            "without_data"
        ]
        == 14
    )
    dry = run(*command, "--nodata", "0", "--dry-run", cwd=tmp_path)
    assert "28 tiles have too little data" in dry.stdout
    assert "12 tiles" in dry.stdout
    ratio = run(*command, "--nodata", "0", "--background", "0.5", "--out", "ratio", cwd=tmp_path)
    assert ratio.returncode == 0
    assert run("check", "out", cwd=tmp_path).returncode == 0
    again = run(*command[:1], "data", "--config", "out/args.yaml", "--out", "again", cwd=tmp_path)
    assert again.returncode == 0
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    for path in (tmp_path / "ratio/images").rglob("*.png"):
        assert (pixels_of(path) > 0).any()


@pytest.mark.parametrize("value", ["-9999", "nan", "1e3"])
def test_values_on_the_command_line(dataset, tmp_path, value):
    filled(dataset, [tiff(field("f4", float(value)))] * 2)
    command = ("split", "data", "--tile", "128", "--out", "out", "--nodata", value)
    done = run(*command, "--stretch", "minmax", cwd=tmp_path)
    assert done.returncode == 0
    assert "F f4x1: 500..1500 became 0..255" in done.stdout


def test_a_wrong_value_on_the_command_line(dataset, tmp_path):
    done = run(*orthomosaic(dataset), "--nodata", "black", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tiler: --nodata: expected auto, none, a number or nan, got 'black'\n"


# --- runs


@pytest.mark.parametrize(("workers", "backend"), [(2, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(dataset, tmp_path, workers, backend):
    images = [holes(seed=seed) for seed in range(4)]
    filled(dataset, [encoded(Image.fromarray(image), "PNG") for image in images], ".png")
    dataset.add("f.tif", "", tagged(field("f4", -9999), "-9999"))
    options = {"background": 1, "stretch": "percentile"}
    split(dataset, tmp_path / "one", **options)
    split(dataset, tmp_path / "many", workers=workers, backend=backend, **options)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_a_run_that_broke_off_ends_in_the_same_bytes(dataset, tmp_path):
    images = [holes(seed=seed) for seed in range(4)]
    filled(dataset, [encoded(Image.fromarray(image), "PNG") for image in images], ".png")

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(dataset, tmp_path / "out", background=1, progress=stop)
    split(dataset, tmp_path / "out", background=1)
    split(dataset, tmp_path / "fresh", background=1)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    assert split(dataset, tmp_path / "out", background=1).unchanged
    with pytest.raises(tiler.TilerError, match=r"min_data 0\.1 -> 0\.2"):
        split(dataset, tmp_path / "out", background=1, min_data=0.2)


def test_a_damaged_image_is_rejected_as_ever(dataset, tmp_path):
    filled(
        dataset, [encoded(Image.fromarray(holes(seed=seed)), "PNG") for seed in range(3)], ".png"
    )
    path = dataset.root / "images/train/a0.png"
    path.write_bytes(path.read_bytes()[:-3000])
    for options in ({}, {"dry_run": True}, {"background": 1}):
        out = tmp_path / "out"
        report = split(dataset, out, overwrite=True, **options)
        assert [(f.path, f.code) for f in report.findings] == [("images/train/a0.png", "I03")]


def test_every_way_to_read_gives_the_same(tmp_path, monkeypatch, big):
    data = Dataset(tmp_path / "data")
    images = [tagged(field(kind, 7, size=(410, 330)), "7") for kind in ("u1", "u2", "f4")]
    filled(data, images)
    data.add("t.png", "", Image.fromarray(holes()), exif=oriented(6))
    split(data, tmp_path / "whole", edge="pad", scale="1,0.5")
    monkeypatch.setattr(reading, "LARGE", 0)
    split(data, tmp_path / "rows", edge="pad", scale="1,0.5")
    assert tree(tmp_path / "whole") == tree(tmp_path / "rows")
