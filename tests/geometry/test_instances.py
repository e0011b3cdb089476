import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import assert_same, instances, outline, quick, tasks
from tiler.errors import TilerError
from tiler.geometry.instances import Instances, concatenate, empty, labelled
from tiler.geometry.polygons import Rings
from tiler.types import TASKS

TWO = np.array([[0, 0, 4, 2], [5, 5, 9, 9.0]])


@pytest.mark.parametrize(
    "column", ["boxes", "keypoints", "conf", "row", "visible", "area", "rings"]
)
def test_columns_of_different_length_are_refused(column):
    shapes = {"boxes": (1, 4), "keypoints": (1, 4, 3)}
    short = Rings.of([[]]) if column == "rings" else np.zeros(shapes.get(column, 1))
    with pytest.raises(TilerError, match="columns of one length"):
        Instances(**{"class_id": np.array([0, 1]), "boxes": TWO, "area": np.ones(2), column: short})


def test_lists_and_other_numbers_become_the_arrays_that_columns_are():
    outlines = [[[[0, 0], [4, 0], [4, 2]]], [[[5, 5], [9, 5], [9, 9]]]]
    rows = Instances(
        [0, 1.0],
        TWO.astype(np.float32).tolist(),
        rings=outlines,
        conf=[1, 0],
        row=(7, 8),
        task="segment",
    )
    assert (rows.class_id.dtype, rows.boxes.dtype, rows.conf.dtype, rows.row.dtype) == (
        np.int64,
        np.float64,
        np.float64,
        np.int64,
    )
    assert (rows.class_id.tolist(), rows.row.tolist(), rows.area.tolist()) == (
        [0, 1],
        [7, 8],
        [4, 8],
    )
    assert rows.take([1]).boxes.tolist() == [[5, 5, 9, 9]]
    none = Instances([], [], conf=[])
    assert (len(none), none.boxes.shape, none.moved(1, 1).boxes.shape) == (0, (0, 4), (0, 4))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"boxes": [[1, 2, 3]] * 2}, r"boxes: expected \(N, 4\) numbers, got \(2, 3\)"),
        ({"boxes": [[1, 2, 3, 4], [1, 2]]}, r"boxes: expected \(N, 4\) numbers: "),
        ({"class_id": ["car", "bus"]}, r"class_id: expected \(N\) numbers: "),
        ({"class_id": [0.5, 1]}, r"class_id: expected \(N\) numbers that are whole"),
        ({"conf": [[0.5], [0.5]]}, r"conf: expected \(N\) numbers, got \(2, 1\)"),
        (
            {"keypoints": [[[1, 2]]] * 2},
            r"keypoints: expected \(N, K, 3\) numbers, got \(2, 1, 2\)",
        ),
        ({"rings": [[[1, 2, 3]], 5]}, r"rings: expected \(N\) numbers: "),
    ],
)
def test_lists_of_something_else_are_refused_with_the_column(columns, message):
    with pytest.raises(TilerError, match=f"^{message}"):
        Instances(**{"class_id": [0, 1], "boxes": TWO, **columns})


def test_what_is_not_given_is_counted_shown_whole_and_measured():
    rows = Instances(class_id=np.array([0, 1]), boxes=TWO)
    assert rows.row.tolist() == [0, 1]
    assert rows.visible.tolist() == [1, 1]
    assert rows.area.tolist() == [8, 16]
    assert rows.conf is rows.keypoints is rows.rings is None


@quick
@given(instances())
def test_the_area_is_that_of_the_richest_geometry(rows):
    np.testing.assert_allclose(
        rows.area, [outline(rows, i).area for i in range(len(rows))], rtol=1e-9
    )


@quick
@given(instances(), st.data())
def test_taking_and_putting_together_again_changes_nothing(rows, data):
    order = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    assert_same(rows.take(order).take(np.argsort(order)), rows)
    cut = data.draw(st.integers(0, len(rows)))
    assert_same(
        concatenate([rows.take(np.arange(cut)), rows.take(np.arange(cut, len(rows)))]), rows
    )


@quick
@given(instances(), st.data())
def test_a_mask_takes_what_its_indices_take(rows, data):
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool
    )
    assert_same(rows.take(mask), rows.take(np.flatnonzero(mask)))


@quick
@given(instances(min_size=1), st.data())
def test_what_is_put_somewhere_is_found_there(rows, data):
    index = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True)), np.int64)
    other = rows.moved(3, 5).take(index)
    changed = rows.put(index, other)
    assert_same(changed.take(index), other)
    rest = np.setdiff1d(np.arange(len(rows)), index)
    assert_same(changed.take(rest), rows.take(rest))


@quick
@given(instances(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_away_from_the_origin_and_back_is_close(rows, dx, dy):
    back = rows.moved(dx, dy).moved(-dx, -dy)
    np.testing.assert_allclose(back.boxes, rows.boxes, atol=1e-9)
    if rows.rings is not None:
        np.testing.assert_allclose(back.rings.coords, rows.rings.coords, atol=1e-9)
    if rows.keypoints is not None:
        np.testing.assert_allclose(back.keypoints, rows.keypoints, atol=1e-9)


@quick
@given(instances())
def test_each_instance_moves_by_its_own_number(rows):
    dx, dy = np.arange(len(rows)) * 10.0, np.arange(len(rows)) * -7.0
    moved = rows.moved(dx, dy)
    for i in range(len(rows)):
        assert_same(moved.take(np.array([i])), rows.take(np.array([i])).moved(dx[i], dy[i]))


def test_moving_leaves_keypoints_that_nobody_set():
    keypoints = np.array([[[0, 0, 0], [1, 2, 2], [0, 0, 2.0]]])
    rows = Instances(
        class_id=np.array([0]), boxes=np.array([[0, 0, 9, 9.0]]), keypoints=keypoints, task="pose"
    )
    assert labelled(keypoints).tolist() == [[False, True, True]]
    assert rows.moved(10, 20).keypoints.tolist() == [[[0, 0, 0], [11, 22, 2], [10, 20, 2]]]
    assert keypoints.tolist() == [[[0, 0, 0], [1, 2, 2], [0, 0, 2]]]


@pytest.mark.parametrize("task", TASKS)
def test_no_instances_are_ordinary(task):
    none = empty(task, 17)
    assert len(none) == len(none.take(np.empty(0, np.int64))) == len(concatenate([none, none])) == 0
    assert none.boxes.shape == (0, 4)
    assert none.moved(1, 2).task == task
    assert none.area.shape == none.visible.shape == none.row.shape == (0,)


@quick
@given(tasks.flatmap(lambda task: instances(task=task)))
def test_none_before_and_after_change_nothing(rows):
    none = empty(rows.task, 3)
    assert_same(concatenate([none, rows, none]), rows)


def test_the_outline_tells_the_area_not_the_box():
    ring = np.array([[0, 0], [10, 0], [0, 10.0]])
    rows = Instances(
        np.array([0]), np.array([[0, 0, 10, 10.0]]), rings=Rings.of([[ring]]), task="segment"
    )
    assert rows.area.tolist() == [shapely.Polygon(ring).area] == [50]
