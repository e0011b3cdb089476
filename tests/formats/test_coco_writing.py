"""COCO annotations: what pycocotools reads of them is what the instances say."""

import msgspec
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tests.strategies import SIDE, apart_or_nested, quick, simple_rings, wild_rings
from tiler.formats import coco_writing
from tiler.geometry.instances import Instances, empty
from tiler.geometry.masks import Masks
from tiler.geometry.polygons import Rings

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

FRAME = np.array([[SIDE, SIDE]])


def outlined(rings, task="segment"):
    outlines = Rings.of([rings])
    return Instances(np.array([0]), outlines.bounds(), rings=outlines, task=task)


def drawn(segmentation):
    """The mask that pycocotools makes of a segmentation."""
    found = coco_mask.frPyObjects(segmentation, SIDE, SIDE)
    if isinstance(segmentation, list):
        found = coco_mask.merge(found)
    return coco_mask.decode(found)


def even_odd(rings):
    masks = [drawn([ring.ravel().tolist()]) for ring in rings]
    return sum(masks) % 2


@quick
@given(apart_or_nested())
def test_parts_are_polygons_and_holes_make_a_mask(rings):
    (entry,) = coco_writing.objects(outlined(rings), FRAME, (7,))
    nested = shapely.get_num_interior_rings(shapely.get_parts(Rings.of([rings]).geometry()[0]))
    assert isinstance(entry["segmentation"], dict) == bool(nested.any())
    np.testing.assert_array_equal(drawn(entry["segmentation"]), even_odd(rings))
    assert (entry["category_id"], entry["iscrowd"]) == (7, 0)


@quick
@given(st.lists(simple_rings(), max_size=4))
def test_the_area_is_that_of_the_outline_and_the_box_its_bounds(many):
    rings = Rings.of([[ring] for ring in many])
    found = Instances(
        np.zeros(len(many), int), rings.bounds().reshape(-1, 4), rings=rings, task="segment"
    )
    entries = coco_writing.objects(found, np.repeat(FRAME, len(many), axis=0), (1,))
    for entry, ring in zip(entries, many, strict=True):
        x, y, w, h = entry["bbox"]
        shape = shapely.Polygon(ring)
        assert entry["area"] == pytest.approx(shape.area, abs=1e-5)
        assert (x, y, x + w, y + h) == pytest.approx(shape.bounds, abs=2e-6)


@quick
@given(wild_rings())
def test_an_outline_that_crosses_itself_is_filled_even_odd(ring):
    shape = Rings.of([[ring]]).geometry()[0]
    if shape.area < 1:
        return
    (entry,) = coco_writing.objects(outlined([ring]), FRAME, (1,))
    filled = drawn(entry["segmentation"])
    shapely.prepare(shape)
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    inner = shapely.contains_xy(shape.buffer(-1), x, y)
    near = shapely.contains_xy(shape.buffer(1), x, y)
    assert filled[inner].all()
    assert not filled[~near].any()


def test_a_box_has_an_empty_outline_and_its_own_area():
    boxes = np.array([[1.25, 2, 4.5, 8], [0, 0, 1 / 3, 1]])
    found = Instances(np.array([1, 0]), boxes)
    first, second = coco_writing.objects(found, np.full((2, 2), 9), (5, 9))
    assert first == {
        "category_id": 9,
        "bbox": [1.25, 2.0, 3.25, 6.0],
        "area": 19.5,
        "iscrowd": 0,
        "segmentation": [],
    }
    assert second["bbox"] == [0.0, 0.0, 0.333333, 1.0]


def test_an_obb_is_the_polygon_of_its_corners():
    quad = np.array([[3, 0], [6, 3], [3, 6], [0, 3.0]])
    (entry,) = coco_writing.objects(outlined([quad], "obb"), np.array([[9, 9]]), (1,))
    assert entry["segmentation"] == [quad.ravel().tolist()]
    assert (entry["bbox"], entry["area"]) == ([0, 0, 6, 6], 18)


def test_keypoints_that_are_not_labelled_are_zeros_and_do_not_count():
    points = np.array([[[1.5, 2, 2], [3, 4, 1], [0, 0, 0], [5, 6, 0]]])
    found = Instances(np.array([0]), np.array([[0, 0, 9, 9.0]]), keypoints=points, task="pose")
    (entry,) = coco_writing.objects(found, np.array([[9, 9]]), (1,))
    assert entry["keypoints"] == [1.5, 2, 2, 3, 4, 1, 0, 0, 0, 5, 6, 0]
    assert entry["num_keypoints"] == 2
    assert all(isinstance(v, int) for v in entry["keypoints"][2::3])


@quick
@given(apart_or_nested())
def test_a_region_is_a_crowd_with_a_mask(rings):
    (entry,) = coco_writing.regions(outlined(rings), FRAME, (3,))
    want = even_odd(rings)
    if not want.any():
        assert entry is None
        return
    assert entry["iscrowd"] == 1
    np.testing.assert_array_equal(drawn(entry["segmentation"]), want)
    assert entry["area"] == want.sum()
    encoded = coco_mask.frPyObjects(entry["segmentation"], SIDE, SIDE)
    assert entry["bbox"] == coco_mask.toBbox(encoded).tolist()


def test_regions_without_a_class_or_a_pixel_are_none():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4.0]])
    rings = Rings.of([[square], [square], [square + 50]])
    found = Instances(np.array([-1, 0, 0]), rings.bounds(), rings=rings, task="segment")
    first, second, third = coco_writing.regions(found, np.full((3, 2), 9), (1,))
    assert (first, third) == (None, None)
    assert second["area"] == 16


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_nothing_is_no_annotation(task):
    assert coco_writing.objects(empty(task, 3), np.empty((0, 2), int), (1,)) == []
    assert coco_writing.regions(empty("segment"), np.empty((0, 2), int), (1,)) == []


def test_masks_do_not_depend_on_how_many_are_in_memory(monkeypatch):
    rings = Rings.of([[np.array([[k, 0], [k + 9, 3], [k, 9.0]])] for k in range(20)])
    found = Instances(np.zeros(20, int), rings.bounds(), rings=rings, task="segment")
    sizes = np.full((20, 2), 40)
    want = coco_writing.regions(found, sizes, (1,))
    monkeypatch.setattr(coco_writing, "COLUMNS", 70)
    assert coco_writing.regions(found, sizes, (1,)) == want


def test_classes_have_their_ids_and_poses_their_points():
    text = coco_writing.head(["a", "b"], [3, 1], 2) + b'],"annotations":[]}'
    content = msgspec.json.decode(text)
    assert [(c["id"], c["name"], c["keypoints"]) for c in content["categories"]] == [
        (3, "a", ["0", "1"]),
        (1, "b", ["0", "1"]),
    ]
    assert content["images"] == []


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_run_lengths_there_and_back(width, height, data):
    bits = data.draw(st.lists(st.booleans(), min_size=width * height, max_size=width * height))
    pixels = np.array(bits, np.uint8).reshape(width, height)
    want = coco_mask.encode(np.asfortranarray(pixels.T))
    changes = np.flatnonzero(np.diff(bits, prepend=False))
    lengths = np.diff(changes, prepend=0, append=width * height).tolist()
    (counts,) = Masks.of_counts([lengths], np.array([[width, height]])).counts()
    assert coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width) == want
