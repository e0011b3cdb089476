"""--roi: the tiles that meet a region are those of a run without it, and no others are written."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

import tiler
from tests.cli.test_cli import run
from tests.conftest import Dataset, picture, rows_of, tree
from tests.formats.test_geojson import collection, crs, feature
from tests.splitting.test_placed import NORTH_UP, tags, world
from tests.splitting.test_split import split
from tests.strategies import quick
from tiler.formats import geojson, manifest
from tiler.geometry.grids import grid
from tiler.tiling.roi import Roi

UTM = "EPSG:32632"


def area(*corners):
    return {"type": "Polygon", "coordinates": [list(map(list, corners))]}


def box(x0, y0, x1, y1):
    return area((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def tiles_of(out):
    """{(source, x, y, w, h)} of the manifest."""
    return {
        (source.source, tile.x, tile.y, tile.w, tile.h)
        for source in manifest.read_sources(out / "tiles.jsonl")
        for tile in source.tiles
    }


# --- which windows meet a region

points = st.tuples(st.integers(-20, 220), st.integers(-20, 220))


@quick
@given(st.lists(points, min_size=3, max_size=7), st.integers(10, 90), st.floats(0, 0.5))
def test_a_window_meets_a_region_as_shapely_says(corners, tile, overlap):
    polygon = shapely.Polygon(corners)
    if not polygon.is_valid or polygon.area == 0:
        return
    windows = np.array([w.bounds for w in grid(200, 160, tile, overlap)])
    met = Roi(np.array([polygon]), {}).meets("a", windows, None)
    common = shapely.area(shapely.intersection(polygon, shapely.box(*windows.T)))
    clear = (common == 0) | (common > 1e-3)  # nothing lies between on this lattice but slivers
    assert (met == (common > 0))[clear].all()


def test_touching_is_not_meeting():
    areas = geojson.read(json.dumps(box(100, 0, 200, 100)).encode(), "a").areas
    windows = np.array([[0, 0, 100, 100], [50, 0, 101, 100], [200, 0, 300, 100.0]])
    assert Roi(areas, {}).meets("a", windows, None).tolist() == [False, True, False]


# --- what is written


@pytest.fixture
def corner(tmp_path):
    return written(tmp_path / "roi.geojson", area((10, 10), (190, 20), (20, 190)))


@pytest.mark.parametrize("edge", ["shift", "trim", "pad"])
def test_the_tiles_are_those_of_a_run_without_and_none_is_outside(filled, tmp_path, corner, edge):
    whole = split(filled, tmp_path / "whole", edge=edge)
    part = split(filled, tmp_path / "part", edge=edge, roi=corner)
    region = shapely.Polygon([(10, 10), (190, 20), (20, 190)])
    expected = set()
    for tile in tiles_of(tmp_path / "whole"):
        _, x, y, w, h = tile
        if shapely.intersection(region, shapely.box(x, y, x + w, y + h)).area > 0:
            expected.add(tile)
    assert tiles_of(tmp_path / "part") == expected
    for kind in ("images", "labels"):
        files = tree(tmp_path / "part" / kind)
        all_files = tree(tmp_path / "whole" / kind)
        assert files.items() <= all_files.items()
    counts = part.total.counts
    assert counts.left_out == counts.outside == whole.total.counts.tiles - counts.tiles > 0


def test_objects_outside_are_counted_and_no_alarm(filled, tmp_path, corner):
    whole = split(filled, tmp_path / "whole")
    part = split(filled, tmp_path / "part", roi=corner)
    labelled = {
        (source.source, row)
        for source in manifest.read_sources(tmp_path / "part/tiles.jsonl")
        for tile in source.tiles
        for row, _ in tile.rows
    }
    for report in (whole, part):
        for piece in report.splits.values():
            for o in (piece.objects, *piece.classes.values()):
                assert o.objects == o.whole + o.truncated + o.lost + (o.outside or 0)
    assert whole.total.objects.lost == 0
    total = part.total.objects
    assert (total.lost, total.outside) == (0, total.objects - len(labelled))
    assert total.outside > 0
    assert part.exit_code(strict=True) == 0
    on_disk = json.loads((tmp_path / "part/report.json").read_text())
    assert on_disk["splits"]["val"]["objects"]["outside"] == part.splits["val"].objects.outside
    assert '"outside"' not in (tmp_path / "whole/report.json").read_text()


def test_an_object_lost_inside_is_lost(dataset, tmp_path):
    tiny = "0 0.05 0.05 0.002 0.002\n"  # under --min-size, in the region
    far = "0 0.95 0.95 0.002 0.002\n"  # as small, outside
    dataset.add("a.png", tiny + far, picture(400, 300))
    dataset.add("b.png", "", picture(400, 300), "val")
    roi = written(tmp_path / "roi.geojson", box(0, 0, 50, 50))
    report = split(dataset, tmp_path / "out", tile=100, overlap=0, roi=roi)
    assert (report.total.objects.lost, report.total.objects.outside) == (1, 1)
    (lost,) = report.lost
    assert (lost.row, report.exit_code(strict=True)) == (0, 1)
    assert "under --min-size" in lost.reason


def test_background_is_drawn_from_tiles_inside_only(tmp_path):
    data = Dataset(tmp_path / "data")
    for name, where in (("a.png", "train"), ("b.png", "val")):
        data.add(name, "0 0.05 0.05 0.05 0.05\n", picture(800, 600), where)
    roi = written(tmp_path / "roi.geojson", box(0, 0, 300, 200))
    report = split(data, tmp_path / "out", tile=100, overlap=0, roi=roi, background=2)
    assert {(x // 100, y // 100) for _, x, y, *_ in tiles_of(tmp_path / "out")} <= {
        (x, y) for x in range(3) for y in range(2)
    }
    assert (report.total.counts.tiles, report.total.counts.background) == (6, 4)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_no_byte(filled, tmp_path, corner, workers):
    split(filled, tmp_path / "one", roi=corner, background=0.5)
    split(filled, tmp_path / "many", roi=corner, background=0.5, workers=workers, backend="loky")
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_a_changed_file_is_another_output_and_a_moved_one_is_not(filled, tmp_path, corner):
    split(filled, tmp_path / "out", roi=corner)
    before = tree(tmp_path / "out")
    (tmp_path / "moved").mkdir()
    moved = corner.rename(tmp_path / "moved/roi.geojson")
    assert split(filled, tmp_path / "out", roi=moved).unchanged
    written(moved, box(0, 0, 200, 200))
    with pytest.raises(
        tiler.TilerError, match=r"made with other options \(roi roi.geojson \w+ -> "
    ):
        split(filled, tmp_path / "out", roi=moved)
    with pytest.raises(tiler.TilerError, match=r"\(roi roi.geojson \w+ -> None\)"):
        split(filled, tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_stopped_and_run_again_it_ends_in_the_same_bytes(filled, tmp_path, corner):
    split(filled, tmp_path / "straight", roi=corner)

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(filled, tmp_path / "out", roi=corner, progress=stop)
    split(filled, tmp_path / "out", roi=corner)
    assert tree(tmp_path / "out") == tree(tmp_path / "straight")


# --- which images


def test_a_region_for_one_image_leaves_the_others_without_tiles(filled, tmp_path):
    content = collection(feature(box(0, 0, 50, 50), image="p1.jpg"))
    roi = written(tmp_path / "roi.geojson", content)
    report = split(filled, tmp_path / "out", roi=roi)
    assert {source for source, *_ in tiles_of(tmp_path / "out")} == {"images/train/p1.jpg"}
    codes = [(finding.code, finding.path) for finding in report.findings]
    others = ["images/train/p0.jpg", "images/train/p2.jpg", "images/val/p3.jpg"]
    assert codes == [*(("W05", key) for key in others), ("W06", "")]
    assert report.exit_code() == 0
    assert split(filled, tmp_path / "out", roi=roi).unchanged


@pytest.mark.parametrize("name", ["p1", "train/p1.jpg", "images/train/p1", r"train\p1.jpg"])
def test_an_image_is_named_by_any_end_of_its_path(filled, tmp_path, name):
    roi = written(tmp_path / "roi.geojson", feature(box(0, 0, 50, 50), file_name=name))
    split(filled, tmp_path / "out", roi=roi)
    assert {source for source, *_ in tiles_of(tmp_path / "out")} == {"images/train/p1.jpg"}


def test_a_region_for_an_unknown_image_is_a_finding(filled, tmp_path):
    known, unknown = feature(box(0, 0, 9, 9)), feature(box(0, 0, 9, 9), image="p11.jpg")
    roi = written(tmp_path / "roi.geojson", collection(known, unknown))
    report = split(filled, tmp_path / "out", roi=roi)
    assert report.exit_code() == 1
    (finding,) = report.findings
    assert str(finding).startswith("W03 roi.geojson: no image 'p11.jpg'; did you mean 'p1")
    written(roi, unknown)
    with pytest.raises(tiler.TilerError, match="roi.geojson: no image 'p11.jpg'"):
        split(filled, tmp_path / "none", roi=roi)


def test_a_name_that_several_images_have_is_refused(tmp_path):
    data = Dataset(tmp_path / "data")
    for where in ("train", "val"):
        data.add("a.png", "0 0.5 0.5 0.1 0.1\n", picture(), where)
    roi = written(tmp_path / "roi.geojson", feature(box(0, 0, 9, 9), image="a.png"))
    with pytest.raises(tiler.TilerError, match="may be images/train/a.png or images/val/a.png"):
        split(data, tmp_path / "out", roi=roi)


# --- which coordinates


def on_map(x0, y0, x1, y1):
    """A box in px, in the coordinates of NORTH_UP."""
    a, _, c, _, e, f = NORTH_UP
    return box(c + a * x0, f + e * y1, c + a * x1, f + e * y0)


@pytest.fixture
def placed(dataset):
    for where in ("train", "val"):
        rows = "0 0.5 0.5 0.1 0.1\n"
        dataset.add("a.tif", rows, picture(300, 210), where, tiffinfo=tags(NORTH_UP))
    return dataset


@pytest.mark.parametrize("named", [{}, crs(UTM), crs("urn:ogc:def:crs:EPSG::32632")])
def test_map_coordinates_are_those_of_the_image(placed, tmp_path, named):
    split(placed, tmp_path / "px", roi=written(tmp_path / "px.json", box(5, 150, 120, 210)))
    in_map = {**on_map(5, 150, 120, 210), **named}
    split(placed, tmp_path / "map", roi=written(tmp_path / "map.json", in_map))
    assert tiles_of(tmp_path / "px") == tiles_of(tmp_path / "map")
    assert 0 < len(tiles_of(tmp_path / "map")) < 12
    for kind in ("images", "labels"):
        assert tree(tmp_path / "px" / kind) == tree(tmp_path / "map" / kind)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (box(11.5, 48.1, 11.6, 48.2), "may be pixels, or longitude and latitude"),
        (box(5000, 5000, 6000, 6000), "meet no image: as pixels, images have up to 300 x 210 px"),
        ({**on_map(0, 0, 9, 9), **crs("EPSG:4326")}, "it is in EPSG:4326, and nothing is"),
        ({**on_map(0, 0, 9, 9), **crs("pixels")}, "meet no image: as pixels"),
        ({**box(0, 0, 9, 9), **crs(UTM)}, "on the map, they lie in x 366000 to 366150"),
    ],
)  # fmt: skip
def test_unclear_coordinates_are_refused_with_the_readings(placed, tmp_path, content, message):
    with pytest.raises(tiler.TilerError, match=message) as error:
        split(placed, tmp_path / "out", roi=written(tmp_path / "roi.json", content))
    assert str(error.value).startswith("roi.json: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "roi.json"]


def test_pixels_that_might_be_degrees_can_be_named(placed, tmp_path):
    content = {**box(11.5, 48.1, 11.6, 48.2), **crs("pixels")}
    split(placed, tmp_path / "out", roi=written(tmp_path / "roi.json", content))
    assert {tile[1:3] for tile in tiles_of(tmp_path / "out")} == {(0, 0)}


def test_where_both_readings_fit_the_file_must_say(dataset, tmp_path):
    for where in ("train", "val"):
        path = dataset.add("a.png", "", picture(300, 210), where)
        path.with_suffix(".pgw").write_text(world((1.0, 0.0, 0.0, 0.0, -1.0, 210.0)))
    roi = written(tmp_path / "roi.json", box(0, 0, 200, 100))
    with pytest.raises(tiler.TilerError, match="may be pixels, or map coordinates"):
        split(dataset, tmp_path / "out", roi=roi)
    rows = {}
    for name in ("pixels", "local"):
        written(roi, {**box(0, 0, 200, 100), **crs(name)})
        split(dataset, tmp_path / name, roi=roi, overlap=0, tile=70)
        rows[name] = {y for _, _, y, *_ in tiles_of(tmp_path / name)}
    assert rows == {"pixels": {0, 70}, "local": {70, 140}}


def test_an_image_without_a_place_is_rejected_when_the_region_is_on_the_map(placed, tmp_path):
    placed.add("b.png", "", picture(300, 210))
    roi = written(tmp_path / "roi.json", on_map(0, 0, 50, 50))
    report = split(placed, tmp_path / "out", roi=roi)
    (finding,) = [finding for finding in report.findings if finding.level == "error"]
    assert (finding.code, finding.path) == ("W04", "images/train/b.png")
    assert (report.exit_code(), report.total.counts.refused) == (1, 1)


def test_degrees_on_images_without_a_place_are_asked_about(filled, tmp_path):
    roi = written(tmp_path / "roi.json", box(11.5, 48.1, 11.52, 48.12))
    with pytest.raises(tiler.TilerError, match="longitude and latitude"):
        split(filled, tmp_path / "out", roi=roi)


# --- the command line


def test_from_the_command_line(filled, tmp_path, corner):
    command = ["split", "data", "--tile", "128", "--out", "out", "--roi"]
    done = run(*command, "roi.geojson", "--strict", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()[1:5]
    assert head.split()[-1] == "outside"
    assert "outside --roi: " in done.stdout
    part = [word for word in rows[-1].split() if word.isdecimal()]
    assert int(part[-1]) > 0
    args = (tmp_path / "out/args.yaml").read_text()
    assert "\nroi: ../roi.geojson\n" in args
    (tmp_path / "elsewhere").mkdir()
    again = ["split", "../data", "--config", "../out/args.yaml", "--out", "../again"]
    assert run(*again, cwd=tmp_path / "elsewhere").returncode == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--roi roi.geojson: cannot be read: No such file or directory"),
        ("{", "roi.geojson: expected GeoJSON of polygons: Input data was truncated"),
        (
            json.dumps(box(900, 900, 950, 960)),
            "roi.geojson: its regions, x 900 to 950, y 900 to 960, meet no image",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_2_and_leaves_nothing(filled, tmp_path, content, message):
    if content is not None:
        (tmp_path / "roi.geojson").write_text(content)
    before = tree(tmp_path)
    done = run("split", "data", "--out", "out", "--roi", "roi.geojson", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tiler: {message}")
    assert tree(tmp_path) == before


def test_labels_of_the_tiles_inside_are_those_of_the_whole_run(filled, tmp_path, corner):
    split(filled, tmp_path / "whole", overlap=0)
    split(filled, tmp_path / "part", overlap=0, roi=corner)
    assert rows_of(tmp_path / "part").items() <= rows_of(tmp_path / "whole").items()
