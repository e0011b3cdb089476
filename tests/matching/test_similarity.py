import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import box_arrays, instances, outline, quick
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.matching import similarity

metrics = st.sampled_from(["iou", "ios"])


def by_shapely(one, other, metric):
    common = one.intersection(other).area
    whole = min(one.area, other.area) if metric == "ios" else one.union(other).area
    return common / whole if whole else 0.0


@quick
@given(box_arrays(), st.data(), metrics)
def test_of_boxes_equals_shapely(boxes, data, metric):
    others = boxes[np.array(data.draw(st.permutations(range(len(boxes)))), np.int64)]
    expected = [
        by_shapely(shapely.box(*a), shapely.box(*b), metric)
        for a, b in zip(boxes, others, strict=True)
    ]
    np.testing.assert_allclose(similarity.of_boxes(boxes, others, metric), expected, atol=1e-9)


@quick
@given(instances(min_size=1), metrics)
def test_of_pairs_compares_the_richest_geometry(rows, metric):
    n = len(rows)
    i, j = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    expected = [
        by_shapely(outline(rows, a), outline(rows, b), metric) for a, b in zip(i, j, strict=True)
    ]
    found = similarity.of_pairs(rows, i, j, metric)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert (found <= 1 + 1e-9).all()
    np.testing.assert_allclose(found.reshape(n, n), found.reshape(n, n).T, atol=1e-9)
    np.testing.assert_allclose(found.reshape(n, n).diagonal(), 1, atol=1e-9)


def test_the_share_of_nothing_is_nothing():
    zero = np.zeros(1)
    assert (
        similarity.share(zero, zero, zero, "iou").tolist()
        == similarity.share(zero, zero, zero, "ios").tolist()
        == [0]
    )
    point = np.array([[3, 3, 3, 3.0]])
    assert similarity.of_boxes(point, point).tolist() == [0]
    assert similarity.of_boxes(np.empty((0, 4)), np.empty((0, 4))).shape == (0,)


def test_boxes_that_touch_or_lie_apart_share_nothing():
    box = np.array([[0, 0, 4, 4.0]])
    for other in ([4, 0, 8, 4], [9, 9, 12, 12], [4, 4, 8, 8]):
        assert similarity.of_boxes(box, np.array([other], float), "ios").tolist() == [0]


def turned(*quads):
    rings = Rings.from_quads(np.array(quads, float))
    return Instances(np.zeros(len(quads), int), rings.bounds(), rings=rings, task="obb")


def test_crossed_obbs_share_little_though_their_boxes_are_one():
    rows = turned([(0, 0), (2, 0), (100, 98), (98, 100)], [(0, 98), (98, 0), (100, 2), (2, 100)])
    one = np.array([0]), np.array([1])
    assert similarity.of_boxes(rows.boxes[one[0]], rows.boxes[one[1]])[0] == 1
    assert similarity.of_pairs(rows, *one)[0] < 0.05


def test_no_pairs_of_outlines():
    none = np.empty(0, np.int64)
    assert similarity.of_pairs(turned([(0, 0), (2, 0), (2, 2), (0, 2)]), none, none).shape == (0,)


# The corners of one OBB before and after it was moved into its tile and back: they differ in the
# last bit.
MOVED = np.array(
    [
        [462.80070826637115, 1708.1491203931319],
        [-292.9289980811339, 1892.9008353339432],
        [-460.4794966935179, 1207.5329665957224],
        [295.25020965398716, 1022.7812516549112],
    ]
)


def test_an_obb_that_was_moved_there_and_back_is_the_same():
    offset = np.array([1086.0, 1221.0])
    rows = turned(MOVED, (MOVED - offset) + offset)
    assert similarity.of_pairs(rows, np.array([0]), np.array([1]))[0] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_oks_equals_that_of_pycocotools(seed):
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(seed)
    n = 6
    points, others = rng.uniform(0, 100, (n, 17, 2)), rng.uniform(0, 100, (n, 17, 2))
    others[::2] = points[::2] + rng.normal(0, 3, points[::2].shape)
    seen = rng.integers(0, 3, (n, 17)) * (rng.random(17) < 0.8)
    seen[:, 0] = 2
    area = rng.uniform(10, 5000, n)
    evaluation = cocoeval.COCOeval(iouType="keypoints")
    truth = [
        {
            "keypoints": np.concatenate([p, v[:, None]], axis=1).ravel().tolist(),
            "area": a,
            "bbox": [0, 0, 9, 9],
            "id": k,
        }
        for k, (p, v, a) in enumerate(zip(points, seen, area, strict=True))
    ]
    found = [
        {"keypoints": np.pad(p, [(0, 0), (0, 1)]).ravel().tolist(), "score": -k}
        for k, p in enumerate(others)
    ]
    evaluation._gts[1, 1], evaluation._dts[1, 1] = truth, found
    expected = evaluation.computeOks(1, 1)  # (detections, truths)
    for d in range(n):
        mine = similarity.oks(points, np.repeat(others[d][None], n, axis=0), seen > 0, area)
        np.testing.assert_allclose(mine, expected[d], rtol=1e-12)


def test_oks_of_other_keypoints_has_one_constant_for_all():
    points, others = np.array([[[0, 0], [10, 0.0]]]), np.array([[[3, 4], [10, 0.0]]])
    both, one = np.array([[True, True]]), np.array([[True, False]])
    area = np.array([50.0])
    away = np.exp(-25 / (2 * 50 * (2 * 0.5) ** 2))
    np.testing.assert_allclose(similarity.oks(points, others, one, area), away)
    np.testing.assert_allclose(similarity.oks(points, others, both, area), (1 + away) / 2)


def test_oks_of_points_that_nobody_set_is_nothing():
    points = np.zeros((2, 17, 2))
    assert similarity.oks(points, points, np.zeros((2, 17), bool), np.ones(2)).tolist() == [0, 0]
    assert similarity.oks(
        np.zeros((3, 0, 2)), np.zeros((3, 0, 2)), np.zeros((3, 0), bool), np.ones(3)
    ).tolist() == [0, 0, 0]
    assert similarity.oks(points[:0], points[:0], np.zeros((0, 17), bool), np.ones(0)).shape == (0,)


def test_oks_where_the_object_has_no_area():
    points = np.ones((1, 2, 2))
    both = np.ones((1, 2), bool)
    assert similarity.oks(points, points, both, np.zeros(1)).tolist() == [1]
    assert similarity.oks(points, points + 1, both, np.zeros(1)).tolist() == [0]
