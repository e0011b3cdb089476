import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.cases import drawn_keypoints, drawn_segments, sample_of, samples
from tests.matching.test_similarity import by_shapely
from tests.strategies import instances, quick
from tiler.errors import TilerError
from tiler.evaluation import candidates as module
from tiler.evaluation.candidates import candidates, groups
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.geometry.instances import Instances

leasts = st.sampled_from([0.1, 0.5, 0.75])


def iou_of(one, other, crowd):
    """Of two boxes, in COCO's order of operations; of a crowd, the part of the first in it."""
    w, h = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    if w <= 0 or h <= 0:
        return 0.0
    area, area_other = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return w * h / (area if crowd else area + area_other - w * h)


def every_pair(sample, least, any_class, iou):
    """{detection: [(iou, label)]}, the best first, of equals the last label."""
    truth, found = sample.labels, sample.detections
    result = []
    for d in range(len(found)):
        here = []
        for g in range(len(truth)):
            same = any_class or truth.instances.class_id[g] == found.instances.class_id[d]
            if same and truth.image[g] == found.image[d]:
                here.append((-iou(d, g), -g))
        result += [(d, -g, -v) for v, g in sorted(here) if -v >= least]
    return result


def as_rows(pairs):
    return list(
        zip(pairs.detection.tolist(), pairs.label.tolist(), pairs.iou.tolist(), strict=True)
    )


@quick
@given(samples(), leasts, st.booleans())
def test_boxes_against_every_pair(sample, least, any_class):
    truth, found = sample.labels, sample.detections

    def iou(d, g):
        return iou_of(found.instances.boxes[d], truth.instances.boxes[g], truth.crowd[g])

    pairs = candidates(sample, least, any_class)
    assert as_rows(pairs) == every_pair(sample, least, any_class, iou)
    assert pairs.least == least


@st.composite
def turned(draw):
    """Some OBBs of two images; the detections are labels, moved a little, or not at all."""
    labels = draw(instances("obb", side=60, classes=2, max_size=6))
    like = np.array(
        draw(st.lists(st.integers(0, max(0, len(labels) - 1)), max_size=8 if len(labels) else 0)),
        np.int64,
    )
    moves = np.array(
        draw(
            st.lists(st.sampled_from([0.0, 0.5, 2.0, 7.0]), min_size=len(like), max_size=len(like))
        )
    )
    found = labels.take(like).moved(moves, moves)
    found = dataclasses.replace(found, conf=np.linspace(1, 0, len(like)))
    image = np.sort(np.arange(len(labels)) % 2)
    return EvaluationInputs(
        GroundTruth(labels, image, np.arange(len(labels)) % 5 == 4),
        Predicted.of(found, image[like]),
        2,
        3,
        "obb",
    )


@quick
@given(turned(), leasts, st.booleans())
def test_obbs_against_every_pair(sample, least, any_class):
    shapes, labels = (
        rows.instances.rings.geometry() for rows in (sample.detections, sample.labels)
    )

    def iou(d, g):
        if sample.labels.crowd[g]:
            return shapes[d].intersection(labels[g]).area / shapes[d].area
        return by_shapely(shapes[d], labels[g], "iou")

    pairs = candidates(sample, least, any_class)
    found = {(d, g): v for d, g, v in as_rows(pairs)}
    expected = {(d, g): v for d, g, v in every_pair(sample, 0.0, any_class, iou)}
    assert found.keys() >= {key for key, v in expected.items() if v >= least + 1e-6}
    assert all(
        v == pytest.approx(expected[key], abs=1e-6) and v >= least for key, v in found.items()
    )
    best_first = np.lexsort((-pairs.label, -pairs.iou, pairs.detection))
    assert best_first.tolist() == list(range(len(pairs)))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("any_class", [False, True])
def test_masks_against_every_pair(any_class):
    for seed in range(10):
        sample = sample_of(*drawn_segments(seed), "segment")

        def pixels(masks):
            painted = [np.zeros(w * h, bool) for w, h in masks.sizes]
            for i, image in enumerate(painted):
                for k in range(masks.offsets[i], masks.offsets[i + 1]):
                    image[masks.starts[k] : masks.ends[k]] = True
            return painted

        found, labels = pixels(sample.detections.masks), pixels(sample.labels.masks)

        def iou(d, g, found=found, labels=labels, crowd=sample.labels.crowd):
            whole = found[d] if crowd[g] else found[d] | labels[g]
            return (found[d] & labels[g]).sum() / max(whole.sum(), 1)

        assert as_rows(candidates(sample, 0.1, any_class)) == every_pair(
            sample, 0.1, any_class, iou
        )


def test_keypoints_in_steps(monkeypatch):
    for seed in range(10):
        sample = sample_of(*drawn_keypoints(seed), "pose")
        whole = candidates(sample, 0.3), candidates(sample, 0.3, any_class=True)
        with monkeypatch.context() as patch:
            patch.setattr(module, "STEP", 50)
            parts = candidates(sample, 0.3), candidates(sample, 0.3, any_class=True)
        assert [as_rows(p) for p in parts] == [as_rows(p) for p in whole]
        truth, found = sample.labels, sample.detections
        same = (
            truth.instances.class_id[whole[1].label] == found.instances.class_id[whole[1].detection]
        )
        assert as_rows(whole[1].take(same)) == as_rows(whole[0])
        assert (truth.image[whole[1].label] == found.image[whole[1].detection]).all()


@quick
@given(samples(), leasts)
def test_fewer_are_alike_the_more_is_asked(sample, least):
    pairs = candidates(sample, 0.05)
    assert as_rows(pairs.take(pairs.iou >= least)) == as_rows(candidates(sample, least))
    mixed = candidates(sample, least, any_class=True)
    of_label, of_found = groups(sample)
    assert as_rows(mixed.take(of_found[mixed.detection] == of_label[mixed.label])) == as_rows(
        candidates(sample, least)
    )


@pytest.mark.parametrize(
    ("box", "other"),
    [([4, 0, 8, 8], [0, 0, 8, 8]), ([0, 0, 8, 8], [4, 0, 8, 8]), ([0, 0, 9, 8], [3, 0, 12, 8])],
)
def test_as_alike_as_asked_is_enough(box, other):
    rows = [
        Instances(np.array([0]), np.array([given], float), conf=np.ones(1))
        for given in (box, other)
    ]
    zero = np.zeros(1, int)
    assert candidates(
        EvaluationInputs(GroundTruth(rows[1], zero), Predicted.of(rows[0], zero), 1, 1), 0.5
    ).iou.tolist() == [0.5]


def test_outlines_need_masks():
    rows = Instances(np.array([0]), np.array([[0, 0, 4, 4.0]]), conf=np.ones(1), task="segment")
    image = np.zeros(1, int)
    with pytest.raises(TilerError, match="outlines are compared by their masks"):
        candidates(
            EvaluationInputs(GroundTruth(rows, image), Predicted.of(rows, image), 1, 1, "segment")
        )


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_nothing(task):
    from tiler.formats.rle import masks
    from tiler.geometry.instances import empty

    none, image = dataclasses.replace(empty(task, 17), conf=np.empty(0)), np.empty(0, np.int64)
    no_masks = masks([], np.empty((0, 2), np.int64))[0]
    sample = EvaluationInputs(
        GroundTruth(none, image, masks=no_masks),
        Predicted.of(none, image, masks=no_masks),
        2,
        2,
        task,
    )
    for any_class in (False, True):
        pairs = candidates(sample, any_class=any_class)
        assert len(pairs) == len(pairs.label) == len(pairs.iou) == 0
