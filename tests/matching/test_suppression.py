import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import neighbours
from tiler.geometry.window import Window
from tiler.matching.order import canonical
from tiler.matching.similarity import of_boxes
from tiler.matching.suppression import grown, soft_nms, suppressors, wbf
from tiler.stitching import stitch

METRICS = ("iou", "ios")
metrics = pytest.mark.parametrize("metric", METRICS)


def crowd(seed, n=25, side=40, step=1):
    """Boxes and confidences in canonical order; whole numbers, so that much ties."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, side, (n, 2)) * step
    boxes = np.concatenate([corners, corners + rng.integers(1, 16, (n, 2)) * step], axis=1).astype(
        np.float64
    )
    conf = rng.integers(1, 5, n) / 4
    order = canonical(conf, boxes, np.zeros(n, int), np.zeros(n, int))
    return boxes[order], conf[order]


def pairs(boxes, metric="iou", threshold=0.0):
    """Pairs i < j, and how alike, of those that overlap so much."""
    i, j = (
        np.concatenate(column)
        for column in zip(*neighbours(boxes), (np.empty(0, int), np.empty(0, int)), strict=True)
    )
    alike = of_boxes(boxes[i], boxes[j], metric)
    good = alike >= threshold
    order = np.lexsort((j[good], i[good]))
    return i[good][order], j[good][order], alike[good][order]


def overlap(box, others, metric):
    common = np.maximum(
        np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0
    ).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    return common / (np.minimum(area, areas) if metric == "ios" else area + areas - common)


def greedily(boxes, metric, threshold):
    """NMS as everybody writes it: who suppresses each. Boxes come in the order in which they
    compete.
    """
    by, left = np.arange(len(boxes)), np.arange(len(boxes))
    while len(left):
        best, left = left[0], left[1:]
        near = overlap(boxes[best], boxes[left], metric) >= threshold
        by[left[near]] = best
        left = left[~near]
    return by


def merged_greedily(boxes, by, metric, threshold):
    """SAHI's default: the losers of each winner are merged in one by one, as long as they match
    what it has grown to.
    """
    result = boxes.copy()
    for winner in np.unique(by):
        for loser in np.flatnonzero(by == winner):
            if (
                loser != winner
                and overlap(result[winner], boxes[loser][None], metric)[0] >= threshold
            ):
                result[winner, :2] = np.minimum(result[winner, :2], boxes[loser, :2])
                result[winner, 2:] = np.maximum(result[winner, 2:], boxes[loser, 2:])
    return result


def of_one_tile(boxes, conf):
    return [(Window(0, 0, 4000, 4000), Instances(np.zeros(len(boxes), int), boxes, conf=conf))]


@metrics
@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_nms_is_the_loop(metric, threshold):
    for seed in range(200):
        boxes, _ = crowd(seed)
        i, j, _ = pairs(boxes, metric, threshold)
        assert suppressors(len(boxes), i, j).tolist() == greedily(boxes, metric, threshold).tolist()


@metrics
def test_the_method_nms_is_the_loop(metric):
    for seed in range(100):
        boxes, conf = crowd(seed)
        out = stitch(of_one_tile(boxes, conf), (4000, 4000), method="nms", metric=metric)
        # copies are no competitors
        unique = np.unique(np.column_stack([-conf, boxes]), axis=0)[:, 1:]
        kept = unique[np.unique(greedily(unique, metric, 0.5))]
        np.testing.assert_array_equal(out.instances.boxes, kept)


@metrics
def test_nms_of_many(metric):
    rng = np.random.default_rng(3)
    n = 10_000
    corners, sides = rng.uniform(0, 600, (n, 2)), rng.uniform(8, 40, (n, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    expected = greedily(boxes, metric, 0.5)
    i, j, _ = pairs(boxes, metric, 0.5)
    np.testing.assert_array_equal(suppressors(n, i, j), expected)
    conf = np.linspace(1, 0.01, n)
    out = stitch(of_one_tile(boxes, conf), (4000, 4000), method="nms", metric=metric)
    assert len(out.instances) == len(np.unique(expected))
    wanted = merged_greedily(boxes, expected, metric, 0.5)
    np.testing.assert_array_equal(grown(boxes, expected, metric, np.full(n, 0.5)), wanted)


@st.composite
def competitions(draw):
    n = draw(st.integers(1, 12))
    edges = draw(
        st.sets(
            st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
        )
    )
    return n, sorted(edges)


@quick
@given(competitions())
def test_who_loses_to_whom_whatever_the_pairs(competition):
    n, edges = competition
    by = list(range(n))
    for k in range(n):
        by[k] = min([a for a, b in edges if b == k and by[a] == a], default=k)
    i, j = np.array(edges, np.int64).reshape(-1, 2).T
    assert suppressors(n, i, j).tolist() == by


def test_what_is_suppressed_suppresses_nobody():
    chain = np.arange(9)
    assert suppressors(10, chain, chain + 1).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


@metrics
def test_greedy_merging_is_the_loop(metric):
    for seed in range(150):
        boxes, _ = crowd(seed)
        i, j, _ = pairs(boxes, metric, 0.5)
        by = suppressors(len(boxes), i, j)
        assert by.tolist() == greedily(boxes, metric, 0.5).tolist()
        expected = merged_greedily(boxes, by, metric, 0.5)
        np.testing.assert_array_equal(grown(boxes, by, metric, np.full(len(boxes), 0.5)), expected)


def test_a_loser_that_no_longer_matches_what_has_grown_is_gone_but_not_merged():
    boxes = np.array([[0, 0, 10, 10], [0, -10, 10, 5], [5, 4, 15, 10.0]])
    by = greedily(boxes, "iou", 0.2)
    assert by.tolist() == [0, 0, 0]
    assert grown(boxes, by, "iou", np.full(3, 0.2)).tolist() == [
        [0, -10, 10, 10],
        *boxes[1:].tolist(),
    ]
    assert grown(boxes, by, "iou", np.full(3, 0.1)).tolist() == [
        [0, -10, 15, 10],
        *boxes[1:].tolist(),
    ]


@metrics
def test_greedy_merging_equals_sahi(metric):
    combine = pytest.importorskip("sahi.postprocess.combine")
    prediction = pytest.importorskip("sahi.prediction")
    for seed in range(60):
        boxes, conf = crowd(seed, n=60, side=80)
        unique = np.unique(np.column_stack([-conf, boxes]), axis=0)
        boxes, conf = unique[:, 1:], -unique[:, 0]
        given = [
            prediction.ObjectPrediction(
                bbox=b.tolist(), score=c, category_id=0, category_name="a", full_shape=[4000, 4000]
            )
            for b, c in zip(boxes, conf.tolist(), strict=True)
        ]
        theirs = combine.GreedyNMMPostprocess(
            match_threshold=0.5, match_metric=metric.upper(), class_agnostic=False
        )(given)
        mine = stitch(
            of_one_tile(boxes, conf), (4000, 4000), method="greedy-nmm", metric=metric
        ).instances
        wanted = sorted((p.score.value, *map(float, p.bbox.to_xyxy())) for p in theirs)
        assert (
            sorted((c, *b) for c, b in zip(mine.conf.tolist(), mine.boxes.tolist(), strict=True))
            == wanted
        )


def fused(boxes, conf, threshold):
    """`weighted_boxes_fusion` of ensemble_boxes, one model and one class: cluster of each, mean
    boxes, confidences.
    """
    clusters, home = [], []
    for k in range(len(boxes)):
        means = [np.average(boxes[c], axis=0, weights=conf[c]) for c in clusters]
        alike = overlap(boxes[k], np.array(means), "iou") if means else np.zeros(1)
        best = int(alike.argmax())
        if alike[best] > threshold:
            clusters[best].append(k)
        else:
            best = len(clusters)
            clusters.append([k])
        home.append(clusters[best][0])
    means = {c[0]: np.average(boxes[c], axis=0, weights=conf[c]) for c in clusters}
    return home, means, {c[0]: conf[c].mean() for c in clusters}


@pytest.mark.parametrize("threshold", [0.2, 0.55, 0.9])
def test_wbf_is_that_of_ensemble_boxes(threshold):
    for seed in range(60):
        boxes, conf = crowd(seed, side=25)
        # no two overlaps tie
        boxes = boxes + np.random.default_rng(seed).uniform(0, 0.01, boxes.shape)
        i, j, _ = pairs(boxes)
        home, means, averages = fused(boxes, conf, threshold)
        leader, mean, average = wbf(boxes, conf, i, j, np.full(len(boxes), threshold))
        assert leader.tolist() == home
        for first, box in means.items():
            np.testing.assert_allclose(mean[first], box, rtol=1e-12)
            assert average[first] == pytest.approx(averages[first], rel=1e-12)


def test_wbf_of_what_nobody_is_sure_of():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9.0]])
    leader, mean, average = wbf(boxes, np.zeros(2), np.array([0]), np.array([1]), np.full(2, 0.55))
    assert leader.tolist() == [0, 0]
    assert mean[0].tolist() == [0, 0, 10, 9.5]
    assert average[0] == 0


def softened(boxes, conf, sigma):
    """Soft-NMS as in its paper: of those left the surest is taken, and lowers the others."""
    conf, left = conf.copy(), list(range(len(boxes)))
    while left:
        best = max(left, key=lambda k: (conf[k], -k))
        left.remove(best)
        for k in left:
            conf[k] *= np.exp(-(overlap(boxes[best], boxes[k][None], "iou")[0] ** 2) / sigma)
    return conf


@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_soft_nms_is_the_loop(sigma):
    for seed in range(60):
        boxes, conf = crowd(seed)
        i, j, alike = pairs(boxes)
        np.testing.assert_allclose(
            soft_nms(conf, i, j, alike, sigma), softened(boxes, conf, sigma), rtol=1e-9
        )


def test_soft_nms_leaves_those_that_stand_alone():
    none = np.empty(0, np.int64)
    conf = np.array([0.9, 0.1])
    assert soft_nms(conf, none, none, np.empty(0)).tolist() == [0.9, 0.1]
    assert soft_nms(conf[:0], none, none, np.empty(0)).tolist() == []


def test_nothing_competes():
    none, boxes = np.empty(0, np.int64), np.empty((0, 4))
    assert suppressors(0, none, none).tolist() == []
    assert suppressors(2, none, none).tolist() == [0, 1]
    assert grown(boxes, none, "iou", np.empty(0)).shape == (0, 4)
    leader, mean, conf = wbf(boxes, np.empty(0), none, none, np.empty(0))
    assert (len(leader), len(mean), len(conf)) == (0, 0, 0)
