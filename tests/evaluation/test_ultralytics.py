"""Ultralytics' protocol: its own arrays where they are at hand, and its functions restated as
loops.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED, needs_shared
from tests.evaluation.cases import (
    CASES,
    drawn_boxes,
    drawn_keypoints,
    needs_oracles,
    oracle,
    perfect,
    sample_of,
    samples,
    shuffled,
)
from tests.strategies import quick
from tiler.evaluation import ultralytics
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry import polygons
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings

THRESHOLDS = np.float32(np.linspace(0.5, 0.95, 10))
PX = np.linspace(0, 1, 1000)
CURVES = ("p", "r", "f1", "all_ap", "p_curve", "r_curve", "f1_curve", "prec_values")


def of(sample, legacy=False, max_det=None):
    return ultralytics.evaluate(sample, candidates(sample, 0.499), legacy, max_det)


# --- Ultralytics 8.4.190, restated


def box_iou(boxes, others):
    """utils/metrics.py: box_iou, (labels, detections) in float32."""
    one, other = np.float32(boxes)[:, None], np.float32(others)[None]
    sides = np.clip(
        np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2]), 0, None
    )
    common = sides.prod(axis=2)
    area, area_other = ((b[..., 2:] - b[..., :2]).prod(axis=2) for b in (one, other))
    return common / (area + area_other - common + np.float32(1e-7))


def match_predictions(iou):
    """engine/validator.py; labels by detections of one image, 0 where classes differ."""
    correct = np.zeros((iou.shape[1], 10), bool)
    for t, threshold in enumerate(THRESHOLDS):
        claimed = np.zeros(iou.shape[0], bool)
        for d in range(iou.shape[1]):
            if not (iou[:, d] >= THRESHOLDS[0]).any():
                continue
            free = np.where(claimed, -1, iou[:, d])
            best = free.argmax()
            if free[best] >= threshold:
                correct[d, t] = claimed[best] = True
    return correct


def match_predictions_legacy(iou):
    """The same of 8.3: pairs by falling IoU, unique by detection, then by label."""
    correct = np.zeros((iou.shape[1], 10), bool)
    for t, threshold in enumerate(THRESHOLDS):
        matches = np.array(np.nonzero(iou >= threshold)).T
        if matches.shape[0]:
            if matches.shape[0] > 1:
                matches = matches[iou[matches[:, 0], matches[:, 1]].argsort()[::-1]]
                matches = matches[np.unique(matches[:, 1], return_index=True)[1]]
                matches = matches[np.unique(matches[:, 0], return_index=True)[1]]
            correct[matches[:, 1], t] = True
    return correct


def compute_ap(recall, precision, legacy):
    mrec = np.concatenate(
        [[0.0], recall, [1.0]] if legacy else [[0.0], recall, [recall[-1]], [1.0]]
    )
    mpre = np.concatenate([[1.0], precision, [0.0]] if legacy else [[1.0], precision, [0.0], [0.0]])
    mpre = np.flip(np.maximum.accumulate(np.flip(mpre)))
    x = np.linspace(0, 1, 101)
    y = np.interp(x, mrec, mpre)
    # np.trapezoid, which numpy 1 does not have
    return (np.diff(x) * (y[1:] + y[:-1]) / 2).sum(), mpre, mrec


def smooth(y, f=0.05):
    nf = round(len(y) * f * 2) // 2 + 1
    p = np.ones(nf // 2)
    return np.convolve(np.concatenate([p * y[0], y, p * y[-1]]), np.ones(nf) / nf, mode="valid")


def ap_per_class(tp, conf, pred_cls, target_cls, legacy=False, eps=1e-16):
    i = np.argsort(-conf)
    tp, conf, pred_cls = tp[i], conf[i], pred_cls[i]
    classes, nt = np.unique(target_cls, return_counts=True)
    ap, p_curve, r_curve = (
        np.zeros((len(classes), 10)),
        np.zeros((len(classes), 1000)),
        np.zeros((len(classes), 1000)),
    )
    prec_values = np.zeros((len(classes), 1000))
    for ci, c in enumerate(classes):
        i = pred_cls == c
        if i.sum() == 0:
            continue
        fpc, tpc = (1 - tp[i]).cumsum(0), tp[i].cumsum(0)
        recall, precision = tpc / (nt[ci] + eps), tpc / (tpc + fpc)
        r_curve[ci] = np.interp(-PX, -conf[i], recall[:, 0], left=0)
        p_curve[ci] = np.interp(-PX, -conf[i], precision[:, 0], left=1)
        for j in range(10):
            ap[ci, j], mpre, mrec = compute_ap(recall[:, j], precision[:, j], legacy)
            if j == 0:
                prec_values[ci] = np.interp(PX, mrec, mpre)
    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + eps)
    best = smooth(f1_curve.mean(0), 0.1).argmax() if len(classes) else 0
    result = {
        "all_ap": ap,
        "p_curve": p_curve,
        "r_curve": r_curve,
        "f1_curve": f1_curve,
        "prec_values": prec_values,
    }
    return result | {"p": p_curve[:, best], "r": r_curve[:, best], "f1": f1_curve[:, best]}, classes


def by_loops(sample, legacy, max_det):
    """Image by image: what is kept and correct of the sample's detections, and the curves."""
    truth, found = sample.labels, sample.detections
    correct, kept, met = np.zeros((len(found), 10), bool), np.zeros(len(found), bool), []
    for image in range(sample.images):
        g = np.flatnonzero((truth.image == image) & ~truth.crowd)
        d = sorted(
            np.flatnonzero(found.image == image),
            key=lambda k: (-found.instances.conf[k], found.place[k]),
        )
        d = np.array(d[:max_det], np.int64)
        iou = box_iou(truth.instances.boxes[g], found.instances.boxes[d])
        iou = iou * (truth.instances.class_id[g][:, None] == found.instances.class_id[d])
        correct[d] = (match_predictions_legacy if legacy else match_predictions)(iou)
        kept[d] = True
        met.append(d)
    d = np.concatenate([np.empty(0, np.int64), *met])
    conf, target = np.float32(found.instances.conf[d]), truth.instances.class_id[~truth.crowd]
    return (
        correct,
        kept,
        *ap_per_class(correct[d], conf, found.instances.class_id[d], target, legacy),
    )


def assert_same(results, expected, tolerance=1e-12):
    for name in CURVES:
        np.testing.assert_allclose(
            getattr(results, name), expected[name], rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("max_det", [1, 4, 300])
@pytest.mark.parametrize("legacy", [False, True])
def test_drawn_samples_equal_the_loops(legacy, max_det):
    for seed in range(60):
        sample = sample_of(*drawn_boxes(seed))
        if legacy:  # argsort()[::-1] leaves the order of equal IoU to the processor
            sample = jittered(sample, seed)
        results = of(sample, legacy, max_det)
        correct, kept, expected, classes = by_loops(sample, legacy, max_det)
        np.testing.assert_array_equal(results.correct, correct)
        np.testing.assert_array_equal(results.kept, kept)
        assert results.ap_class_index.tolist() == classes.tolist()
        assert results.max_det == max_det
        assert_same(results, expected)


def jittered(sample, seed):
    """The same with no two IoUs alike."""
    rng = np.random.default_rng(seed)
    truth, found = (
        rows.instances.changed(boxes=rows.instances.boxes + rng.uniform(-0.4, 0.4, (len(rows), 4)))
        for rows in (sample.labels, sample.detections)
    )
    labels = GroundTruth(truth, sample.labels.image, sample.labels.crowd)
    return EvaluationInputs(
        labels, Predicted.of(found, sample.detections.image), sample.images, sample.classes
    )


@quick
@given(samples(), st.sampled_from([1, 3, 300]))
def test_samples_with_ties_equal_the_loops(sample, max_det):
    results = of(sample, max_det=max_det)
    correct, kept, expected, _ = by_loops(sample, False, max_det)
    np.testing.assert_array_equal(results.correct, correct)
    np.testing.assert_array_equal(results.kept, kept)
    assert_same(results, expected)


def test_long_curves_equal_the_loops():
    """Many detections of few labels, so that recall stands still for long."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (60, 2))
    labels = np.concatenate([corners, corners + rng.uniform(5, 40, (60, 2))], axis=1)
    boxes = labels[rng.integers(0, 60, 2000)] + rng.normal(0, 2, (2000, 4))
    truth = GroundTruth(Instances(rng.integers(0, 2, 60), labels), np.sort(rng.integers(0, 3, 60)))
    found = Instances(rng.integers(0, 3, 2000), boxes, conf=rng.random(2000))
    sample = EvaluationInputs(truth, Predicted.of(found, rng.integers(0, 3, 2000)), 3, 3)
    for legacy in (False, True):
        for max_det in (50, 3000):
            assert_same(of(sample, legacy, max_det), by_loops(sample, legacy, max_det)[2])


# --- oracles


def sorted_as_here(arrays):
    """Whether numpy here puts equal confidences in the order in which the oracle was counted."""
    known = ap_per_class(
        arrays["ul_correct"],
        np.float32(arrays["ul_conf"]),
        arrays["ul_pred_cls"],
        arrays["ul_target_cls"],
    )
    return np.allclose(known[0]["all_ap"], arrays["ul_ap"], rtol=0, atol=1e-9)


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_the_arrays_of_the_oracles(case):
    gt, dt, expected, arrays = oracle(case)
    sample = sample_of(gt, dt)
    results, legacy = of(sample, max_det=300), of(sample, True, 300)
    numbers = expected["ultralytics"]
    if "ul_p" not in arrays:
        assert (results.map, legacy.map, len(results.p)) == (0, 0, 0)
        assert not any(numbers.values())
        return
    order = ultralytics.by_image(sample)
    for name, found in (("correct", results), ("legacy_correct", legacy)):
        np.testing.assert_array_equal(
            found.correct[order[found.kept[order]]], arrays[f"ul_{name}"], err_msg=name
        )
    assert results.ap_class_index.tolist() == arrays["ul_ap_class_index"].tolist()
    if case.startswith("fuzz") and not sorted_as_here(arrays):
        pytest.skip("numpy here sorts equal confidences otherwise than where the oracle was made")
    for name in ("p", "r", "f1", "p_curve", "r_curve", "f1_curve", "prec_values", "px"):
        np.testing.assert_allclose(
            getattr(results, name), arrays[f"ul_{name}"], rtol=0, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(results.all_ap, arrays["ul_ap"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(legacy.all_ap, arrays["ul_legacy_ap"], rtol=0, atol=1e-6)
    for name in ("mp", "mr", "map50", "map75", "map"):
        assert getattr(results, name) == pytest.approx(numbers[name], abs=1e-6), name
    for name in ("map50", "map"):
        assert getattr(legacy, name) == pytest.approx(numbers[f"legacy_{name}"], abs=1e-6), name


# --- properties


@quick
@given(samples(distinct=True), st.booleans(), st.randoms())
def test_the_order_of_detections_of_distinct_confidence_counts_for_nothing(sample, legacy, random):
    order = np.array(random.sample(range(len(sample.detections)), len(sample.detections)), np.int64)
    one, other = of(shuffled(sample, order), legacy), of(sample, legacy)
    np.testing.assert_array_equal(one.correct, other.correct)
    assert_same(one, {name: getattr(other, name) for name in CURVES}, 0)


@quick
@given(samples(crowds=False), st.booleans())
def test_a_perfect_detector_has_an_ap_of_0995(sample, legacy):
    size = (sample.labels.instances.boxes[:, 2:] > sample.labels.instances.boxes[:, :2]).all(axis=1)
    keys = np.column_stack(
        [sample.labels.image, sample.labels.instances.class_id, sample.labels.instances.boxes]
    )
    first = np.zeros(len(size), bool)  # 8.3 has no second choice among equal labels
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    truth = GroundTruth(
        sample.labels.instances.take(size & first), sample.labels.image[size & first]
    )
    results = of(
        perfect(EvaluationInputs(truth, sample.detections, sample.images, sample.classes)), legacy
    )
    np.testing.assert_allclose(results.all_ap, 0.995, atol=1e-12)
    assert results.map == (pytest.approx(0.995) if len(truth) else 0)


@quick
@given(samples(), st.booleans())
def test_images_and_classes_without_labels_and_detections_change_nothing(sample, legacy):
    more = EvaluationInputs(sample.labels, sample.detections, sample.images + 2, sample.classes + 1)
    one, other = of(more, legacy), of(sample, legacy)
    assert_same(one, {name: getattr(other, name) for name in CURVES}, 0)
    assert one.nt_per_class.tolist() == [*other.nt_per_class, 0]
    assert one.maps.tolist() == [*other.maps, other.map]


@quick
@given(samples(), st.booleans())
def test_crowds_are_as_if_they_were_not_there(sample, legacy):
    truth = sample.labels
    labels = GroundTruth(truth.instances.take(~truth.crowd), truth.image[~truth.crowd])
    without = EvaluationInputs(labels, sample.detections, sample.images, sample.classes)
    assert_same(
        of(sample, legacy), {name: getattr(of(without, legacy), name) for name in CURVES}, 0
    )


# --- by hand


def row(boxes, conf=None, classes=None):
    boxes = np.array(boxes, float).reshape(-1, 4)
    classes = np.zeros(len(boxes), int) if classes is None else np.array(classes)
    return Instances(classes, boxes, conf=None if conf is None else np.array(conf, float))


def one_image(labels, found, classes=1):
    image = [np.zeros(len(rows), int) for rows in (labels, found)]
    return EvaluationInputs(
        GroundTruth(labels, image[0]), Predicted.of(found, image[1]), 1, classes
    )


def test_8_3_has_no_second_choice():
    # the second detection prefers the label that the first has taken
    sample = one_image(
        row([[0, 0, 10, 10], [0, 2, 10, 12]]), row([[0, 0, 10, 10], [0, 0.5, 10, 10.5]], [0.9, 0.8])
    )
    assert of(sample).correct[:, 0].tolist() == [True, True]
    assert of(sample, legacy=True).correct[:, 0].tolist() == [True, False]


def test_of_labels_that_overlap_alike_the_first_now_and_the_last_in_8_3():
    # the second detection is good enough for one of the two labels only
    equal = (
        row([[0, 0, 10, 10], [0, 5, 10, 15]]),
        row([[0, 2.5, 10, 12.5], [0, 0, 10, 10]], [0.9, 0.8]),
    )
    assert of(one_image(*equal)).correct[:, 0].tolist() == [True, False]
    assert of(one_image(*equal), legacy=True).correct[:, 0].tolist() == [True, True]


def test_of_tiny_boxes_the_eps_decides():
    half = one_image(row([[0, 0, 1, 1]]), row([[0, 0, 1, 0.5]], [0.9]))
    assert not of(half).correct.any()
    larger = one_image(row([[0, 0, 2, 2]]), row([[0, 0, 2, 1]], [0.9]))
    assert of(larger).correct[0].tolist() == [True] + [False] * 9


def test_the_limit_rises_with_the_labels_of_an_image():
    boxes = [[9 * (k % 40), 9 * (k // 40), 9 * (k % 40) + 8, 9 * (k // 40) + 8] for k in range(400)]
    sample = one_image(row(boxes), row(boxes, np.linspace(1, 0.1, 400)))
    assert (of(sample).max_det, of(sample, legacy=True).max_det, of(sample, max_det=7).max_det) == (
        400,
        300,
        7,
    )
    assert of(sample).kept.sum() == 400
    assert of(sample, legacy=True).kept.sum() == 300
    assert of(sample, max_det=7).correct[:, 0].sum() == 7
    assert of(sample).map == pytest.approx(0.995)


def test_the_limit_counts_all_classes_together():
    sample = one_image(
        row([[0, 0, 8, 8]]), row([[0, 0, 8, 8], [9, 9, 20, 20]], [0.4, 0.9], [0, 1]), 2
    )
    assert of(sample, max_det=1).kept.tolist() == [False, True]
    assert of(sample, max_det=1).map == 0
    assert of(sample, max_det=2).map == pytest.approx(0.995)


def test_the_names_of_the_results():
    sample = one_image(
        row([[0, 0, 8, 8], [20, 0, 28, 8], [0, 20, 8, 28]], classes=[0, 0, 2]),
        row([[0, 0, 8, 8], [40, 40, 48, 48], [20, 0, 28, 6.0]], [0.9, 0.8, 0.7]),
        4,
    )
    box = of(sample)
    assert (box.nc, box.ap_class_index.tolist(), box.nt_per_class.tolist()) == (
        4,
        [0, 2],
        [2, 0, 1, 0],
    )
    assert box.ap.shape == box.ap50.shape == box.p.shape == (2,)
    assert box.ap[1] == box.r[1] == 0
    assert box.map == pytest.approx(box.ap.mean())
    assert box.maps.tolist() == [box.ap[0], box.map, 0, box.map]
    assert box.mean_results() == [box.mp, box.mr, box.map50, box.map]
    assert box.class_result(0) == (box.p[0], box.r[0], box.ap50[0], box.ap[0])
    assert box.fitness() == box.map
    assert box.map75 == box.all_ap[:, 5].mean()
    assert box.f1_curve[0, np.searchsorted(PX, box.best_conf[0])] == box.f1_curve[0].max()
    assert box.p[0] == box.p_curve[0, np.searchsorted(PX, box.conf)]


def test_nothing():
    for classes in (0, 2):
        box = of(one_image(row([]), row([], []), classes))
        assert box.mean_results() == [0, 0, 0, 0]
        assert box.all_ap.shape == (0, 10)
        assert box.best_conf.shape == (0,)
        assert box.maps.tolist() == [0] * classes
    only_labels = of(one_image(row([[0, 0, 8, 8]]), row([], [])))
    assert (only_labels.map, only_labels.mp, only_labels.mr, only_labels.all_ap.shape) == (
        0,
        0,
        0,
        (1, 10),
    )
    only_found = of(one_image(row([]), row([[0, 0, 8, 8]], [0.5])))
    assert (only_found.map, only_found.p.shape, only_found.correct.any()) == (0, (0,), False)


# --- OBBs and keypoints


def turned(x, y, w, h, angle):
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return np.array([x, y]) + corners @ np.array([[c, s], [-s, c]])


def probiou(one, other, eps=1e-7):
    """utils/metrics.py: probiou of x, y, w, h, angle, as published."""

    def covariance(w, h, angle):
        a, b, c, s = w**2 / 12, h**2 / 12, np.cos(angle), np.sin(angle)
        return a * c**2 + b * s**2, a * s**2 + b * c**2, (a - b) * c * s

    (x1, y1, *r1), (x2, y2, *r2) = one, other
    (a1, b1, c1), (a2, b2, c2) = covariance(*r1), covariance(*r2)
    room = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
    t1 = ((a1 + a2) * (y1 - y2) ** 2 + (b1 + b2) * (x1 - x2) ** 2) / (room + eps) * 0.25
    t2 = (c1 + c2) * (x2 - x1) * (y1 - y2) / (room + eps) * 0.5
    own = max(a1 * b1 - c1**2, 0) * max(a2 * b2 - c2**2, 0)
    t3 = np.log(room / (4 * np.sqrt(own) + eps) + eps) * 0.5
    distance = np.clip(t1 + t2 + t3, eps, 100)
    return 1 - np.sqrt(1 - np.exp(-distance) + eps)


def test_probiou_is_that_of_centre_sides_and_angle():
    rng = np.random.default_rng(0)
    ones = np.column_stack(
        [rng.uniform(0, 60, (200, 2)), rng.uniform(3, 40, (200, 2)), rng.uniform(-4, 4, 200)]
    )
    others = ones + rng.normal(0, 1, (200, 5)) * [3, 3, 1, 1, 0.2]
    found = ultralytics.probiou(*(np.array([turned(*r) for r in rows]) for rows in (ones, others)))
    expected = [probiou(one, other) for one, other in zip(ones, others, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # whichever corner comes first
    again = ultralytics.probiou(
        *(np.roll([turned(*r) for r in rows], k, axis=1) for k, rows in ((1, ones), (2, others)))
    )
    np.testing.assert_allclose(again, expected, atol=1e-9)


def test_obbs_are_matched_by_probiou():
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 120, (30, 2))
    given = np.column_stack([corners, rng.uniform(8, 30, (30, 2)), rng.uniform(-3, 3, 30)])
    like = rng.integers(0, 30, 60)
    moved = given[like] + rng.normal(0, 1, (60, 5)) * [2, 2, 1, 1, 0.1]

    def rows(values, conf=None):
        rings = Rings.from_quads(np.array([turned(*v) for v in values]))
        return Instances(
            np.zeros(len(values), int), rings.bounds(), rings=rings, conf=conf, task="obb"
        )

    truth, found = rows(given), Predicted.of(rows(moved, rng.random(60)), np.zeros(60, int))
    sample = EvaluationInputs(GroundTruth(truth, np.zeros(30, int)), found, 1, 1, "obb")
    iou = np.array([[probiou(g, d) for d in moved[found.place]] for g in given])
    np.testing.assert_array_equal(of(sample).correct, match_predictions(iou))
    np.testing.assert_array_equal(of(sample, legacy=True).correct, match_predictions_legacy(iou))


@pytest.fixture(scope="module")
def quads():
    """Labels that are no rectangles, as in DOTA, and what Ultralytics 8.4.190 makes of them."""
    return json.loads((SHARED / "oracles/obb_quads/oracle.json").read_text())


@needs_shared
def test_corners_stand_for_the_rectangle_that_ultralytics_sees(quads):
    for name, image in quads["images"].items():
        corners = {
            kind: np.array(image[f"{kind}s"])[:, 1:9].reshape(-1, 4, 2)
            for kind in ("label", "detection")
        }
        for kind, quad in corners.items():
            np.testing.assert_allclose(
                polygons.xywhr(quad), quads["pairs"][name][f"{kind}_xywhr"], atol=1e-3
            )
        i, j = np.indices((len(corners["label"]), len(corners["detection"]))).reshape(2, -1)
        found = ultralytics.probiou(corners["label"][i], corners["detection"][j])
        np.testing.assert_allclose(found, np.ravel(quads["pairs"][name]["probiou"]), atol=1e-3)


@needs_shared
def test_labels_of_any_corners_score_as_ultralytics_scores_them(quads):
    def rows(kind):
        images = [image[kind] for image in quads["images"].values()]
        table = np.concatenate(images)
        rings = Rings.from_quads(table[:, 1:9].reshape(-1, 4, 2))
        conf = table[:, 9] if kind == "detections" else None
        instances = Instances(
            table[:, 0].astype(int), rings.bounds(), rings=rings, conf=conf, task="obb"
        )
        return instances, np.repeat(np.arange(len(images)), [len(image) for image in images])

    sample = EvaluationInputs(
        GroundTruth(*rows("labels")),
        Predicted.of(*rows("detections")),
        len(quads["images"]),
        len(quads["names"]),
        "obb",
    )
    results, expected = of(sample), quads["expected"]
    np.testing.assert_allclose(results.all_ap, expected["ap"], atol=1e-6)
    for name in ("map50", "map75", "map", "mp", "mr"):
        assert getattr(results, name) == pytest.approx(expected[name], abs=1e-6)


def test_keypoints_are_matched_by_oks_over_a_part_of_the_box():
    # metrics.py: OKS_SIGMA
    sigmas = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
    met = 0
    for seed in range(30):
        sample = sample_of(*drawn_keypoints(seed), "pose")
        truth, found = sample.labels, sample.detections
        results = ultralytics.evaluate(sample, candidates(sample, 0.499))
        for image in range(sample.images):
            g = np.flatnonzero((truth.image == image) & ~truth.crowd)
            d = np.array(
                sorted(
                    np.flatnonzero(found.image == image),
                    key=lambda k: (-found.instances.conf[k], found.place[k]),
                ),
                int,
            )
            labels, points = (
                truth.instances.keypoints[g][:, None],
                found.instances.keypoints[d][None],
            )
            squared = ((labels[..., :2] - points[..., :2]) ** 2).sum(axis=-1)
            seen = labels[..., 2] != 0
            area = truth.box_area[g][:, None, None] * 0.53
            alike = np.exp(-squared / ((2 * sigmas) ** 2 * (area + 1e-7) * 2)) * seen
            oks = alike.sum(axis=-1) / (seen.sum(axis=-1) + 1e-7)
            oks = oks * (truth.instances.class_id[g][:, None] == found.instances.class_id[d])
            if oks.size and (np.abs(oks[..., None] - THRESHOLDS) < 1e-6).any():
                continue  # float32 decides
            np.testing.assert_array_equal(results.correct[d], match_predictions(oks))
            met += results.correct[d].sum()
    assert met > 100
