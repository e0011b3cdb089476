"""Images that lie in the world give tiles that do: GeoTIFF tags, world files, and the manifest."""

import json

import numpy as np
import pytest
from PIL.TiffImagePlugin import ImageFileDirectory_v2

import tiler
from tests.conftest import Dataset, picture, tree
from tests.merging import predicted
from tests.splitting.test_split import split
from tiler.formats import manifest
from tiler.images import lossless

NORTH_UP = (0.5, 0.0, 366000.0, 0.0, -0.5, 5200000.0)
TURNED = (0.3, 0.4, 366000.0, 0.4, -0.3, 5200000.0)
UTM = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
PRJ = (
    'PROJCS["WGS 84 / UTM zone 32N",GEOGCS["WGS '
    '84",AUTHORITY["EPSG","4326"]],AUTHORITY["EPSG","32632"]]'
)
SIZE = (300, 210)
# On whole pixels: 32..64 x 16..48 px, and 192..224 x 96..176 px
ROWS = "".join(
    f"{c} {(x0 + x1) / 2 / 300:.17g} {(y0 + y1) / 2 / 210:.17g} {(x1 - x0) / 300:.17g} "
    f"{(y1 - y0) / 210:.17g}\n"
    for c, x0, y0, x1, y1 in ((0, 32, 16, 64, 48), (1, 192, 96, 224, 176))
)
BOXES = [(0, 32, 16, 64, 48), (1, 192, 96, 224, 176)]


def tags(transform):
    """The tags of a GeoTIFF."""
    a, b, c, d, e, f = transform
    found = ImageFileDirectory_v2()
    if b == d == 0:
        places = {33550: (a, -e, 0.0), 33922: (0.0, 0.0, 0.0, c, f, 0.0)}
    else:
        places = {34264: (a, b, 0.0, c, d, e, 0.0, f, *[0.0] * 7, 1.0)}
    for tag, value in {**places, 34735: UTM}.items():
        found.tagtype[tag] = 3 if tag == 34735 else 12
        found[tag] = value
    return found


def world(transform):
    a, b, c, d, e, f = transform
    return "".join(f"{value}\n" for value in (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2))


def read_world(path):
    a, d, b, e, c, f = map(float, path.read_text().split())
    return a, b, c - (a + b) / 2, d, e, f - (d + e) / 2


def of_tile(transform, tile):
    a, b, c, d, e, f = transform
    zoom = 1 / tile.scale
    return (
        a * zoom,
        b * zoom,
        c + a * tile.x + b * tile.y,
        d * zoom,
        e * zoom,
        f + d * tile.x + e * tile.y,
    )


@pytest.fixture(params=[NORTH_UP, TURNED], ids=["north up", "turned"])
def transform(request):
    return request.param


@pytest.fixture
def geotiff(dataset, transform):
    for where in ("train", "val"):
        dataset.add("a.tif", ROWS, picture(*SIZE), where, tiffinfo=tags(transform))
    return dataset


def photo(data, transform, name="a.jpg", prj=PRJ):
    for where in ("train", "val"):
        path = data.add(name, ROWS, picture(*SIZE), where)
        path.with_suffix(f".{path.suffix[1]}{path.suffix[-1]}w").write_text(world(transform))
        if prj:
            path.with_suffix(".prj").write_text(prj)
    return data


@pytest.fixture
def placed(dataset, transform):
    return photo(dataset, transform)


def sources(out):
    return list(manifest.read_sources(out / "tiles.jsonl"))


SCALES = {"tile": 100, "overlap": 0, "edge": "pad", "scale": "1,0.5"}


# --- tiles


def test_the_manifest_tells_where_a_geotiff_lies(geotiff, tmp_path, transform):
    report = split(geotiff, tmp_path / "out", **SCALES)
    assert report.findings == []
    for source in sources(tmp_path / "out"):
        assert source.geo.crs == "EPSG:32632"
        np.testing.assert_allclose(source.geo.transform, transform, rtol=1e-15)
    line = json.loads((tmp_path / "out/tiles.jsonl").read_text().splitlines()[1])
    assert line["geo"] == {"transform": list(transform), "crs": "EPSG:32632"}
    assert not list((tmp_path / "out").rglob("*.wld"))


@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_tiles_of_a_geotiff_lie_where_they_are(geotiff, tmp_path, transform, edge):
    rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
    split(geotiff, tmp_path / "out", **(SCALES | {"edge": edge}))
    scales = set()
    for source in sources(tmp_path / "out"):
        for tile in source.tiles:
            with rasterio.open(tmp_path / f"out/images/{source.split}/{tile.name}.tif") as file:
                np.testing.assert_allclose(file.transform[:6], of_tile(transform, tile), rtol=1e-12)
                assert (file.crs.to_epsg(), file.shape) == (32632, (100, 100))
                shown = file.bounds if edge == "shift" and transform == NORTH_UP else None
            if shown:
                east, south = 366000 + (tile.x + tile.w) / 2, 5_200_000 - (tile.y + tile.h) / 2
                assert (shown.right, shown.bottom) == pytest.approx((east, south))
            scales.add(tile.scale)
    assert scales == {1, 0.5}


def test_bands_have_a_place_too(dataset, tmp_path):
    """Written by other libraries than Pillow."""
    rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
    pytest.importorskip("tifffile", reason="the extra `big` is not installed")
    pixels = np.random.default_rng(0).integers(0, 65535, (5, 210, 300), np.uint16)
    for where in ("train", "val"):
        shape = {"width": 300, "height": 210, "count": 5, "dtype": "uint16"}
        place = {"transform": rasterio.Affine(*NORTH_UP), "crs": "EPSG:32632"}
        with rasterio.open(
            dataset.root / f"images/{where}/a.tif",
            "w",
            driver="GTiff",
            photometric="minisblack",
            **shape,
            **place,
        ) as file:
            file.write(pixels)
        (dataset.root / f"labels/{where}/a.txt").write_text(ROWS)
    split(dataset, tmp_path / "out", **SCALES)
    for source in sources(tmp_path / "out"):
        assert (source.geo.transform, source.geo.crs) == (NORTH_UP, "EPSG:32632")
        for tile in source.tiles:
            with rasterio.open(tmp_path / f"out/images/{source.split}/{tile.name}.tif") as file:
                np.testing.assert_allclose(file.transform[:6], of_tile(NORTH_UP, tile), rtol=1e-12)
                assert file.crs.to_epsg() == 32632


@pytest.mark.parametrize("format", ["same", "png", "webp"])
def test_a_picture_with_a_world_file_gives_tiles_with_one(placed, tmp_path, transform, format):
    report = split(placed, tmp_path / "out", format=format, **SCALES)
    assert report.exit_code() == 0
    count = 0
    for source in sources(tmp_path / "out"):
        assert source.geo.crs == "EPSG:32632"
        np.testing.assert_allclose(source.geo.transform, transform, rtol=1e-15)
        for tile in source.tiles:
            found = read_world(tmp_path / f"out/images/{source.split}/{tile.name}.wld")
            np.testing.assert_allclose(found, of_tile(transform, tile), rtol=1e-12)
            count += 1
    assert count == len(list((tmp_path / "out/images").rglob("*.wld"))) == report.total.counts.tiles


def test_a_geotiff_as_another_format_gets_world_files(geotiff, tmp_path, transform):
    split(geotiff, tmp_path / "out", format="jpg", **SCALES)
    for source in sources(tmp_path / "out"):
        for tile in source.tiles:
            found = read_world(tmp_path / f"out/images/{source.split}/{tile.name}.wld")
            np.testing.assert_allclose(found, of_tile(transform, tile), rtol=1e-12)


def test_a_photo_as_tiff_gets_tags(placed, tmp_path, transform):
    rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
    split(placed, tmp_path / "out", format="tif", **SCALES)
    assert not list((tmp_path / "out").rglob("*.wld"))
    for source in sources(tmp_path / "out"):
        for tile in source.tiles:
            with rasterio.open(tmp_path / f"out/images/{source.split}/{tile.name}.tif") as file:
                np.testing.assert_allclose(file.transform[:6], of_tile(transform, tile), rtol=1e-12)
                assert file.crs.to_epsg() == 32632


def test_without_a_reference_system_the_place_has_no_name(dataset, tmp_path):
    photo(dataset, NORTH_UP, prj=None)
    split(dataset, tmp_path / "out")
    assert [(s.geo.transform, s.geo.crs) for s in sources(tmp_path / "out")] == [
        (NORTH_UP, None)
    ] * 2
    assert '"crs"' not in (tmp_path / "out/tiles.jsonl").read_text()


def test_of_a_picture_that_lies_nowhere_nothing_is_told(filled, tmp_path):
    split(filled, tmp_path / "out")
    assert '"geo"' not in (tmp_path / "out/tiles.jsonl").read_text()
    assert not list((tmp_path / "out").rglob("*.wld"))


@pytest.mark.skipif(lossless.missing() is not None, reason=lossless.missing() or "")
def test_copied_tiles_of_a_jpeg_have_world_files(placed, tmp_path, transform):
    report = split(placed, tmp_path / "out", tile=112, overlap=16, edge="trim", jpeg="keep")
    assert report.total.counts.copied == report.total.counts.tiles
    for source in sources(tmp_path / "out"):
        for tile in source.tiles:
            found = read_world(tmp_path / f"out/images/{source.split}/{tile.name}.wld")
            np.testing.assert_allclose(found, of_tile(transform, tile), rtol=1e-12)


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_tiles_of_tiles_lie_where_they_are(dataset, tmp_path, transform, kind):
    for where in ("train", "val"):
        dataset.add("a.tif", ROWS, picture(*SIZE), where, tiffinfo=tags(transform))
    split(dataset, tmp_path / "out", tile=128, overlap=0, scale="1,0.5", format=kind)
    first = {
        tile.name: of_tile(transform, tile)
        for source in sources(tmp_path / "out")
        for tile in source.tiles
    }
    tiler.split(tmp_path / "out", out=tmp_path / "again", tile=64, overlap=0, workers=1)
    for source in sources(tmp_path / "again"):
        stem = source.source.split("/")[-1].rsplit(".", 1)[0]
        np.testing.assert_allclose(source.geo.transform, first[stem], rtol=1e-12)
        assert source.geo.crs == ("EPSG:32632" if kind == "tif" else None)


# --- runs


@pytest.mark.parametrize(("workers", "backend"), [(2, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(placed, tmp_path, workers, backend):
    split(placed, tmp_path / "one", **SCALES)
    split(placed, tmp_path / "many", workers=workers, backend=backend, **SCALES)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_running_again_says_so_and_overwrite_leaves_no_world_file(placed, tmp_path):
    split(placed, tmp_path / "out", **SCALES)
    before = tree(tmp_path / "out")
    assert split(placed, tmp_path / "out", **SCALES).unchanged
    assert tree(tmp_path / "out") == before
    split(placed, tmp_path / "out", overwrite=True)
    split(placed, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize(
    "name",
    [
        "images/train/mine.wld",
        "images/mine.wld",
        "labels/train/mine.wld",
        "labels/train/{tile}.wld",
    ],
)
def test_world_files_of_somebody_else_are_not_deleted(placed, tmp_path, name):
    split(placed, tmp_path / "out")
    tile = next((tmp_path / "out/labels/train").iterdir()).stem
    path = tmp_path / "out" / name.format(tile=tile)
    path.write_text("mine")
    with pytest.raises(tiler.TilerError, match="is not made by tiler"):
        split(placed, tmp_path / "out", overwrite=True)
    assert path.read_text() == "mine"


def test_a_run_that_broke_off_ends_in_the_same_bytes(dataset, tmp_path):
    photo(dataset, NORTH_UP)
    photo(dataset, NORTH_UP, "b.png")
    split(dataset, tmp_path / "sound")

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(dataset, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    split(dataset, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_place_that_changed_between_the_runs_leaves_nothing_stale(dataset, tmp_path):
    photo(dataset, NORTH_UP)
    photo(dataset, NORTH_UP, "b.png")

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(dataset, tmp_path / "out", progress=stop)
    photo(dataset, TURNED)
    split(dataset, tmp_path / "out")
    split(dataset, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("now", [TURNED, None])
def test_a_world_file_that_changed_is_noticed(dataset, tmp_path, now):
    photo(dataset, NORTH_UP)
    split(dataset, tmp_path / "out")
    path = dataset.root / "images/train/a.jgw"
    if now:
        path.write_text(world(now))
    else:
        path.unlink()
    with pytest.raises(tiler.TilerError, match=r"images/train/a\.jpg or its labels changed"):
        split(dataset, tmp_path / "out")


def test_a_missing_world_file_of_a_complete_output_is_noticed(placed, tmp_path):
    split(placed, tmp_path / "out")
    next((tmp_path / "out/images/train").glob("*.wld")).unlink()
    with pytest.raises(tiler.TilerError, match="missing"):
        split(placed, tmp_path / "out")


# --- there and back


@pytest.mark.parametrize("kind", ["tif", "jpg"])
def test_labels_of_tiles_merged_lie_where_those_of_the_source_do(
    dataset, tmp_path, transform, kind
):
    if kind == "jpg":
        photo(dataset, transform)
    else:
        for where in ("train", "val"):
            dataset.add("a.tif", ROWS, picture(*SIZE), where, tiffinfo=tags(transform))
    split(dataset, tmp_path / "out", tile=128, overlap=64, scale="1,0.5")
    predicted(tmp_path / "out", tmp_path / "preds")
    tiler.merge(
        tmp_path / "preds",
        tiles=tmp_path / "out",
        out=tmp_path / "merged",
        export="geojson",
        workers=1,
    )
    a, b, c, d, e, f = transform
    count = 0
    for path in (tmp_path / "merged/geojson").rglob("*.geojson"):
        content = json.loads(path.read_text())
        assert content["crs"]["properties"]["name"] == "EPSG:32632"
        found = sorted(
            sorted(map(tuple, feature["geometry"]["coordinates"][0][:-1]))
            for feature in content["features"]
        )
        there = []
        for _, x0, y0, x1, y1 in BOXES:
            corners = [(x, y) for x in (x0, x1) for y in (y0, y1)]
            there.append(sorted((a * x + b * y + c, d * x + e * y + f) for x, y in corners))
        np.testing.assert_allclose(found, sorted(there), atol=1e-6, rtol=0)
        count += 1
    assert count == 2


def test_each_picture_lies_where_it_lies(tmp_path):
    """Images of one dataset may lie in different places, or nowhere."""
    data = Dataset(tmp_path / "data")
    photo(data, NORTH_UP)
    data.add("b.tif", ROWS, picture(*SIZE), tiffinfo=tags(TURNED))
    data.add("c.png", ROWS, picture(*SIZE))
    split(data, tmp_path / "out")
    places = {
        s.source.split("/")[-1]: s.geo for s in sources(tmp_path / "out") if s.split == "train"
    }
    assert (places["a.jpg"].transform, places["b.tif"].transform, places["c.png"]) == (
        NORTH_UP,
        TURNED,
        None,
    )
