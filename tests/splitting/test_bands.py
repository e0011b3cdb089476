"""Images of more bands or bits than Pillow has a mode for: their tiles hold every bit (the extra
`big`).
"""

import os
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

import tiler
from tests.conftest import Dataset, needs_big, picture, rows_of, tree
from tests.images import encoded, tiff
from tests.splitting.test_split import split
from tiler.formats import manifest
from tiler.images import gdal, vips

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")  # rasterio's

ROWS = "0 0.5 0.5 0.4 0.4\n2 0.2 0.2 0.1 0.1\n"


@pytest.fixture
def without(monkeypatch):
    """The extra is not there, or as good as."""
    monkeypatch.setattr(vips, "missing", lambda: True)
    monkeypatch.setattr(gdal, "missing", lambda: True)


def noise(bands, dtype=np.uint8, seed=0, shape=(210, 300)):
    """(height, width, bands) of every value."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, (*shape, bands), dtype, endpoint=True)


def save(path, pixels, how="contig", **options):
    """A TIFF, by tifffile or rasterio."""
    if how == "rasterio":
        import rasterio

        height, width, bands = pixels.shape
        shape = {
            "height": height,
            "width": width,
            "count": bands,
            "dtype": pixels.dtype,
            "driver": "GTiff",
        }
        tiled = {
            "tiled": True,
            "blockxsize": 64,
            "blockysize": 64,
            "compress": "deflate",
            "photometric": "minisblack",
        }
        with rasterio.open(path, "w", **shape, **tiled, **options) as file:
            file.write(pixels.transpose(2, 0, 1))
        return
    from tifffile import imwrite

    planes = pixels if how == "contig" else pixels.transpose(2, 0, 1)
    imwrite(
        path, planes, planarconfig=how, **{"photometric": "minisblack", "metadata": None, **options}
    )


def pages(path):
    """(bands, height, width) of the pages of a TIFF, one band each, as the trainer reads them."""
    found = []
    with Image.open(path) as image:
        for page in range(image.n_frames):
            image.seek(page)
            assert len(image.getbands()) == 1
            found.append(np.array(image))
    return np.stack(found)


def tiles(out):
    """(path of the source, tile, path of its image)"""
    for source in manifest.read_sources(out / "tiles.jsonl"):
        for tile in source.tiles:
            (path,) = (out / "images" / source.split).glob(tile.name + ".*")
            yield source.source, tile, path


def window(pixels, tile):
    return pixels[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]


def yaml_of(out):
    return yaml.safe_load((out / "dataset.yaml").read_text())


@pytest.fixture
def paths(dataset):
    """Where the images of both splits go; labels stand there already."""
    for where in ("train", "val"):
        (dataset.root / f"labels/{where}/a.txt").write_text(ROWS)
    return [dataset.root / f"images/{where}/a.tif" for where in ("train", "val")]


# --- tiles are bit-exact


@needs_big
@pytest.mark.parametrize("how", ["contig", "separate", "rasterio"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("bands", [2, 4, 5])
def test_each_band_is_a_page_of_the_tile(dataset, paths, tmp_path, bands, dtype, how):
    whole = {}
    for seed, path in enumerate(paths):
        whole[path.parent.name] = noise(bands, np.uint16, seed).astype(dtype)
        save(path, whole[path.parent.name], how)
    report = split(dataset, tmp_path / "out")
    assert ({f.code for f in report.findings}, report.exit_code()) == (
        {"I13"} if dtype != np.uint8 else set(),
        0,
    )
    count = 0
    for source, tile, path in tiles(tmp_path / "out"):
        assert path.suffix == ".tif"
        found = pages(path) if dtype != np.int16 else _by_tifffile(path)
        there = window(whole[source.split("/")[1]], tile).transpose(2, 0, 1)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, there)
        count += 1
    assert (count, report.bands) == (12, {str(bands): 2})
    assert yaml_of(tmp_path / "out")["channels"] == bands


def _by_tifffile(path):
    from tifffile import TiffFile

    with TiffFile(path) as file:
        return np.stack([page.asarray() for page in file.pages])


@needs_big
def test_labels_are_those_of_any_picture(dataset, paths, tmp_path):
    for path in paths:
        save(path, noise(5))
    split(dataset, tmp_path / "out")
    plain = Dataset(tmp_path / "plain")
    for where in ("train", "val"):
        plain.add("a.tif", ROWS, picture(300, 210), where)
    split(plain, tmp_path / "same")
    assert tree(tmp_path / "out/labels") == tree(tmp_path / "same/labels")
    assert any(rows_of(tmp_path / "out").values())


@needs_big
@pytest.mark.parametrize("how", ["tif", "png"])
@pytest.mark.parametrize("wanted", ["same", "png", "tif"])
def test_colours_of_16_bits_stay_so(dataset, tmp_path, how, wanted):
    pixels = noise(3, np.uint16)
    dataset.add(f"a.{how}", ROWS, tiff(pixels) if how == "tif" else _png(pixels))
    dataset.add("v.png", "", picture(64, 64), "val")
    report = split(dataset, tmp_path / "out", format=wanted)
    assert [f.code for f in report.findings] == ["I13"]
    assert "channels" not in yaml_of(tmp_path / "out")
    count = 0
    for source, tile, path in tiles(tmp_path / "out"):
        if "train" in source:
            assert path.suffix == f".{how if wanted == 'same' else wanted}"
            np.testing.assert_array_equal(_pixels(path), window(pixels, tile))
            count += 1
    assert count == 6


def _png(pixels):
    import pyvips

    return bytes(pyvips.Image.new_from_array(pixels, interpretation="rgb16").pngsave_buffer())


def _pixels(path):
    """By another library than wrote it."""
    import rasterio

    with rasterio.Env(), rasterio.open(path) as file:
        return file.read().transpose(1, 2, 0)


@needs_big
@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_of_16_bits_stays_so(dataset, tmp_path, bands):
    import pyvips

    pixels = noise(bands, np.uint16)
    image = pyvips.Image.new_from_array(pixels, interpretation={2: "grey16", 4: "rgb16"}[bands])
    dataset.add("a.png", ROWS, bytes(image.pngsave_buffer()))
    dataset.add("v.png", "", picture(64, 64), "val")
    report = split(dataset, tmp_path / "out")
    assert ([f.code for f in report.findings], report.bands) == (["I13"], {"3": 2})
    for source, tile, path in tiles(tmp_path / "out"):
        if "train" in source:
            np.testing.assert_array_equal(_pixels(path), window(pixels, tile))


@needs_big
def test_the_number_of_bands_is_that_of_the_pages(dataset, tmp_path):
    for where in ("train", "val"):
        dataset.add("a.tif", ROWS, tiff(noise(2, np.uint16), tags={338: (3, [2])}), where)
    report = split(dataset, tmp_path / "out")
    assert {len(pages(path)) for _, _, path in tiles(tmp_path / "out")} == {2}
    assert report.bands == {"2": 2}


@needs_big
def test_colour_jpeg_holds_no_such_picture(dataset, paths, tmp_path):
    for path in paths:
        save(path, noise(5))
    report = split(dataset, tmp_path / "out", format="jpg")
    assert [(f.path, f.code) for f in report.findings] == [
        ("images/train/a.tif", "I06"),
        ("images/val/a.tif", "I06"),
    ]
    assert report.total.counts.tiles == 0


@needs_big
def test_masked_padded_and_scaled_tiles_have_all_bands(dataset, paths, tmp_path):
    for path in paths:
        save(path, noise(5))
    split(
        dataset,
        tmp_path / "out",
        edge="pad",
        scale="1,0.5",
        truncated="mask",
        min_visible=0.9,
        rescue=False,
    )
    for _, tile, path in tiles(tmp_path / "out"):
        found = pages(path)
        assert found.shape == (5, 128, 128)
        if tile.scale == 1:
            down, across = max(0, 210 - tile.y), max(0, 300 - tile.x)
            assert (found[:, down:] == 114).all()
            assert (found[:, :, across:] == 114).all()


# --- what the dataset says


@needs_big
def test_a_mixture_is_told_of_and_has_no_number_of_channels(dataset, paths, tmp_path):
    save(paths[0], noise(5))
    dataset.add("b.png", "", picture())
    dataset.add("v.png", "", picture(), "val")
    report = split(dataset, tmp_path / "out")
    assert [f.code for f in report.findings] == ["P02", "I14"]
    assert report.bands == {"5": 1, "3": 2}
    assert "channels" not in yaml_of(tmp_path / "out")
    assert report.exit_code() == 0
    assert split(dataset, tmp_path / "out").unchanged


@needs_big
def test_two_numbers_of_bands_are_a_mixture_too(dataset, paths, tmp_path):
    for path, bands in zip(paths, (5, 7), strict=True):
        save(path, noise(bands))
    report = split(dataset, tmp_path / "out")
    assert [f.code for f in report.findings] == ["I14"]
    assert "channels" not in yaml_of(tmp_path / "out")


@needs_big
@pytest.mark.parametrize(("workers", "backend"), [(2, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(dataset, paths, tmp_path, workers, backend):
    for path in paths:
        save(path, noise(5, np.uint16))
    dataset.add("b.png", "", picture())
    split(dataset, tmp_path / "one", truncated="mask")
    split(dataset, tmp_path / "many", truncated="mask", workers=workers, backend=backend)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


# --- bands on pages


def paged(path, pixels):
    """A TIFF of one grey page for each band, as the trainer reads it, by Pillow."""
    first, *rest = [
        Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(pixels.shape[2])
    ]
    path.write_bytes(encoded(first, "TIFF", save_all=True, append_images=rest))


@pytest.fixture
def five(tmp_path):
    """A dataset that says `channels: 5`, of pages."""
    data = Dataset(tmp_path / "data", channels=5)
    whole = {}
    for seed, where in enumerate(("train", "val")):
        whole[where] = noise(5, seed=seed, shape=(256, 256))
        (data.root / f"labels/{where}/a.txt").write_text(ROWS)
        paged(data.root / f"images/{where}/a.tif", whole[where])
    return data, whole


@needs_big
def test_pages_are_read_as_bands_where_the_dataset_says_so(five, tmp_path):
    data, whole = five
    report = split(data, tmp_path / "out")
    assert (report.findings, report.exit_code(), report.bands) == ([], 0, {"5": 2})
    assert yaml_of(tmp_path / "out")["channels"] == 5
    for source, tile, path in tiles(tmp_path / "out"):
        np.testing.assert_array_equal(
            pages(path), window(whole[source.split("/")[1]], tile).transpose(2, 0, 1)
        )


@needs_big
def test_an_output_is_such_a_dataset_again(five, tmp_path):
    data, _ = five
    split(data, tmp_path / "big", overlap=0)
    again = tiler.split(tmp_path / "big", out=tmp_path / "small", tile=64, overlap=0, workers=1)
    split(data, tmp_path / "at-once", tile=64, overlap=0)
    assert (again.findings, yaml_of(tmp_path / "small")) == ([], yaml_of(tmp_path / "at-once"))
    at_once = {
        (source.split("/")[1], tile.x, tile.y): path
        for source, tile, path in tiles(tmp_path / "at-once")
    }
    assert len(at_once) == 32
    for source, tile, path in tiles(tmp_path / "small"):
        x, y, _, _ = map(int, source.split("__")[1].split(".")[0].split("_"))
        other = at_once.pop((source.split("/")[1], x + tile.x, y + tile.y))
        np.testing.assert_array_equal(pages(path), pages(other))
    assert not at_once
    assert [f for f in tiler.check(tmp_path / "small").findings if f.level == "error"] == []


@needs_big
def test_the_output_of_any_bands_is_sound_and_can_be_cut_again(dataset, paths, tmp_path):
    whole = noise(4, np.uint16)
    for path in paths:
        save(path, whole, "separate")
    split(dataset, tmp_path / "out")
    assert [f for f in tiler.check(tmp_path / "out").findings if f.level == "error"] == []
    again = tiler.split(tmp_path / "out", out=tmp_path / "again", tile=64, overlap=0, workers=1)
    assert ({f.code for f in again.findings}, again.bands) == ({"I13"}, {"4": 12})
    for source, tile, path in tiles(tmp_path / "again"):
        x, y, _, _ = map(int, source.split("__")[1].split(".")[0].split("_"))
        there = whole[y + tile.y : y + tile.y + tile.h, x + tile.x : x + tile.x + tile.w]
        np.testing.assert_array_equal(pages(path), there.transpose(2, 0, 1))


@needs_big
def test_a_picture_with_other_pages_than_the_dataset_says_is_told_of(five, tmp_path):
    data, whole = five
    paged(data.root / "images/train/a.tif", whole["train"][..., :4])
    report = split(data, tmp_path / "out")
    assert {f.code for f in report.findings} >= {"I14"}
    assert yaml_of(tmp_path / "out")["channels"] == 5


@needs_big
def test_damaged_pages_are_named_and_cost_no_other(five, tmp_path):
    data, _ = five
    path = data.root / "images/train/a.tif"
    path.write_bytes(path.read_bytes()[:150_000])
    report = split(data, tmp_path / "out")
    assert [(f.path, f.code) for f in report.findings] == [("images/train/a.tif", "I03")]
    assert not os.listdir(tmp_path / "out/images/train")
    assert len(os.listdir(tmp_path / "out/images/val")) == 9


# --- without the extra


def test_without_the_extra_each_is_refused_and_the_rest_goes_on(dataset, tmp_path, without):
    dataset.add("a.tif", "", tiff(noise(5)))
    dataset.add("b.tif", "", tiff(noise(3, np.uint16)))
    dataset.add("c.tif", "", tiff(noise(2)))
    dataset.add("d.tif", "", tiff(noise(4)))  # a fourth band that is not said to be alpha
    dataset.add("e.png", ROWS, picture())
    dataset.add("v.png", "", picture(), "val")
    report = split(dataset, tmp_path / "out")
    assert [(f.path, f.code) for f in report.findings] == [
        (f"images/train/{stem}.tif", "I06") for stem in "abcd"
    ]
    for finding in report.findings:
        assert finding.message.endswith("pip install 'tilestitch[big]' reads it")
    counts = report.splits["train"].counts
    assert (counts.sources, counts.refused, counts.tiles, report.exit_code()) == (5, 4, 12, 1)


def test_without_the_extra_pages_are_refused_by_name(five, tmp_path, without, monkeypatch):
    """They are read, but nothing writes them."""
    monkeypatch.setitem(sys.modules, "tifffile", None)
    data, _ = five
    report = split(data, tmp_path / "out")
    assert [(f.path, f.code) for f in report.findings] == [
        ("images/train/a.tif", "I06"),
        ("images/val/a.tif", "I06"),
    ]
    assert all("pip install 'tilestitch[big]'" in f.message for f in report.findings)
