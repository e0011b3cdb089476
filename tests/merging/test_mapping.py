"""Detections of all images in one layer, in one reference system; read back by GDAL."""

import contextlib
import io
import json

import msgspec
import numpy as np
import pytest
import shapely

import tiler
from tests.conftest import picture, tree
from tests.merging.test_geo import BOX, NORTH_UP, TURNED, made, placed
from tiler.errors import TilerError, Unfinished
from tiler.formats import gpkg_writing
from tiler.formats.manifest import Geo
from tiler.merging.output import Writer

UTM, NEXT = "EPSG:32632", "EPSG:32633"
FAR = (0.5, 0.0, 466000.0, 0.0, -0.5, 5200000.0)

pyogrio = pytest.importorskip("pyogrio", reason="the extra `gis` is not installed")
pyproj = pytest.importorskip("pyproj", reason="the extra `gis` is not installed")


def merge(root, out, **options):
    return tiler.merge(root, tiles=root, out=out, workers=1, **options)


def read(path):
    """The reference system, the shapes, and the columns of a layer."""
    meta, _, wkb, columns = pyogrio.raw.read(path)
    return meta["crs"], shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True))


def same(shape, corners):
    return shape.normalize().equals_exact(shapely.Polygon(corners).normalize(), 1e-4)


@pytest.mark.parametrize("name", ["detections.gpkg", "detections.geojson"])
def test_all_images_are_in_one_layer(tmp_path, name):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, UTM), b=Geo(TURNED, UTM))
    merge(root, tmp_path / "out", export="gpkg,geojson-all")
    crs, shapes, columns = read(tmp_path / "out" / name)
    assert crs == UTM
    assert columns["source"].tolist() == ["a.tif", "b.png"]
    assert columns["class"].tolist() == ["car", "car"]
    assert columns["conf"].tolist() == [0.9, 0.9]
    assert same(shapes[0], placed(NORTH_UP))
    assert same(shapes[1], placed(TURNED))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, UTM), b=Geo(TURNED, UTM))
    for name in ("one", "other"):
        merge(root, tmp_path / name, export="gpkg")
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    assert one["detections.gpkg"] == other["detections.gpkg"]
    assert "detections.geojson" not in one
    assert merge(root, tmp_path / "one", export="gpkg").report.unchanged


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:25833", "3857"])
def test_reprojected_as_pyproj_does(tmp_path, target):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, UTM), b=Geo(TURNED, NEXT))
    merge(root, tmp_path / "out", export="gpkg,geojson-all,geojson", to_crs=target)
    code = target if ":" in target else f"EPSG:{target}"
    crs, shapes, _ = read(tmp_path / "out/detections.gpkg")
    assert crs == code
    for shape, own, corners in zip(
        shapes, (UTM, NEXT), (placed(NORTH_UP), placed(TURNED)), strict=True
    ):
        way = pyproj.Transformer.from_crs(own, code, always_xy=True)
        want = np.stack(way.transform(*np.array(corners).T), axis=1)
        np.testing.assert_allclose(
            sorted(map(tuple, shape.exterior.coords[:-1])), sorted(map(tuple, want)), rtol=1e-10
        )
    for path in ("detections.geojson", "geojson/a.geojson"):
        content = json.loads((tmp_path / "out" / path).read_text())
        assert ("crs" in content) == (code != "EPSG:4326")  # RFC 7946 has none
        for feature in content["features"]:
            ring = shapely.linearrings(feature["geometry"]["coordinates"][0])
            assert shapely.is_ccw(ring)


@pytest.mark.parametrize(
    ("geo", "options", "message"),
    [
        ({"a": Geo(NORTH_UP, UTM)}, {}, r"place of b\.png on the map is not known"),
        ({"a": Geo(NORTH_UP), "b": Geo(FAR)}, {}, r"a\.tif has no EPSG code; say it with --crs"),
        ({"a": Geo(NORTH_UP, UTM), "b": Geo(FAR, NEXT)}, {}, "--to-crs EPSG:32632"),
        ({}, {"affine": "1,0,0,0,-1,0", "crs": UTM}, "place of one image, and there are 2"),
        ({}, {"affine": "pixels"}, "--affine pixels has no place"),
        ({"a": Geo(NORTH_UP, UTM), "b": Geo(FAR, UTM)}, {"crs": "EPSG:99999"}, "no reference"),
        ({"a": Geo(NORTH_UP, UTM), "b": Geo(FAR, UTM)}, {"to_crs": "99999"}, "no reference"),
        ({"a": Geo(NORTH_UP, UTM), "b": Geo(FAR, UTM)}, {"to_crs": "UTM"}, "a code such as"),
    ],
)
@pytest.mark.parametrize("export", ["gpkg", "geojson-all"])
def test_what_would_be_wrong_is_an_error(tmp_path, geo, options, message, export):
    root = made(tmp_path / "tiles", **geo)
    with pytest.raises(TilerError, match=message):
        merge(root, tmp_path / "out", export=export, **options)
    assert not (tmp_path / "out").exists()


def test_the_date_line_is_an_error(tmp_path):
    over = (10.0, 0.0, 815000.0, 0.0, -10.0, 8000000.0)  # from 179.9 to -179.9 degrees
    root = made(tmp_path / "tiles", a=Geo(over, "EPSG:32760"), b=Geo(over, "EPSG:32760"))
    with pytest.raises(TilerError, match="date line"):
        merge(root, tmp_path / "out", export="gpkg", to_crs="EPSG:4326")


def test_a_name_for_the_system_is_enough(tmp_path):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP), b=Geo(FAR))
    merge(root, tmp_path / "out", export="gpkg", crs=UTM)
    assert read(tmp_path / "out/detections.gpkg")[0] == UTM


def test_images_say_where_they_lie_without_a_manifest(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="the extra `big` is not installed")
    root = made(tmp_path / "tiles")
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.asarray(picture(730, 640)).transpose(2, 0, 1)
    for name in "ab":
        with rasterio.open(
            images / f"{name}.tif", "w", driver="GTiff", width=730, height=640, count=3,
            dtype="uint8", crs=UTM, transform=rasterio.Affine(*NORTH_UP),
        ) as file:  # fmt: skip
            file.write(pixels)
        for x in (0, 90):
            (root / f"{name}{x}.txt").rename(root / f"{name}__{x}_0_640_640.txt")
    (root / "tiles.jsonl").unlink()
    options = {"images": images, "export": "gpkg,geojson", "workers": 1}
    tiler.merge(root, out=tmp_path / "out", **options)
    crs, shapes, _ = read(tmp_path / "out/detections.gpkg")
    assert crs == UTM
    assert all(same(shape, placed(NORTH_UP)) for shape in shapes)
    content = json.loads((tmp_path / "out/geojson/a.geojson").read_text())
    assert content["crs"]["properties"]["name"] == UTM
    tiler.merge(root, images=images, out=tmp_path / "px", export="geojson", affine="pixels")
    ring = json.loads((tmp_path / "px/geojson/a.geojson").read_text())["features"][0]
    assert same(shapely.Polygon(ring["geometry"]["coordinates"][0]), BOX)


@pytest.mark.parametrize("export", ["gpkg", "gpkg,geojson-all", "geojson-all"])
def test_stopped_at_the_end_and_run_again_it_ends_in_the_same_bytes(tmp_path, monkeypatch, export):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, UTM), b=Geo(FAR, UTM))
    merge(root, tmp_path / "whole", export=export)

    def stopping(*_):
        raise Unfinished("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "finish", stopping)
        with pytest.raises(Unfinished):
            merge(root, tmp_path / "out", export=export)
    with monkeypatch.context() as patch:
        patch.setattr(gpkg_writing, "write", stopping)
        with contextlib.suppress(Unfinished):
            merge(root, tmp_path / "out", export=export)
    merge(root, tmp_path / "out", export=export)
    assert tree(tmp_path / "whole") == tree(tmp_path / "out")


def test_outlines_are_multipolygons_and_keypoints_text(tmp_path):
    lines = {
        "segment": ({}, [[[0, 0], [2, 0], [2, 1], [0, 0]]], "MultiPolygon"),
        "pose": ({"keypoints": [1.5, 2, 2]}, [[[0, 0], [2, 0], [2, 1], [0, 0]]], "Polygon"),
    }
    for task, (more, rings, kind) in lines.items():
        own = {"source": "a", "index": 0, "class_id": 1, "class": "ä", "conf": 0.5, **more}
        feature = {
            "type": "Feature",
            "properties": own,
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        text = msgspec.json.encode(feature)
        path = tmp_path / f"{task}.gpkg"
        gpkg_writing.write(path, io.BytesIO(b"[\n" + text + b",\n" + text + b"\n]\n"), UTM, task)
        _, shapes, columns = read(path)
        assert [shape.geom_type for shape in shapes] == [kind] * 2
        assert columns["class"].tolist() == ["ä", "ä"]
        if task == "pose":
            assert columns["keypoints"][0] == "[1.5,2,2]"


def test_nothing_detected_is_a_layer_too(tmp_path):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, UTM), b=Geo(FAR, UTM))
    for path in root.glob("*.txt"):
        path.write_text("")
    merge(root, tmp_path / "out", export="gpkg,geojson-all")
    crs, shapes, _ = read(tmp_path / "out/detections.gpkg")
    assert (crs, len(shapes)) == (UTM, 0)
    assert json.loads((tmp_path / "out/detections.geojson").read_text())["features"] == []
