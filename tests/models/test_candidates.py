import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.matching.probiou import Gaussians, of_gaussians
from tiler.matching.similarity import of_boxes
from tiler.models.candidates import NetworkRows, suppressed, suppressed_obbs


def rows(count, seed, obb=False):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 60, (count, 4))
    boxes[:, 2:] = rng.uniform(0, 30, (count, 2))
    if not obb:
        boxes[:, 2:] += boxes[:, :2]
    conf = rng.integers(1, 9, count) / 10 if seed % 2 else rng.uniform(0, 1, count)
    angle = rng.uniform(-4, 4, (count, 1))
    return NetworkRows(boxes, conf, rng.integers(0, 3, count), angle)


def greedy(given, iou):
    """The ten-line loop."""
    given = given.ordered()
    kept = []
    for k in range(len(given)):
        same = [i for i in kept if given.class_id[i] == given.class_id[k]]
        if not any(of_boxes(given.boxes[[i]], given.boxes[[k]])[0] > iou for i in same):
            kept.append(k)
    return given.take(np.array(kept, int))


@quick
@given(st.integers(0, 60), st.integers(0, 10**6), st.sampled_from((0.0, 0.3, 0.7, 1.0)))
def test_nms_is_the_greedy_loop(count, seed, iou):
    given_rows = rows(count, seed)
    ours, expected = suppressed(given_rows, iou), greedy(given_rows, iou)
    assert ours.boxes.tolist() == expected.boxes.tolist()
    assert (np.diff(ours.conf) <= 0).all()


@quick
@given(st.integers(0, 60), st.integers(0, 10**6), st.sampled_from((0.0, 0.1, 0.5, 0.7, 0.95, 1.0)))
def test_nms_of_obbs_drops_all_that_are_like_a_stronger_one(count, seed, iou):
    given_rows = rows(count, seed, obb=True)
    ordered = given_rows.ordered()
    gaussians = Gaussians.of_xywhr(np.concatenate([ordered.boxes, ordered.more], axis=1))
    kept = []
    for k in range(count):
        stronger = np.flatnonzero(ordered.class_id[:k] == ordered.class_id[k])
        one = gaussians.take(np.full(len(stronger), k))
        if not (of_gaussians(gaussians.take(stronger), one) > iou).any():
            kept.append(k)
    expected = ordered.take(np.array(kept, int))
    assert suppressed_obbs(given_rows, iou).boxes.tolist() == expected.boxes.tolist()


def test_crowds():
    boxes = np.tile([[10, 10, 30, 30.0]], (30_000, 1))
    boxes += np.random.default_rng(0).uniform(0, 1, (30_000, 1))
    crowd = NetworkRows(
        boxes, np.linspace(1, 0.1, 30_000), np.zeros(30_000, int), np.zeros((30_000, 1))
    )
    assert len(suppressed(crowd, 0.7)) == 1


def test_nothing():
    assert len(suppressed(rows(0, 0), 0.7)) == 0
    assert len(suppressed_obbs(rows(0, 0), 0.7)) == 0
