import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.cases import (
    CASES,
    drawn_boxes,
    needs_oracles,
    oracle,
    sample_of,
    samples,
    shuffled,
)
from tests.evaluation.test_ultralytics import box_iou, one_image, row
from tests.strategies import quick
from tiler.evaluation.candidates import candidates
from tiler.evaluation.confusion import confusion


def of(sample, conf, iou=0.45):
    return confusion(sample, candidates(sample, iou - 0.01, any_class=True), conf, iou)


def by_loop(sample, conf, iou):
    """ConfusionMatrix.process_batch, image by image and detection by detection."""
    truth, found = sample.labels, sample.detections
    matrix = np.zeros((sample.classes + 1, sample.classes + 1), int)
    for image in range(sample.images):
        labels = np.flatnonzero((truth.image == image) & ~truth.crowd)
        confident = np.flatnonzero((found.image == image) & (found.instances.conf > conf))
        taken = set()
        for d in sorted(confident, key=lambda k: (-found.instances.conf[k], found.place[k])):
            free = [g for g in labels if g not in taken]
            alike = box_iou(truth.instances.boxes[free], found.instances.boxes[[d]])[:, 0]
            predicted = found.instances.class_id[d]
            if len(free) and alike.max() > iou:
                best = free[alike.argmax()]
                taken.add(best)
                matrix[predicted, truth.instances.class_id[best]] += 1
            else:
                matrix[predicted, -1] += 1
        for g in labels:
            matrix[-1, truth.instances.class_id[g]] += g not in taken
    return matrix


@needs_oracles
@pytest.mark.parametrize(("name", "conf"), [("ul_confusion", 0.001), ("ul_confusion25", 0.25)])
@pytest.mark.parametrize("case", CASES)
def test_the_matrices_of_the_oracles(case, name, conf):
    gt, dt, _, arrays = oracle(case)
    matrix = of(sample_of(gt, dt), conf)
    if name not in arrays:
        pytest.skip("a case without a matrix")
    np.testing.assert_array_equal(matrix, arrays[name])


@pytest.mark.parametrize("iou", [0.2, 0.45, 0.5])
@pytest.mark.parametrize("conf", [0.001, 0.25, 0.9])
def test_drawn_samples_equal_the_loop(conf, iou):
    for seed in range(60):
        sample = sample_of(*drawn_boxes(seed))
        np.testing.assert_array_equal(of(sample, conf, iou), by_loop(sample, conf, iou))


@quick
@given(samples(), st.sampled_from([0.0, 0.25, 0.6]))
def test_samples_with_ties_equal_the_loop(sample, conf):
    np.testing.assert_array_equal(of(sample, conf), by_loop(sample, conf, 0.45))


@quick
@given(samples(distinct=True), st.randoms())
def test_every_label_and_every_confident_detection_is_counted_once(sample, random):
    matrix, truth = of(sample, 0.25), sample.labels
    found = sample.detections.instances
    predicted = np.bincount(found.class_id[found.conf > 0.25], minlength=sample.classes)
    assert matrix.sum(axis=0)[:-1].tolist() == sample.positives(~truth.crowd).tolist()
    assert matrix.sum(axis=1)[:-1].tolist() == predicted.tolist()
    assert matrix[-1, -1] == 0
    order = np.array(random.sample(range(len(sample.detections)), len(sample.detections)), np.int64)
    np.testing.assert_array_equal(of(shuffled(sample, order), 0.25), matrix)


def test_by_hand():
    labels = row([[0, 0, 8, 8], [20, 0, 28, 8], [40, 0, 48, 8]], classes=[0, 1, 1])
    found = row(
        [[0, 0, 8, 8], [0, 0, 8, 7], [20, 0, 28, 8], [60, 0, 68, 8], [40, 0, 48, 8]],
        [0.9, 0.8, 0.7, 0.6, 0.25],
        [0, 0, 0, 1, 1],
    )
    sample = one_image(labels, found, 2)
    # of the first label a second detection is a false alarm; 0.25 is not above 0.25
    assert of(sample, 0.25).tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert of(sample, 0.2).tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_as_much_as_is_asked_is_not_more():
    half = one_image(row([[0, 0, 8, 8]]), row([[0, 0, 8, 4]], [0.9]))
    assert of(half, 0.25, 0.5).tolist() == [[0, 1], [1, 0]]
    assert of(half, 0.25, 0.499).tolist() == [[1, 0], [0, 0]]


def test_nothing():
    assert of(one_image(row([]), row([], []), 2), 0.25).tolist() == [[0] * 3] * 3
    assert of(one_image(row([[0, 0, 8, 8]]), row([], []), 1), 0.25).tolist() == [[0, 0], [1, 0]]
    assert of(one_image(row([]), row([[0, 0, 8, 8]], [0.5]), 1), 0.25).tolist() == [[0, 1], [0, 0]]
