"""GeoJSON in the world that the manifest tells of."""

import json
import shutil

import numpy as np
import pytest
import shapely

import tiler
from tests.conftest import tree
from tiler.errors import TilerError
from tiler.formats import jsonl, manifest
from tiler.formats.manifest import Geo

NORTH_UP = (0.5, 0.0, 366000.0, 0.0, -0.5, 5200000.0)
TURNED = (0.3, 0.4, 366000.0, 0.4, -0.3, 5200000.0)
UTM = {"type": "name", "properties": {"name": "EPSG:32632"}}
BOX = [(100, 200), (300, 200), (300, 260), (100, 260)]  # px, of one object that two tiles show


def made(root, **geo):
    """A split of `a.tif` and `b.png`, each cut in two, with predictions; `geo` by stem."""
    root.mkdir()
    lines = [jsonl.line(manifest.ManifestHead("0", 1, "detect", ["car"], {}))]
    for name in ("a.tif", "b.png"):
        stem = name[0]
        tiles = [manifest.TileEntry(f"{stem}{x}", x, 0, 640, 640, 1.0, []) for x in (0, 90)]
        lines.append(
            jsonl.line(manifest.SourceTiles(name, "val", 730, 640, "f", tiles, geo.get(stem)))
        )
        for tile in tiles:
            x0, y0, x1, y1 = (100 - tile.x) / 640, 200 / 640, (300 - tile.x) / 640, 260 / 640
            (root / f"{tile.name}.txt").write_text(
                f"0 {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0} 0.9\n"
            )
    (root / "tiles.jsonl").write_bytes(b"".join(lines))
    return root


def merged(root, out, **options):
    merged = tiler.merge(root, tiles=root, out=out, export="geojson", workers=1, **options)
    assert merged.report.findings == []
    return {path.stem: json.loads(path.read_text()) for path in (out / "geojson").iterdir()}


def ring(content):
    (feature,) = content["features"]
    return np.array(feature["geometry"]["coordinates"][0])


def placed(transform):
    a, b, c, d, e, f = transform
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in BOX]


def lies(content, corners):
    """Whether the one ring has these corners, is closed, and turns as RFC 7946 says."""
    points = ring(content)
    assert shapely.is_ccw(shapely.linearrings(points))
    np.testing.assert_allclose(sorted(map(tuple, points[:-1])), sorted(corners), atol=1e-5)
    return True


@pytest.mark.parametrize(
    "transform",
    [NORTH_UP, TURNED, (0.5, 0.0, 9.0, 0.0, 0.5, 47.0), (0.0, -0.5, 0.0, -0.5, 0.0, 0.0)],
)
def test_detections_lie_where_the_image_does(tmp_path, transform):
    found = merged(made(tmp_path / "tiles", a=Geo(transform, "EPSG:32632")), tmp_path / "out")
    assert found["a"]["crs"] == UTM
    assert lies(found["a"], placed(transform))
    assert "crs" not in found["b"]  # of which nothing is known
    assert lies(found["b"], BOX)


def test_a_world_without_a_name_has_coordinates_all_the_same(tmp_path):
    found = merged(made(tmp_path / "tiles", a=Geo(NORTH_UP)), tmp_path / "out")
    assert "crs" not in found["a"]
    assert lies(found["a"], placed(NORTH_UP))


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_what_is_asked_for_wins(tmp_path, transform):
    root = made(tmp_path / "tiles", a=Geo(transform, "EPSG:32632"))
    named = merged(root, tmp_path / "named", crs="EPSG:25832")["a"]
    assert named["crs"]["properties"]["name"] == "EPSG:25832"
    assert lies(named, placed(transform))
    pixels = merged(root, tmp_path / "pixels", affine="pixels")["a"]
    assert "crs" not in pixels
    assert lies(pixels, BOX)
    assert merged(root, tmp_path / "both", affine="pixels", crs="EPSG:25832")["a"] == pixels
    own = merged(root, tmp_path / "own", affine="2,0,10,0,-2,20")["a"]
    assert "crs" not in own  # the manifest's is of another map
    assert lies(own, placed((2, 0, 10, 0, -2, 20)))


def test_world_files_are_looked_for_only_when_asked(tmp_path):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, "EPSG:32632"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.wld").write_text("2\n0\n0\n-2\n11\n19\n")
    options = {"tiles": root, "images": tmp_path / "images", "export": "geojson", "workers": 1}
    world = tiler.merge(root, out=tmp_path / "world", affine="world", **options)
    assert [finding.code for finding in world.report.findings] == ["D13"]
    assert lies(
        json.loads((tmp_path / "world/geojson/a.geojson").read_text()),
        placed((2, 0, 10, 0, -2, 20)),
    )
    tiler.merge(root, out=tmp_path / "default", **options)
    assert lies(json.loads((tmp_path / "default/geojson/a.geojson").read_text()), placed(NORTH_UP))


def test_labels_and_other_files_stay_in_pixels(tmp_path):
    plain, known = made(tmp_path / "plain"), made(tmp_path / "known", a=Geo(NORTH_UP, "EPSG:32632"))
    for root in (plain, known):
        tiler.merge(
            root, tiles=root, out=tmp_path / f"{root.name}-out", export="csv,dota", workers=1
        )
    one, other = tree(tmp_path / "plain-out"), tree(tmp_path / "known-out")
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"args.yaml", "merged.jsonl"}  # which name what was looked up, and where


def test_an_output_of_another_place_is_not_taken_for_this_one(tmp_path):
    root = made(tmp_path / "tiles", a=Geo(NORTH_UP, "EPSG:32632"))
    merged(root, tmp_path / "out")
    assert tiler.merge(
        root, tiles=root, out=tmp_path / "out", export="geojson", workers=1
    ).report.unchanged
    for geo in (Geo(TURNED, "EPSG:32632"), Geo(NORTH_UP), None):
        shutil.rmtree(root)
        made(root, a=geo)
        with pytest.raises(
            TilerError, match="the tiles, or the format of the predictions, changed"
        ):
            merged(root, tmp_path / "out")


@pytest.mark.parametrize(
    "transform", [(0.0,) * 6, (1.0, 2.0, 0.0, 2.0, 4.0, 0.0), (1e300, 0.0, 0.0, 0.0, -1e300, 0.0)]
)
def test_a_manifest_with_a_map_that_is_none_is_named(tmp_path, transform):
    root = made(tmp_path / "tiles", b=Geo(transform))
    with pytest.raises(
        TilerError, match=r"tiles\.jsonl: b\.png: an affine map gives pixels an area"
    ):
        tiler.merge(root, tiles=root)
