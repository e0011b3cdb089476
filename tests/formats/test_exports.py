import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from tests.strategies import KEYPOINTS, SIDE, instances, outline, quick
from tiler.errors import TilerError
from tiler.formats import csv_cells, exports, yolo
from tiler.formats.affine import Affine
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.polygons import Rings
from tiler.types import TASKS

NAMES = ("car", "small car", 'a, "b"')
WORLD = Affine(0.1, 0, 500_000, 0, -0.1, 4_600_000)  # north up
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?(e[+-]\d+)?")  # no zeros that say nothing
NINTH = 5.0000001e-9  # half a unit of the ninth digit, as a part of the smallest number that has it

few = settings(quick, max_examples=20)
frames = st.integers(1, 100_000)
scores = st.one_of(
    st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-9, 0.1 + 0.2, 1 / 3, 1 - 1e-12, 5e-324])
)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
maps = st.sampled_from([
    None,
    WORLD,
    Affine(1e-6, 0, 13.4, 0, -1e-6, 52.5),
    Affine(0, 2, -5, 3, 0, 7),
    Affine(0.6, -0.8, 10, 0.8, 0.6, 0),
])  # fmt: skip


@st.composite
def detections(draw, task=None, **kinds):
    found = draw(instances(task, **kinds))
    return replace(
        found,
        conf=np.array(draw(st.lists(scores, min_size=len(found), max_size=len(found))), np.float64),
    )


@st.composite
def anywhere(draw, task):
    """Detections of an image of up to 100,000 px a side, some of a hundredth of a pixel."""
    found = draw(detections(task))
    size = np.array([draw(frames), draw(frames)])
    small = draw(st.sampled_from([1.0, 1e-2, 1e-4]))
    room = np.maximum(size - SIDE * small, 0)
    scale = np.minimum(small, size / SIDE)
    move = room * [draw(st.floats(0, 1)), draw(st.floats(0, 1))]
    return changed(found, lambda points: points * scale + move), *size.tolist()


def changed(found, place):
    """The detections with each point moved."""
    keypoints = found.keypoints
    if keypoints is not None:
        keypoints = np.concatenate([place(keypoints[..., :2]), keypoints[..., 2:]], axis=-1)
        keypoints[(found.keypoints == 0).all(axis=-1)] = 0
    rings = found.rings
    if rings is not None:
        rings = Rings(place(rings.coords), rings.ring_offsets, rings.offsets)
    boxes = place(found.boxes.reshape(-1, 2)).reshape(-1, 4)
    return Instances(
        found.class_id, boxes, rings=rings, keypoints=keypoints, conf=found.conf, task=found.task
    )


def one(task="detect", class_id=0, conf=0.5, rings=None, **columns):
    """A single detection."""
    rings = None if rings is None else Rings.of([[np.array(ring, np.float64) for ring in rings]])
    boxes = np.array([[1, 2, 3, 4.5]]) if rings is None else rings.bounds()
    return Instances(
        np.array([class_id]),
        **{"boxes": boxes, "rings": rings, "conf": np.array([conf]), "task": task, **columns},
    )


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


HOLED = [square(0, 0, 9), square(3, 3, 3)]
APART = [square(0, 0, 2), square(5, 5, 3)]
BOTH = [*HOLED, square(20, 20, 2)]


def detections_of(text, task, width, height):
    """A reader of one's own: rows of text as detections, in pixels."""
    assert not yolo.parse(text.encode()).problems
    rows = [np.array(line.split(), np.float64) for line in text.splitlines()]
    if not rows:
        return replace(empty(task, KEYPOINTS), conf=np.empty(0))
    size = np.array([width, height], np.float64)
    class_id, conf = (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[-1] for row in rows]),
    )
    if task in ("segment", "obb"):
        rings = Rings.of([[row[1:-1].reshape(-1, 2) * size] for row in rows])
        return Instances(class_id, rings.bounds(), rings=rings, conf=conf, task=task)
    centre, side = (np.array([row[a:b] for row in rows]) * size for a, b in ((1, 3), (3, 5)))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    keypoints = None
    if task == "pose":
        keypoints = np.array([row[5:-1] for row in rows]).reshape(len(rows), -1, 3) * [
            width,
            height,
            1,
        ]
    return Instances(class_id, boxes, keypoints=keypoints, conf=conf, task=task)


# YOLO


@pytest.mark.parametrize("task", TASKS)
def test_yolo_text_read_and_written_again_is_the_same_text(task):
    @quick
    @given(anywhere(task))
    def check(drawn):
        found, width, height = drawn
        text = exports.yolo_text(found, width, height)
        assert exports.yolo_text(detections_of(text, task, width, height), width, height) == text

    check()


@pytest.mark.parametrize("task", TASKS)
def test_yolo_text_has_nine_digits_of_every_number_and_no_more(task):
    @quick
    @given(anywhere(task))
    def check(drawn):
        found, width, height = drawn
        words = exports.yolo_text(found, width, height).split()
        for word in words:
            assert NUMBER.fullmatch(word) and word != "-0", word
            assert len(re.sub(r"e.*|\D", "", word).lstrip("0")) <= 9, word

    check()


@pytest.mark.parametrize("task", ["detect", "obb", "pose"])
def test_yolo_text_holds_the_numbers(task):
    @quick
    @given(anywhere(task))
    def check(drawn):
        found, width, height = drawn
        rows = [
            np.array(line.split(), np.float64)
            for line in exports.yolo_text(found, width, height).splitlines()
        ]
        assert [row[0] for row in rows] == found.class_id.tolist()
        assert [row[-1] for row in rows] == [float(f"{c:.9g}") for c in found.conf]
        for i, row in enumerate(rows):
            if task == "obb":
                expected = (found.rings[i][0] / [width, height]).ravel()
            else:
                x0, y0, x1, y1 = found.boxes[i]
                expected = [
                    (x0 + x1) / 2 / width,
                    (y0 + y1) / 2 / height,
                    (x1 - x0) / width,
                    (y1 - y0) / height,
                ]
                if task == "pose":
                    expected = [*expected, *(found.keypoints[i] / [width, height, 1]).ravel()]
            np.testing.assert_allclose(row[1:-1], expected, rtol=NINTH, atol=5.1e-15)

    check()


@quick
@given(detections("segment"))
def test_yolo_segments_fill_what_their_rings_fill(found):
    back = detections_of(exports.yolo_text(found, SIDE, SIDE), "segment", SIDE, SIDE)
    assert np.diff(back.rings.offsets).tolist() == [1] * len(found)
    for i in range(len(found)):
        difference = shapely.symmetric_difference(outline(back, i), outline(found, i))
        assert difference.area < 1e-3
    single = np.diff(found.rings.offsets) == 1
    np.testing.assert_allclose(
        back.rings.take(single).coords, found.rings.take(single).coords, rtol=NINTH, atol=1e-11
    )


def test_yolo_rows_end_with_the_score():
    pose = one("pose", 3, 0.25, keypoints=np.array([[[1, 2, 2], [0, 0, 0], [3, 4.5, 0.75]]]))
    assert (
        exports.yolo_text(pose, 10, 10)
        == "3 0.2 0.325 0.2 0.25 0.1 0.2 2 0 0 0 0.3 0.45 0.75 0.25\n"
    )
    assert (
        exports.yolo_text(one("obb", rings=[square(1, 2, 4)]), 10, 20)
        == "0 0.1 0.1 0.5 0.1 0.5 0.3 0.1 0.3 0.5\n"
    )
    assert (
        exports.yolo_text(one("segment", rings=[[[0, 0], [5, 0], [0, 1]]]), 5, 1)
        == "0 0 0 1 0 0 1 0.5\n"
    )


def test_a_hair_before_zero_is_zero():
    boxes = np.array([[-1e-18, -1e-18, 0, 0]])
    assert exports.yolo_text(one(boxes=boxes), 10, 10) == "0 0 0 0 0 0.5\n"
    assert exports.coco_entries(one(boxes=boxes), 1, "a")[0]["bbox"] == [0, 0, 0, 0]
    assert "-0" not in exports.csv_text(one(boxes=boxes), "a", NAMES)
    assert b"-0" not in exports.geojson(one(boxes=boxes), NAMES)


def test_a_box_of_a_hundredth_of_a_pixel_far_out_keeps_its_text():
    text = exports.yolo_text(
        one(boxes=np.array([[99_999.98, 99_999.97, 99_999.99, 99_999.98]])), 100_000, 100_000
    )
    for _ in range(5):
        again = exports.yolo_text(detections_of(text, "detect", 100_000, 100_000), 100_000, 100_000)
        assert again == text
    assert float(text.split()[3]) == pytest.approx(1e-7, rel=1e-6)


# Of all formats


def written(found):
    """Every format of the same detections, as text."""
    return [
        exports.yolo_text(found, 100, 100),
        exports.coco_json(exports.coco_entries(found, 1, "a.jpg")).decode(),
        *exports.dota_text(found, "a", NAMES).values(),
        exports.geojson(found, NAMES).decode(),
        exports.geojson(found, NAMES, WORLD).decode(),
        exports.csv_text(found, "a.jpg", NAMES),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_no_detections_are_no_rows(task):
    none = replace(empty(task, KEYPOINTS), conf=np.empty(0))
    assert exports.yolo_text(none, 100, 100) == ""
    assert exports.coco_entries(none, 1, "a.jpg", categories=[]) == []
    assert exports.coco_json([]) == b""
    assert exports.dota_text(none, "a", NAMES) == {}
    assert exports.csv_text(none, "a.jpg", NAMES) == ""
    for affine in (None, WORLD):
        assert json.loads(exports.geojson(none, NAMES, affine)) == {
            "type": "FeatureCollection",
            "features": [],
        }


@pytest.mark.parametrize("task", TASKS)
def test_each_detection_is_written_by_itself(task):
    """Rows do not depend on their neighbours, nor on the blocks that numbers are formatted in."""

    @few
    @given(detections(task, min_size=1))
    def check(found):
        single = [found.take(np.array([i])) for i in range(len(found))]
        assert exports.yolo_text(found, 100, 100) == "".join(
            exports.yolo_text(s, 100, 100) for s in single
        )
        assert exports.csv_text(found, "a", NAMES) == "".join(
            exports.csv_text(s, "a", NAMES) for s in single
        )
        assert exports.coco_entries(found, 1, "a") == [
            e for s in single for e in exports.coco_entries(s, 1, "a")
        ]
        features = json.loads(exports.geojson(found, NAMES, WORLD))["features"]
        assert [f["properties"].pop("index") for f in features] == list(range(len(found)))
        alone = [json.loads(exports.geojson(s, NAMES, WORLD))["features"][0] for s in single]
        assert [f["properties"].pop("index") for f in alone] == [0] * len(found)
        assert features == alone

    check()


@pytest.mark.parametrize("task", TASKS)
def test_blocks_do_not_show(task, monkeypatch):
    @few
    @given(detections(task, min_size=2))
    def check(found):
        whole = written(found)
        with monkeypatch.context() as patch:
            patch.setattr(exports, "STEP", 1)
            assert written(found) == whole

    check()


def test_labels_are_no_detections():
    for write in (exports.csv_text, exports.dota_text):
        with pytest.raises(TilerError, match="a detection has a conf"):
            write(empty(), "a", NAMES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["conf", "boxes", "keypoints", "rings"])
def test_what_is_not_finite_is_never_written(column, bad):
    task = {"keypoints": "pose", "rings": "segment"}.get(column, "detect")
    good = one(
        task,
        rings=[square(0, 0, 2)] if task == "segment" else None,
        keypoints=np.ones((1, 2, 3)) if task == "pose" else None,
    )
    spoilt = concatenate([good, good, good])
    target = spoilt.rings.coords if column == "rings" else getattr(spoilt, column)
    target[-1] = bad
    for write in (
        lambda: exports.yolo_text(spoilt, 9, 9),
        lambda: exports.coco_entries(spoilt, 1, "a"),
        lambda: exports.dota_text(spoilt, "a", NAMES),
        lambda: exports.geojson(spoilt, NAMES),
        lambda: exports.csv_text(spoilt, "a", NAMES),
    ):
        with pytest.raises(TilerError, match="detection 2: .* not finite"):
            write()


@pytest.mark.parametrize("rings", [[], [[[1, 1], [2, 2]]]])
def test_an_outline_of_two_points_is_refused(rings):
    outlines = Rings.of([[np.array(square(0, 0, 1))], [np.array(r, np.float64) for r in rings]])
    found = Instances(
        np.array([0, 0]),
        np.array([[0, 0, 1, 1.0]] * 2),
        rings=outlines,
        conf=np.ones(2),
        task="segment",
    )
    with pytest.raises(
        TilerError, match=f"detection 1: an outline of {2 * len(rings)} points, expected 3 or more"
    ):
        exports.yolo_text(found, 9, 9)


# COCO


def areas_of(entry):
    return shapely.union_all(
        [shapely.Polygon(np.reshape(part, (-1, 2))).buffer(0) for part in entry["segmentation"]]
    )


@quick
@given(detections(), st.one_of(st.integers(), texts), texts, st.integers(0, 90))
def test_coco_entries_are_what_json_reads(found, image_id, file_name, base):
    entries = exports.coco_entries(found, image_id, file_name, base)
    lines = exports.coco_json(entries)
    assert lines.count(b"\n") == max(0, len(entries) - 1)
    if not isinstance(image_id, int) or abs(image_id) < 2**63:
        assert json.loads(b"[" + lines + b"]") == entries
    assert [e["category_id"] - base for e in entries] == found.class_id.tolist()
    assert {(e["image_id"], e["file_name"]) for e in entries} <= {(image_id, file_name)}
    assert [e["score"] for e in entries] == [
        float(f"{c:.9g}") if c > 1e-14 else c for c in found.conf
    ]
    for entry, (x0, y0, x1, y1) in zip(entries, found.boxes, strict=True):
        np.testing.assert_allclose(entry["bbox"], [x0, y0, x1 - x0, y1 - y0], rtol=0, atol=5.1e-7)
    extra = {
        "detect": [],
        "segment": ["segmentation"],
        "obb": ["poly", "segmentation"],
        "pose": ["keypoints"],
    }[found.task]
    plain = ["image_id", "file_name", "category_id", "bbox", "score"]
    assert all(list(e) == plain + extra for e in entries)


@quick
@given(detections("segment"))
def test_coco_polygons_together_cover_what_the_rings_fill(found):
    for i, entry in enumerate(exports.coco_entries(found, 1, "a")):
        filled = Rings.of(
            [[np.reshape(part, (-1, 2))] for part in entry["segmentation"]]
        ).geometry()
        assert (
            shapely.symmetric_difference(shapely.union_all(filled), outline(found, i)).area < 1e-3
        )
        # none over another
        assert shapely.area(filled).sum() == pytest.approx(outline(found, i).area, abs=1e-3)


@pytest.mark.parametrize(
    ("rings", "points"), [(HOLED, [10]), (APART, [4, 4]), (BOTH, [10, 4]), ([square(0, 0, 2)], [4])]
)
def test_coco_parts_are_polygons_and_holes_are_run_into(rings, points):
    entry = exports.coco_entries(one("segment", rings=rings), 1, "a")[0]
    assert [len(part) // 2 for part in entry["segmentation"]] == points


def test_a_ring_and_its_copy_leave_no_area_and_their_box_is_taken():
    found = one("segment", rings=[square(1, 1, 2), square(1, 1, 2)])
    assert exports.coco_entries(found, 1, "a")[0]["segmentation"] == [[1, 1, 3, 1, 3, 3, 1, 3]]


@quick
@given(detections("obb"))
def test_coco_obbs_are_their_corners(found):
    for i, entry in enumerate(exports.coco_entries(found, 1, "a")):
        np.testing.assert_allclose(entry["poly"], found.rings[i][0].ravel(), rtol=0, atol=5.1e-7)
        assert entry["segmentation"] == [entry["poly"]]


@quick
@given(detections("pose"))
def test_coco_keypoints_are_flat(found):
    for i, entry in enumerate(exports.coco_entries(found, 1, "a")):
        np.testing.assert_allclose(
            entry["keypoints"], found.keypoints[i].ravel(), rtol=0, atol=5.1e-7
        )


@pytest.mark.parametrize("task", TASKS)
def test_pycocotools_takes_the_entries(task):
    @few
    @given(detections(task, min_size=1))
    def check(found):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1}],
            "annotations": [],
            "categories": [{"id": c + 1} for c in range(3)],
        }
        truth.createIndex()
        entries = json.loads(
            b"[" + exports.coco_json(exports.coco_entries(found, 1, "a", base=1)) + b"]"
        )
        loaded = truth.loadRes(entries)
        assert len(loaded.anns) == len(found)

    check()


def test_categories_go_by_table():
    found = concatenate([one(class_id=c) for c in (2, 0, 1)])
    assert [
        e["category_id"] for e in exports.coco_entries(found, 1, "a", categories=[10, 20, 90])
    ] == [90, 10, 20]
    with pytest.raises(TilerError, match="class 2 has no category id: there are 2"):
        exports.coco_entries(found, 1, "a", categories=[10, 20])
    with pytest.raises(TilerError, match="class -1 has no"):
        exports.coco_entries(one(class_id=-1), 1, "a", categories=[10, 20])


# DOTA


@quick
@given(detections(), st.text("aP01_- .", min_size=1, max_size=6))
def test_dota_lines_hold_the_corners_by_class(found, image_id):
    files = exports.dota_text(found, image_id, NAMES)
    assert set(files) == {NAMES[c].replace(" ", "-") for c in found.class_id}
    for class_id in set(found.class_id.tolist()):
        lines = files[NAMES[class_id].replace(" ", "-")].splitlines()
        where = np.flatnonzero(found.class_id == class_id)
        assert len(lines) == len(where)
        for i, line in zip(where, lines, strict=True):
            *name, score, numbers = (
                line.rsplit(" ", 9)[0],
                line.rsplit(" ", 9)[1],
                line.rsplit(" ", 9)[2:],
            )
            assert name == [image_id]
            assert score == f"{found.conf[i]:.9g}"
            corners = np.array(numbers, np.float64).reshape(4, 2)
            if found.task == "obb":
                np.testing.assert_allclose(corners, found.rings[i][0], rtol=0, atol=5.1e-7)
            elif found.task == "segment":
                rectangle = shapely.Polygon(corners)
                expected = shapely.minimum_rotated_rectangle(
                    shapely.MultiPoint(np.concatenate(found.rings[i]))
                )
                assert rectangle.area == pytest.approx(expected.area, abs=1e-3)
                assert shapely.difference(outline(found, i), rectangle).area < 1e-3
            else:
                x0, y0, x1, y1 = found.boxes[i]
                np.testing.assert_allclose(
                    corners, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], rtol=0, atol=5.1e-7
                )


def test_dota_names_and_images_that_would_mix_up_rows_are_refused():
    found = concatenate([one(class_id=0), one(class_id=1)])
    with pytest.raises(
        TilerError, match="two classes would share the DOTA file of 'a-b'; class 1 is the second"
    ):
        exports.dota_text(found, "P1", ["a b", "a-b"])
    assert list(exports.dota_text(found.take(np.array([0])), "P1", ["a b", "a-b"])) == ["a-b"]
    with pytest.raises(TilerError, match="line break"):
        exports.dota_text(found, "P\n1", NAMES)


# GeoJSON


def rings_of(geometry):
    polygons = (
        [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    )
    return [[np.array(ring) for ring in polygon] for polygon in polygons]


def test_a_part_without_width_is_not_drawn():
    """Of an outline that crosses itself by less than a millionth of a pixel."""
    ring = np.array([[0, 65.536], [0, 66.826], [1.551, 65.535], [6.205, 65.532]])
    found = Instances(
        np.zeros(1, int),
        ring_bounds(ring),
        rings=Rings.of([[ring]]),
        conf=np.ones(1),
        task="segment",
    )
    (feature,) = json.loads(exports.geojson(found, NAMES))["features"]
    assert feature["geometry"]["type"] == "Polygon"


def ring_bounds(ring):
    return np.concatenate([ring.min(axis=0), ring.max(axis=0)])[None]


@quick
@given(detections(), maps)
def test_geojson_rings_are_closed_and_turn_as_the_standard_says(found, affine):
    for feature in json.loads(exports.geojson(found, NAMES, affine))["features"]:
        for exterior, *holes in rings_of(feature["geometry"]):
            for ring in (exterior, *holes):
                assert len(ring) >= 4 and ring[0].tolist() == ring[-1].tolist()
            assert shapely.is_ccw(shapely.LinearRing(exterior))
            assert not any(shapely.is_ccw(shapely.LinearRing(hole)) for hole in holes)


@quick
@given(detections(), maps)
def test_geojson_covers_what_the_detection_covers(found, affine):
    features = json.loads(exports.geojson(found, NAMES, affine))["features"]
    assert len(features) == len(found)
    for i, feature in enumerate(features):
        expected = (
            outline(found, i) if found.task in ("segment", "obb") else shapely.box(*found.boxes[i])
        )
        if affine is not None:
            expected = shapely.transform(expected, affine.apply)
        scale = 1 if affine is None else abs(affine.determinant)
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.area == pytest.approx(expected.area, abs=0.05 * scale)
        np.testing.assert_allclose(
            shape.bounds, expected.bounds, rtol=1e-11, atol=1e-6 if affine is None else 0
        )


@quick
@given(detections(), maps)
def test_geojson_properties_say_what_was_found(found, affine):
    for i, feature in enumerate(json.loads(exports.geojson(found, NAMES, affine))["features"]):
        properties = feature["properties"]
        keypoints = properties.pop("keypoints", None)
        class_id, conf = int(found.class_id[i]), properties.pop("conf")
        assert properties == {"index": i, "class_id": class_id, "class": NAMES[class_id]}
        assert conf == pytest.approx(found.conf[i], rel=NINTH)
        assert (keypoints is None) == (found.task != "pose")
        if keypoints is not None:
            points = np.reshape(keypoints, (-1, 3))
            given = found.keypoints[i]
            unset = (given == 0).all(axis=1)
            assert not points[unset].any()
            places = given[:, :2] if affine is None else affine.apply(given[:, :2])
            np.testing.assert_allclose(
                points[~unset, :2],
                places[~unset],
                rtol=1e-11,
                atol=1e-6 if affine is None else 1e-12,
            )
            assert points[:, 2].tolist() == given[:, 2].tolist()


@pytest.mark.parametrize(
    ("rings", "kind", "polygons"),
    [
        (HOLED, "Polygon", [2]),
        (APART, "MultiPolygon", [1, 1]),
        (BOTH, "MultiPolygon", [2, 1]),
        ([square(0, 0, 2)], "Polygon", [1]),
    ],
)
def test_geojson_parts_and_holes(rings, kind, polygons):
    geometry = json.loads(exports.geojson(one("segment", rings=rings), NAMES))["features"][0][
        "geometry"
    ]
    assert geometry["type"] == kind
    assert sorted(map(len, rings_of(geometry)), reverse=True) == polygons


def test_geojson_of_a_bow_tie_is_its_wings():
    found = one("segment", rings=[[[0, 0], [4, 4], [4, 0], [0, 4]]])
    (feature,) = json.loads(exports.geojson(found, NAMES))["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert shapely.from_geojson(json.dumps(feature["geometry"])).area == 8


def test_geojson_of_an_outline_without_area_is_its_box_in_its_place():
    line = one("segment", rings=[[[1, 1], [3, 2], [5, 3]]])
    found = concatenate([one("segment", rings=APART), line, one("segment", rings=HOLED)])
    features = json.loads(exports.geojson(found, NAMES))["features"]
    assert [f["geometry"]["type"] for f in features] == ["MultiPolygon", "Polygon", "Polygon"]
    assert features[1]["geometry"]["coordinates"] == [[[1, 1], [5, 1], [5, 3], [1, 3], [1, 1]]]


def test_geojson_names_its_reference_system_only_when_asked():
    found = one(class_id=7)
    plain = json.loads(exports.geojson(found, NAMES))
    assert list(plain) == ["type", "features"]
    assert plain["features"][0]["properties"]["class"] == "7"  # a class without a name
    named = json.loads(exports.geojson(found, NAMES, WORLD, "urn:ogc:def:crs:EPSG::32633"))
    assert named["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}


@quick
@given(st.lists(st.floats(-1e8, 1e8), max_size=20), st.integers(9, 15))
def test_digits_are_those_of_the_decimal_notation(values, digits):
    found = exports._significant(np.array(values, np.float64), digits)
    for value, rounded in zip(values, found.tolist(), strict=True):
        assert rounded == pytest.approx(value, rel=0.5000001 * 10.0 ** (1 - digits), abs=0)
        if abs(value) > 1e-7:  # a power of ten that is a double gets it there
            assert rounded == float(f"{rounded:.{digits}g}")


# CSV


@quick
@given(detections(), texts, st.lists(texts, min_size=3, max_size=3))
def test_csv_rows_read_back(found, source, names):
    text = exports.CSV_HEAD[found.task] + exports.csv_text(found, source, names)
    head, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert head[:8] == ["source", "class_id", "class", "conf", "x1", "y1", "x2", "y2"]
    assert head[8:] == {"detect": [], "pose": ["keypoints"]}.get(found.task, ["polygon"])
    assert len(rows) == len(found)
    for i, row in enumerate(rows):
        class_id = int(found.class_id[i])
        assert [csv_cells.plain(cell) for cell in row[:3]] == [
            source,
            str(class_id),
            names[class_id],
        ]
        assert float(row[3]) == float(f"{found.conf[i]:.9g}")
        np.testing.assert_allclose(
            np.array(row[4:8], np.float64), found.boxes[i], rtol=0, atol=5.1e-7
        )
        assert all(NUMBER.fullmatch(word) for word in " ".join(row[3:]).split())
        numbers = np.array(" ".join(row[8:]).split(), np.float64)
        if found.task == "pose":
            np.testing.assert_allclose(numbers, found.keypoints[i].ravel(), rtol=0, atol=5.1e-7)
        elif found.task == "detect":
            assert not len(numbers)
        else:
            joined = Rings.of([[numbers.reshape(-1, 2)]]).geometry()[0]
            assert shapely.symmetric_difference(joined, outline(found, i)).area < 1e-3


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "ä ß 車", "50%", "%s %d", "", "a\rb"])
def test_a_name_comes_back_as_it_was(name):
    text = exports.csv_text(one(), name, [name])
    assert text.endswith("\n") and "\r\n" not in text
    row = next(csv.reader(io.StringIO(text, newline="")))
    assert [csv_cells.plain(cell) for cell in row[:3]] == [name, "0", name]
    assert not row[0].startswith(("=", "+", "-", "@", "\r"))
    assert list(exports.dota_text(one(), "P1", [name])) == [name.replace(" ", "-")]
    assert json.loads(exports.geojson(one(), [name]))["features"][0]["properties"]["class"] == name
