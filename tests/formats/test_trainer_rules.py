import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.formats import trainer_rules, yolo
from tiler.types import TASKS

CLASSES = 3

# (task, kpt_shape, row, what `verify_image_label` of Ultralytics 8.4.190 says of a file with this
# row, and of `yolo.read` the code of its finding). Recorded by running it; a code with a row that
# the trainer takes is a rule of our own.
TAKES, DROPS = True, False
AGREED = [
    ("detect", None, "0 .5 .5 .1 .1", TAKES, None),
    ("detect", None, "2 .5 .5 .1 .1", TAKES, None),
    ("detect", None, "-0 .5 .5 .1 .1", TAKES, None),
    ("detect", None, "1e0 .5 .5 .1 .1", TAKES, None),
    ("detect", None, "0 0_0.5 .5 .1 .1", TAKES, None),
    ("detect", None, "0 .\u0665 .5 .1 .1", TAKES, None),
    ("detect", None, "0 .5\u00a0.5 .1 .1", TAKES, None),
    ("detect", None, "0 1.01 .5 .1 .1", TAKES, None),
    ("detect", None, "0 -0.01 .5 .1 .1", TAKES, None),
    ("detect", None, "0 .5 .5 1.01 .1", TAKES, None),
    ("detect", None, "0 1.0100001 .5 .1 .1", DROPS, "L05"),
    ("detect", None, "0 1.01001 .5 .1 .1", DROPS, "L05"),
    ("detect", None, "0 -0.010001 .5 .1 .1", DROPS, "L05"),
    ("detect", None, "0 .5 .5 1.011 .1", DROPS, "L05"),
    ("detect", None, "0 .5 .5 -0.005 .1", DROPS, "L06"),
    ("detect", None, "3 .5 .5 .1 .1", DROPS, "L04"),
    ("detect", None, "-0.001 .5 .5 .1 .1", DROPS, "L04"),
    ("detect", None, "nan .5 .5 .1 .1", DROPS, "L02"),
    ("detect", None, "0 .5 .5 .1 .1 .9", DROPS, "L03"),
    ("detect", None, "0 .5 .5 .1", DROPS, "L03"),
    ("detect", None, "0 .5 .5 .1 .1 0 .5", TAKES, "L12"),
    ("detect", None, "0 .1 .1 .5 .1 .5 .5 .1 .5", TAKES, "L12"),
    ("segment", None, "0 -.3 .1 .4 .1 .4 .5", TAKES, None),
    ("segment", None, "0 -.005 .1 1.005 .1 1.005 .5", TAKES, None),
    ("segment", None, "0 .9 .1 1.2 .1 1.2 .5", DROPS, "L05"),
    ("segment", None, "0 -.01 .1 1.01 .1 1.01 .5", DROPS, "L05"),
    ("segment", None, "0 .1 .1 .5 .5 .3", DROPS, "L03"),
    ("obb", None, "0 .1 .1 .5 .1 .5 .5 .1 .5", TAKES, None),
    ("obb", None, "0 .9 .1 1.1 .1 1.1 .5 .9 .5", TAKES, None),
    ("obb", None, "0 .95 .1 1.1 .1 1.1 .5 .95 .5", DROPS, "L05"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 .5 .5 2", TAKES, None),
    ("pose", (1, 3), "0 .5 .5 .1 .1 1.005 .5 2", TAKES, None),
    ("pose", (1, 3), "0 .5 .5 .1 .1 -.005 .5 0", TAKES, None),
    ("pose", (1, 3), "0 .5 .5 .1 .1 .5 .5 5", TAKES, "L11"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 1.02 .5 2", DROPS, "L11"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 1.4 .5 0", DROPS, "L11"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 -.2 .5 0", DROPS, "L11"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 .5 .5 -1", DROPS, "L11"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 .5 .5 nan", DROPS, "L02"),
    ("pose", (1, 3), "0 .5 .5 .1 .1 .5 .5", DROPS, "L03"),
    ("pose", (1, 3), "0 .5 .5 .1 .1", DROPS, "L03"),
]
STRICTER = [
    ("detect", None, "0 .5 .5 0 .1", "L06"),
    ("detect", None, "0 -0.005 .5 0 .1", "L06"),
    ("segment", None, "0 .1 .1 .5 .5", "L10"),
    ("pose", (1, 3), "0 1.2 .5 .1 .1 .5 .5 2", "L05"),
    ("pose", (1, 3), "0 .5 .5 1.2 .1 .5 .5 2", "L05"),
]


def numbers(row):
    return np.array([float(word) for word in row.split()])


@pytest.mark.parametrize(("task", "kpt_shape", "row", "taken", "code"), AGREED)
def test_the_trainer_agrees(task, kpt_shape, row, taken, code):
    assert trainer_rules.accepted([numbers(row)], task, CLASSES, kpt_shape).tolist() == [taken]
    _, findings = yolo.read(row.encode(), yolo.Spec(task, CLASSES, kpt_shape), 100, 100, "a.txt")
    assert [f.code for f in findings] == ([] if code is None else [code])


@pytest.mark.parametrize(("task", "kpt_shape", "row", "code"), STRICTER)
def test_a_row_that_the_trainer_accepts_and_cannot_use_is_rejected(task, kpt_shape, row, code):
    assert trainer_rules.accepted([numbers(row)], task, CLASSES, kpt_shape).tolist() == [False]
    found, findings = yolo.read(
        row.encode(), yolo.Spec(task, CLASSES, kpt_shape), 100, 100, "a.txt"
    )
    assert [f.code for f in findings] == [code]
    assert len(found) == 0


def verified(rows, task, classes, kpt_shape):
    """What `verify_image_label` does with the rows of one file, step by step in its float32."""
    try:
        if task != "pose" and any(len(row) > 6 for row in rows):
            if any(len(row) == 5 for row in rows):
                return False
            segments = [np.array(row[1:], np.float32).reshape(-1, 2) for row in rows]
            low, high = (
                np.array([s.min(0) for s in segments]),
                np.array([s.max(0) for s in segments]),
            )
            class_id = np.array([row[0] for row in rows], np.float32)[:, None]
            labels = np.concatenate([class_id, (low + high) / 2, high - low], axis=1)
        else:
            labels = np.array(rows, np.float32)
        points = labels[:, 1:]
        if task == "pose":
            if labels.shape[1] != 5 + kpt_shape[0] * kpt_shape[1]:
                return False
            points = labels[:, 5:].reshape(-1, kpt_shape[1])[:, :2]
        elif labels.shape[1] != 5:
            return False
    except ValueError:
        return False
    lowest = labels.min()
    inside = points.max() <= 1.01 and (
        lowest >= 0 or (lowest >= -0.01 and labels[:, 3:5].min() >= 0)
    )
    return bool(inside and (labels[:, 0] % 1 == 0).all() and labels[:, 0].max() < classes)


@pytest.mark.parametrize(("task", "kpt_shape", "row", "taken", "code"), AGREED)
def test_the_oracle_agrees_with_the_trainer(task, kpt_shape, row, taken, code):
    assert verified([numbers(row)], task, CLASSES, kpt_shape) == taken


edges = [
    -0.01,
    -0.0100001,
    -0.01 - 1e-9,
    -1e-9,
    0.0,
    1e-12,
    0.005,
    0.5,
    1.0,
    1.005,
    1.01,
    1.01 + 1e-9,
    1.0100001,
    1.2,
    -0.3,
]
near = st.one_of(
    st.sampled_from(edges), st.integers(0, 100).map(lambda k: k / 100), st.floats(-0.02, 1.02)
)
class_values = st.one_of(st.integers(0, 2), st.sampled_from([-1, 3, 0.5, 2.9999999999, -0.0]))


@st.composite
def rows_near_the_border(draw, task):
    lengths = {"detect": [4, 6, 8], "segment": [4, 6, 8, 10], "obb": [8], "pose": [10]}
    length = draw(st.sampled_from(lengths[task]))
    return np.array([draw(class_values), *draw(st.lists(near, min_size=length, max_size=length))])


@pytest.mark.parametrize("task", TASKS)
def test_rows_that_are_accepted_are_taken_together(task):
    @quick
    @given(st.lists(rows_near_the_border(task), max_size=8))
    def check(rows):
        kpt_shape = (2, 3) if task == "pose" else None
        good = trainer_rules.accepted(rows, task, CLASSES, kpt_shape)
        assert good.shape == (len(rows),)
        one_kind = {}
        for row in [row for row, ok in zip(rows, good, strict=True) if ok]:
            one_kind.setdefault(len(row) > 5, []).append(row)
        assert all(verified(kind, task, CLASSES, kpt_shape) for kind in one_kind.values())
        assert good.tolist() == [
            trainer_rules.accepted([row], task, CLASSES, kpt_shape)[0] for row in rows
        ]

    check()


@pytest.mark.parametrize("task", ["detect", "segment", "obb"])
def test_rows_with_a_size_are_accepted_when_the_trainer_takes_them(task):
    @quick
    @given(rows_near_the_border(task))
    def check(row):
        box = trainer_rules.derived_boxes(row[None], task)[0]
        close = (
            np.abs([box - trainer_rules.LOW, box - trainer_rules.HIGH, [1, 1, *box[2:]]]).min()
            < 1e-7
        )
        assume(len(row) == 5 or not close)  # there the trainer's own rounding decides
        size = trainer_rules.derived_boxes(row[None].astype(np.float32), task)[0, 2:]
        taken = (
            verified([row], task, CLASSES, None)
            and bool((size > 0).all())
            and not (task != "detect" and len(row) == 5)
        )
        assert trainer_rules.accepted([row], task, CLASSES, None).tolist() == [taken]

    check()


@pytest.mark.parametrize("task", TASKS)
def test_every_fault_is_explained_in_one_line(task):
    @quick
    @given(st.lists(rows_near_the_border(task), min_size=1, max_size=6))
    def check(rows):
        for row in rows:
            code = trainer_rules.faults(row[None], task, CLASSES)[0]
            assert code is None or trainer_rules.explain(code, row, task, CLASSES).isprintable()

    check()


@quick
@given(st.lists(rows_near_the_border("detect").filter(lambda row: len(row) == 5), max_size=8))
def test_faults_name_the_first_rule_that_a_row_breaks(rows):
    expected = []
    for class_id, *box in rows:
        if class_id != int(class_id) or not 0 <= class_id < CLASSES:
            expected.append("L04")
        elif min(box[2:]) <= 0:
            expected.append("L06")
        elif max(box) > 1.01 or min(box[:2]) < -0.01:
            expected.append("L05")
        else:
            expected.append(None)
    assert trainer_rules.faults(np.array(rows).reshape(-1, 5), "detect", CLASSES) == expected


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_have_no_faults_and_none_is_accepted(task):
    assert trainer_rules.faults(np.empty((0, 5)), task, CLASSES) == []
    assert trainer_rules.accepted([], task, CLASSES, (1, 3)).shape == (0,)


@pytest.mark.parametrize("kpt_shape", [(1, 3), (2, 3), (2, 2)])
def test_a_pose_row_of_another_number_of_values_is_not_accepted(kpt_shape):
    for count in range(1, 14):
        row = np.array([0, *[0.5] * (count - 1)])
        assert trainer_rules.accepted([row], "pose", CLASSES, kpt_shape).tolist() == [
            count == 5 + kpt_shape[0] * kpt_shape[1]
        ]


@pytest.mark.parametrize("task", ["detect", "segment", "obb"])
@pytest.mark.parametrize("count", range(1, 14))
def test_the_number_of_values(task, count):
    allowed = {"detect": (5, 7, 9, 11, 13), "segment": (7, 9, 11, 13), "obb": (7, 9, 11, 13)}[task]
    message = trainer_rules.fields(task, count, None)
    assert (message is None) == (count in allowed)
    assert message is None or message.endswith(
        (f"got {count}", f"got {count}; a confidence? labels have none")
    )
    if count >= 3 and message is None:
        box = trainer_rules.derived_boxes(np.full((2, count), 0.5), task)
        assert box.shape == (2, 4)


@pytest.mark.parametrize(
    ("code", "row", "message"),
    [
        ("L02", [0, 0.5, np.nan, 0.1, 0.1], "found nan, expected finite numbers"),
        ("L04", [7, 0.5, 0.5, 0.1, 0.1], "class 7, expected a whole number from 0 to 2"),
        ("L05", [0, 1.02, 0.5, 0.1, 0.1], "x centre 1.02, expected 0 to 1"),
        ("L05", [0, 0.5, 512, 0.1, 0.1], "y centre 512, expected 0 to 1; are these pixels?"),
        ("L06", [0, 0.5, 0.5, 0.1, 0], "height 0, expected more than 0"),
    ],
)
def test_a_fault_in_words(code, row, message):
    row = np.array(row)
    assert trainer_rules.faults(row[None], "detect", CLASSES) == [code]
    assert trainer_rules.explain(code, row, "detect", CLASSES) == message
