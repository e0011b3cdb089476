"""Crowds: where detections have many labels each, they choose one after the other, and get what
they get otherwise.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.cases import samples
from tests.evaluation.test_assignment import by_loop, wishes
from tests.strategies import quick
from tiler.evaluation import assignment, coco, confusion, diagnosis, ultralytics, voc
from tiler.evaluation.assignment import in_turn, preferred
from tiler.evaluation.bins import COCO
from tiler.evaluation.candidates import candidates
from tiler.geometry import neighbours


@contextmanager
def crowded(crowd=0):
    """Every image of more pairs a detection is a crowd."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "CROWD", crowd)
        patch.setattr(assignment, "MANY", 2)
        patch.setattr(assignment, "FEW", 1)
        patch.setattr(neighbours, "LONG", 3)
        patch.setattr(neighbours, "BLOCK", 5)
        yield


def all_told(sample):
    """What every evaluator makes of a sample."""
    wide, pairs = candidates(sample, 0.1, any_class=True), candidates(sample, 0.4)
    curves = coco.evaluate(sample, pairs, COCO.bins, (1, 2, 100))
    told = [pairs.detection, pairs.label, pairs.iou, wide.detection, wide.label, wide.iou]
    told += [
        curves.precision,
        curves.recall,
        curves.scores,
        coco.matched(sample, pairs),
        voc.ap(sample, pairs),
    ]
    for legacy in (False, True):
        result = ultralytics.evaluate(sample, pairs, legacy)
        told += [
            result.all_ap,
            result.correct,
            result.p_curve,
            result.r_curve,
            np.array(result.conf),
        ]
    told += [confusion.confusion(sample, wide, conf) for conf in (0.001, 0.25)]
    errors = diagnosis.diagnose(sample, wide, conf=0.2)
    told += [errors.found, errors.labels, errors.about, np.array([row.cost for row in errors.rows])]
    return told


@quick
@given(samples(), st.sampled_from([0, 1, 2]))
def test_every_evaluator_says_the_same_of_crowds(sample, crowd):
    expected = all_told(sample)
    with crowded(crowd):
        got = all_told(sample)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@quick
@given(wishes())
def test_in_turn_is_what_a_loop_assigns(given):
    found, label, labels, shared = given
    numbers = [np.flatnonzero(found == d) for d in np.unique(found)]
    rows = [(label[own], np.ones(len(own)), own) for own in numbers]
    of_label = np.zeros(labels, bool)
    of_label[label[shared]] = True
    ((pairs, taken),) = in_turn(rows, np.array([0.5]), labels, shared=of_label)
    assert pairs.tolist() == by_loop(found, label, shared)
    assert taken.tolist() == label[pairs].tolist()


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 3)),
        unique_by=lambda p: p[:2],
    ),
    st.booleans(),
)
def test_the_order_that_detections_prefer(many, last):
    found, label, iou = (np.array([row[k] for row in many], np.int64) for k in range(3))
    expected = sorted(
        range(len(many)), key=lambda k: (found[k], -iou[k], -label[k] if last else label[k])
    )
    assert preferred(found, label, iou.astype(float), last).tolist() == expected
    with crowded():
        assert preferred(found, label, iou.astype(float), last).tolist() == expected


def test_a_row_of_labels_that_count_is_looked_through_before_one_of_those_that_do_not():
    row = (np.arange(3), np.array([0.9, 0.8, 0.7]), np.arange(3))
    last = np.array([True, False, False])
    taken = in_turn([row] * 4, np.array([0.5, 0.75]), 3, last)
    assert [pairs.tolist() for pairs, _ in taken] == [[1, 2, 0], [1, 0]]
