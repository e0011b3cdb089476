import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.matching.order import canonical


@st.composite
def columns(draw, most=12):
    """Confidences, boxes, classes and tiles of which many tie."""
    n = draw(st.integers(0, most))
    rows = [[draw(st.integers(0, 1)) for _ in range(7)] for _ in range(n)]
    table = np.array(rows, np.int64).reshape(-1, 7)
    return table[:, 0] / 2, table[:, 1:5].astype(float), table[:, 5], table[:, 6]


def key(table, k):
    conf, boxes, class_id, tile = table
    return (-conf[k], *boxes[k], class_id[k], tile[k])


@quick
@given(columns())
def test_by_confidence_then_coordinates_then_class_then_tile(table):
    order = canonical(*table).tolist()
    assert sorted(order) == list(range(len(table[0])))
    assert order == sorted(range(len(order)), key=lambda k: key(table, k))


@quick
@given(columns(), st.data())
def test_the_order_they_come_in_counts_for_nothing(table, data):
    shuffle = np.array(data.draw(st.permutations(range(len(table[0])))), np.int64)
    shuffled = [column[shuffle] for column in table]
    one = [key(table, k) for k in canonical(*table)]
    assert one == [key(shuffled, k) for k in canonical(*shuffled)]


@pytest.mark.parametrize("conf", [np.zeros(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5])])
def test_all_tied_and_none(conf):
    boxes = np.arange(20.0)[::-1].reshape(5, 4)
    order = canonical(conf, boxes, np.zeros(5, int), np.zeros(5, int)).tolist()
    assert order == [4, 3, 2, 1, 0]


def test_no_detections():
    none = np.empty(0)
    assert canonical(none, none.reshape(0, 4), none.astype(int), none.astype(int)).tolist() == []
