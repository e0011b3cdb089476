"""What several models detected in a window becomes one: by the published rule, and of a model with
itself nothing new.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import instances, quick
from tiler.geometry.instances import Instances, concatenate
from tiler.stitching.ensembles import Models, agreed


def models(weight, windows=1):
    """Each of the models saw each window."""
    count = len(weight)
    return Models(
        weight=np.array(weight, np.float64),
        model=np.repeat(np.arange(count), windows),
        seen=np.full(count * windows, float(sum(weight))),
        window=np.tile(np.arange(windows), count),
    )


def one(rows):
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Instances(np.zeros(len(table), np.int64), table[:, 1:], conf=table[:, 0])


def ensemble(parts, weight, method="wbf"):
    all_of = concatenate(parts)
    tile = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return agreed(all_of, tile, all_of.class_id, models(weight), method)


def published(parts, weight, threshold=0.55):
    """Weighted Boxes Fusion as the paper has it, of boxes of which each model has one a cluster."""
    votes = [
        (conf * w, box)
        for part, w in zip(parts, weight, strict=True)
        for conf, box in zip(part.conf.tolist(), part.boxes, strict=True)
    ]
    clusters = []
    for vote, box in sorted(votes, key=lambda pair: -pair[0]):
        best, best_iou = None, threshold
        for cluster in clusters:
            iou = overlap(mean(cluster), box)
            if iou > best_iou:
                best, best_iou = cluster, iou
        if best is None:
            clusters.append([(vote, box)])
        else:
            best.append((vote, box))
    confs = []
    for cluster in clusters:
        average = sum(vote for vote, _ in cluster) / len(cluster)
        confs.append(average * min(len(weight), len(cluster)) / sum(weight))
    return confs, [mean(cluster) for cluster in clusters]


def mean(cluster):
    total = sum(vote for vote, _ in cluster)
    return sum(vote * box for vote, box in cluster) / total


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.clip(sides, 0, None).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


@given(seed=st.integers(0, 10_000), weight=st.lists(st.integers(1, 5), min_size=2, max_size=4))
@quick
def test_as_published(seed, weight):
    rng = np.random.default_rng(seed)
    places = np.arange(5) * 100.0
    parts = []
    for _ in weight:
        shown = places[rng.random(5) < 0.7]
        corner = shown[:, None] + rng.uniform(0, 8, (len(shown), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(30, 40, (len(shown), 2))], axis=1)
        conf = rng.uniform(0.05, 1, len(shown))
        parts.append(one(np.column_stack([conf, boxes])))
    result = ensemble(parts, weight).instances
    confs, boxes = published(parts, weight)
    order = np.lexsort((np.array(boxes).reshape(-1, 4)[:, 0], -np.array(confs)))
    mine = np.lexsort((result.boxes[:, 0], -result.conf))
    assert result.conf[mine] == pytest.approx(np.array(confs)[order])
    assert result.boxes[mine] == pytest.approx(np.array(boxes).reshape(-1, 4)[order])


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
@pytest.mark.parametrize("method", ["wbf", "nms"])
@given(data=st.data(), count=st.integers(2, 3))
@quick
def test_a_model_with_itself_is_the_model(task, method, data, count):
    some = data.draw(instances(task, min_size=1, max_size=5))
    conf = (np.arange(len(some)) + 1) / 10  # no ties, so that it is clear which is which
    some = replace(some, conf=conf)
    _, first = np.unique(some.boxes, axis=0, return_index=True)
    some = some.take(np.sort(first))  # repeats of one model are taken out before
    result = ensemble([some] * count, [1] * count, method)
    order = np.argsort(-some.conf, kind="stable")
    if method == "wbf":
        assert result.instances.boxes == pytest.approx(some.boxes[order])
        assert result.instances.conf == pytest.approx(some.conf[order])
        assert np.bincount(result.into).tolist() == [count] * len(some)
    else:
        assert {*map(tuple, result.instances.boxes)} <= {*map(tuple, some.boxes)}


def test_one_member_of_each_model():
    """Two close objects of a model are two."""
    pair = one([[0.9, 0, 0, 100, 100], [0.8, 20, 0, 120, 100]])
    result = ensemble([pair, pair], [1, 1])
    assert result.instances.boxes.tolist() == pair.boxes.tolist()
    assert result.into.tolist() == [0, 1, 0, 1]
    assert result.leads.tolist() == [True, True, False, False]


def test_nms_and_soft_nms_compare_weighted_confidences():
    left, right = one([[0.6, 0, 0, 10, 10]]), one([[0.8, 0, 0, 10, 10]])
    result = ensemble([left, right], [2, 1], "nms")
    assert result.instances.conf.tolist() == [0.6]
    assert result.into.tolist() == [0, 0]
    result = ensemble([left, right], [2, 1], "soft-nms")
    assert result.instances.conf == pytest.approx([0.6, 0.4 * np.exp(-2)])
