import math
import tarfile

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED
from tests.strategies import quick
from tiler.errors import SourceRefused
from tiler.formats import trainer_rules, yolo
from tiler.formats.yolo import Spec
from tiler.geometry.instances import Instances, empty
from tiler.geometry.polygons import Rings
from tiler.types import TASKS

ODD = SHARED / "data" / "odd.tar"
CLASSES = 4
POINTS = 3
GRID = 1000  # coordinates are drawn on it, so that different rows stay different in float32

DETECT, SEGMENT, OBB = (Spec(task, CLASSES) for task in ("detect", "segment", "obb"))
POSE = Spec("pose", CLASSES, (POINTS, 3))
POSE2 = Spec("pose", CLASSES, (POINTS, 2))

sizes = st.tuples(st.integers(10, 6000), st.integers(10, 6000))
ticks = st.integers(0, GRID).map(lambda k: k / GRID)
class_ids = st.integers(0, CLASSES - 1)


@st.composite
def box_rows(draw):
    """class cx cy w h of a box within the frame."""
    x0, x1 = sorted(draw(st.lists(ticks, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(ticks, min_size=2, max_size=2, unique=True)))
    return [draw(class_ids), (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


@st.composite
def segment_rows(draw):
    points = draw(st.lists(st.tuples(ticks, ticks), min_size=3, max_size=8, unique=True))
    return [draw(class_ids), *np.ravel(points)]


@st.composite
def obb_rows(draw):
    """The corners of a rectangle about a centre far enough from the border."""
    x, y = draw(st.integers(300, 700)) / GRID, draw(st.integers(300, 700)) / GRID
    w, h, angle = (
        draw(st.integers(5, 200)) / GRID,
        draw(st.integers(5, 200)) / GRID,
        draw(st.floats(0, math.pi)),
    )
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn + [x, y]
    return [draw(class_ids), *corners.ravel()]


@st.composite
def pose_rows(draw):
    points = st.one_of(st.just((0.0, 0.0, 0)), st.tuples(ticks, ticks, st.sampled_from([1, 2])))
    return draw(box_rows()) + list(
        np.ravel(draw(st.lists(points, min_size=POINTS, max_size=POINTS)))
    )


def has_area(row):
    return shapely.area(Rings.of([[np.reshape(row[1:], (-1, 2))]]).geometry())[0] > 1e-6


ROWS = {
    "detect": box_rows(),
    "segment": segment_rows().filter(has_area),
    "obb": obb_rows(),
    "pose": pose_rows(),
}
SPECS = {spec.task: spec for spec in (DETECT, SEGMENT, OBB, POSE)}


def tables(task):
    return st.lists(ROWS[task], max_size=6, unique_by=lambda row: tuple(np.round(row, 6)))


def label_text(rows):
    return "".join(
        " ".join(str(float(v)) if i else str(int(v)) for i, v in enumerate(row)) + "\n"
        for row in rows
    )


def read(text, spec, width=100, height=100):
    data = text if isinstance(text, bytes) else text.encode()
    return yolo.read(data, spec, width, height, "a.txt")


def instances_of(task, rows, width, height):
    """The same arrays as `read` should give, by a way of their own."""
    size = np.array([width, height])
    class_id = np.array([row[0] for row in rows], np.int64)
    if task in ("segment", "obb"):
        rings = Rings.of([[np.reshape(row[1:], (-1, 2)) * size] for row in rows])
        return Instances(class_id, rings.bounds(), rings=rings, task=task)
    boxes = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for _, x, y, w, h, *_ in rows]
    keypoints = None
    if task == "pose":
        keypoints = np.array([row[5:] for row in rows]).reshape(-1, POINTS, 3) * [width, height, 1]
    return Instances(
        class_id, np.array(boxes).reshape(-1, 4) * np.tile(size, 2), keypoints=keypoints, task=task
    )


def assert_close(found, expected, width, height, part=1e-8):
    """Equal to a part of the frame; classes, rows and numbers of points exactly."""
    allowed = part * max(width, height)
    assert found.task == expected.task
    assert found.class_id.tolist() == expected.class_id.tolist()
    assert found.row.tolist() == expected.row.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=allowed)
    for name in ("rings", "keypoints"):
        assert (getattr(found, name) is None) == (getattr(expected, name) is None)
    if expected.rings is not None:
        assert found.rings.ring_offsets.tolist() == expected.rings.ring_offsets.tolist()
        assert found.rings.offsets.tolist() == expected.rings.offsets.tolist()
        np.testing.assert_allclose(found.rings.coords, expected.rings.coords, rtol=0, atol=allowed)
    if expected.keypoints is not None:
        np.testing.assert_allclose(found.keypoints, expected.keypoints, rtol=0, atol=allowed)


# Properties


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read_again(task):
    @quick
    @given(tables(task), sizes)
    def check(rows, size):
        expected = instances_of(task, rows, *size)
        numbers = yolo.values(expected, np.tile(np.array(size, np.float64), (len(rows), 1)))
        found, findings = read(yolo.text(numbers, task), SPECS[task], *size)
        assert not [f for f in findings if f.code != "L09"]
        assert_close(found, expected, *size)

    check()


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_is_written_again(task):
    @quick
    @given(tables(task), sizes)
    def check(rows, size):
        found, _ = read(label_text(rows), SPECS[task], *size)
        numbers = yolo.values(found, np.tile(np.array(size, np.float64), (len(found), 1)))
        assert len(numbers) == len(rows)
        for row, back in zip(rows, numbers, strict=True):
            np.testing.assert_allclose(back, row, rtol=0, atol=1e-8)

    check()


@pytest.mark.parametrize("task", TASKS)
def test_every_row_written_is_one_the_trainer_takes(task):
    @quick
    @given(tables(task), sizes)
    def check(rows, size):
        expected = instances_of(task, rows, *size)
        numbers = yolo.values(expected, np.tile(np.array(size, np.float64), (len(rows), 1)))
        lines = [
            np.array(line.split(), np.float64) for line in yolo.text(numbers, task).splitlines()
        ]
        assert trainer_rules.accepted(lines, task, CLASSES, SPECS[task].out_shape).all()
        for line, row in zip(lines, numbers, strict=True):
            np.testing.assert_allclose(line, row, rtol=0, atol=1e-12)

    check()


@pytest.mark.parametrize("task", TASKS)
def test_byte_order_mark_line_ends_blanks_and_tabs_are_no_matter(task):
    @quick
    @given(
        tables(task),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["", "\ufeff"]),
        st.randoms(),
        st.booleans(),
    )
    def check(rows, end, mark, random, final):
        plain = label_text(rows).splitlines()
        odd = []
        for line in plain:
            odd += [""] * random.randrange(3)
            odd.append(
                " " * random.randrange(3)
                + line.replace(" ", random.choice([" ", "\t", "   ", " \t"]))
            )
        text = mark + end.join(odd) + end * final
        found, _ = read(text, SPECS[task])
        assert_close(found, read(label_text(rows), SPECS[task])[0], 1, 1, part=0)

    check()


@quick
@given(
    tables("detect"),
    st.integers(0, 6),
    st.integers(0, 3),
    st.sampled_from(["nan .5 .5 .1 .1", "0 .5", "9 .5 .5 .1 .1", "x"]),
)
def test_a_bad_row_leaves_the_others_as_they_are_and_is_named_by_its_line(rows, at, blanks, bad):
    lines = label_text(rows).splitlines()
    at = min(at, len(lines))
    found, findings = read("\n".join([*lines[:at], *[""] * blanks, bad, *lines[at:]]), DETECT)
    expected, _ = read("\n".join(lines), DETECT)
    assert found.boxes.tolist() == expected.boxes.tolist()
    assert found.row.tolist() == [row + (row >= at) for row in expected.row]
    assert [f.line for f in findings] == [at + blanks + 1]


@quick
@given(
    st.lists(
        st.sampled_from(
            [
                "0 .5 .5 .1 .1",
                "0 .50 .5 .1 .1",
                "1 .5 .5 .1 .1",
                "0 .5 .5 .2 .1",
                "0 .500000001 .5 .1 .1",
            ]
        )
    )
)
def test_a_repeated_row_counts_once_as_a_plain_loop_finds_it(lines):
    seen, kept, again = set(), [], []
    for i, line in enumerate(lines):
        key = tuple(np.float32(word) for word in line.split())
        (again if key in seen else kept).append(i)
        seen.add(key)
    found, findings = read("\n".join(lines), DETECT)
    assert found.row.tolist() == kept
    assert [f.code for f in findings] == ["L07"] * min(10, len(again))
    assert sum(f.count for f in findings) == len(again)
    assert [f.line for f in findings] == [i + 1 for i in again[:10]]


@quick
@given(
    st.lists(
        st.lists(
            st.sampled_from(["0", "1", ".5", "-3", "1e2", "+.25", "nan", "x", "0,5"]), max_size=4
        ),
        max_size=6,
    )
)
def test_the_numbers_are_those_of_a_plain_loop(words):
    data = "\n".join(map(" ".join, words)).encode()
    expected, problems, lines, place = {}, [], [], 0
    for number, row in enumerate(words, 1):
        if not row:
            continue
        lines.append(number)
        if {"x", "0,5"} & set(row):
            problems.append(place)
        else:
            expected.setdefault(len(row), []).append((place, [float(word) for word in row]))
        place += 1
    table = yolo.parse(data)
    assert table.lines == lines
    assert [p for p, *_ in table.problems] == problems
    assert len(table) == len(lines) - len(problems)
    assert set(table.groups) == set(expected)
    for count, rows in expected.items():
        places, values = table.groups[count]
        assert places.tolist() == [p for p, _ in rows]
        np.testing.assert_array_equal(values, [v for _, v in rows])


# One row at a time: faults, repairs, and what is fine

GOOD = "0 .2 .2 .1 .1\n1 .6 .6 .2 .2\n"
ROW = {
    "nan": ("0 nan .5 .1 .1", "L02", "found nan, expected finite numbers"),
    "inf": ("0 .5 inf .1 .1", "L02", "found inf, expected finite numbers"),
    "minus inf": ("0 .5 .5 -inf .1", "L02", "found -inf, expected finite numbers"),
    "overflow": ("0 .5 1e999 .1 .1", "L02", "found inf, expected finite numbers"),
    "class nan": ("nan .5 .5 .1 .1", "L02", "found nan, expected finite numbers"),
    "word": ("0 abc .5 .1 .1", "L02", "found 'abc', expected a number"),
    "class name": ("car .5 .5 .1 .1", "L02", "found 'car', expected a number"),
    "commas": ("0,.5,.5,.1,.1", "L02", "found '0,.5,.5,.1,.1', expected a number"),
    "decimal comma": ("0 0,5 0,5 0,1 0,1", "L02", "found '0,5', expected a number"),
    "hex": ("0 0x1 .5 .1 .1", "L02", "found '0x1', expected a number"),
    "comment": ("# made by hand", "L02", "found '#', expected a number"),
    "nul": ("\0\0\0", "L02", "found '\\x00\\x00\\x00', expected a number"),
    "long word": ("x" * 100, "L02", f"found '{'x' * 40}', expected a number"),
    "escape": ("0 \x1b[31m .5 .1 .1", "L02", "found '\\x1b[31m', expected a number"),
    "two fields": ("0 .5", "L03", "expected 5 values (class, x, y, width, height), got 2"),
    "four fields": ("0 .5 .5 .1", "L03", "expected 5 values (class, x, y, width, height), got 4"),
    "confidence": (
        "0 .5 .5 .1 .1 .9",
        "L03",
        "expected 5 values (class, x, y, width, height), got 6; a confidence? labels have none",
    ),
    "eight fields": (
        "0 .5 .5 .1 .1 .9 .9 .9",
        "L03",
        "expected 5 values (class, x, y, width, height), got 8",
    ),
    "class -1": ("-1 .5 .5 .1 .1", "L04", "class -1, expected a whole number from 0 to 3"),
    "class 4": ("4 .5 .5 .1 .1", "L04", "class 4, expected a whole number from 0 to 3"),
    "class 0.5": ("0.5 .5 .5 .1 .1", "L04", "class 0.5, expected a whole number from 0 to 3"),
    "class 1e20": ("1e20 .5 .5 .1 .1", "L04", "class 1e+20, expected a whole number from 0 to 3"),
    "negative x": ("0 -.2 .5 .1 .1", "L05", "x centre -0.2, expected 0 to 1"),
    "y over 1": ("0 .5 1.2 .1 .1", "L05", "y centre 1.2, expected 0 to 1"),
    "width over 1": ("0 .5 .5 1.2 .1", "L05", "width 1.2, expected 0 to 1"),
    "pixels": ("0 397.5 195.5 35 63", "L05", "x centre 397.5, expected 0 to 1; are these pixels?"),
    "1e308": ("0 1e308 .5 .1 .1", "L05", "x centre 1e+308, expected 0 to 1; are these pixels?"),
    "no width": ("0 .5 .5 0 .1", "L06", "width 0, expected more than 0"),
    "negative width": ("0 .5 .5 -.1 .1", "L06", "width -0.1, expected more than 0"),
    "no height": ("0 .5 .5 .1 0", "L06", "height 0, expected more than 0"),
    "repeated": ("0 .2 .2 .1 .1", "L07", "repeats an earlier row; removed"),
    "outline": ("0 .1 .1 .3 .1 .3 .4", "L12", "an outline of 3 points; its box is taken"),
}


@pytest.mark.parametrize("name", ROW)
def test_a_box_row_that_is_not_plainly_right_is_reported_in_words(name):
    row, code, message = ROW[name]
    found, findings = read(GOOD + row + "\n", DETECT)
    assert [str(f) for f in findings] == [f"a.txt:3: {code} {message}"]
    assert found.row.tolist() == [0, 1, 2] if code == "L12" else [0, 1]


@pytest.mark.parametrize(
    ("row", "box"),
    [
        ("0 5e-1 5.0E-01 1e-1 +0.1", [45, 45, 55, 55]),
        ("0.0 .5 .5 .1 .1", [45, 45, 55, 55]),
        ("3e0 .5 .5 .1 .1", [45, 45, 55, 55]),
        ("-0 .5 .5 .1 .1", [45, 45, 55, 55]),
        ("0 .5 .5 1 1", [0, 0, 100, 100]),
        ("0 .98 .5 .1 .1", [93, 45, 103, 55]),
        ("0 1.01 -.01 .1 .1", [96, -6, 106, 4]),
        ("0 1.0000001 .5 .1 .1", [95.00001, 45, 105.00001, 55]),
        ("0 .5 .5 .0001 .0001", [49.995, 49.995, 50.005, 50.005]),
        ("0 .1 .1 .3 .1 .3 .4", [10, 10, 30, 40]),
        ("0 .1 .1 .3 .1 .3 .4 .1 .4", [10, 10, 30, 40]),
    ],
)
def test_a_box_row_that_is_read(row, box):
    found, _ = read(row, DETECT)
    np.testing.assert_allclose(found.boxes, [box], rtol=0, atol=1e-9)
    assert found.rings is None or len(found.rings) == 1


def test_boxes_and_outlines_of_one_file_have_the_same_columns():
    found, findings = read("0 .5 .5 .2 .2\n1 .1 .1 .3 .1 .3 .4\n2 .8 .8 .2 .2\n", DETECT)
    np.testing.assert_allclose(
        found.boxes, [[40, 40, 60, 60], [10, 10, 30, 40], [70, 70, 90, 90]], atol=1e-9
    )
    assert found.class_id.tolist() == [0, 1, 2]
    assert [len(found.rings[i][0]) for i in range(3)] == [4, 3, 4]
    assert [f.code for f in findings] == ["L12"]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("0 .5 .5 .1 .1", "L10"),
        ("0 .1 .1 .2 .2", "L10"),
        ("0 .1 .1", "L03"),
        ("0 .1 .1 .2 .1 .2 .2 .1", "L03"),
        ("0 .1 .1 .2 .1 .3 .1", "L06"),
        ("0 .1 .1 .2 .2 .3 .3", "L06"),
        ("0 .1 .1 .2 .2 .1 .1", "L06"),
        ("0 .3 .3 .3 .3 .3 .3 .3 .3", "L06"),
        ("0 .95 .4 1.1 .4 1.1 .6 .95 .6", "L05"),
        ("0 -.3 .1 -.1 .1 -.1 .5", "L05"),
        ("0 -.01 .1 1.01 .1 1.01 .5", "L05"),
        ("4 .1 .1 .2 .1 .2 .2", "L04"),
        ("0 .1 .1 .2 nan .2 .2", "L02"),
    ],
)
def test_a_segment_row_that_is_rejected(row, code):
    found, findings = read(f"0 .2 .2 .4 .2 .4 .4\n{row}\n", SEGMENT)
    assert [(f.line, f.code) for f in findings] == [(2, code)]
    assert found.row.tolist() == [0]


@pytest.mark.parametrize(
    "row",
    [
        "0 .1 .1 .2 .1 .2 .2",
        "0 .1 .1 .2 .1 .2 .2 .1 .2 .1 .1",
        "0 .1 .2 .2 .2 .2 .1 .1 .1",
        "0 -.3 .1 .4 .1 .4 .5",
        "0 .1 .1 .2 .1 1 .1 .2 .1 .2 .2 .1 .2",
    ],
    ids=["triangle", "closed", "counterclockwise", "past the frame", "spike"],
)
def test_a_segment_row_that_is_fine(row):
    found, findings = read(row, SEGMENT)
    assert not findings
    np.testing.assert_array_equal(
        found.rings.coords.ravel(), np.array(row.split(), np.float64)[1:] * 100
    )


def test_a_bow_tie_is_kept_even_odd_and_reported():
    found, findings = read("0 .1 .1 .5 .5 .5 .1 .1 .5\n", SEGMENT)
    assert [str(f) for f in findings] == ["a.txt:1: L09 the outline crosses itself"]
    assert found.area.tolist() == pytest.approx([800])


def test_a_key_hole_is_a_hole_and_no_crossing():
    found, findings = read(
        "0 .1 .1 .6 .1 .6 .6 .1 .6 .1 .1 .2 .2 .2 .4 .4 .4 .4 .2 .2 .2\n", SEGMENT
    )
    assert not findings
    assert found.area.tolist() == pytest.approx([2500 - 400])


def test_a_bow_tie_with_a_spike_is_reported_too():
    findings = read("0 .1 .1 .05 .05 .1 .1 .5 .5 .5 .1 .1 .5\n", SEGMENT)[1]
    assert [f.code for f in findings] == ["L09"]


def test_parts_and_holes_are_written_as_one_ring_of_the_same_area():
    outer, hole, other = (
        [[a, a], [b, a], [b, b], [a, b]] for a, b in ((10, 50), (20, 40), (60, 90))
    )
    rings = Rings.of([[np.array(ring, np.float64) for ring in (outer, hole, other)]])
    donut = Instances(np.array([2]), rings.bounds(), rings=rings, task="segment")
    found, findings = read(
        yolo.text(yolo.values(donut, np.array([[100, 100.0]])), "segment"), SEGMENT
    )
    assert not findings
    assert found.area.tolist() == pytest.approx([1600 - 400 + 900])
    shape = shapely.union_all(
        [shapely.box(10, 10, 50, 50) - shapely.box(20, 20, 40, 40), shapely.box(60, 60, 90, 90)]
    )
    assert shapely.area(shapely.symmetric_difference(found.rings.geometry()[0], shape)) < 1e-6


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("0 .5 .5 .1 .1", "L10"),
        ("0 .5 .5 .1 .05 .4", "L03"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2 .9", "L03"),
        ("0 .1 .1 .2 .2 .3 .3 .4 .4", "L06"),
        ("0 .9 .4 1.2 .4 1.2 .6 .9 .6", "L05"),
    ],
)
def test_an_obb_row_that_is_rejected(row, code):
    found, findings = read(row, OBB)
    assert code in [f.code for f in findings]
    assert len(found) == 0
    assert found.rings is not None


@pytest.mark.parametrize(
    ("row", "area"),
    [
        ("0 .2 .2 .6 .4 .2 .4 .6 .2", 800),
        ("0 .2 .2 .4 .2 .6 .2 .6 .4 .2 .4", 800),
        ("0 .2 .2 .6 .2 .6 .4", 800),
    ],
    ids=["crossed corners", "five points", "three points"],
)
def test_what_is_no_quad_becomes_the_rectangle_about_it(row, area):
    found, findings = read(row, OBB)
    assert [f.code for f in findings] == ["L09"]
    assert found.area.tolist() == pytest.approx([area])
    assert found.rings.quads().shape == (1, 4, 2)


@pytest.mark.parametrize(
    "row",
    [
        "0 .2 .2 .6 .2 .6 .4 .2 .4",
        "0 .2 .4 .6 .4 .6 .2 .2 .2",
        "0 .6 .4 .2 .4 .2 .2 .6 .2",
        "0 .2 .2 .6 .2 .7 .4 .2 .4",
        "0 .9154 .4081 1.0689 .5055 1.0445 .5918 .8910 .4944",
    ],
    ids=["clockwise", "other winding", "other start", "trapezoid", "past the frame"],
)
def test_an_obb_row_keeps_its_corners(row):
    found, findings = read(row, OBB)
    assert not findings
    np.testing.assert_array_equal(
        found.rings.coords.ravel(), np.array(row.split(), np.float64)[1:] * 100
    )


def test_keypoints_are_kept_with_their_visibility():
    found, findings = read("0 .5 .5 .2 .2 .45 .45 2 .5 .55 1 .6 .6 0\n", POSE)
    assert not findings
    np.testing.assert_allclose(found.keypoints, [[[45, 45, 2], [50, 55, 1], [60, 60, 0]]])


@pytest.mark.parametrize(
    ("keypoint", "expected", "message"),
    [
        ("0 0 0", [0, 0, 0], None),
        ("-.005 -.005 0", [0, 0, 0], None),
        ("1.4 .5 2", [0, 0, 0], "a keypoint outside the image; written as 0 0 0"),
        (".5 -.1 1", [0, 0, 0], "a keypoint outside the image; written as 0 0 0"),
        ("1.4 .5 0", [0, 0, 0], "a keypoint outside the image; written as 0 0 0"),
        (".5 .5 3", [50, 50, 2], "visibility 3, expected 0, 1 or 2; 2 is taken"),
        (".5 .5 -1", [50, 50, 2], "visibility -1, expected 0, 1 or 2; 2 is taken"),
        (".5 .5 0.7", [50, 50, 2], "visibility 0.7, expected 0, 1 or 2; 2 is taken"),
        ("1e300 .5 2", [0, 0, 0], "a keypoint outside the image; written as 0 0 0"),
        (".5 .5 1e300", [50, 50, 2], "visibility 1e+300, expected 0, 1 or 2; 2 is taken"),
    ],
)
def test_an_odd_keypoint_is_repaired_and_reported(keypoint, expected, message):
    found, findings = read(f"0 .5 .5 .2 .2 {keypoint} .5 .5 2 .5 .5 1\n", POSE)
    np.testing.assert_allclose(found.keypoints, [[expected, [50, 50, 2], [50, 50, 1]]])
    assert [f.message for f in findings] == ([] if message is None else [message])
    assert all(f.code == "L11" for f in findings)


def test_keypoints_without_visibility_get_one():
    found, findings = read("0 .5 .5 .2 .2 .45 .45 0 0 -.005 .5\n", POSE2)
    assert not findings
    np.testing.assert_allclose(found.keypoints, [[[45, 45, 2], [0, 0, 0], [-0.5, 50, 0]]])
    written = yolo.text(yolo.values(found, np.array([[100, 100.0]])), "pose")
    assert written.endswith(
        " 0.45000000 0.45000000 2 0.00000000 0.00000000 0 -0.00500000 0.50000000 0\n"
    )
    assert POSE2.out_shape == (POINTS, 3)


@pytest.mark.parametrize("spec", [POSE, POSE2])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 12, 15])
def test_a_pose_row_of_another_number_of_values_is_rejected(spec, count):
    expected = 5 + POINTS * spec.kpt_shape[1]
    found, findings = read(" ".join(["0"] + [".5"] * count), spec)
    assert [f.message for f in findings] == [
        f"expected {expected} values (class, box, 3 keypoints of {spec.kpt_shape[1]}), got "
        f"{count + 1}"
    ]
    assert found.keypoints.shape == (0, POINTS, 3)


# Whole files


@pytest.mark.parametrize("data", [b"", b"\n\n", b" \t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("task", TASKS)
def test_no_rows_are_no_instances(task, data):
    found, findings = read(data, SPECS[task])
    assert len(found) == 0
    assert not findings
    assert found.task == task
    assert found.boxes.shape == (0, 4)
    assert (found.rings is None) == (task in ("detect", "pose"))


@pytest.mark.parametrize("task", TASKS)
def test_no_instances_are_no_text(task):
    nothing = empty(task, POINTS if task == "pose" else 0)
    assert yolo.text(yolo.values(nothing, np.empty((0, 2))), task) == ""


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_refused_or_no_row_of_it_is_read(encoding):
    try:
        found, findings = read(GOOD.encode(encoding), DETECT)
    except SourceRefused as refused:
        assert (refused.code, refused.path, str(refused)) == (
            "L01",
            "a.txt",
            "UTF-16 text, expected UTF-8",
        )
    else:
        assert len(found) == 0
        assert {f.code for f in findings} == {"L02"}


@pytest.mark.parametrize(
    "data", [b"0 .5 .5 .1 .1 \xe9\n", bytes(range(256)), b"\x00" * 1000, b"\xff" * 10]
)
def test_bytes_that_are_no_text_are_reported_on_one_line(data):
    found, findings = read(data, DETECT)
    assert len(found) == 0
    assert findings
    assert all(str(f).isprintable() for f in findings)


def test_every_rejected_row_has_its_line_and_repairs_are_condensed():
    found, findings = read("x\n" * 50 + "0 .5 .5 .1 .1\n" * 30, DETECT)
    assert [f.line for f in findings if f.code == "L02"] == [*range(1, 51)]
    assert [(f.line, f.count) for f in findings if f.code == "L07"] == [
        *((n, 1) for n in range(52, 61)),
        (61, 20),
    ]
    assert found.row.tolist() == [50]


def test_a_line_of_a_million_values_is_one_finding():
    found, findings = read(b"0" + b" .5" * 999_999, DETECT)
    assert [f.code for f in findings] == ["L03"]
    assert len(found) == 0


@pytest.mark.parametrize(
    "row",
    ["0 1e308 .1 1.7e308 .5 .1 .1", "0 -1.7e308 .1 1.7e308 .5 .1 .1", "0 .1 1e200 .5 -1e200 .5 .5"],
)
def test_numbers_too_large_to_add_are_outside_the_image(row):
    found, findings = read(row, SEGMENT)
    assert [f.code for f in findings] == ["L05"]
    assert len(found) == 0


# The 77 label files of odd.tar: rows that are read, and the codes of what is said

ODD_LABELS = {
    "detect/binary": (0, "L02 L02 L02"),
    "detect/blank_lines": (4, ""),
    "detect/bom": (4, ""),
    "detect/class_name": (4, "5:L02"),
    "detect/class_too_big": (4, "5:L04"),
    "detect/commas": (0, "1:L02 2:L02 3:L02 4:L02"),
    "detect/comment": (4, "1:L02"),
    "detect/cr_only": (4, ""),
    "detect/crlf": (4, ""),
    "detect/decimal_comma": (4, "5:L02"),
    "detect/duplicates": (4, "5:L07 6:L07 7:L07 8:L07"),
    "detect/empty": (0, ""),
    "detect/exponent": (5, ""),
    "detect/float_class": (4, ""),
    "detect/four_fields": (4, "5:L03"),
    "detect/fraction_class": (4, "5:L04"),
    "detect/good": (4, ""),
    "detect/hex": (4, "5:L02"),
    "detect/inf": (4, "5:L02"),
    "detect/just_over_one": (5, ""),
    "detect/latin1": (0, "1:L02"),
    "detect/long_line": (0, "1:L06"),
    "detect/many": (20_000, ""),
    "detect/nan": (4, "5:L02"),
    "detect/near_duplicates": (8, ""),
    "detect/negative": (5, ""),
    "detect/negative_class": (4, "5:L04"),
    "detect/negative_w": (4, "5:L06"),
    "detect/nofinalnewline": (4, ""),
    "detect/nul": (4, "5:L02"),
    "detect/over_one": (4, "5:L05"),
    "detect/past_edge": (5, ""),
    "detect/pixels": (0, "1:L05 2:L05 3:L05 4:L05"),
    "detect/seven_fields": (5, "5:L12"),
    "detect/six_fields": (4, "5:L03"),
    "detect/spaces": (4, ""),
    "detect/sub_pixel": (5, ""),
    "detect/tabs": (4, ""),
    "detect/utf16": (None, "L01"),
    "detect/whole_frame": (5, ""),
    "detect/word": (4, "5:L02"),
    "detect/xyxy": (4, ""),
    "detect/zero_w": (4, "5:L06"),
    "obb/axis": (2, ""),
    "obb/bowtie": (1, "1:L09"),
    "obb/ccw": (1, ""),
    "obb/detect_line": (0, "1:L10"),
    "obb/good": (1, ""),
    "obb/not_a_rectangle": (1, ""),
    "obb/past_edge": (1, ""),
    "obb/start2": (1, ""),
    "obb/ten_fields": (0, "1:L03"),
    "obb/thin": (1, ""),
    "obb/xywhr": (0, "1:L03"),
    "pose/dim2": (0, "1:L03"),
    "pose/good": (1, ""),
    "pose/kpt_outside": (1, "1:L11"),
    "pose/three_kpts": (0, "1:L03"),
    "pose/unlabelled_zero": (1, ""),
    "pose/vis3": (1, "1:L11"),
    "segment/bowtie": (1, "1:L09"),
    "segment/bridge": (1, ""),
    "segment/clockwise_and_not": (2, ""),
    "segment/closed": (1, ""),
    "segment/collinear": (0, "1:L06"),
    "segment/detect_only": (0, "1:L10 2:L10 3:L10 4:L10"),
    "segment/good": (1, ""),
    "segment/mixed": (1, "1:L10"),
    "segment/odd_count": (0, "1:L03"),
    "segment/one_point": (0, "1:L03"),
    "segment/outside": (0, "1:L05"),
    "segment/points5000": (1, ""),
    "segment/same_point": (0, "1:L06"),
    "segment/spike": (1, ""),
    "segment/two_parts": (1, "1:L09"),
    "segment/two_points": (0, "1:L10"),
    "segment/u_shape": (1, ""),
}


@pytest.fixture(scope="module")
def odd():
    """The bytes of the label files in odd.tar, by task and name."""
    if not ODD.is_file():
        pytest.skip(f"{ODD} is not there")
    with tarfile.open(ODD) as tar:
        files = [m for m in tar if m.name.startswith("odd/bad_labels/") and m.name.endswith(".txt")]
        return {
            f"{m.name.split('/')[2]}/{m.name.split('/')[-1][:-4]}": tar.extractfile(m).read()
            for m in files
        }


def test_the_table_knows_every_odd_label_file(odd):
    assert sorted(odd) == sorted(ODD_LABELS)


@pytest.mark.parametrize("name", ODD_LABELS)
def test_an_odd_label_file(odd, name):
    rows, expected = ODD_LABELS[name]
    task = name.split("/")[0]
    spec = Spec(task, 5, (4, 3) if task == "pose" else None)
    try:
        found, findings = read(odd[name], spec, 480, 320)
    except SourceRefused as refused:
        assert (rows, expected) == (None, refused.code)
    else:
        assert len(found) == rows
        codes = (
            [f.code for f in findings]
            if name == "detect/binary"
            else [f"{f.line}:{f.code}" for f in findings]
        )
        assert " ".join(codes) == expected
        assert np.isfinite(found.boxes).all()


def test_an_odd_pose_file_of_two_values_a_keypoint(odd):
    found, findings = read(odd["pose/dim2"], Spec("pose", 5, (4, 2)), 100, 100)
    assert not findings
    np.testing.assert_allclose(
        found.keypoints, [[[50, 50, 2], [52, 50, 2], [50, 55, 2], [48, 50, 2]]]
    )


def test_unlabelled_keypoints_of_an_odd_file_stay_0_0_0(odd):
    found, _ = read(odd["pose/unlabelled_zero"], Spec("pose", 5, (4, 3)), 480, 320)
    assert found.keypoints[0, [0, 2]].tolist() == [[0, 0, 0], [0, 0, 0]]
    line = yolo.text(yolo.values(found, np.array([[480, 320.0]])), "pose")
    assert line.split()[5:8] == ["0.00000000", "0.00000000", "0"]
