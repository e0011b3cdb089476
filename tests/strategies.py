"""What the properties of the geometry are tried on, and how an image of it is drawn without
shapely.

Coordinates are multiples of 0.001 px: most are no binary fraction, so that rounding shows,
and none are so small that an area is lost in it.
"""

import math

import numpy as np
import shapely
from hypothesis import settings
from hypothesis import strategies as st

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.geometry.window import Window
from tiler.types import TASKS

quick = settings(max_examples=100, deadline=None)

SIDE = 200  # px of the images that objects are drawn in
KEYPOINTS = 3

tasks = st.sampled_from(TASKS)


def numbers(low, high):
    return st.integers(round(low * 1000), round(high * 1000)).map(lambda k: k / 1000)


@st.composite
def boxes(draw, side=SIDE, smallest=1.0, largest=SIDE):
    """`(4,)` xyxy within an image of side x side px."""
    w, h = draw(numbers(smallest, min(side, largest))), draw(numbers(smallest, min(side, largest)))
    x, y = draw(numbers(0, side - w)), draw(numbers(0, side - h))
    return np.array([x, y, x + w, y + h])


def box_arrays(max_size=8, **kinds):
    return st.lists(boxes(**kinds), max_size=max_size).map(
        lambda many: np.array(many).reshape(-1, 4)
    )


@st.composite
def simple_rings(draw, side=SIDE, largest=SIDE):
    """A star-shaped ring that does not cross itself, filling much of a drawn box."""
    x0, y0, x1, y1 = draw(boxes(side, 4, largest))
    count = draw(st.integers(3, 8))
    reach = [draw(numbers(0.3, 1)) for _ in range(count)]
    turn = draw(numbers(0, 6.28))
    angles = turn + np.arange(count) * 2 * np.pi / count
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(reach)[:, None]
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + unit * np.array(
        [(x1 - x0) / 2, (y1 - y0) / 2]
    )


@st.composite
def wild_rings(draw, side=SIDE, largest=SIDE):
    """Any points in any order: most of these cross themselves."""
    x0, y0, x1, y1 = draw(boxes(side, 8, largest))
    points = st.tuples(numbers(x0, x1), numbers(y0, y1))
    ring = np.array(draw(st.lists(points, min_size=3, max_size=8, unique=True)))
    return np.clip(ring, [x0, y0], [x1, y1])


@st.composite
def apart_or_nested(draw, side=SIDE, most=5):
    """Rings of which any two lie apart or one inside the other: parts, holes, islands in holes."""
    kept, areas = [], []
    for ring in draw(st.lists(simple_rings(side), min_size=1, max_size=most)):
        area = shapely.Polygon(ring)
        if all(
            area.disjoint(other) or area.contains_properly(other) or other.contains_properly(area)
            for other in areas
        ):
            kept.append(ring)
            areas.append(area)
    return kept


def outlines(side=SIDE, largest=SIDE):
    """The rings of one object that has an area."""
    one = st.one_of(simple_rings(side, largest), wild_rings(side, largest)).map(lambda ring: [ring])
    kinds = st.one_of(one, apart_or_nested(side)) if largest >= side else one
    return kinds.filter(lambda rings: Rings.of([rings]).geometry()[0].area > 1)


@st.composite
def rectangles(draw, side=SIDE, smallest=2.0, largest=SIDE):
    """`(4, 2)` corners of a turned rectangle within the image."""
    w, h = draw(numbers(smallest, largest / 1.5)), draw(numbers(smallest, largest / 1.5))
    angle = draw(st.one_of(numbers(0, 6.283), st.sampled_from([0.0, math.pi / 2, math.pi / 4])))
    c, s = math.cos(angle), math.sin(angle)
    reach_x, reach_y = (abs(w * c) + abs(h * s)) / 2, (abs(w * s) + abs(h * c)) / 2
    shrink = min(1.0, (side / 2 - 1e-6) / max(reach_x, reach_y))
    w, h, reach_x, reach_y = (v * shrink for v in (w, h, reach_x, reach_y))
    centre = np.array([draw(numbers(0, 1)), draw(numbers(0, 1))]) * [
        side - 2 * reach_x,
        side - 2 * reach_y,
    ] + [reach_x, reach_y]
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return np.clip(centre + corners @ np.array([[c, s], [-s, c]]), 0, side)


def unlike_rectangles(rng, n):
    """`(n, 4, 2)` whole-numbered corners as people click them, a third of them long and thin."""
    angle, wide, high = rng.uniform(0, np.pi, n), rng.uniform(8, 60, n), rng.uniform(6, 30, n)
    wide[::3] *= 10
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = (
        np.array([-0.5, 0.5, 0.5, -0.5]) * wide[:, None],
        np.array([-0.5, -0.5, 0.5, 0.5]) * high[:, None],
    )
    centre = rng.uniform(60, 940, (n, 1, 2)) + rng.uniform(-2, 2, (n, 4, 2))
    return np.round(np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1) + centre)


def keypoint_rows(side=SIDE):
    """`(KEYPOINTS, 3)`, some of them not labelled."""
    inside = numbers(0, side - 0.001)
    point = st.one_of(
        st.just((0.0, 0.0, 0.0)), st.tuples(inside, inside, st.sampled_from([1.0, 2.0]))
    )
    return st.lists(point, min_size=KEYPOINTS, max_size=KEYPOINTS).map(np.array)


@st.composite
def instances(draw, task=None, side=SIDE, largest=SIDE, min_size=0, max_size=5, classes=3):
    """Labels of one image."""
    task = draw(tasks) if task is None else task
    n = draw(st.integers(min_size, max_size))
    many = {"min_size": n, "max_size": n}
    class_id = np.array(draw(st.lists(st.integers(0, classes - 1), **many)), np.int64)
    if task == "segment":
        rings = Rings.of(draw(st.lists(outlines(side, largest), **many)))
        return Instances(class_id, rings.bounds(), rings=rings, task=task)
    if task == "obb":
        quads = np.array(draw(st.lists(rectangles(side, 2.0, largest), **many))).reshape(-1, 4, 2)
        rings = Rings.from_quads(quads)
        return Instances(class_id, rings.bounds(), rings=rings, task=task)
    xyxy = np.array(draw(st.lists(boxes(side, 1.0, largest), **many))).reshape(-1, 4)
    if task == "detect":
        return Instances(class_id, xyxy)
    keypoints = np.array(draw(st.lists(keypoint_rows(side), **many))).reshape(-1, KEYPOINTS, 3)
    return Instances(class_id, xyxy, keypoints=keypoints, task=task)


@st.composite
def windows(draw, side=SIDE, smallest=10):
    """A window within the image."""
    w, h = draw(st.integers(smallest, side)), draw(st.integers(smallest, side))
    return Window(draw(st.integers(0, side - w)), draw(st.integers(0, side - h)), w, h)


def outline(rows, i):
    """The area of instance i as shapely sees it."""
    return shapely.box(*rows.boxes[i]) if rows.rings is None else rows.rings.geometry()[i]


def painted(rings, width, height):
    """`(height, width)` which pixels the rings fill, by the even-odd rule, with nothing but
    comparisons.

    A pixel is looked at a little off its centre, where no drawn coordinate and no diagonal lies.
    """
    x, y = np.meshgrid(np.arange(width) + 0.501234567, np.arange(height) + 0.498271828)
    result = np.zeros((height, width), bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                result ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return result


def assert_same(one, other):
    """The same instances to the last bit; rows, visible parts and areas too."""
    for name in ("class_id", "boxes", "keypoints", "conf", "row", "visible", "area"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert (one.rings is None) == (other.rings is None)
    if one.rings is not None:
        for name in ("coords", "ring_offsets", "offsets"):
            np.testing.assert_array_equal(
                getattr(one.rings, name), getattr(other.rings, name), err_msg=name
            )
