"""Ground truth in columns: all that pycocotools looks at, as it stands in the file."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from tests.conftest import SHARED, needs_shared
from tests.formats.test_coco import SQUARE, annotation, content, image
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import annotated, coco, coco_ground_truth

SCORE = SHARED / "oracles" / "score"
INSTANCES = SHARED / "data/preds/cocoapi_fakebbox100/instances_val2014_100.json"
FILES = [*sorted(SCORE.glob("*/gt.json")), INSTANCES]
MASK = {"size": [80, 100], "counts": [100, 50, 7850]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("truth") / "gt.json"


def read(file, given, task="auto", bbox="auto"):
    file.unlink(missing_ok=True)
    file.write_bytes(given if isinstance(given, bytes) else json.dumps(given).encode())
    return coco_ground_truth.read(file, task, bbox)


def of(file, *annotations, task="auto", **more):
    # whatever the numbers look like, they are x, y, width and height
    return read(file, content(annotations, **more), task, bbox="xywh")


def as_pycocotools_reads(file):
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(file))
    places = {id: i for i, id in enumerate(np.unique(sorted(oracle.imgs)).tolist())}
    return (
        oracle,
        [a for id in places for a in oracle.loadAnns(oracle.getAnnIds(imgIds=[id]))],
        places,
    )


def task_of_split(file):
    """What splitting makes of the objects, in the words of score, which has no OBB."""
    content = coco.read(file)
    if content.kpt_shape is not None:
        return "pose"
    objects = [a for image in content.images for a in image.annotations if not a.ignored]
    return annotated.task_of(objects)[0].replace("obb", "segment")


@needs_shared
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_real_files_as_pycocotools_reads_them(path):
    truth = coco_ground_truth.read(path)
    oracle, annotations, places = as_pycocotools_reads(path)
    assert not truth.findings
    assert [p[0] for p in truth.images] == list(places) and [
        c["id"] for c in oracle.loadCats(oracle.getCatIds())
    ] == [*truth.categories]
    for id, name, width, height in truth.images:
        assert (name, width, height) == tuple(
            oracle.imgs[id][key] for key in ("file_name", "width", "height")
        )
    columns = (
        truth.instances.area,
        truth.box_area,
        truth.image,
        truth.crowd,
        truth.ignore,
        truth.instances.class_id,
    )
    assert [*zip(*(c.tolist() for c in columns), strict=True)] == [
        (
            a.get("area", a["bbox"][2] * a["bbox"][3]),
            a["bbox"][2] * a["bbox"][3],
            places[a["image_id"]],
            bool(a["iscrowd"]),
            bool(a.get("ignore")),
            truth.categories[a["category_id"]],
        )
        for a in annotations
    ]
    assert truth.instances.boxes.tolist() == [
        [x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)
    ]
    file = json.loads(path.read_text())["annotations"]
    assert [file[row]["id"] for row in truth.instances.row] == [a["id"] for a in annotations]
    assert truth.task == task_of_split(path) == ("segment" if path == INSTANCES else "detect")
    if truth.segmentations is not None:
        assert truth.segmentations == [a["segmentation"] for a in annotations]
        assert any(isinstance(given, dict) for given in truth.segmentations)


numbers = st.one_of(st.integers(-300, 300), st.floats(-1e6, 1e6))


@quick
@given(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6), st.permutations([4, 1, 3])
)
def test_boxes_to_the_last_bit(file, boxes, ids):
    """Those without size too; the order is that of the ids of the images, then of the file."""
    annotations = [annotation(id=i, image_id=ids[i % 3], bbox=box) for i, box in enumerate(boxes)]
    truth = of(file, *annotations, images=[image(id=i, file_name=f"{i}.jpg") for i in ids])
    order = sorted(range(len(boxes)), key=lambda i: (ids[i % 3], i))
    assert truth.instances.row.tolist() == order and [p[0] for p in truth.images] == [1, 3, 4]
    assert truth.instances.boxes.tolist() == [
        [x, y, x + w, y + h] for x, y, w, h in (boxes[i] for i in order)
    ]
    assert (
        truth.box_area.tolist()
        == truth.instances.area.tolist()
        == [boxes[i][2] * boxes[i][3] for i in order]
    )
    assert not truth.findings


def test_what_stands_in_an_annotation(file):
    truth = of(
        file,
        annotation(category_id=9, area=5.5, iscrowd=1),
        annotation(area=0, ignore=1),
        annotation(area=-3, iscrowd=0),
        annotation(area=None),
    )
    assert truth.names == ("car", "bus") and truth.categories == {7: 0, 9: 1}
    assert truth.instances.class_id.tolist() == [1, 0, 0, 0]
    assert truth.instances.area.tolist() == [5.5, 0, -3, 1200]
    assert truth.crowd.tolist() == [True, False, False, False] and truth.ignore.tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert (truth.task, truth.num_keypoints, truth.segmentations, truth.kpt_shape) == (
        "detect",
        None,
        None,
        None,
    )


def test_images(file):
    """Ids of either kind; a file name counts for nothing here, and two images may share one."""
    images = [
        {"id": "b"},
        image(id=12),
        image(id=2, width="x", height=1.5),
        {"id": "a", "file_name": 3, "width": -1},
    ]
    truth = of(
        file,
        annotation(image_id="a"),
        annotation(image_id=12.0),
        annotation(image_id="b"),
        images=images,
    )
    assert truth.images == [
        (2, "a.jpg", 0, 1),
        (12, "a.jpg", 100, 80),
        ("a", "", 0, 0),
        ("b", "", 0, 0),
    ]
    assert truth.image.tolist() == [1, 2, 3] and truth.instances.row.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "bad, code, said",
    [
        ({"image_id": 2}, "L03", "no image has image_id 2"),
        ({"image_id": "a.jpg"}, "L03", "no image has image_id 'a.jpg'; ids of images are 1"),
        ({"image_id": "01"}, "L03", "no image has image_id '01'"),
        ({"image_id": []}, "L03", "no image has image_id []"),
        ({"category_id": 8}, "L04", "no category has id 8"),
        ({"category_id": None}, "L04", "no category has id None"),
        ({"bbox": None}, "L03", "bbox is a list of numbers, got None"),
        ({"bbox": [1, 2, 3]}, "L03", "bbox is [x, y, width, height], got 3 values"),
        ({"bbox": [1, 2, 3, "4 px"]}, "L02", "bbox is a list of numbers, got [1, 2, 3, '4 px']"),
        ({"bbox": "1 2 3 4"}, "L03", "bbox is a list of numbers, got '1 2 3 4'"),
        ({"iscrowd": "often"}, "L03", "iscrowd is 'often', expected 0 or 1"),
        ({"ignore": [1]}, "L03", "ignore is [1], expected 0 or 1"),
        ({"bbox": [1, 2, 3, 1e9]}, "L02", "expected finite pixels"),
        ({"bbox": [1, 2, 3, 10**400]}, "L02", "expected finite pixels"),
        ({"bbox": {}}, "L03", "bbox is a list of numbers, got {}"),
        ({"area": "x"}, "L02", "area is 'x', expected px²"),
        ({"area": 10**400}, "L02", "expected px²"),
    ],
)
def test_an_annotation_that_cannot_be_used(file, bad, code, said):
    truth = of(file, annotation(), annotation(id="odd\n") | bad, annotation())
    assert [(f.path, f.code) for f in truth.findings] == [("gt.json", code)]
    assert (
        truth.findings[0].message.startswith("annotation odd\\n: ")
        and said in truth.findings[0].message
    )
    assert (
        truth.instances.row.tolist() == [0, 2]
        and truth.instances.boxes.tolist() == [[10, 20, 40, 60]] * 2
    )


def test_images_that_cannot_be_used(file):
    images = [image(), image(width=7), image(id=None), image(id=True), image(id=1.5)]
    truth = of(file, annotation(), images=images)
    assert truth.images == [(1, "a.jpg", 100, 80)] and len(truth.instances) == 1
    assert [f.code for f in truth.findings] == ["P05", "I01", "I01", "I01"]


def test_outlines_of_segment(file):
    given = [[SQUARE], MASK, None, []]
    truth = of(
        file,
        *(annotation(segmentation=value) for value in given),
        annotation(segmentation="xyz"),
        task="segment",
    )
    assert truth.segmentations == [[SQUARE], MASK, None, None] and truth.instances.rings is None
    assert truth.instances.task == "segment" and [f.code for f in truth.findings] == ["L03"]
    assert of(file, annotation(segmentation=[SQUARE]), task="detect").segmentations is None


@pytest.mark.parametrize(
    "segmentations",
    [
        [[[10, 20, 40, 20, 40, 60]], MASK],
        [[SQUARE], [SQUARE]],
        [[SQUARE], None],
        [[[10, 20, 40, 20, 40, 60]], []],
        [[[10, 20, 40, 20, 40, 60]], [[]], {}, ""],
        [[[[10, 20], [40, 20], [40, 60]]]],
        [[[20, 10, 40, 30, 30, 40, 10, 20]]],
        [{}, [[10, 20, 40, 20, 40, 60]]],
        [None],
    ],
)
def test_the_task_is_the_one_that_splitting_sees(file, segmentations):
    truth = of(file, *(annotation(segmentation=given) for given in segmentations))
    assert truth.task == task_of_split(file)


def test_keypoints(file):
    categories = [{"id": 7, "name": "person", "keypoints": ["nose", "tail"]}]
    points = [1, 2, 2, 0, 0, 0]
    truth = of(
        file,
        annotation(keypoints=points, num_keypoints=2),
        annotation(keypoints=points),
        annotation(keypoints=[], num_keypoints=0),
        annotation(iscrowd=1),
        annotation(keypoints=[1, 2, 2]),
        annotation(keypoints="x"),
        categories=categories,
    )
    assert (truth.task, truth.kpt_shape) == ("pose", (2, 3))
    assert (
        truth.instances.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]]] * 2 + [[[0, 0, 0]] * 2] * 2
    )
    assert truth.num_keypoints.tolist() == [2, 1, 0, 0]
    assert [f.code for f in truth.findings] == [
        "L03",
        "L03",
    ] and "expected 2 keypoints" in truth.findings[0].message
    assert of(file, annotation(keypoints=points), task="detect").instances.keypoints is None


@pytest.mark.parametrize(
    "task, said", [("pose", "no annotation has keypoints"), ("obb", "got --task obb")]
)
def test_another_task(file, task, said):
    with pytest.raises(TilerError, match=said):
        of(file, annotation(), task=task)


def test_nothing_at_all(file):
    for task in ("auto", "detect", "segment"):
        truth = of(file, task=task, images=[])
        assert truth.instances.boxes.shape == (
            0,
            4,
        ) and truth.image.shape == truth.crowd.shape == truth.box_area.shape == (0,)
        assert truth.images == [] and truth.segmentations == ([] if task == "segment" else None)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{", b"\xff", b"[" * 100_000,
        b'{"images": [], "annotations": []}', b'{"images": [], "annotation": [], "categories": []}',
        b'{"images": [], "annotations": [], "categories": []}',
        b'{"images": [], "annotations": [3], "categories": []}',
        b'{"images": [], "annotations": [], "categories": [{"id": 1}]}',
    ],
)  # fmt: skip
def test_errors_are_those_of_reading_labels(file, text):
    with pytest.raises(TilerError) as of_truth:
        read(file, text)
    with pytest.raises(TilerError) as of_labels:
        coco.read(file)
    assert str(of_truth.value) == str(of_labels.value) and str(file) in str(of_truth.value)
    with pytest.raises(TilerError, match="cannot be read"):
        coco_ground_truth.read(file.parent / "nowhere.json")


@pytest.mark.parametrize("task", ["auto", "detect", "segment"])
def test_an_outline_that_is_not_utf8_is_reported(file, task):
    mask = annotation(id=8, segmentation={"size": [80, 100], "counts": "0~"})
    data = json.dumps(content([annotation(segmentation=[SQUARE]), mask])).encode()
    truth = read(file, data.replace(b"0~", b"0\xe9"), task)
    messages = [str(finding) for finding in truth.findings]
    if truth.task == "segment":
        assert len(messages) == 1 and "annotation 8: segmentation: expected polygons" in messages[0]
    else:
        assert messages == [] and len(truth.instances) == 2


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1e999", "9" * 310])
@pytest.mark.parametrize("task", ["auto", "segment", "detect", "pose"])
@pytest.mark.parametrize("outline", ["[[1, @, 3, 4, 5, 6]]", '{"size": [@, 3], "counts": [1, 8]}'])
def test_a_number_beyond_all_bounds_in_an_outline_is_no_traceback(file, number, task, outline):
    text = json.dumps(content([annotation(segmentation=[SQUARE]), annotation(id=8)]))
    text = text.replace('"id": 8', f'"id": 8, "segmentation": {outline}'.replace("@", number))
    try:
        truth = read(file, text.encode(), task)
    except TilerError:
        return
    assert all(len(str(finding)) < 1000 for finding in truth.findings)


def test_boxes_that_are_corners_are_asked_about(tmp_path):
    """As x, y, width, height they reach out of the image; as two corners all fit."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 300, (20, 2))
    boxes = np.concatenate([corner, corner + rng.integers(20, 90, (20, 2))], axis=1).tolist()
    image = {"id": 1, "file_name": "a.jpg", "width": 400, "height": 400}
    entries = [{"id": i, "image_id": 1, "category_id": 1, "bbox": b} for i, b in enumerate(boxes)]
    content = {"images": [image], "annotations": entries, "categories": [{"id": 1, "name": "a"}]}
    file = tmp_path / "gt.json"
    file.write_text(json.dumps(content))
    with pytest.raises(TilerError, match="all fit as two corners: choose --bbox xyxy"):
        coco_ground_truth.read(file)
    assert coco_ground_truth.read(file, bbox="xyxy").instances.boxes.tolist() == boxes
    assert len(coco_ground_truth.read(file, bbox="xywh").instances) == 20
    for entry in entries:
        entry["bbox"] = [value / 400 for value in entry["bbox"]]
    file.write_text(json.dumps(content))
    with pytest.raises(TilerError, match="parts of the image's sides"):
        coco_ground_truth.read(file)
