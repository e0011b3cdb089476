"""Every case in which a peer was seen to merge wrongly (SAHI, supervision, Ultralytics,
patched_yolo_infer, ...), done right.

The cases are those of the reference's list "peer bugs reproduced here" that are about arithmetic.
"""

import tracemalloc

import numpy as np
import pytest

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.geometry.window import Window
from tiler.options import METHODS
from tiler.stitching import FUSED, KEPT, stitch

TILES = [Window(0, 0, 640, 640), Window(512, 0, 640, 640)]
SIZE = (1152, 640)


def rows(*table, classes=None):
    """Detections given as (conf, x0, y0, x1, y1)."""
    table = np.array(table, np.float64).reshape(-1, 5)
    class_id = np.zeros(len(table), np.int64) if classes is None else np.array(classes)
    return Instances(class_id, table[:, 1:], conf=table[:, 0])


def shapes(task, *rings, conf=None):
    many = Rings.of([[np.array(ring, np.float64)] for ring in rings])
    conf = np.linspace(0.9, 0.8, len(rings)) if conf is None else np.array(conf)
    return Instances(
        np.zeros(len(rings), np.int64), many.bounds(), rings=many, conf=conf, task=task
    )


def image(detections, size=(4000, 4000), **options):
    """One image looked at in one piece."""
    return stitch([(Window(0, 0, *size), detections)], size, **options)


# --- SAHI


@pytest.mark.parametrize("method", METHODS)
def test_two_crossed_thin_obbs_are_both_kept(method):
    """SAHI compares the upright boxes around them, which are one."""
    one, other = (
        [(100, 103), (103, 100), (300, 297), (297, 300)],
        [(100, 297), (297, 100), (300, 103), (103, 300)],
    )
    assert len(image(shapes("obb", one, other), method=method).instances) == 2
    left, right = (
        shapes("obb", one).moved(450, 0),
        shapes("obb", other, conf=[0.8]).moved(450 - 512, 0),
    )
    if method != "center":
        assert (
            len(stitch(list(zip(TILES, (left, right), strict=True)), SIZE, method=method).instances)
            == 2
        )


def test_a_small_box_in_a_large_one_of_its_class_is_kept():
    """SAHI's default merges the one into the other."""
    large, small = (0.9, 100, 100, 500, 400), (0.8, 200, 200, 240, 240)
    assert len(image(rows(large, small)).instances) == 2
    both = (
        rows((0.9, 500, 100, 640, 400), (0.8, 560, 200, 600, 240)),
        rows((0.7, 0, 100, 388, 400), (0.8, 48, 200, 88, 240)),
    )
    out = stitch(list(zip(TILES, both, strict=True)), SIZE)
    assert out.instances.boxes.tolist() == [[500, 100, 900, 400], [560, 200, 600, 240]]
    assert image(
        rows(large, small), method="greedy-nmm", metric="ios"
    ).instances.boxes.tolist() == [[100, 100, 500, 400]]  # as SAHI


@pytest.mark.parametrize("method", ["nms", "nmm", "greedy-nmm", "wbf"])
@pytest.mark.parametrize("metric", ["iou", "ios"])
def test_halves_larger_than_the_overlap_become_one(method, metric):
    """An object from 300 to 900 in tiles of 640 that share 128: two everywhere else."""
    parts = list(
        zip(TILES, (rows((0.9, 300, 100, 640, 200)), rows((0.8, 0, 100, 388, 200))), strict=True)
    )
    out = stitch(parts, SIZE)
    assert out.instances.boxes.tolist() == [[300, 100, 900, 200]]
    assert out.fate.tolist() == [KEPT, FUSED]
    assert len(stitch(parts, SIZE, method=method, metric=metric, iou=0.5).instances) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [(0, 256), (0, 65536), (1, 2**32 + 1), (255, -1 % 2**31)])
def test_classes_do_not_wrap(method, classes):
    """SAHI's LSNMS casts them to uint8."""
    boxes = (0.9, 100, 100, 200, 200), (0.8, 101, 100, 200, 200)
    assert sorted(
        image(rows(*boxes, classes=classes), method=method).instances.class_id.tolist()
    ) == sorted(classes)


@pytest.mark.parametrize("method", METHODS)
def test_low_confidences_are_merged_as_high_ones_are(method):
    """SAHI takes another algorithm below 0.1, without a word."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 80, (60, 2))], axis=1)
    conf = rng.permutation(60) / 64 + 1 / 64
    high, low = (
        image(Instances(np.zeros(60, int), boxes, conf=conf / part), method=method)
        for part in (1, 1024)
    )
    np.testing.assert_array_equal(high.fate, low.fate)
    np.testing.assert_array_equal(high.instances.boxes, low.instances.boxes)
    np.testing.assert_array_equal(high.instances.conf, low.instances.conf * 1024)


@pytest.mark.parametrize("method", METHODS)
def test_outlines_are_not_cut_to_whole_px(method):
    """SAHI writes int(x)."""
    ring = [(10.125, 20.25), (90.875, 20.25), (50.5, 80.0625)]
    assert image(shapes("segment", ring), method=method).instances.rings[0][0].tolist() == [
        list(point) for point in ring
    ]
    other = [(500.25, 20.5), (600.75, 20.5), (550.125, 90.5)]
    out = image(shapes("segment", other, ring), method=method).instances
    assert {tuple(point) for point in out.rings.coords} == {*ring, *other}


# --- supervision


@pytest.mark.parametrize("method", ["cvm", "nms", "nmm", "greedy-nmm", "center"])
def test_a_fragment_does_not_make_the_whole_less_sure(method):
    """supervision: .9 and .2 become .71."""
    parts = list(
        zip(TILES, (rows((0.9, 400, 100, 600, 200)), rows((0.2, 0, 100, 88, 200))), strict=True)
    )
    out = stitch(
        parts, SIZE, method=method, **({} if method in ("cvm", "center") else {"metric": "ios"})
    )
    assert out.instances.conf[0] == 0.9
    assert out.instances.boxes[0].tolist() == [400, 100, 600, 200]


def test_ten_thousand_boxes_need_no_matrix():
    """supervision's 10000 x 10000 overlaps take 5 GB; the matrix alone has 800 MB."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20_000, (10_000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 60, (10_000, 2))], axis=1)
    tracemalloc.start()
    for method in METHODS:
        image(
            Instances(np.zeros(10_000, int), boxes, conf=rng.random(10_000)),
            (20_100, 20_100),
            method=method,
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


# --- Ultralytics


@pytest.mark.parametrize("method", METHODS)
def test_classes_far_apart_do_not_meet(method):
    """Ultralytics keeps classes apart by an offset of 7680 px: class 1 at 0 lies upon class 0 at
    7680.
    """
    boxes = (0.9, 7680, 7680, 7780, 7780), (0.8, 0, 0, 100, 100)
    out = image(rows(*boxes, classes=[0, 1]), (20_000, 20_000), method=method).instances
    assert out.boxes.tolist() == [list(box[1:]) for box in boxes]
    boxes = (0.9, 7700, 100, 7800, 200), (0.8, 20, 100, 120, 200)
    assert len(image(rows(*boxes, classes=[0, 1]), (20_000, 20_000), method=method).instances) == 2


@pytest.mark.parametrize("method", METHODS)
def test_confidences_are_not_rounded(method):
    """Ultralytics' DOTA merge rounds to three decimals, which makes ties."""
    confs = [0.9000000001, 0.9, 0.8999999999, 1e-7]
    table = [(conf, 100 * k, 10, 100 * k + 50, 60) for k, conf in enumerate(confs)]
    out = image(rows(*reversed(table)), method=method).instances
    assert out.conf.tolist() == confs
    assert out.boxes[:, 0].tolist() == [0, 100, 200, 300]
    if method in ("cvm", "center"):
        return  # of one tile: they take the tile's own judgement
    close = rows((0.9, 100, 100, 200, 200), (0.9000000001, 110, 100, 210, 200))
    strongest = image(close, method=method).instances
    assert strongest.conf[0] == (
        pytest.approx(0.90000000005, abs=1e-15) if method == "wbf" else 0.9000000001
    )


def test_what_is_suppressed_suppresses_nobody():
    """Ultralytics' fast_nms lets it: of a chain of three it keeps the first only."""
    chain = rows((0.9, 100, 100, 200, 200), (0.8, 130, 100, 230, 200), (0.7, 160, 100, 260, 200))
    assert image(chain, method="nms").instances.boxes[:, 0].tolist() == [100, 160]
    quads = [[(x, 100), (x + 100, 100), (x + 100, 200), (x, 200)] for x in (100, 130, 160)]
    assert image(shapes("obb", *quads), method="nms").instances.boxes[:, 0].tolist() == [100, 160]


# --- patched_yolo_infer, DOTA_devkit, mmrotate


@pytest.mark.parametrize("method", METHODS)
def test_polygons_beyond_65535_px(method):
    """patched_yolo_infer has them as uint16."""
    far = [
        (65_530.5, 70_000.25),
        (65_640.5, 70_000.25),
        (65_640.5, 70_100.25),
        (65_530.5, 70_100.25),
    ]
    near = [(0, 70_000 - 65_536), (100, 70_000 - 65_536), (100, 4_600), (0, 4_600)]
    out = image(shapes("segment", far, near), (100_000, 100_000), method=method).instances
    assert out.boxes[0].tolist() == [65_530.5, 70_000.25, 65_640.5, 70_100.25]
    assert len(out) == 2


def test_halves_of_an_outline_beyond_65535_px():
    windows = [Window(65_000, 65_000, 640, 640), Window(65_512, 65_000, 640, 640)]
    left = shapes("segment", [(500, 100), (640, 100), (640, 200), (500, 200)])
    right = shapes("segment", [(0, 100), (188, 100), (188, 200), (0, 200)])
    out = stitch(list(zip(windows, (left, right), strict=True)), (100_000, 100_000)).instances
    assert out.boxes.tolist() == [[65_500, 65_100, 65_700, 65_200]]
    assert out.rings.geometry()[0].area == 200 * 100


@pytest.mark.parametrize("method", METHODS)
def test_classes_compete_only_when_told_to(method):
    """patched_yolo_infer merges all classes unless told not to, from an IoS of 0.3 on."""
    given = rows((0.9, 100, 100, 200, 200), (0.8, 100, 100, 200, 200), classes=[0, 1])
    assert len(image(given, method=method).instances) == 2
    if method in ("nms", "nmm", "greedy-nmm", "wbf"):
        assert len(image(given, method=method, class_agnostic=True).instances) == 1


def test_an_area_has_no_pixel_more():
    """DOTA_devkit adds 1 to the sides of one box and not of the other: touching boxes overlap
    there.
    """
    touching = rows((0.9, 100, 100, 110, 110), (0.8, 110, 100, 120, 110), (0.7, 100, 110, 110, 120))
    assert len(image(touching, method="nms", iou=0.0).instances) == 3
    # 2/3 exactly: with a pixel more on each side it would be .69
    pair = rows((0.9, 0, 0, 10, 10), (0.8, 2, 0, 12, 10))
    assert len(image(pair, method="nms", iou=2 / 3).instances) == 1
    assert len(image(pair, method="nms", iou=0.67).instances) == 2


def test_the_threshold_is_an_option():
    """DOTA_devkit's is 0.1, whatever one wants."""
    pair = rows((0.9, 0, 0, 10, 10), (0.8, 7, 0, 17, 10))
    counts = [len(image(pair, method="nms", iou=iou).instances) for iou in (0.1, 0.17, 0.18, 0.5)]
    assert counts == [1, 1, 2, 2]
