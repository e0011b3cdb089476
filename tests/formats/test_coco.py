import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from tests.strategies import quick, simple_rings
from tiler.errors import TilerError
from tiler.formats import annotated, coco, coco_ground_truth
from tiler.formats.yolo import Spec

DETECT, SEGMENT, OBB = (Spec(task, 2) for task in ("detect", "segment", "obb"))
POSE = Spec("pose", 2, (2, 3))
BOX = [10, 20, 30, 40]
SQUARE = [10, 20, 40, 20, 40, 60, 10, 60]


def annotation(**given):
    return {"id": 1, "image_id": 1, "category_id": 7, "bbox": BOX} | given


def image(**given):
    return {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80} | given


def content(annotations=(), images=None, categories=None):
    return {
        "images": [image()] if images is None else images,
        "annotations": list(annotations),
        "categories": [{"id": 7, "name": "car"}, {"id": 9, "name": "bus"}]
        if categories is None
        else categories,
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("coco") / "instances.json"


def read(file, given):
    file.unlink(missing_ok=True)
    file.write_bytes(given if isinstance(given, bytes) else json.dumps(given).encode())
    return coco.read(file)


def objects(file, annotations, spec=DETECT):
    """What is read of one image's annotations, through the file."""
    found = read(file, content(annotations))
    return annotated.instances(found.images[0].annotations, spec, "f.json")


def refusal(file, given):
    with pytest.raises(TilerError) as error:
        read(file, given)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


# Boxes, outlines, masks

coordinates = st.integers(0, 400).map(lambda k: k / 4)
sides = st.integers(1, 400).map(lambda k: k / 4)


@quick
@given(st.lists(st.tuples(coordinates, coordinates, sides, sides), max_size=6))
def test_boxes(file, boxes):
    found, ignored, findings = objects(
        file, [annotation(id=i, bbox=list(box)) for i, box in enumerate(boxes)]
    )
    assert found.boxes.tolist() == [[x, y, x + w, y + h] for x, y, w, h in boxes]
    assert found.row.tolist() == list(range(len(boxes)))
    assert (found.class_id == 0).all()
    assert len(ignored) == 0
    assert not findings


@quick
@given(st.lists(simple_rings(), min_size=1, max_size=5))
def test_a_polygon_is_its_points(file, rings):
    given = [annotation(id=i, segmentation=[ring.ravel().tolist()]) for i, ring in enumerate(rings)]
    found, _, findings = objects(file, given, SEGMENT)
    assert not findings
    assert len(found) == len(rings)
    for i, ring in enumerate(rings):
        np.testing.assert_array_equal(found.rings[i][0], ring)
        assert found.boxes[i].tolist() == [*ring.min(axis=0), *ring.max(axis=0)]


@st.composite
def rectangles(draw):
    """Polygons of whole-pixel rectangles within 40 x 30 px: what these cover is beyond doubt."""
    x, y = draw(st.integers(0, 38)), draw(st.integers(0, 28))
    right, bottom = draw(st.integers(x + 1, 40)), draw(st.integers(y + 1, 30))
    return [x, y, right, y, right, bottom, x, bottom]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@quick
@given(st.lists(rectangles(), min_size=1, max_size=5))
def test_parts_are_united_as_pycocotools_does(file, parts):
    found, _, findings = objects(file, [annotation(segmentation=parts)], SEGMENT)
    theirs = coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects([list(map(float, part)) for part in parts], 30, 40))
    )
    y, x = np.indices((30, 40)) + 0.5
    np.testing.assert_array_equal(shapely.contains_xy(found.rings.geometry()[0], x, y), theirs)
    assert found.area.tolist() == [pytest.approx(theirs.sum(), abs=1e-6)]
    assert not findings


@quick
@given(arrays(np.uint8, (9, 12), elements=st.integers(0, 1)).filter(np.any), st.booleans())
def test_masks_are_those_of_pycocotools(file, mask, compressed):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    counts = encoded["counts"].decode()
    if not compressed:
        flat = np.concatenate([[0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]])
        counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat))])).tolist()
    given = annotation(
        segmentation={"size": [9, 12], "counts": counts}, bbox=coco_mask.toBbox(encoded).tolist()
    )
    found, _, findings = objects(file, [given], SEGMENT)
    y, x = np.indices((9, 12)) + 0.5
    np.testing.assert_array_equal(shapely.contains_xy(found.rings.geometry()[0], x, y), mask)
    assert found.area.tolist() == [mask.sum()]
    assert not findings


def test_a_part_within_a_part_is_no_hole():
    inner = [15, 25, 20, 25, 20, 30, 15, 30]
    found, _, _ = annotated.instances(
        [annotated.Annotation(1, 1, 7, BOX, [SQUARE, inner], class_id=0)], SEGMENT, "f.json"
    )
    assert found.area.tolist() == [30 * 40]


def test_a_polygon_that_crosses_itself_is_even_odd():
    bow_tie = [0, 0, 40, 40, 40, 0, 0, 40]
    found, _, _ = annotated.instances(
        [annotated.Annotation(1, 1, 7, [0, 0, 40, 40], [bow_tie], class_id=0)], SEGMENT, "f.json"
    )
    assert found.area.tolist() == [800]


def test_an_outline_in_a_box_set_is_kept_beside_the_box(file):
    found, _, findings = objects(
        file, [annotation(segmentation=[[12, 22, 38, 22, 38, 58]]), annotation(id=2)]
    )
    assert found.boxes.tolist() == [[10, 20, 40, 60]] * 2
    assert [len(found.rings[i][0]) for i in range(2)] == [3, 4]
    assert not findings


def test_an_obb_is_the_smallest_rectangle_and_a_quad_its_corners(file):
    quad, other = [20, 10, 40, 30, 30, 40, 10, 20], [0, 0, 8, 0, 10, 5, 8, 10, 0, 10]
    found, _, _ = objects(
        file, [annotation(segmentation=[quad]), annotation(id=2, segmentation=[other])], OBB
    )
    assert found.rings.quads()[0].ravel().tolist() == quad
    assert shapely.area(found.rings.geometry()).tolist() == pytest.approx([400, 100])
    assert found.boxes.tolist() == [
        pytest.approx(row) for row in [[10, 10, 40, 40], [0, 0, 10, 10]]
    ]


@pytest.mark.parametrize("spec", [SEGMENT, OBB])
def test_no_outline_where_one_is_needed_is_reported(file, spec):
    found, _, findings = objects(
        file, [annotation(id=55), annotation(id=2, segmentation=[SQUARE])], spec
    )
    assert [str(f) for f in findings] == [
        f"f.json: L10 annotation 55: no segmentation, which a {spec.task} set needs"
    ]
    assert found.row.tolist() == [1]


# Keypoints


def test_keypoints(file):
    given = [
        annotation(keypoints=[11, 21, 2, 12, 22, 1]),
        annotation(id=2, keypoints=[0, 0, 0, 5, 6, 0]),
        annotation(id=3),
    ]
    found, _, findings = objects(file, given, POSE)
    assert found.keypoints.tolist() == [
        [[11, 21, 2], [12, 22, 1]],
        [[0, 0, 0], [5, 6, 0]],
        [[0, 0, 0], [0, 0, 0]],
    ]
    assert found.rings is None
    assert not findings


@pytest.mark.parametrize(
    "keypoints",
    [
        [1, 2, 2],
        [1, 2, 2, 3],
        [1, 2, 2] * 3,
        [1, 2, 2, 3, 4, "2 or so"],
        {"a": 1},
        [[1, 2, 2], [3, 4, 2]],
    ],
)
def test_keypoints_that_are_invalid(file, keypoints):
    found, _, findings = objects(file, [annotation(id=31, keypoints=keypoints)], POSE)
    assert len(found) == 0
    assert [f.code for f in findings] in (["L02"], ["L03"])
    assert findings[0].message.startswith("annotation 31: ")


def test_the_task_follows_the_annotations(file):
    outline = annotation(segmentation=[[10, 20, 40, 20, 40, 60]])
    box = annotation(segmentation=[SQUARE])
    crowd = annotation(iscrowd=1)

    def task(*annotations):
        objects = read(file, content(annotations)).images[0].annotations
        return annotated.task_of(a for a in objects if not a.ignored)[0]

    assert (
        task()
        == task(annotation())
        == task(box, box)
        == task(outline, annotation())
        == task(crowd)
        == "detect"
    )
    assert task(outline) == task(outline, box) == task(outline, crowd) == "segment"
    assert task(annotation(segmentation={"size": [80, 100], "counts": [8000]})) == "segment"
    assert task(outline | {"keypoints": []}) == "segment"
    assert task(*[outline] * 19, annotation()) == "segment"  # one without does not decide
    empty = [annotation(segmentation=given) for given in ([], [[]], {}, "", "[]", None)]
    assert task(*[outline] * 7, *empty) == "segment"
    assert task(*empty) == task(*empty, outline) == "detect"


def keypoints_read(file, *lists):
    """kpt_shape and the findings of annotations with these keypoints."""
    found = read(file, content([annotation(keypoints=each) for each in lists]))
    return found.kpt_shape, [str(finding) for finding in found.findings]


def test_keypoints_of_a_minority_make_no_pose_set_and_are_told(file):
    said = "instances.json: L16 keypoints of 1 of 3 annotations are left out"
    assert keypoints_read(file, [1, 2, 2], None, []) == (None, [said])
    assert keypoints_read(file, [1, 2, 2], None) == ((1, 3), [])


@pytest.mark.parametrize("keypoints", [[0, 0, 0], [], None, ["0", 0.0, 0]])
def test_keypoints_without_any_place_are_none(file, keypoints):
    assert keypoints_read(file, keypoints, keypoints) == (None, [])


@pytest.mark.parametrize(
    ("listed", "expected"), [(["nose", "tail"], 2), ([], 2), (None, 2), (["a", "b", "c"], 3)]
)
def test_the_number_of_keypoints(file, listed, expected):
    given = content(
        [annotation(keypoints=[1, 2, 2, 3, 4, 2])],
        categories=[{"id": 7, "name": "cat", "keypoints": listed}],
    )
    assert read(file, given).kpt_shape == (expected, 3)
    given = content([annotation()], categories=[{"id": 7, "name": "cat", "keypoints": listed}])
    assert read(file, given).kpt_shape is None


# Crowds


@pytest.mark.parametrize(
    "mark",
    [
        *({"iscrowd": value} for value in (1, True, 1.0, "1", "true", "YES", 2)),
        *({"iscrowd": 0, "ignore": value} for value in (1, "1")),
    ],
)
def test_crowds_are_regions_to_be_ignored_and_no_objects(file, mark):
    mask = {"size": [80, 100], "counts": [5, 10, 7985]}
    given = [annotation(**mark), annotation(id=2), annotation(id=3, segmentation=mask, **mark)]
    found, ignored, findings = objects(
        file, [*given, annotation(id=4, segmentation=[SQUARE], **mark)]
    )
    assert found.row.tolist() == [1]
    assert shapely.area(ignored.rings.geometry()).tolist() == [1200, 10, 1200]
    assert not findings


@pytest.mark.parametrize(
    "mark",
    [
        *({"iscrowd": value} for value in (0, None, False, 0.0, "0", "0.0", "", "false", "No")),
        *({"ignore": value} for value in (0, "0", "")),
    ],
)
def test_what_is_no_crowd_is_an_object(file, mark):
    found, ignored, _ = objects(file, [annotation(**mark)])
    assert (len(found), len(ignored)) == (1, 0)


def test_only_crowds_are_no_objects_and_no_fault(file):
    found, ignored, findings = objects(file, [annotation(iscrowd=1, category_id=None)], SEGMENT)
    assert (len(found), len(ignored), findings) == (0, 1, [])
    assert found.rings is not None


# Invalid annotations: each is reported with its id

BAD = {
    "no bbox": ({"bbox": None, "segmentation": None}, "L03"),
    "three values": ({"bbox": [1, 2, 3]}, "L03"),
    "five values": ({"bbox": [1, 2, 3, 4, 5]}, "L03"),
    "a mapping": ({"bbox": {"x": 1}}, "L03"),
    "a text": ({"bbox": "1 2 3 4"}, "L03"),
    "a text in it": ({"bbox": [1, 2, "3 px", 4]}, "L02"),
    "a number of underscores": ({"bbox": [1, 2, "3_0", 4]}, "L02"),
    "a crowd of a word": ({"iscrowd": "often"}, "L03"),
    "a crowd of a list": ({"iscrowd": [0]}, "L03"),
    "ignored by a mapping": ({"ignore": {"by": "all"}}, "L03"),
    "a null in it": ({"bbox": [1, 2, None, 4]}, "L02"),
    "a truth in it": ({"bbox": [1, 2, True, 4]}, "L02"),
    "a list in it": ({"bbox": [[1, 2], [3, 4]]}, "L03 L02"),
    "no width": ({"bbox": [1, 2, 0, 4]}, "L06"),
    "negative height": ({"bbox": [1, 2, 3, -4]}, "L06"),
    "1e300": ({"bbox": [1, 2, 1e300, 4]}, "L02"),
    "a number of 400 digits": ({"bbox": [10**400, 2, 3, 4]}, "L02"),
    "unknown category": ({"category_id": 8}, "L04"),
    "no category": ({"category_id": None}, "L04"),
    "a category by name": ({"category_id": "car"}, "L04"),
    "a list for category": ({"category_id": [7]}, "L04"),
    "a mapping for category": ({"category_id": {"id": 7}}, "L04"),
    "two points": ({"segmentation": [[1, 2, 3, 4]]}, "L03"),
    "an odd number of values": ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "L03"),
    "an empty part": ({"segmentation": [SQUARE, []]}, "L03"),
    "two rings of pairs": (
        {"segmentation": [[[1, 2], [3, 4], [5, 9]], [[1, 2], [3, 4], [5, 9]]]},
        "L02",
    ),
    "pairs of other things": ({"segmentation": [[[1, 2], [3, "x"], [5, 9]]]}, "L02"),
    "two pairs": ({"segmentation": [[1, 2], [3, 4]]}, "L03"),
    "a flat polygon": ({"segmentation": SQUARE}, "L03"),
    "a text for polygons": ({"segmentation": "1 2 3"}, "L03"),
    "a number for polygons": ({"segmentation": 5}, "L03"),
    "no area": ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, "L06"),
    "one point thrice": ({"segmentation": [[1, 1, 1, 1, 1, 1]]}, "L06"),
    "there and back": ({"segmentation": [[1, 1, 5, 5, 1, 1]]}, "L06"),
    "points of 400 digits": ({"segmentation": [[10**400, 1, 5, 5, 1, 9]]}, "L02"),
    "an empty mask": ({"segmentation": {"size": [8, 8], "counts": [64]}}, "L06"),
    "a mask without size": ({"segmentation": {"counts": [64]}}, "L03"),
    "a mask of escapes for size": ({"segmentation": {"size": "\x1b[31m\n", "counts": [64]}}, "L03"),
    "a mask of escapes for counts": ({"segmentation": {"size": [8, 8], "counts": "\x1b\n"}}, "L03"),
    "a mask cut short": ({"segmentation": {"size": [8, 8], "counts": [10, 10]}}, "L03"),
    "a mask of other text": ({"segmentation": {"size": [8, 8], "counts": "~~"}}, "L03"),
    "a mask larger than 64 bits": (
        {"segmentation": {"size": [2**33, 2**33], "counts": [0, 2**66]}},
        "L03",
    ),
    "a runaway number": ({"segmentation": {"size": [8, 8], "counts": "o" * 5000 + "0"}}, "L03"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_annotation_is_reported_by_its_id_and_the_others_are_read(file, name):
    change, codes = BAD[name]
    given = [
        annotation(id=1, segmentation=[SQUARE]),
        annotation(id=4711, segmentation=[SQUARE]) | change,
    ]
    found, ignored, findings = objects(
        file, [*given, annotation(id=3, segmentation=[SQUARE])], SEGMENT
    )
    assert found.row.tolist() == [0, 2]
    assert len(ignored) == 0
    assert len(findings) == 1
    assert findings[0].code in codes.split()
    assert findings[0].message.startswith("annotation 4711: ")
    assert str(findings[0]).isprintable()
    assert len(str(findings[0])) < 250


def test_an_annotation_without_id_is_named_by_its_place(file):
    given = [annotation(), annotation(), {"image_id": 1, "bbox": BOX, "category_id": 5}]
    assert [f.message for f in objects(file, given)[2]] == ["annotation 2: no category has id 5"]


def test_a_bad_crowd_is_reported_too(file):
    found, ignored, findings = objects(file, [annotation(id=5, bbox=[1, 2, 3], iscrowd=1)])
    assert (len(found), len(ignored), [f.code for f in findings]) == (0, 0, ["L03"])


def test_every_bad_annotation_is_named(file):
    _, _, findings = objects(file, [annotation(id=i, category_id=1) for i in range(50)])
    assert [f.message.split(":")[0] for f in findings] == [f"annotation {i}" for i in range(50)]


def test_no_annotations_are_no_instances():
    for spec in (DETECT, SEGMENT, OBB, POSE):
        found, ignored, findings = annotated.instances([], spec, "f.json")
        assert (len(found), len(ignored), findings, found.task) == (0, 0, [], spec.task)
        assert (found.rings is None) == (spec.task in ("detect", "pose"))


# Images and categories


def test_annotations_go_to_their_images_in_the_order_of_the_file(file):
    images = [image(id=3, file_name="c.jpg"), image(id="x", file_name="x.jpg"), image(id=1)]
    given = [annotation(id=10 + i, image_id=owner) for i, owner in enumerate([1, "x", 3, 1])]
    found = read(file, content(given, images))
    assert [(p.file_name, [a.index for a in p.annotations]) for p in found.images] == [
        ("c.jpg", [2]),
        ("x.jpg", [1]),
        ("a.jpg", [0, 3]),
    ]
    assert found.findings == []


def test_an_image_listed_twice_counts_once(file):
    found = read(
        file, content([annotation(), annotation(id=2, image_id=2)], [image(), image(id=2)])
    )
    assert [p.file_name for p in found.images] == ["a.jpg"]
    assert [str(f) for f in found.findings] == [
        "instances.json: P05 image 2: a.jpg is listed twice; the first entry counts",
        "instances.json: L03 annotation 2: no image has image_id 2; ids of images are 1",
    ]


@pytest.mark.parametrize("id", [1, "1", 1.0])
def test_annotations_of_two_images_with_one_id_are_given_to_neither(file, id):
    images = [image(), image(id=id, file_name="b.jpg"), image(id=3, file_name="c.jpg")]
    found = read(file, content([annotation(), annotation(id=2, image_id=3)], images))
    assert [(p.file_name, len(p.annotations)) for p in found.images] == [("c.jpg", 1)]
    assert [f.code for f in found.findings] == ["I01", "L03"]
    assert "b.jpg has the id of a.jpg; neither is used" in found.findings[0].message


@pytest.mark.parametrize("image_id", [None, 5, "01", "b.jpg", [1], {"a": 1}, 1.5, True])
def test_an_annotation_of_no_image_is_reported(file, image_id):
    found = read(file, content([annotation(id=8, image_id=image_id)]))
    assert [f.code for f in found.findings] == ["L03"]
    assert found.findings[0].message.startswith("annotation 8: no image has image_id ")
    assert found.findings[0].message.endswith("; ids of images are 1")
    assert found.images[0].doubt == "has no annotations, while 1 annotations fit no image"
    assert found.images[0].annotations == []


@pytest.mark.parametrize("name", [None, "", 5, ["a.jpg"], "a\0.jpg"])
def test_an_image_without_a_usable_name_is_reported(file, name):
    found = read(file, content([], [image(id=6, file_name=name), image()]))
    assert [f.code for f in found.findings] == ["I01"]
    assert found.findings[0].message.startswith("image 6: file_name is ")
    assert [p.file_name for p in found.images] == ["a.jpg"]


@pytest.mark.parametrize("given", [None, 1.5, [1], {"a": 1}])
def test_an_image_without_a_usable_id_is_not_said_to_be_listed_twice(file, given):
    found = read(file, content([], [image(id=given, file_name="b.jpg"), image()]))
    assert [p.file_name for p in found.images] == ["a.jpg"]
    assert len(found.findings) == 1
    assert "twice" not in found.findings[0].message


def test_annotations_within_an_image_entry_are_not_taken_for_its_own(file):
    found = read(file, content([], [image(annotations=[annotation()])]))
    assert found.images[0].annotations == []


def test_classes_follow_the_rising_ids(file):
    categories = [
        {"id": 90, "name": "z"},
        {"id": 0, "name": "background"},
        {"id": 3, "name": "b", "supercategory": "x"},
    ]
    found = read(file, content([], categories=categories))
    assert (found.names, found.ids) == (("background", "b", "z"), (0, 3, 90))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "expected categories, found none"),
        (
            [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
            "expected categories with different ids, two have 1",
        ),
        (
            [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}],
            "expected categories with different ids, two have 1",
        ),
        ([{"id": 1}], "a category has an id and a name, got 1, None"),
        ([{"name": "a"}], "a category has an id and a name, got None, 'a'"),
        ([{"id": 1.5, "name": "a"}], "a category has an id and a name, got 1.5, 'a'"),
        ([{"id": True, "name": "a"}], "a category has an id and a name, got True, 'a'"),
    ],
)
def test_categories_that_are_invalid(file, categories, message):
    assert refusal(file, content(categories=categories)) == message


# The file

GOOD = json.dumps(content([annotation(segmentation=[SQUARE], keypoints=[1, 2, 2])])).encode()


@quick
@given(st.integers(0, len(GOOD) - 1))
def test_every_cut_of_the_file_is_refused(file, end):
    assert refusal(file, GOOD[:end]).startswith("not COCO instances JSON: ")


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b" \n",
        b"[]",
        b"null",
        b"{}",
        b"5",
        b'"images"',
        b'{"images": 5, "annotations": [], "categories": []}',
        b'{"images": [5], "annotations": [], "categories": []}',
        b'{"images": [], "annotations": {}, "categories": []}',
        b'{"images": [], "annotations": [NaN], "categories": []}',
        b'{"images": [{"id": 1e999}], "annotations": [], "categories": []}',
        b'{"images": [{"file_name": "\xe9"}], "annotations": [], "categories": []}',
        b'{"images": [{"file_name": "\\ud800"}], "annotations": [], "categories": []}',
        GOOD.decode().encode("utf-16"),
        b"[" * 200_000,
        b'{"images": ' + b"[" * 200_000,
        b'{"images": [{"id": ' + b"[" * 200_000,
        b'{"x": ' + b'{"x": ' * 200_000,
        GOOD + GOOD,
        b"\xff\xd8\xff\xe0 a JPEG",
    ],
    ids=lambda given: repr(given[:30]),
)
def test_a_file_that_is_not_coco_instances_is_an_error_in_one_line(file, given):
    assert refusal(file, given).startswith("not COCO instances JSON: ")


def test_keys_that_are_nearly_cocos_are_taken_and_told(file):
    given = content([annotation()])
    plain = read(file, given)
    given["annotation"] = given.pop("annotations")
    given["images"] = [image(filename="a.jpg") | {"file_name": None}]
    found = read(file, given)
    assert found.images[0].annotations == plain.images[0].annotations != []
    assert [str(f) for f in found.findings] == [
        "instances.json: Y07 takes annotation for annotations",
        "instances.json: Y07 takes filename for file_name in 1 of 1 images",
    ]


def test_misspelt_keys_are_guessed(file):
    given = content()
    given["anotations"] = given.pop("annotations")
    assert refusal(file, given) == (
        "not COCO instances JSON: expected the keys images, annotations, categories; found "
        "'images', 'categories', 'anotations'; for annotations, did you mean 'anotations'?"
    )


@pytest.mark.parametrize(
    ("key", "found"), [("image_id", "imageid"), ("category_id", "category"), ("bbox", "box")]
)
def test_keys_that_no_annotation_has_are_named_beside_those_found(file, key, found):
    given = [annotation(id=i) for i in range(3)]
    for each in given:
        each[found] = each.pop(key)
    message = refusal(file, content(given))
    assert message.startswith(f"no annotation has {key}; their keys are ")
    assert f"'{found}'" in message
    with pytest.raises(TilerError, match=f"no annotation has {key}; their keys"):
        coco_ground_truth.read(file)


def test_a_byte_order_mark_and_unknown_keys_are_no_matter(file):
    found = read(
        file,
        b"\xef\xbb\xbf" + json.dumps(content() | {"info": {"x": [1]}, "licenses": None}).encode(),
    )
    assert [p.file_name for p in found.images] == ["a.jpg"]


def test_no_such_file(tmp_path):
    with pytest.raises(TilerError, match="cannot be read: No such file"):
        coco.read(tmp_path / "no.json")
    with pytest.raises(TilerError, match="cannot be read"):
        coco.read(tmp_path)


SIZES = [
    ((100, 80), (100, 80)),
    (("100", "80"), (100, 80)),
    ((100.0, " 80 "), (100, 80)),
    ((None, 80), None),
    ((100, 0), None),
    ((100.5, 80), None),
    ((True, 80), None),
    (("wide", 80), None),
    (([100], {}), None),
    ((10**400, 1e300), None),
]


@pytest.mark.parametrize(("given", "size"), SIZES)
def test_an_image_knows_its_size(file, given, size):
    found = read(file, content(images=[image(width=given[0], height=given[1])])).images[0]
    assert (found.id, found.file_name, found.size, found.file) == (1, "a.jpg", size, file.name)


def test_two_corners_become_a_size(file):
    boxes = [[10, 20, 40, 60], "[10, 20, 40, 60]", ["10", 20, 40, 60.0], [9, 9, 9, 12], [1, 2, 3]]
    given = content([annotation(id=i, bbox=box) for i, box in enumerate(boxes)])
    given["annotations"].append(annotation(id=5, bbox=None, segmentation=[SQUARE]))
    file.unlink(missing_ok=True)
    file.write_text(json.dumps(given))
    found = coco.read(file, corners=True)
    objects, _, findings = annotated.instances(found.images[0].annotations, DETECT, "f.json")
    assert objects.row.tolist() == [0, 1, 2, 5]
    assert objects.boxes.tolist() == [[10, 20, 40, 60]] * 4
    assert [f.code for f in findings] == ["L06", "L03"]
