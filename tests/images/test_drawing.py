"""Drawing: a line around an object, in its colour, and nothing on the object itself."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.images.drawing import (
    GREY,
    LEAST,
    PALETTE,
    Canvas,
    Caption,
    Stroke,
    class_colour,
    text_size,
)

GROUND = (90, 90, 90)
RED = (255, 0, 0)
W, H = 120, 80


def canvas(corner=(0, 0), scale=1.0):
    return Canvas.on(Image.new("RGB", (W, H), GROUND), corner, scale)


def pixels(drawn):
    return np.asarray(drawn.image).astype(int)


def is_colour(image, colour):
    return (image == colour).all(axis=-1)


def boxed(*boxes):
    return Instances([0] * len(boxes), np.array(boxes, float))


sides = st.integers(LEAST, 30)


@given(st.integers(-10, 60), st.integers(-10, 40), sides, sides, st.sampled_from([1, 2, 3]))
def test_a_box_is_framed_and_left_as_it_is(x, y, w, h, zoom):
    drawn = canvas((2, 3), zoom)
    drawn.outline(boxed((x, y, x + w, y + h)), 0, Stroke(RED, halo=1))
    image = np.pad(pixels(drawn), ((300, 300), (300, 300), (0, 0)), constant_values=-1)
    left, top = 300 + (x - 2) * zoom, 300 + (y - 3) * zoom
    right, bottom = left + w * zoom, top + h * zoom
    inner = image[top:bottom, left:right]
    assert (is_colour(inner, GROUND) | is_colour(inner, -1)).all()
    frame = np.zeros(image.shape[:2], bool)
    frame[top - 1 : bottom + 1, left - 1 : right + 1] = True
    frame[top:bottom, left:right] = False
    on_canvas = image[..., 0] >= 0
    assert (is_colour(image, RED) == (frame & on_canvas)).all()
    beyond = np.ones(image.shape[:2], bool)
    beyond[top - 2 : bottom + 2, left - 2 : right + 2] = False
    assert is_colour(image, GROUND)[beyond & on_canvas].all()


@given(st.floats(0, 100), st.floats(0, 60), st.floats(0.01, 2), st.floats(0.01, 2))
def test_what_is_tiny_has_room_for_its_pixels(x, y, w, h):
    drawn = canvas()
    drawn.outline(boxed((x, y, x + w, y + h)), 0, Stroke(RED))
    image = pixels(drawn)
    assert is_colour(image, RED).any()
    sliver = 1e-6  # px of a pixel that are not worth keeping it free
    top, bottom = int(y + sliver), int(np.ceil(y + h - sliver))
    left, right = int(x + sliver), int(np.ceil(x + w - sliver))
    assert is_colour(image[top:bottom, left:right], GROUND).all()


def outlined(*rings):
    shape = Rings.of([[np.array(ring, float) for ring in rings]])
    return Instances([0], shape.bounds(), rings=shape, task="segment")


def test_an_outline_is_drawn_around_and_in_its_holes():
    outer = [(20, 10), (90, 20), (80, 70), (30, 60)]
    hole = [(45, 30), (60, 30), (60, 50), (45, 50)]
    drawn = canvas()
    drawn.outline(outlined(outer, hole), 0, Stroke(RED))
    red = is_colour(pixels(drawn), RED)
    polygon = shapely.Polygon(outer, [hole])
    y, x = np.nonzero(np.ones((H, W), bool))
    centres = shapely.points(x + 0.5, y + 0.5)
    distance = shapely.distance(centres, polygon.boundary).reshape(H, W)
    inside = shapely.contains(polygon, centres).reshape(H, W)
    assert not red[inside & (distance > 1)].any()
    assert not red[distance > 2.5].any()
    assert red[29:51, 44:61].sum() > 40  # in the hole, along its sides
    around = shapely.distance(shapely.points(x[red.ravel()], y[red.ravel()]), polygon.exterior)
    assert len(around) > 150


def test_an_obb_in_any_direction_is_dashed_all_along():
    for degrees in range(0, 180, 15):
        angle = np.radians(degrees)
        along = np.array([np.cos(angle), np.sin(angle)]) * 25
        across = np.array([-along[1], along[0]])
        quad = [(60, 40) + a * along + b * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        drawn = canvas()
        drawn.outline(outlined(quad), 0, Stroke(RED, away=2, dashed=True))
        red = is_colour(pixels(drawn), RED)
        for start, end in zip(quad, [*quad[1:], quad[0]], strict=True):
            for part in (0.3, 0.5, 0.7):  # somewhere near each part of each side
                x, y = np.rint(start + part * (end - start)).astype(int)
                assert red[y - 9 : y + 10, x - 9 : x + 10].any(), (degrees, part)
        solid = canvas()
        solid.outline(outlined(quad), 0, Stroke(RED, away=2))
        all_of_it = is_colour(pixels(solid), RED)
        assert 0.3 < red.sum() / all_of_it.sum() < 0.7
        assert not red[~all_of_it].any()


def test_an_ignored_region_is_hatched_in_grey():
    drawn = canvas()
    drawn.hatch(np.array([20, 20, 60, 60.0]), [])
    grey = is_colour(pixels(drawn), GREY)
    assert 0.1 < grey[20:60, 20:60].mean() < 0.3
    assert grey[19, 19:61].all()
    assert not grey[62:].any()


def test_keypoints_are_full_if_visible_hollow_if_hidden_absent_if_unlabelled():
    drawn = canvas()
    drawn.keypoints(np.array([[20.5, 20.5, 2], [40.5, 20.5, 1], [0, 0, 0.0]]), RED)
    red = is_colour(pixels(drawn), RED)
    assert red[20, 20]
    assert not red[20, 40]
    assert red[20, 41]
    assert not red[:10, :10].any()


def test_captions_cover_neither_objects_nor_each_other():
    rng = np.random.default_rng(0)
    at = rng.uniform(5, 60, (40, 2))
    boxes = np.concatenate([at, at + 8], axis=1)
    drawn = canvas()
    drawn.captions([Caption(box, "0.99", RED) for box in boxes], boxes)
    changed = (pixels(drawn) != GROUND).any(axis=-1)
    assert changed.any()
    for left, top, right, bottom in boxes.astype(int):
        assert not changed[top : bottom + 1, left : right + 1].any()


def test_a_caption_without_room_is_left_out():
    drawn = canvas()
    drawn.captions([Caption(np.array([0, 0, W, H]), "0.99", RED)], np.array([[0, 0, W, H]]))
    assert is_colour(pixels(drawn), GROUND).all()


def test_colours_are_fixed_and_far_apart():
    assert class_colour(3) == class_colour(3 + len(PALETTE))
    colours = np.array([*PALETTE, GREY])
    apart = np.abs(colours[:, None] - colours).max(axis=-1)
    assert apart[~np.eye(len(colours), dtype=bool)].min() > 40


@pytest.mark.parametrize("text", ["", "x", "名前", "x" * 200])
def test_any_text_has_a_size(text):
    assert min(text_size(text)) >= 0
