"""Whether predictions are in the frame that they are taken to be in: told from all of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.predictions import folder
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.predictions import Frames, Reading, open_predictions
from tiler.predictions.coordinates import PointFrame
from tiler.predictions.plausibility import require_in_frame, require_plausible, rows_of_all

FORMATS = ("coco", "supervision", "dota")
SHAPES = ((400, 400), (640, 640), (640, 512), (333, 512), (800, 600), (1024, 1024))


def grid(shape, columns=3, rows=3, scale=1.0):
    """Tiles of an image, a fifth of each overlapping the next."""
    width, height = np.array(shape) / scale
    rects = []
    for y in range(rows):
        for x in range(columns):
            left, top = int(x * 0.8 * width), int(y * 0.8 * height)
            rects.append((left, top, left + width, top + height))
    names = [f"t{i}" for i in range(len(rects))]
    return Frames(names, np.array(rects, np.float64), np.full(len(rects), scale))


def detections(rng, count, shape, least=1.0, most=60.0):
    """`(count, 4)` boxes that lie in their tile, of which some are cut by its border."""
    centre = rng.uniform(0, 1, (count, 2)) * shape
    half = rng.uniform(least, most, (count, 2)) / 2
    return np.concatenate([np.maximum(centre - half, 0), np.minimum(centre + half, shape)], axis=1)


def written(where, form, tiles, boxes):
    """A file of boxes of tiles, by one of the formats in which coordinates are pixels."""
    names = [f"t{i}" for i in tiles]
    if form == "coco":
        entries = []
        for name, (x0, y0, x1, y1) in zip(names, boxes.tolist(), strict=True):
            bbox = [x0, y0, x1 - x0, y1 - y0]
            entries.append({"image_id": name, "category_id": 0, "bbox": bbox, "score": 0.5})
        path = where / "results.json"
        path.write_text(json.dumps(entries))
        return path
    if form == "supervision":
        path = where / "results.csv"
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            names_of = ["x_min", "y_min", "x_max", "y_max", "class_id", "confidence", "image"]
            out.writerow(names_of)
            for name, box in zip(names, boxes.tolist(), strict=True):
                out.writerow([*box, 0, 0.5, name])
        return path
    lines = []
    for name, (x0, y0, x1, y1) in zip(names, boxes.tolist(), strict=True):
        lines.append(f"{name} 0.5 {x0} {y0} {x1} {y0} {x1} {y1} {x0} {y1}\n")
    (where / "Task1_car.txt").write_text("".join(lines))
    return where


def read(path, frames, boxes="auto"):
    """The boxes in source px, checked as merge and score do."""
    opened = open_predictions(Path(path), Reading(boxes=boxes))
    numbers = [frames.names.index(key) for key in opened.keys]
    own = frames.take(np.array(numbers))
    batch = opened.batch(range(len(opened.keys)))
    require_plausible(batch, own, str(path), boxes)
    found = batch.read(own).instances.boxes
    return found[np.lexsort(np.round(found, 4).T)]


def in_letterbox(boxes, shape, side):
    scale = min(side / shape[0], side / shape[1])
    padding = (side - np.array(shape) * scale) / 2
    return boxes * scale + np.tile(padding, 2)


def tiled(objects, tiles):
    """Which tile shows which box whole, and the boxes in px of their image."""
    tile, row = [], []
    for i, (x0, y0, x1, y1) in enumerate(tiles):
        shown = (objects[:, :2] >= [x0, y0]).all(axis=1) & (objects[:, 2:] <= [x1, y1]).all(axis=1)
        tile += [i] * int(shown.sum())
        row += np.flatnonzero(shown).tolist()
    return np.array(tile), objects[row]


def overlapping(shape=(400, 400)):
    frames = grid(shape)
    size = np.tile(frames.rects[:, 2:].max(axis=0), (len(frames.names), 1))
    source = np.zeros(len(frames.names), np.int64)
    return replace(frames, image=size, source=source)


IN_FRAME = {
    "image-normalised": lambda boxes, rect, size: boxes / np.tile(size, 2),
    "percent": lambda boxes, rect, size: (boxes - np.tile(rect[:2], 2)) / 4,
    "letterbox:320": lambda boxes, rect, size: (boxes - np.tile(rect[:2], 2)) * 0.8,
    "pixels": lambda boxes, rect, size: boxes - np.tile(rect[:2], 2),
}


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMATS), st.sampled_from([*IN_FRAME]))
def test_tiles_agree_by_the_right_frame_only(tmp_path_factory, seed, form, frame):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = overlapping()
    corner = rng.uniform(0, 1000, (120, 2))
    objects = np.concatenate([corner, corner + rng.uniform(8, 30, (120, 2))], axis=1)
    tile, boxes = tiled(objects, frames.rects)
    written_boxes = []
    for i, found in zip(tile, boxes, strict=True):
        written_boxes.append(IN_FRAME[frame](found, frames.rects[i], frames.image[i]))
    path = written(where, form, tile, np.array(written_boxes))
    if frame != "pixels":
        with pytest.raises(TilerError, match=f"say --boxes {frame}[, ]"):
            read(path, frames)
    right = read(path, frames, "auto" if frame == "pixels" else frame)
    want = boxes[np.lexsort(np.round(boxes, 4).T)]
    np.testing.assert_allclose(np.sort(right, axis=0), np.sort(want, axis=0), atol=1e-3)


def test_txt_in_parts_of_the_image(tmp_path):
    frames = overlapping()
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 1000, (120, 2))
    objects = np.concatenate([corner, corner + 20], axis=1)
    tile, boxes = tiled(objects, frames.rects)
    for i in range(len(frames.names)):
        own = boxes[tile == i] / np.tile(frames.image[i], 2)
        centre, side = (own[:, :2] + own[:, 2:]) / 2, own[:, 2:] - own[:, :2]
        lines = [
            f"0 {x:.9g} {y:.9g} {w:.9g} {h:.9g} 0.5\n" for x, y, w, h in np.hstack([centre, side])
        ]
        (tmp_path / f"t{i}.txt").write_text("".join(lines))
    with pytest.raises(TilerError, match="--boxes image-normalised, or --boxes normalised"):
        read(tmp_path, frames)
    right = read(tmp_path, frames, "image-normalised")
    np.testing.assert_allclose(np.sort(right, axis=0), np.sort(boxes, axis=0), atol=1e-3)


seeds = st.integers(0, 2**32 - 1)
forms = st.sampled_from(FORMATS)
shapes = st.sampled_from(SHAPES)


@quick
@given(seeds, forms, shapes, st.integers(1, 60), st.sampled_from([2.0, 8.0, 60.0, 400.0]))
def test_what_is_written_right_is_read(tmp_path_factory, seed, form, shape, count, most):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid(shape, scale=float(rng.choice([1.0, 0.5])))
    tiles = rng.integers(0, len(frames.names), count)
    boxes = detections(rng, count, shape, 1.0, most)
    boxes[0, 2:] = np.maximum(boxes[0, 2:], 3.0)  # in the corner, it might be normalised
    path = written(where, form, tiles, boxes)
    right = read(path, frames)
    assert len(right) == count
    np.testing.assert_array_equal(right, read(path, frames, "pixels"))


@quick
@given(seeds, forms, shapes, st.integers(1, 60))
def test_what_is_normalised_is_told_and_converted(tmp_path_factory, seed, form, shape, count):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid(shape, scale=float(rng.choice([1.0, 0.5])))
    tiles = rng.integers(0, len(frames.names), count)
    boxes = detections(rng, count, shape, 3.0)
    boxes[0, 2:] = np.maximum(boxes[0, 2:], 3.0)
    right = read(written(where, form, tiles, boxes), frames)
    path = written(where, form, tiles, boxes / np.tile(shape, 2))
    with pytest.raises(TilerError, match="normalised coordinates.*--boxes normalised") as caught:
        read(path, frames)
    assert caught.value.exit_code == 2
    np.testing.assert_allclose(read(path, frames, "normalised"), right, atol=1e-6)


@quick
@given(seeds, forms, st.sampled_from(SHAPES[:4]), st.sampled_from([832, 1024, 1280]))
def test_a_larger_letterbox_is_told_and_converted(tmp_path_factory, seed, form, shape, side):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid(shape)
    tiles = rng.integers(0, len(frames.names), 80)
    boxes = detections(rng, 80, shape, 5.0)
    for i in range(3):  # cut by the border
        boxes[i] = [shape[0] - 30, shape[1] - 30, *shape]
    right = read(written(where, form, tiles, boxes), frames)
    path = written(where, form, tiles, in_letterbox(boxes, shape, side))
    with pytest.raises(TilerError, match=f"--boxes letterbox:{side}"):
        read(path, frames)
    np.testing.assert_allclose(read(path, frames, f"letterbox:{side}"), right, atol=1e-6)


@quick
@given(seeds, forms, st.sampled_from(SHAPES[4:]), st.sampled_from([320, 416, 640]))
def test_a_smaller_letterbox_is_told_and_converted(tmp_path_factory, seed, form, shape, side):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid(shape)
    tiles = rng.integers(0, len(frames.names), 80)
    boxes = detections(rng, 80, shape, 5.0)
    for i in range(3):
        boxes[i] = [shape[0] - 40, shape[1] - 30, *shape]
    right = read(written(where, form, tiles, boxes), frames)
    path = written(where, form, tiles, in_letterbox(boxes, shape, side))
    with pytest.raises(TilerError, match=f"--boxes letterbox:{side}"):
        read(path, frames)
    np.testing.assert_allclose(read(path, frames, f"letterbox:{side}"), right, atol=1e-6)


@quick
@given(seeds, forms, shapes, st.integers(1, 60), st.sampled_from([1.0, 0.5]))
def test_pixels_of_the_image_are_told_and_converted(
    tmp_path_factory, seed, form, shape, count, scale
):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid(shape, scale=scale)
    tiles = rng.integers(0, len(frames.names), count)
    tiles[0] = 8  # the last one: beyond any tile at the origin
    boxes = detections(rng, count, shape, 5.0)
    right = read(written(where, form, tiles, boxes), frames)
    origin = np.tile(frames.rects[tiles, :2], 2)
    path = written(where, form, tiles, boxes / scale + origin)
    with pytest.raises(TilerError, match=r"--boxes image"):
        read(path, frames)
    np.testing.assert_allclose(read(path, frames, "image"), right, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_few_boxes_of_a_larger_letterbox(tmp_path, count):
    frames = grid((400, 400))
    boxes = np.array([[340, 100, 380, 130], [380, 200, 400, 240], [50, 50, 90, 80]] * 2)[:count]
    path = written(tmp_path, "coco", range(count), in_letterbox(boxes, (400, 400), 640))
    with pytest.raises(TilerError, match="--boxes letterbox:"):
        read(path, frames)
    assert read(path, frames, "letterbox:640").shape == (count, 4)


def test_small_objects_are_in_pixels(tmp_path):
    """Microscopy: objects of 1 to 2 px, but not all of them in one corner of their tiles."""
    frames = grid((640, 640))
    for count in (1, 3, 50):
        at = np.linspace(2, 600, count + 1)[1:]
        boxes = np.stack([at, at, at + 1, at + 1.5], axis=1)
        assert len(read(written(tmp_path, "coco", [0] * count, boxes), frames)) == count
    corner = written(tmp_path, "coco", [0], np.array([[0, 0, 1, 1.0]]))
    with pytest.raises(TilerError, match="--boxes pixels if the objects are that small"):
        read(corner, frames)
    assert read(corner, frames, "pixels").tolist() == [[0, 0, 1, 1]]


def test_a_wrong_row_among_right_ones_is_a_finding(tmp_path):
    frames = grid((640, 640))
    boxes = detections(np.random.default_rng(3), 10, (640, 640), 5.0)
    boxes[4] = [900, 900, 950, 940]
    path = written(tmp_path, "coco", [0] * 10, boxes)
    assert len(read(path, frames)) == 9


def test_most_rows_that_cannot_be_read(tmp_path):
    frames = grid((100, 100))
    good, bad = "0 .5 .5 .2 .1 .9\n", "0 .5 .5 .2 .1 7\n"
    assert len(read(folder(tmp_path / "half", t0=good + bad), frames)) == 1
    with pytest.raises(TilerError, match=r"2 of 3 rows cannot be read: t0.txt:1: D08 confidence"):
        read(folder(tmp_path / "most", t0=bad + good + bad), frames)
    with pytest.raises(TilerError, match="2 of 3 boxes lie outside their tile, such as 140, 45"):
        read(folder(tmp_path / "far", t0="0 1.5 .5 .2 .1 .9\n" * 2 + good), frames)


def test_rows_without_size_do_not_count(tmp_path):
    frames = grid((100, 100))
    rows = "0 0 0 0 0 .1\n" * 9 + "0 .5 .5 .2 .1 .9\n"
    assert len(read(folder(tmp_path, t0=rows), frames)) == 1


@quick
@given(seeds, st.sampled_from(["pixels", "letterbox:640", "image"]))
def test_txt_in_other_coordinates(tmp_path_factory, seed, frame):
    where = tmp_path_factory.mktemp("p")
    rng = np.random.default_rng(seed)
    frames = grid((400, 300))
    boxes = detections(rng, 9, (400, 300), 5.0)
    right = texts(where / "right", boxes / np.tile((400, 300), 2))
    if frame == "image":
        boxes += np.tile(frames.rects[:, :2], 2)
    elif frame == "letterbox:640":
        boxes = in_letterbox(boxes, (400, 300), 640)
    wrong = texts(where / "wrong", boxes)
    with pytest.raises(TilerError, match="these are pixels"):
        read(wrong, frames)
    np.testing.assert_allclose(read(wrong, frames, frame), read(right, frames), atol=1e-6)
    if frame == "letterbox:640":
        parts = texts(where / "parts", boxes / 640)
        np.testing.assert_allclose(read(parts, frames, frame), read(right, frames), atol=1e-6)


def texts(where, boxes):
    """A YOLO txt for each tile, of one row each."""
    rows = {}
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        rows[f"t{i}"] = f"0 {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0} .5\n"
    return folder(where, **rows)


def test_boxes_in_memory():
    sizes = np.full((30, 2), 1000.0)
    boxes = detections(np.random.default_rng(1), 30, (1000, 1000), 5.0)
    require_in_frame(boxes, sizes, "memory")
    require_in_frame(boxes / 1000, np.zeros((30, 2)), "memory")
    require_in_frame(np.empty((0, 4)), np.empty((0, 2)), "memory")
    with pytest.raises(TilerError, match="normalised"):
        require_in_frame(boxes / 1000, sizes, "memory")
    with pytest.raises(TilerError, match="30 of 30 boxes lie outside their image"):
        require_in_frame(boxes + 9000, sizes, "memory")


def test_where_a_tile_is_known_only_partly():
    frames = replace(grid((640, 640)), within=None)
    assert PointFrame.of("letterbox:320").mask_size(640, 640) == (320, 320)
    assert frames.within is frames.rects
    assert rows_of_all([]) == rows_of_all([300]) == 0
