"""The simulated detector of the benchmarks does what its text says."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import ROOT
from tiler.geometry.grids import grid
from tiler.geometry.instances import Instances, empty
from tiler.geometry.window import Window

SPEC = importlib.util.spec_from_file_location("detector", ROOT / "benchmarks" / "detector.py")
# dataclasses look their module up
detector = sys.modules["detector"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(detector)

SIZE = 2944
WINDOWS = grid(SIZE, SIZE, tile=640, overlap=128)
kinds = pytest.mark.parametrize("kind", detector.KINDS)


def detect(truth, noise=None, seed=0, windows=WINDOWS):
    return detector.detect(truth, windows, (SIZE, SIZE), noise or detector.Noise(), seed)


def in_order(rows):
    """(class, box) rows, sorted."""
    return np.array(sorted(np.column_stack([rows.class_id, rows.boxes]).tolist())).reshape(-1, 5)


def confs_of_whole(truth, parts):
    """{object: its confidence in every window that shows it whole}, where more than one does; sides
    without noise.
    """
    found = {}
    for window, rows in parts:
        boxes = rows.boxes + np.tile([window.x, window.y], 2)
        for k, wanted in enumerate(truth.boxes):
            hit = np.flatnonzero((boxes == wanted).all(axis=1))
            if len(hit):
                found.setdefault(k, []).append(rows.conf[hit[0]])
    return {k: confs for k, confs in found.items() if len(confs) > 1}


@kinds
def test_scenes_are_made_of_their_seed_and_lie_in_the_image(kind):
    one, again, other = (detector.scenes(kind, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.boxes, again.boxes)
    np.testing.assert_array_equal(one.class_id, again.class_id)
    assert not np.array_equal(one.boxes, other.boxes)
    assert (one.boxes >= 0).all() and (one.boxes <= SIZE).all()
    assert (one.boxes[:, 2:] - one.boxes[:, :2] > 5).all()


def test_scenes_are_what_they_are_called():
    sides = {
        kind: np.diff(detector.scenes(kind, 0).boxes.reshape(-1, 2, 2), axis=1)[:, 0]
        for kind in detector.KINDS
    }
    assert sides["small"].max() < 64
    assert sides["large"].min() > 128
    assert (sides["large"].max(axis=1) > 640).any()
    assert len(sides["large"]) == 30
    assert len(sides["crowd"]) == 864


@kinds
def test_the_same_seed_gives_the_same_detections(kind):
    truth = detector.scenes(kind, 0)
    for (window, one), (same, again), (_, other) in zip(
        detect(truth), detect(truth), detect(truth, seed=1), strict=True
    ):
        assert window == same
        np.testing.assert_array_equal(one.boxes, again.boxes)
        np.testing.assert_array_equal(one.conf, again.conf)
        assert not len(one) or not np.array_equal(one.boxes, other.boxes)


def test_a_window_is_not_moved_by_the_others():
    truth = detector.scenes("mixed", 0)
    for (_, one), window in zip(detect(truth), WINDOWS, strict=True):
        [(_, alone)] = detect(truth, windows=[window])
        np.testing.assert_array_equal(one.boxes, alone.boxes)


@kinds
@pytest.mark.parametrize("edge", ["shift", "pad"])
def test_detections_lie_in_their_window_and_in_the_image(kind, edge):
    windows = grid(SIZE, SIZE, tile=640, overlap=100, edge=edge)
    for window, rows in detect(
        detector.scenes(kind, 0), detector.Noise(gap=4, false_positives=5), windows=windows
    ):
        assert len(rows.conf) == len(rows)
        assert (rows.boxes[:, 2:] > rows.boxes[:, :2]).all()
        assert (rows.boxes >= 0).all()
        assert (
            rows.boxes[:, 2:]
            <= [min(window.width, SIZE - window.x), min(window.height, SIZE - window.y)]
        ).all()
        assert ((rows.conf > 0) & (rows.conf < 1)).all()
        assert (np.diff(rows.conf) <= 0).all()


@kinds
def test_without_noise_it_reports_the_clips(kind):
    truth = detector.scenes(kind, 0)
    for window, rows in detect(truth, detector.NOISELESS):
        np.testing.assert_allclose(in_order(rows), in_order(window.clip(truth)), atol=1e-9)


def test_less_of_an_object_is_less_sure():
    truth = Instances(class_id=np.array([0]), boxes=np.array([[100, 100, 500, 500.0]]))
    windows = [Window(x, 100, 600, 600) for x in (0, 200, 300, 400, 450)]
    confs = [float(rows.conf[0]) for _, rows in detect(truth, detector.NOISELESS, windows=windows)]
    assert confs == sorted(confs, reverse=True)
    assert len(set(confs)) == len(confs)
    sliver = Window(497, 100, 600, 600)
    [(_, rows)] = detect(truth, detector.NOISELESS, windows=[sliver])
    assert rows.conf[0] < confs[-1] / 2


def test_errors_in_common_are_the_same_in_all_tiles_of_an_object():
    truth = detector.scenes("small", 0)
    noise = replace(detector.NOISELESS, score=0.9, correlation=1)
    shared = confs_of_whole(truth, detect(truth, noise))
    assert len(shared) > 20
    assert all(max(confs) == min(confs) for confs in shared.values())
    assert len({confs[0] for confs in shared.values()}) == len(shared)
    apart = confs_of_whole(truth, detect(truth, replace(noise, correlation=0)))
    assert all(max(confs) > min(confs) for confs in apart.values())


def test_cut_ends_lie_a_gap_inside_the_edge_and_other_sides_stay():
    boxes = np.array([[600, 50.0 * k, 700, 50.0 * k + 40] for k in range(12)])
    truth = Instances(class_id=np.zeros(12, np.int64), boxes=boxes)
    [(_, rows)] = detect(
        truth, replace(detector.NOISELESS, gap=2), windows=[Window(0, 0, 640, 640)]
    )
    assert (rows.boxes[:, 2] < 640).all() and (rows.boxes[:, 2] > 620).all()
    assert len(set(rows.boxes[:, 2])) == 12
    np.testing.assert_array_equal(np.sort(rows.boxes[:, 1]), boxes[:, 1])


def test_each_tile_has_its_own_nms():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 80], [0, 0, 100, 60.0]])
    for classes, left in (([0, 0, 0], 2), ([0, 1, 0], 3)):
        truth = Instances(class_id=np.array(classes), boxes=boxes)
        [(_, rows)] = detect(
            truth, replace(detector.NOISELESS, nms=0.7), windows=[Window(0, 0, 640, 640)]
        )
        assert len(rows) == left


def test_where_there_is_nothing_nothing_is_found():
    assert [len(rows) for _, rows in detect(empty(), windows=WINDOWS[:3])] == [0, 0, 0]
    assert detect(detector.scenes("small", 0), windows=[]) == []
