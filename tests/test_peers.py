"""Every case in which a peer was seen to be wrong (SAHI, split_dota, yolo_tiler, datumaro,
DOTA_devkit), done right.

The numbers are those of the reference's list "clipping subtleties and where the peers are wrong".
"""

import json

import numpy as np
import pytest
import shapely
from PIL import Image

import tiler
from tests.conftest import Dataset, picture, rows_of
from tiler.formats import manifest, trainer_rules


def flat(width, height):
    return Image.new("L", (width, height), 128)


def cut(tmp_path, rows, size, names=("a",), yaml=None, **options):
    """One image with these rows, cut: (report, label rows by tile)."""
    data = Dataset(tmp_path / "data", names=names, **(yaml or {}))
    data.add("a.png", rows, flat(*size))
    data.add("v.png", "", flat(64, 64), "val")
    report = tiler.split(data.yaml, out=tmp_path / "out", workers=1, **options)
    return report, rows_of(tmp_path / "out")


def polygon(row, tile):
    """A segment row as a shapely area in pixels of its tile."""
    points = np.array(row[1:]).reshape(-1, 2) * tile
    return tiler.Rings.of([[points]]).geometry()[0]


def all_accepted(rows, task, kpt_shape=None):
    return all(
        trainer_rules.accepted([np.array(r) for r in tile], task, 99, kpt_shape).all()
        for tile in rows.values()
    )


def test_1_an_obb_longer_than_the_tile_costs_no_tile(tmp_path):
    """split_dota: w = 1.07, and the trainer drops the tile with three small cars in it."""
    long = "0 0.05 0.10 0.60 0.10 0.60 0.13 0.05 0.13\n"  # 1100 px of 2000
    cars = "".join(f"0 {x} 0.3 {x + 0.02} 0.3 {x + 0.02} 0.31 {x} 0.31\n" for x in (0.1, 0.2, 0.3))
    report, rows = cut(
        tmp_path, long + cars, (2000, 2000), task="obb", tile=1024, overlap=0, min_visible=0.7
    )
    assert all_accepted(rows, "obb")
    assert len(rows["a__0_0_1024_1024"]) == 4
    assert report.total.objects.lost == 0


def test_2_an_object_halved_by_every_tile_is_not_lost(tmp_path):
    """split_dota: 50/50 at IoF 0.7 is in no tile, without a word."""
    report, rows = cut(
        tmp_path, "0 0.5 0.2 0.06 0.06\n", (1000, 500), tile=500, overlap=0, min_visible=0.7
    )
    assert sum(map(len, rows.values())) == 1
    assert report.total.objects.truncated == 1
    report = tiler.split(
        tmp_path / "data",
        out=tmp_path / "no",
        tile=500,
        overlap=0,
        min_visible=0.7,
        rescue=False,
        workers=1,
    )
    assert [lost.reason for lost in report.lost] == ["50% visible at best, under --min-visible"]
    assert report.exit_code(strict=True) == 1


def test_3_touching_a_tile_is_not_being_in_it(tmp_path):
    """yolo_tiler: a zero-width label for an edge, AttributeError for a corner, and the run is
    over.
    """
    _, rows = cut(
        tmp_path,
        "0 0.5 0.5 0.1 0.1\n",
        (1000, 1000),
        tile=300,
        overlap=0.5,
        min_visible=0,
        min_size=0,
    )
    for name, found in rows.items():
        x, y, w, h = map(int, name.split("__")[1].split("_"))
        inside = min(550, x + w) > max(450, x) and min(550, y + h) > max(450, y)
        assert len(found) == inside, name
        assert all(row[3] > 0 and row[4] > 0 for row in found)


def spikes():
    """A body right of the tile at x = 500, whose three spikes reach into it from the border."""
    points = [(900, 50), (900, 450), (600, 450)]
    for y in (400, 250, 100):
        points += [(600, y + 40), (300, y), (600, y - 40)]
    return np.array(points[:2] + points[3:], float)


def test_4_parts_stay_parts(tmp_path):
    """yolo_tiler concatenates rings: IoU 0.09; datumaro: MultiPolygon has no exterior."""
    points = spikes() / [1000, 500]
    text = "0 " + " ".join(f"{v:.8f}" for v in points.ravel()) + "\n"
    true = shapely.intersection(
        tiler.Rings.of([[spikes()]]).geometry()[0], shapely.box(0, 0, 500, 500)
    )
    assert len(shapely.get_parts(true)) == 3
    for parts, rows_wanted in (("separate", 3), ("bridge", 1), ("largest", 1)):
        where = tmp_path / parts
        report, rows = cut(
            where,
            text,
            (1000, 500),
            tile=500,
            overlap=0,
            task="segment",
            parts=parts,
            min_visible=0,
        )
        left = rows["a__0_0_500_500"]
        assert len(left) == rows_wanted
        seen = shapely.union_all([polygon(row, 500) for row in left])
        want = true if parts != "largest" else max(shapely.get_parts(true), key=lambda p: p.area)
        assert shapely.symmetric_difference(seen, want).area < 1e-2
        (entry,) = [
            s for s in manifest.read_sources(where / "out/tiles.jsonl") if s.split == "train"
        ]
        assert {row for row, _ in entry.tiles[0].rows} == {0}
        assert report.total.objects.objects == 1


def test_5_holes_stay_holes(tmp_path):
    """SAHI and yolo_tiler fill the donut (IoU 0.72)."""
    outer = np.array([[100, 100], [500, 100], [500, 500], [100, 500.0]])
    hole = np.array([[200, 200], [200, 400], [400, 400], [400, 200.0]])
    key_hole = np.concatenate([outer, outer[:1], hole, hole[:1]])
    text = "0 " + " ".join(f"{v / 600:.8f}" for v in key_hole.ravel()) + "\n"
    true = shapely.Polygon(outer, [hole])
    _, rows = cut(tmp_path, text, (600, 600), tile=300, overlap=0, min_visible=0)
    assert len(rows) == 4
    area = 0
    for name, found in rows.items():
        x, y, _, _ = map(int, name.split("__")[1].split("_"))
        assert len(found) == 1
        want = shapely.intersection(true, shapely.box(x, y, x + 300, y + 300))
        seen = shapely.transform(polygon(found[0], 300), lambda p, x=x, y=y: p + [x, y])
        assert shapely.symmetric_difference(seen, want).area < 1e-2
        area += seen.area
    assert area == pytest.approx(true.area, abs=0.05)


def test_5_a_hole_inside_one_tile_is_written_as_a_key_hole(tmp_path):
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 60, 60]}
    mask = np.zeros((100, 100), int)
    mask[10:70, 10:70] = 1
    mask[20:40, 20:40] = 0
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]])))).tolist()
    first = int(np.flatnonzero(mask.T.ravel())[0])
    counts = [first, *runs]
    counts.append(10_000 - sum(counts))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "annotations": [{**annotation, "segmentation": {"size": [100, 100], "counts": counts}}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "p").mkdir()
    flat(100, 100).save(tmp_path / "p/a.png")
    (tmp_path / "c.json").write_text(json.dumps(content))
    tiler.split(
        tmp_path / "c.json", images=tmp_path / "p", out=tmp_path / "out", tile=100, workers=1
    )
    (row,) = rows_of(tmp_path / "out")["a__0_0_100_100"]
    assert polygon(row, 100).area == pytest.approx(60 * 60 - 20 * 20, abs=1e-3)


def test_6_a_bow_tie_costs_neither_the_picture_nor_a_wing(tmp_path):
    """split_dota, datumaro: GEOSException ends the run; buffer(0) loses a wing."""
    text = (
        "0 0.1 0.1 0.9 0.9 0.9 0.1 0.1 0.9\n0 0.4 0.05 0.6 0.05 0.5 0.09\n0 0.4 0.95 0.6 0.95 0.5 "
        "0.99\n"
    )
    report, rows = cut(
        tmp_path, text, (1000, 1000), tile=500, overlap=0, min_visible=0, task="segment"
    )
    areas = sum(
        polygon(row, 500).area
        for found in rows.values()
        for row in found
        if polygon(row, 500).area > 10_000
    )
    assert areas == pytest.approx(800 * 800 / 2, rel=1e-6)
    assert [(f.code, f.line) for f in report.findings] == [("L09", 1)]
    assert report.exit_code() == 0


def test_7_objects_under_a_pixel_and_odd_decimals_survive(tmp_path):
    """SAHI: int() on vertices (IoU 0.53 at 2 to 4 px), ZeroDivisionError for 0.9 x 1.0 px;
    DOTA_devkit: 10.9 is 10.
    """
    text = "0 0.50045 0.5005 0.0009 0.001\n0 0.1002 0.2003 0.0031 0.0027\n"
    _, rows = cut(tmp_path, text, (1000, 1000), tile=1000, min_size=0)
    found = np.array(rows["a__0_0_1000_1000"])[:, 1:]
    assert np.allclose(
        found, [[0.50045, 0.5005, 0.0009, 0.001], [0.1002, 0.2003, 0.0031, 0.0027]], atol=1e-8
    )


def test_8_the_diamond_is_in_its_label(tmp_path):
    """DOTA_devkit drops the hexagon that clipping makes of it, 93 % visible as it is."""
    centre, r = 950, 100
    corners = (
        np.array(
            [[centre, centre - r], [centre + r, centre], [centre, centre + r], [centre - r, centre]]
        )
        / 2000
    )
    text = "0 " + " ".join(f"{v:.8f}" for v in corners.ravel()) + "\n"
    _, rows = cut(tmp_path, text, (2000, 2000), task="obb", tile=1024, overlap=0)
    (row,) = rows["a__0_0_1024_1024"]
    points = np.array(row[1:]).reshape(4, 2) * 1024
    sides = np.roll(points, -1, axis=0) - points
    assert np.allclose(np.abs(sides[:, 0]), np.abs(sides[:, 1]), atol=1e-4)  # still at 45 degrees
    assert all_accepted(rows, "obb")


@pytest.mark.parametrize("policy", ["aligned", "minrect", "full"])
def test_8_every_cut_obb_is_a_rectangle_that_the_trainer_takes(tmp_path, policy):
    rng = np.random.default_rng(1)
    text = ""
    for _ in range(300):
        angle, (w, h), c = rng.uniform(0, np.pi), rng.uniform(10, 400, 2), rng.uniform(200, 1800, 2)
        u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        corners = (
            np.array(
                [c + s * w / 2 * u + t * h / 2 * v for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            )
            / 2000
        )
        text += "0 " + " ".join(f"{x:.8f}" for x in corners.ravel()) + "\n"
    report, rows = cut(tmp_path, text, (2000, 2000), task="obb", tile=400, overlap=0.1, obb=policy)
    assert all_accepted(rows, "obb")
    assert report.total.objects.lost == 0
    for found in rows.values():
        for row in found:
            p = np.array(row[1:]).reshape(4, 2) * 400
            assert np.allclose(p[0] + p[2], p[1] + p[3], atol=1e-4)
            assert (
                abs((p[1] - p[0]) @ (p[3] - p[0]))
                < 1e-3 * np.hypot(*(p[1] - p[0])) * np.hypot(*(p[3] - p[0])) + 1e-3
            )


def test_9_a_diagonal_is_not_where_only_its_box_is(tmp_path):
    """The box of (0,0)-(1000,1000) fills the tile (640..1000, 0..360); the object is not there."""
    text = "0 0 0 0.01 0 1 0.99 1 1 0.99 1 0 0.01\n"
    _, rows = cut(tmp_path, text, (1000, 1000), tile=360, overlap=0, min_visible=0, task="segment")
    assert rows["a__640_0_360_360"] == []
    assert len(rows["a__0_0_360_360"]) == 1
    _, rows = cut(
        tmp_path / "detect", text, (1000, 1000), tile=360, overlap=0, min_visible=0, task="detect"
    )
    assert rows["a__640_0_360_360"] == []


def test_10_keypoints_outside_are_unlabelled_and_the_object_stays(tmp_path):
    """datumaro drops the object if any point is outside; nobody else writes YOLO pose."""
    text = "0 0.5 0.5 0.4 0.4 0.35 0.5 2 0.65 0.5 1 0 0 0\n"
    _, rows = cut(tmp_path, text, (200, 100), tile=100, overlap=0, yaml={"kpt_shape": "[3, 3]"})
    assert rows["a__0_0_100_100"] == [[0, 0.8, 0.5, 0.4, 0.4, 0.7, 0.5, 2, 0, 0, 0, 0, 0, 0]]
    assert rows["a__100_0_100_100"] == [[0, 0.2, 0.5, 0.4, 0.4, 0, 0, 0, 0.3, 0.5, 1, 0, 0, 0]]
    assert all_accepted(rows, "pose", (3, 3))


def test_12_no_tile_comes_twice_and_none_is_missing(tmp_path):
    """SAHI: 645 px gives four tiles of which two are enough; yolo_tiler writes each tile twice;
    slanj drops the rest.
    """
    _, rows = cut(tmp_path / "a", "", (645, 640), tile=640, overlap=0)
    assert sorted(rows) == ["a__0_0_640_640", "a__5_0_640_640"]
    _, rows = cut(tmp_path / "b", "", (1300, 640), tile=640)
    assert len(rows) == 3
    _, rows = cut(tmp_path / "c", "", (1000, 1000), tile=333, overlap=0)
    assert "a__667_667_333_333" in rows


def test_13_one_missing_label_or_an_empty_test_split_skips_nothing(tmp_path):
    """yolo_tiler: the whole train split is skipped, exit 0; train tiles are moved into an empty
    test split.
    """
    data = Dataset(tmp_path / "data", names=("a",), test="images/test")
    (data.root / "images/test").mkdir()
    data.add("a.png", "0.0 0.5 0.5 0.1 0.1\n", flat(64, 64))
    data.add("b.png", None, flat(64, 64))
    data.add("v.png", "0 0.5 0.5 0.1 0.1\n", flat(64, 64), "val")
    report = tiler.split(data.yaml, out=tmp_path / "out", tile=64, workers=1)
    assert rows_of(tmp_path / "out") == {
        "a__0_0_64_64": [[0, 0.5, 0.5, 0.1, 0.1]],
        "b__0_0_64_64": [],
    }
    assert report.splits["train"].counts.unlabelled == 1
    assert [f.code for f in report.findings] == ["Y05"]
    assert not (tmp_path / "out/images/test").exists()


def test_16_labels_are_for_the_upright_picture(tmp_path):
    """yolo_tiler cuts the raw 1000 x 600 pixels of an image whose labels are for 600 x 1000."""
    upright = picture(60, 100, 3)
    exif = Image.Exif()
    exif[274] = 6
    data = Dataset(tmp_path / "data", names=("a",))
    data.add(
        "a.png", "0 0.5 0.25 0.2 0.1\n", upright.transpose(Image.Transpose.ROTATE_90), exif=exif
    )
    data.add("v.png", "", flat(64, 64), "val")
    tiler.split(data.yaml, out=tmp_path / "out", tile=200, workers=1)
    assert rows_of(tmp_path / "out") == {"a__0_0_60_100": [[0, 0.5, 0.25, 0.2, 0.1]]}
    with Image.open(tmp_path / "out/images/train/a__0_0_60_100.png") as tile:
        assert np.array_equal(np.asarray(tile), np.asarray(upright))
        assert tile.getexif().get(274, 1) == 1


def test_two_objects_of_one_class_that_show_the_same_part_are_one_row(tmp_path):
    """The trainer would remove the second as a duplicate, with a warning."""
    text = "0 0.5 0.5 1 1\n0 0.45 0.5 0.9 1\n"  # both fill the left tile
    _, rows = cut(tmp_path, text, (300, 100), tile=100, overlap=0, min_visible=0)
    assert len(rows["a__0_0_100_100"]) == 1
