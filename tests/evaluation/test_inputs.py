import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.cases import samples
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted, places, ranked
from tiler.geometry.instances import Instances

small = st.integers(0, 3)
rows = st.lists(st.tuples(small, small, small), max_size=30).map(
    lambda many: np.array(many, np.int64).reshape(-1, 3).T
)


def detections(class_id, conf):
    boxes = np.arange(4.0 * len(class_id)).reshape(-1, 4)
    return Instances(np.asarray(class_id), boxes, conf=np.asarray(conf, float))


@quick
@given(rows)
def test_detections_stand_by_class_then_confidence_then_image_then_place(columns):
    class_id, conf, image = columns
    expected = sorted(range(len(conf)), key=lambda d: (class_id[d], -conf[d], image[d], d))
    assert ranked(class_id, conf.astype(float), image).tolist() == expected
    given = detections(class_id, conf / 4)
    found = Predicted.of(given, image, np.arange(len(conf)) * 2.0)
    assert found.place.tolist() == expected
    assert found.box_area.tolist() == [2.0 * d for d in expected]
    assert found.image.tolist() == image[expected].tolist()
    np.testing.assert_array_equal(found.instances.boxes, given.boxes[found.place])
    before = [(class_id[d], image[d]) for d in expected]
    assert found.rank.tolist() == [before[:k].count(key) for k, key in enumerate(before)]


def test_classes_beyond_what_sixteen_bits_hold():
    class_id = np.array([70_000, 3, 32_768, 70_000, 32_767])
    assert ranked(class_id, np.array([0.5, 0.1, 0.9, 0.6, 0.2]), np.zeros(5, int)).tolist() == [
        1,
        4,
        2,
        3,
        0,
    ]


@quick
@given(rows)
def test_places_among_equal_keys(columns):
    a, b, _ = columns
    keys = list(zip(a.tolist(), b.tolist(), strict=True))
    assert places(a, b).tolist() == [keys[:k].count(key) for k, key in enumerate(keys)]
    assert places(a).tolist() == [a[:k].tolist().count(v) for k, v in enumerate(a.tolist())]


@quick
@given(samples())
def test_the_most_of_one_class_in_one_image(sample):
    def most(rows):
        return np.unique(
            np.stack([rows.image, rows.instances.class_id]), axis=1, return_counts=True
        )[1].max(initial=0)

    assert sample.most() == max(most(sample.labels), most(sample.detections))


@quick
@given(samples())
def test_positives_of_each_class(sample):
    counted = ~sample.labels.crowd
    expected = [
        (sample.labels.instances.class_id[counted] == k).sum() for k in range(sample.classes)
    ]
    assert sample.positives(counted).tolist() == expected


def test_what_truth_takes_for_granted():
    labels = Instances(
        np.array([0, 0]), np.array([[0, 0, 4, 4], [5, 5, 3, 9.0]]), area=np.array([7.0, 8.0])
    )
    truth = GroundTruth(labels, np.array([0, 2]))
    assert truth.crowd.tolist() == truth.ignored.tolist() == [False, False]
    assert truth.box_area.tolist() == [16, 0]
    assert truth.instances.area.tolist() == [7, 8]
    assert GroundTruth(labels, np.array([0, 2]), np.array([False, True])).ignored.tolist() == [
        False,
        True,
    ]
    assert len(truth) == 2


def test_labels_out_of_order():
    with pytest.raises(TilerError, match="labels come in the order of their images"):
        GroundTruth(detections([0, 0], [1, 1]), np.array([1, 0]))


@pytest.mark.parametrize("conf", [None, [0.5, np.nan], [np.inf, 0.5]])
def test_a_confidence_that_is_no_number(conf):
    given = Instances(
        np.zeros(2, int), np.zeros((2, 4)), conf=None if conf is None else np.array(conf)
    )
    with pytest.raises(TilerError, match="detections need a confidence each, a finite number"):
        Predicted.of(given, np.zeros(2, int))


@pytest.mark.parametrize(
    ("classes", "images", "message"),
    [(1, 2, "a label of class 1, expected 0 to 0"), (2, 1, "a label of image 1, expected 0 to 0")],
)
def test_a_label_of_no_class_or_image(classes, images, message):
    given = detections([0, 1], [1, 1])
    image = np.array([0, 1])
    with pytest.raises(TilerError, match=message):
        EvaluationInputs(
            GroundTruth(given, image),
            Predicted.of(given.take(np.array([], int)), image[:0]),
            images,
            classes,
        )
    with pytest.raises(TilerError, match=message.replace("label", "detection")):
        EvaluationInputs(
            GroundTruth(given.take(np.array([], int)), image[:0]),
            Predicted.of(given, image),
            images,
            classes,
        )


def test_a_class_below_nought():
    given = detections([-1, 0], [1, 1])
    with pytest.raises(TilerError, match="expected 0 to 0"):
        EvaluationInputs(
            GroundTruth(given, np.zeros(2, int)),
            Predicted.of(given.take(np.array([1])), np.zeros(1, int)),
            1,
            1,
        )


def test_nothing():
    none, image = detections(np.empty(0, np.int64), []), np.empty(0, np.int64)
    sample = EvaluationInputs(GroundTruth(none, image), Predicted.of(none, image), 0, 0)
    assert sample.most() == 0
    assert sample.positives(np.empty(0, bool)).tolist() == []
    assert len(sample.labels) == len(sample.detections) == 0
    assert places(image).shape == ranked(image, np.empty(0), image).shape == (0,)
