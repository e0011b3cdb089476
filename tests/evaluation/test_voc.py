import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED
from tests.evaluation.cases import drawn_boxes, perfect, sample_of, samples, shuffled, xyxy
from tests.evaluation.test_ultralytics import one_image, row
from tests.strategies import quick
from tiler.evaluation import voc
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry.instances import Instances

PADILLA = SHARED / "data" / "preds" / "padilla_case1"
protocols = st.fixed_dictionaries({"points": st.sampled_from([None, 11]), "strict": st.booleans()})


def of(sample, iou=0.5, **options):
    return voc.ap(sample, candidates(sample, min(iou, 0.5)), iou, **options)


def voc_ap(rec, prec, use_07_metric):
    if use_07_metric:
        ap = 0.0
        for t in np.arange(0.0, 1.1, 0.1):
            p = np.max(prec[rec >= t]) if (rec >= t).any() else 0
            ap = ap + p / 11.0
        return ap
    mrec = np.concatenate(([0.0], rec, [1.0]))
    mpre = np.concatenate(([0.0], prec, [0.0]))
    for i in range(mpre.size - 1, 0, -1):
        mpre[i - 1] = np.maximum(mpre[i - 1], mpre[i])
    i = np.where(mrec[1:] != mrec[:-1])[0]
    return np.sum((mrec[i + 1] - mrec[i]) * mpre[i + 1])


def voc_eval(sample, k, ovthresh, use_07_metric, strict):
    """voc_eval.py of one class, without its extra pixel, and with a stable order."""
    truth, found = sample.labels, sample.detections
    recs, npos = {}, 0
    for image in range(sample.images):
        own = np.flatnonzero((truth.image == image) & (truth.instances.class_id == k))
        recs[image] = {
            "bbox": truth.instances.boxes[own],
            "difficult": truth.ignored[own],
            "det": [False] * len(own),
        }
        npos += (~truth.ignored[own]).sum()
    if npos == 0:
        return np.nan
    mine = np.flatnonzero(found.instances.class_id == k)
    mine = sorted(mine, key=lambda d: (-found.instances.conf[d], found.image[d], found.place[d]))
    tp, fp = np.zeros(len(mine)), np.zeros(len(mine))
    for d, number in enumerate(mine):
        rec, bb = recs[found.image[number]], found.instances.boxes[number]
        ovmax, boxes = -np.inf, rec["bbox"]
        if len(boxes):
            iw = np.maximum(np.minimum(boxes[:, 2], bb[2]) - np.maximum(boxes[:, 0], bb[0]), 0.0)
            ih = np.maximum(np.minimum(boxes[:, 3], bb[3]) - np.maximum(boxes[:, 1], bb[1]), 0.0)
            inters = iw * ih
            uni = (
                (bb[2] - bb[0]) * (bb[3] - bb[1])
                + (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
                - inters
            )
            overlaps = np.where(uni > 0, inters / np.where(uni > 0, uni, 1), 0)
            ovmax, jmax = np.max(overlaps), np.argmax(overlaps)
        if ovmax > ovthresh or (not strict and ovmax == ovthresh):
            if not rec["difficult"][jmax]:
                if not rec["det"][jmax]:
                    tp[d], rec["det"][jmax] = 1.0, True
                else:
                    fp[d] = 1.0
        else:
            fp[d] = 1.0
    fp, tp = np.cumsum(fp), np.cumsum(tp)
    return voc_ap(
        tp / float(npos), tp / np.maximum(tp + fp, np.finfo(np.float64).eps), use_07_metric
    )


def by_loop(sample, iou=0.5, points=None, strict=False):
    return [voc_eval(sample, k, iou, points == 11, strict) for k in range(sample.classes)]


def difficult(sample, every=4):
    """The sample without crowds, some labels of it ignored."""
    truth = sample.labels
    ignored = np.arange(len(truth)) % every == every - 1
    labels = GroundTruth(truth.instances, truth.image, np.zeros(len(truth), bool), ignored)
    return EvaluationInputs(labels, sample.detections, sample.images, sample.classes)


@quick
@given(samples(), protocols, st.sampled_from([0.1, 0.3, 0.5, 0.75]))
def test_it_is_what_voc_eval_finds(sample, protocol, iou):
    sample = difficult(sample)
    np.testing.assert_allclose(
        of(sample, iou, **protocol), by_loop(sample, iou, **protocol), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("points", [None, 11])
@pytest.mark.parametrize("strict", [False, True])
def test_drawn_samples(points, strict):
    different = 0
    for seed in range(100):
        gt, dt = drawn_boxes(seed, most_found=30)
        gt["annotations"] = [a for a in gt["annotations"] if min(a["bbox"][2:]) > 0]
        sample = difficult(sample_of(gt, [d for d in dt if min(d["bbox"][2:]) > 0]), 6)
        expected = by_loop(sample, 0.5, points, strict)
        np.testing.assert_allclose(
            of(sample, points=points, strict=strict), expected, rtol=0, atol=1e-12
        )
        different += len(set(np.nan_to_num(expected)) - {0, 1})
    assert different > 50


def read(folder):
    """(image, values) of the rows "object [confidence] x y w h"."""
    rows = [
        (k, line.split()[1:])
        for k, file in enumerate(sorted(folder.glob("*.txt")))
        for line in file.read_text().splitlines()
    ]
    return np.array([k for k, _ in rows]), np.array([values for _, values in rows], float)


@pytest.mark.skipif(not PADILLA.is_dir(), reason="the shared data is not beside the repository")
def test_the_example_of_padilla():
    """As rafaelpadilla/Object-Detection-Metrics publishes it: 24.57 % and 26.84 % at IoU 0.3, boxes
    one pixel larger.

    Of boxes as they are given one detection overlaps by 0.295 only.
    """
    published, plain = padilla(1), padilla(0)
    assert of(published, 0.3)[0] == pytest.approx(0.2457, abs=5e-5)
    assert of(published, 0.3, points=11)[0] == pytest.approx(0.2684, abs=5e-5)
    assert of(plain, 0.3)[0] == pytest.approx(0.2457 - 7 / 23 / 15, abs=5e-5)
    assert of(plain, 0.3, points=11)[0] == pytest.approx(0.2684, abs=5e-5)
    for sample in (published, plain):
        np.testing.assert_allclose(of(sample, 0.3), by_loop(sample, 0.3))


def padilla(pixel):
    """Its 7 images, boxes from the first to the last pixel."""
    image, boxes = read(PADILLA / "gts")
    found_image, found = read(PADILLA / "dets")
    assert (len(boxes), len(found)) == (15, 24)
    larger = np.array([0, 0, pixel, pixel])
    truth = GroundTruth(Instances(np.zeros(15, int), xyxy(boxes) + larger), image)
    detections = Instances(np.zeros(24, int), xyxy(found[:, 1:]) + larger, conf=found[:, 0])
    return EvaluationInputs(truth, Predicted.of(detections, found_image), 7, 1)


@quick
@given(samples(distinct=True), protocols, st.randoms())
def test_the_order_of_detections_of_distinct_confidence_counts_for_nothing(
    sample, protocol, random
):
    order = np.array(random.sample(range(len(sample.detections)), len(sample.detections)), np.int64)
    np.testing.assert_array_equal(of(shuffled(sample, order), **protocol), of(sample, **protocol))


@quick
@given(samples(crowds=False), protocols)
def test_a_perfect_detector_has_an_ap_of_one(sample, protocol):
    truth = sample.labels
    size = (truth.instances.boxes[:, 2:] > truth.instances.boxes[:, :2]).all(axis=1)
    keys = np.column_stack([truth.image, truth.instances.class_id, truth.instances.boxes])
    first = np.zeros(len(size), bool)  # nothing is second choice of equal labels
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    labels = GroundTruth(truth.instances.take(size & first), truth.image[size & first])
    sample = perfect(EvaluationInputs(labels, sample.detections, sample.images, sample.classes))
    result = of(sample, **protocol)
    assert (np.isnan(result) == (sample.positives(np.ones(len(labels), bool)) == 0)).all()
    np.testing.assert_allclose(result[~np.isnan(result)], 1, atol=1e-12)


# --- by hand

FOUR = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]


def test_area_and_eleven_points():
    # right, wrong, right, of four labels: precision 1 up to a recall of .25, 2/3 up to .5
    sample = one_image(row(FOUR), row([FOUR[0], [80, 80, 90, 90], FOUR[1]], [0.9, 0.8, 0.7]))
    assert of(sample)[0] == pytest.approx((1 + 2 / 3) / 4)
    assert of(sample, points=11)[0] == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)


def test_a_taken_label_is_no_one_elses():
    # the second detection overlaps the second label well enough, but the first one better
    labels = row([[0, 0, 10, 10], [0, 2, 10, 12]])
    sample = one_image(labels, row([[0, 0, 10, 10], [0, 0.5, 10, 10.5]], [0.9, 0.8]))
    assert of(sample)[0] == 0.5


def test_of_equal_overlaps_the_first_label():
    labels = row([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert of(one_image(labels, row([FOUR[0]], [0.9])))[0] == 0.5
    truth = GroundTruth(labels, np.zeros(2, int), ignored=np.array([True, False]))
    found = Predicted.of(row([FOUR[0], FOUR[0]], [0.9, 0.8]), np.zeros(2, int))
    # both go to the one that does not count
    assert of(EvaluationInputs(truth, found, 1, 1))[0] == 0


def test_a_difficult_label_counts_neither_way():
    truth = GroundTruth(row(FOUR[:2]), np.zeros(2, int), ignored=np.array([True, False]))
    found = Predicted.of(row([FOUR[0], FOUR[0], FOUR[1]], [0.9, 0.8, 0.7]), np.zeros(3, int))
    assert of(EvaluationInputs(truth, found, 1, 1)).tolist() == [1]
    only = GroundTruth(row(FOUR[:1]), np.zeros(1, int), ignored=np.array([True]))
    assert np.isnan(of(EvaluationInputs(only, found, 1, 1))).all()


def test_at_the_threshold():
    sample = one_image(row([[0, 0, 10, 10]]), row([[0, 0, 10, 5]], [0.9]))
    assert of(sample).tolist() == of(sample, 0.499, strict=True).tolist() == [1]
    assert of(sample, strict=True).tolist() == [0]


def test_of_equal_confidence_as_they_were_given():
    wrong, right = [80, 80, 90, 90], FOUR[0]
    assert of(one_image(row([right]), row([wrong, right], [0.5, 0.5]))).tolist() == [0.5]
    assert of(one_image(row([right]), row([right, wrong], [0.5, 0.5]))).tolist() == [1]


def test_classes_do_not_mix():
    sample = one_image(row(FOUR[:2], classes=[0, 2]), row(FOUR[:2], [0.9, 0.8], [2, 2]), 4)
    np.testing.assert_equal(of(sample), [0, np.nan, 0.5, np.nan])


@pytest.mark.parametrize("points", [None, 11])
def test_nothing(points):
    for classes in (0, 2):
        np.testing.assert_equal(
            of(one_image(row([]), row([], []), classes), points=points), [np.nan] * classes
        )
    np.testing.assert_equal(of(one_image(row(FOUR), row([], []), 2), points=points), [0, np.nan])
    np.testing.assert_equal(
        of(one_image(row([]), row(FOUR, [0.5] * 4), 1), points=points), [np.nan]
    )
