"""COCO's protocol is pycocotools' to 1e-12, on its oracles and on samples drawn to be awkward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.cases import (
    CASES,
    by_pycocotools,
    drawn_boxes,
    drawn_keypoints,
    drawn_segments,
    kept,
    needs_oracles,
    oracle,
    perfect,
    sample_of,
    samples,
    shuffled,
)
from tests.strategies import quick
from tiler.evaluation import coco
from tiler.evaluation.bins import ALL, COCO, PRESETS, Bin
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry.instances import Instances

BINS = (ALL, *COCO.bins)
# pycocotools' summary, in the order of its `stats`
TWELVE = [
    ("ap", {}),
    ("ap", {"iou": 0.5}),
    ("ap", {"iou": 0.75}),
    *(("ap", {"bin": name}) for name in ("small", "medium", "large")),
    *(("ar", {"max_dets": most}) for most in (1, 10, 100)),
    *(("ar", {"bin": name}) for name in ("small", "medium", "large")),
]


def assert_same(curves, expected):
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(curves, name), expected[name], err_msg=name)


def of(sample, bins=BINS, max_dets=coco.MAX_DETS, thresholds=coco.THRESHOLDS):
    return coco.evaluate(sample, candidates(sample, min(thresholds)), bins, max_dets, thresholds)


# --- oracles


@needs_oracles
@pytest.mark.parametrize("preset", ["coco", "aitod"])
@pytest.mark.parametrize("case", CASES)
def test_the_arrays_of_the_oracles(case, preset):
    gt, dt, _, arrays = oracle(case)
    caps = (1, 10, 100) if preset == "coco" else (1, 100, 1500)
    curves = of(sample_of(gt, dt), (ALL, *PRESETS[preset].bins), caps)
    # pycocotools takes the label with id 0 for one that is not found; not so if they begin at 1
    if case == "gt_id_zero":
        labels = [{**a, "id": a["id"] + 1} for a in gt["annotations"]]
        arrays = by_pycocotools(
            {**gt, "annotations": labels}, dt, (ALL, *PRESETS[preset].bins), caps
        )
        arrays = {f"{preset}_{name}": values for name, values in arrays.items()}
        assert curves.ap() == 1.0
    expected = {
        name: arrays[f"{preset}_{name}"]
        for name in ("precision", "recall", "scores")
        if f"{preset}_{name}" in arrays
    }
    assert {"precision", "recall"} <= expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(curves, name), values, rtol=0, atol=1e-12, err_msg=name)


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_the_twelve_numbers_of_the_oracles(case):
    gt, dt, expected, _ = oracle(case)
    curves = of(sample_of(gt, dt))
    found = [getattr(curves, kind)(**options) for kind, options in TWELVE]
    if case == "gt_id_zero":
        assert curves.ap() == curves.ap(iou=0.5) == curves.ar() == 1.0
        return
    np.testing.assert_allclose(
        np.nan_to_num(found, nan=-1), expected["coco_stats_1_10_100"], rtol=0, atol=1e-12
    )


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_the_bins_of_aitod_in_the_oracles(case):
    gt, dt, expected, _ = oracle(case)
    curves = of(sample_of(gt, dt), (ALL, *PRESETS["aitod"].bins), (1, 100, 1500))
    for name, value in expected["aitod_ap_1500"].items():
        if case == "gt_id_zero" and value > -1:  # all are found, that with id 0 too
            value = 1.0
        assert np.nan_to_num(curves.ap(name), nan=-1) == pytest.approx(value, abs=1e-12), name


# --- drawn samples

KINDS = {"detect": drawn_boxes, "segment": drawn_segments, "pose": drawn_keypoints}


@pytest.mark.parametrize("seed", range(150))
def test_boxes_equal_pycocotools(seed):
    gt, dt = drawn_boxes(seed)
    assert_same(of(sample_of(gt, dt)), by_pycocotools(gt, dt, BINS, (1, 10, 100)))


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_boxes_in_other_bins_under_other_limits_and_thresholds_equal_pycocotools(seed):
    gt, dt = drawn_boxes(seed)
    preset = PRESETS[["aitod", "tinyperson", "soda"][seed % 3]]
    bins, caps = (
        (ALL, *preset.bins, Bin("odd", 33.5, 400)),
        [(2, 3, 1500), (5,), (1, 7)][seed // 3 % 3],
    )
    thresholds = np.array(preset.thresholds or (0.1, 0.5, 0.95, 1.0))
    curves = of(sample_of(gt, dt), bins, caps, thresholds)
    assert_same(curves, by_pycocotools(gt, dt, bins, caps, thresholds=thresholds))


@pytest.mark.parametrize("seed", range(3))
def test_more_than_a_hundred_detections_in_an_image_equal_pycocotools(seed):
    gt, dt = drawn_boxes(seed, most_found=260)
    assert_same(of(sample_of(gt, dt)), by_pycocotools(gt, dt, BINS, (1, 10, 100)))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("seed", range(40))
def test_outlines_equal_pycocotools(seed):
    gt, dt = drawn_segments(seed)
    assert_same(
        of(sample_of(gt, dt, "segment")), by_pycocotools(gt, dt, BINS, (1, 10, 100), "segment")
    )


@pytest.mark.parametrize("seed", range(40))
def test_keypoints_equal_pycocotools(seed):
    gt, dt = drawn_keypoints(seed)
    bins, caps = (
        [(ALL, *COCO.bins[1:]), (ALL, Bin.of("medium", 24, 40))][seed % 2],
        [(20,), (3, 20)][seed % 2],
    )
    assert_same(
        of(sample_of(gt, dt, "pose"), bins, caps), by_pycocotools(gt, dt, bins, caps, "pose")
    )


@pytest.mark.parametrize("count", [3, 49, 100, 107, 200])
def test_recalls_that_no_fraction_hits_equal_pycocotools(count):
    """7 of 100 labels are a recall of .07, though .07 * 100 is more than 7."""
    rng = np.random.default_rng(count)
    boxes = [[float(9 * k), 0.0, 8.0, 8.0] for k in range(count)]
    labels = [
        {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": b, "area": 64.0, "iscrowd": 0}
        for k, b in enumerate(boxes)
    ]
    gt = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": labels}
    found = [*boxes, *([9.0 * k, 50.0, 8.0, 8.0] for k in range(count // 2))]
    dt = [
        {"image_id": 1, "category_id": 1, "bbox": b, "score": s}
        for b, s in zip(found, rng.random(len(found)), strict=True)
    ]
    assert_same(of(sample_of(gt, dt), max_dets=(10, 400)), by_pycocotools(gt, dt, BINS, (10, 400)))


def test_what_is_drawn_is_awkward_enough():
    """The draws hold what they were made for: ties of confidence and of IoU, crowds, degenerate
    boxes, empty images.
    """
    seen = dict.fromkeys(
        [
            "crowd",
            "tied",
            "equal",
            "at a threshold",
            "no size",
            "no label",
            "no detection",
            "no label of",
        ],
        0,
    )
    for seed in range(80):
        sample = sample_of(*drawn_boxes(seed))
        truth, found, pairs = sample.labels, sample.detections, candidates(sample)
        seen["crowd"] += truth.crowd[pairs.label].any()
        seen["tied"] += len(np.unique(found.instances.conf)) < len(found)
        seen["equal"] += ((np.diff(pairs.iou) == 0) & (np.diff(pairs.detection) == 0)).any()
        seen["at a threshold"] += np.isin(pairs.iou, coco.THRESHOLDS).any()
        seen["no size"] += (found.box_area <= 0).any() and (truth.box_area <= 0).any()
        seen["no label"] += len(np.unique(truth.image)) < sample.images
        seen["no detection"] += len(np.unique(found.image)) < sample.images
        seen["no label of"] += not np.isin(found.instances.class_id, truth.instances.class_id).all()
    assert min(seen.values()) >= 5, seen


# --- matching


def by_loop(sample, ignored, thresholds):
    """cocoeval.py: evaluateImg, detection by detection."""
    truth, found = sample.labels, sample.detections
    pairs = candidates(sample, min(thresholds))
    iou = np.zeros((len(found), len(truth)))
    iou[pairs.detection, pairs.label] = pairs.iou
    result = np.full((len(found), len(thresholds)), -1)
    labels = np.argsort(ignored, kind="stable")
    for t, threshold in enumerate(thresholds):
        for d in range(len(found)):
            best, m = min(threshold, 1 - 1e-10), -1
            for g in labels:
                if g in result[:, t] and not truth.crowd[g]:
                    continue
                if m > -1 and not ignored[m] and ignored[g]:
                    break
                if iou[d, g] >= best:
                    best, m = iou[d, g], g
            result[d, t] = m
    return result


@quick
@given(samples(), st.booleans())
def test_matched_is_what_a_loop_finds(sample, more):
    ignored = (
        sample.labels.crowd | (np.arange(len(sample.labels)) % 3 == 0)
        if more
        else sample.labels.crowd
    )
    truth = GroundTruth(sample.labels.instances, sample.labels.image, sample.labels.crowd, ignored)
    sample = EvaluationInputs(truth, sample.detections, sample.images, sample.classes)
    thresholds = np.array([0.1, 0.5, 0.75, 1.0])
    assert (
        coco.matched(sample, candidates(sample, 0.1), thresholds).tolist()
        == by_loop(sample, ignored, thresholds).tolist()
    )


@quick
@given(samples())
def test_each_label_is_taken_once_but_crowds(sample):
    result = coco.matched(sample, candidates(sample))
    truth, found = sample.labels, sample.detections
    for column in result.T:
        once = column[column >= 0]
        once = once[~truth.crowd[once]]
        assert len(np.unique(once)) == len(once)
        d = np.flatnonzero(column >= 0)
        assert (truth.image[column[d]] == found.image[d]).all()
        assert (truth.instances.class_id[column[d]] == found.instances.class_id[d]).all()


# --- properties


def same(one, other):
    assert_same(one, {name: getattr(other, name) for name in ("precision", "recall", "scores")})


@quick
@given(samples(distinct=True), st.randoms())
def test_the_order_of_detections_of_distinct_confidence_counts_for_nothing(sample, random):
    order = np.array(random.sample(range(len(sample.detections)), len(sample.detections)), np.int64)
    same(of(shuffled(sample, order)), of(sample))


@quick
@given(
    samples(),
    st.lists(st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999)), min_size=3, max_size=3),
)
def test_where_an_image_begins_counts_for_nothing(sample, shifts):
    dx, dy = np.array(shifts, float).T
    truth, found = sample.labels, sample.detections
    labels = truth.instances.moved(dx[truth.image], dy[truth.image])
    detections = found.instances.moved(dx[found.image], dy[found.image])
    moved = EvaluationInputs(
        GroundTruth(labels, truth.image, truth.crowd),
        Predicted.of(detections, found.image),
        sample.images,
        sample.classes,
    )
    same(of(moved), of(sample))


@quick
@given(samples())
def test_images_and_classes_without_labels_and_detections_change_nothing(sample):
    more = EvaluationInputs(sample.labels, sample.detections, sample.images + 3, sample.classes + 1)
    one, other = of(more), of(sample)
    assert (one.precision[:, :, -1] == -1).all()
    assert (one.recall[:, -1] == -1).all()
    same(
        coco.Curves(
            one.bins,
            one.max_dets,
            one.thresholds,
            one.precision[:, :, :-1],
            one.recall[:, :-1],
            one.scores[:, :, :-1],
            one.labels,
        ),
        other,
    )
    np.testing.assert_equal(one.ap(), other.ap())


@quick
@given(samples(crowds=False), st.integers(0, 9))
def test_a_perfect_detector_has_an_ap_of_one(sample, seed):
    size = (sample.labels.instances.boxes[:, 2:] > sample.labels.instances.boxes[:, :2]).all(axis=1)
    truth = GroundTruth(sample.labels.instances.take(size), sample.labels.image[size])
    curves = of(
        perfect(EvaluationInputs(truth, sample.detections, sample.images, sample.classes), seed)
    )
    for value in (curves.ap(), curves.ar()):
        assert value == pytest.approx(1, abs=1e-12) if len(truth) else np.isnan(value)


@quick
@given(samples(distinct=True), st.data())
def test_ap_does_not_fall_when_a_false_positive_goes(sample, data):
    matched = coco.matched(sample, candidates(sample), np.array([0.5]))[:, 0]
    wrong = np.flatnonzero(matched < 0)
    if len(wrong):
        without = kept(
            sample, np.arange(len(sample.detections)) != data.draw(st.sampled_from(wrong.tolist()))
        )
        before, after = (
            of(s, (ALL,), (1000,), np.array([0.5])).precision for s in (sample, without)
        )
        assert (after >= before - 1e-12).all()


@quick
@given(samples(), st.integers(0, 5))
def test_no_limit_is_any_that_leaves_all_in(sample, more):
    most = sample.most()
    assert sample.detections.rank.max(initial=-1) < most
    one, other = of(sample, max_dets=(most,)), of(sample, max_dets=(most + more,))
    same(one, other)


@quick
@given(samples())
def test_limits_and_bins_count_alone_as_they_do_together(sample):
    together = of(sample, BINS, (3, 1))
    assert together.max_dets == (1, 3)
    for m, cap in enumerate(together.max_dets):
        for a, size in enumerate(BINS):
            alone = of(sample, (size,), (cap,))
            np.testing.assert_array_equal(alone.precision[..., 0, 0], together.precision[..., a, m])
            np.testing.assert_array_equal(alone.labels[:, 0], together.labels[:, a])
            np.testing.assert_equal(alone.ap(size.name), together.ap(size.name, cap))
            np.testing.assert_equal(alone.ar(size.name), together.ar(size.name, cap))


# --- by hand


def three():
    """Two labels of class 0, found at IoU 1 and 0.75, and a false alarm between; one of class 1,
    not found.
    """
    truth = Instances(np.array([0, 0, 1]), np.array([[0, 0, 8, 8], [20, 0, 28, 8], [0, 0, 8, 8.0]]))
    boxes = np.array([[0, 0, 8, 8], [40, 40, 48, 48], [20, 0, 28, 6.0]])
    found = Instances(np.zeros(3, int), boxes, conf=np.array([0.9, 0.8, 0.7]))
    return EvaluationInputs(
        GroundTruth(truth, np.zeros(3, int)), Predicted.of(found, np.zeros(3, int)), 1, 2
    )


def test_numbers_of_one_class_one_threshold_one_limit():
    curves = of(three(), (ALL,))
    high = (51 * 1 + 50 * 2 / 3) / 101  # up to a recall of 0.5, and above
    assert curves.ap(iou=0.5, class_id=0) == pytest.approx(high)
    assert curves.ap(iou=0.8, class_id=0) == pytest.approx(51 / 101)
    assert curves.ap(class_id=0) == pytest.approx((6 * high + 4 * 51 / 101) / 10)
    assert curves.ap(class_id=1) == 0
    assert curves.ap(iou=0.5) == pytest.approx(high / 2)
    assert curves.ar(iou=0.5, class_id=0) == 1
    assert curves.ar(max_dets=1) == pytest.approx(0.25)
    assert curves.ap(max_dets=100) == curves.ap()
    assert curves.labels.tolist() == [[2], [1]]
    assert curves.scores[0, [0, 50, 51, 100], 0, 0, 2].tolist() == [0.9, 0.9, 0.7, 0.7]


def test_a_threshold_that_was_not_evaluated_has_no_number():
    assert np.isnan(of(three(), (ALL,)).ap(iou=0.33))


def test_nothing_at_all_has_no_number():
    none = Instances(np.empty(0, np.int64), np.empty((0, 4)), conf=np.empty(0))
    image = np.empty(0, np.int64)
    for classes in (0, 2):
        empty = EvaluationInputs(GroundTruth(none, image), Predicted.of(none, image), 0, classes)
        curves = of(empty)
        assert np.isnan(curves.ap())
        assert np.isnan(curves.ar("small", 10))
        assert curves.precision.shape == (10, 101, classes, 4, 3)
        assert coco.matched(empty, candidates(empty)).shape == (0, 10)
    one = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]), conf=np.array([0.5]))
    only_found = EvaluationInputs(GroundTruth(none, image), Predicted.of(one, np.array([0])), 1, 1)
    assert np.isnan(of(only_found).ap())
    only_labels = EvaluationInputs(GroundTruth(one, np.array([0])), Predicted.of(none, image), 1, 1)
    assert of(only_labels).ap() == of(only_labels).ar() == 0


def test_a_threshold_of_one_forgives_what_rounding_costs():
    label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    for right, ap in ((8 - 1e-11, 1), (8 - 1e-7, 0)):
        found = Instances(np.array([0]), np.array([[0, 0, right, 8]]), conf=np.array([0.5]))
        sample = EvaluationInputs(
            GroundTruth(label, np.array([0])), Predicted.of(found, np.array([0])), 1, 1
        )
        assert of(sample, (ALL,), thresholds=np.array([0.5, 1.0])).ap(iou=1.0) == pytest.approx(ap)


def test_of_labels_that_overlap_alike_the_last():
    truth = Instances(np.zeros(3, int), np.array([[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8.0]]))
    found = Instances(
        np.zeros(2, int), np.array([[0, 0, 8, 8], [0, 0, 8, 7.0]]), conf=np.array([0.9, 0.8])
    )
    image = np.zeros(3, int)
    sample = EvaluationInputs(GroundTruth(truth, image), Predicted.of(found, image[:2]), 1, 1)
    assert coco.matched(sample, candidates(sample))[:, 0].tolist() == [2, 1]


def test_a_bin_of_no_name_is_an_error():
    with pytest.raises(ValueError):
        of(three()).ap("tiny")
