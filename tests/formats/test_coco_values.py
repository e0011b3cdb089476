"""Values of COCO in other forms: the same objects, in what splits and in what scores."""

import contextlib
import copy
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from tests.conftest import SHARED, needs_shared
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import annotated, coco, coco_ground_truth, rle
from tiler.formats.yolo import Spec

WIDTH, HEIGHT = 40, 30
CATEGORIES = [{"id": 7, "name": "car"}, {"id": 12, "name": "bus"}]
IMAGES = [
    {"id": id, "file_name": f"{id}.jpg", "width": WIDTH, "height": HEIGHT} for id in (5, 3, 40)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    return SimpleNamespace(plain=folder / "plain.json", other=folder / "other.json")


@st.composite
def annotations(draw, index):
    """An annotation with the box of its outline, if it has one."""
    x, y = draw(st.integers(0, 30)), draw(st.integers(0, 20))
    width, height = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    outlines = {
        "none": None,
        "triangle": [[x, y, x + width, y, x + width / 4, y + height]],
        "parts": [[x, y, x + width, y, x, y + height], [x, y, x + 1, y, x + 1, y + 1]],
        "mask": _filled(x, y, width, height),
    }
    return {
        "id": index,
        "image_id": draw(st.sampled_from([image["id"] for image in IMAGES])),
        "category_id": draw(st.sampled_from([7, 12])),
        "bbox": [x, y, width, height],
        "segmentation": outlines[draw(st.sampled_from(sorted(outlines)))],
        "area": draw(st.sampled_from([None, 3, 4.5])),
        "iscrowd": draw(st.sampled_from([0, 0, 0, 1])),
    }


def _filled(x, y, width, height):
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[y : y + height, x : x + width] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], pixels.T.ravel(), [False]])))
    return {
        "size": [HEIGHT, WIDTH],
        "counts": np.diff(np.concatenate([[0], edges, [WIDTH * HEIGHT]])).tolist(),
    }


contents = st.integers(0, 6).flatmap(lambda n: st.tuples(*map(annotations, range(n))))


class Forms:
    """Other forms of values, each drawn anew."""

    def __init__(self, chance):
        self.chance = chance

    def number(self, value):
        text = self.chance.choice([f"{value}", f" {value}", f"{float(value)}"])
        return self.chance.choice([value, float(value), text])

    def id(self, value):
        return self.chance.choice([value, float(value), str(value)])

    def bbox(self, annotation):
        values = [self.number(value) for value in annotation["bbox"]]
        forms = [values, json.dumps(values), json.dumps(annotation["bbox"])]
        if annotation["segmentation"]:
            forms += [None, [], "", "[]"] if self.chance.random() < 0.5 else [None]
        return self.chance.choice(forms)

    def segmentation(self, given):
        if given is None:
            return self.chance.choice([None, [], [[]], [[], []], {}, "", "[]", "null"])
        if isinstance(given, dict) or len(given) > 1:
            return self.chance.choice([given, json.dumps(given)])
        points = [[self.number(value) for value in pair] for pair in np.reshape(given, (-1, 2))]
        mappings = [{"x": x, "y": y} for x, y in points]
        flat = [value for point in points for value in point]
        forms = [given, [flat], points, [points], mappings, [mappings]]
        return self.chance.choice([*forms, json.dumps([flat])])

    def flag(self, value):
        if value:
            return self.chance.choice([1, True, 1.0, "1", "true"])
        return self.chance.choice([0, False, 0.0, "0", "0.0", "", "false", None])

    def annotation(self, plain):
        return {
            "id": plain["id"],
            "image_id": self.id(plain["image_id"]),
            "category_id": self.id(plain["category_id"]),
            "bbox": self.bbox(plain),
            "segmentation": self.segmentation(plain["segmentation"]),
            "area": None if plain["area"] is None else self.number(plain["area"]),
            "iscrowd": self.flag(plain["iscrowd"]),
        }

    def image(self, plain):
        image = {"id": self.id(plain["id"])}
        image[self.chance.choice(["file_name", "filename"])] = plain["file_name"]
        for side in ("width", "height"):
            if self.chance.random() < 0.7:
                image[side] = self.number(plain[side])
        return image

    def content(self, plain):
        return {
            self.chance.choice(["images", "image"]): [self.image(each) for each in plain["images"]],
            self.chance.choice(["annotations", "annotation"]): [
                self.annotation(each) for each in plain["annotations"]
            ],
            "categories": [each | {"id": self.id(each["id"])} for each in plain["categories"]],
        }


def split_reads(file, task):
    """Per image its name, and all columns of its objects and crowds."""
    content = coco.read(file)
    spec = Spec(task, len(content.names))
    rows = []
    for image in content.images:
        objects, crowds, findings = annotated.instances(
            image.annotations, spec, "a.json", (WIDTH, HEIGHT)
        )
        rings = []
        if objects.rings is not None:
            rings = [objects.rings.coords.tolist(), objects.rings.ring_offsets.tolist()]
        rows.append(
            [
                *(image.file_name, objects.class_id.tolist(), objects.boxes.tolist()),
                *(
                    objects.row.tolist(),
                    rings,
                    crowds.rings.coords.tolist(),
                    crowds.class_id.tolist(),
                    crowds.class_id.tolist(),
                ),
                [(finding.code, finding.message) for finding in findings],
            ]
        )
    return content.names, content.ids, rows, annotated.task_of(_objects(content))


def _objects(content):
    return [a for image in content.images for a in image.annotations if not a.ignored]


def score_reads(file, task):
    truth = coco_ground_truth.read(file, task)
    columns = (truth.image, truth.crowd, truth.ignore, truth.box_area)
    instances = truth.instances
    columns += (instances.class_id, instances.boxes, instances.row, instances.area)
    pixels = None
    if truth.segmentations is not None:
        outlined = [given for given in truth.segmentations if given is not None]
        masks, wrong = rle.masks(outlined, np.full((len(outlined), 2), (WIDTH, HEIGHT)))
        pixels = masks.starts.tolist(), masks.ends.tolist(), wrong
    errors = [finding.message for finding in truth.findings if finding.level == "error"]
    images = [(coco.as_id(image.id), image.name) for image in truth.images]
    return [column.tolist() for column in columns], pixels, images, truth.task, errors


@quick
@given(contents, st.randoms(use_true_random=False))
def test_other_forms_of_the_same_values_are_the_same_objects(files, annotations, chance):
    plain = {"images": IMAGES, "annotations": [*annotations], "categories": CATEGORIES}
    for file, content in ((files.plain, plain), (files.other, Forms(chance).content(plain))):
        file.write_text(json.dumps(content))
    for task in ("detect", "segment"):
        assert split_reads(files.other, task) == split_reads(files.plain, task)
        assert score_reads(files.other, task) == score_reads(files.plain, task)
    assert score_reads(files.other, "auto") == score_reads(files.plain, "auto")

    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(files.plain))
    truth = coco_ground_truth.read(files.other, "detect")
    ids = oracle.getAnnIds(imgIds=sorted(oracle.imgs))
    assert sorted(truth.instances.row.tolist()) == sorted(ids)
    for row, box, crowd in zip(
        truth.instances.row, truth.instances.boxes, truth.crowd, strict=True
    ):
        (theirs,) = oracle.loadAnns([int(row)])
        x, y, width, height = theirs["bbox"]
        assert box.tolist() == [x, y, x + width, y + height]
        assert crowd == bool(theirs["iscrowd"])


@needs_shared
def test_a_set_as_published_under_other_keys_is_the_one_under_cocos():
    folder = SHARED / "data" / "hituav_coco"
    published = coco.read(folder / "annotations_as_published.json")
    plain = coco.read(folder / "annotations.json")
    assert (published.names, published.ids) == (plain.names, plain.ids)
    assert [str(finding) for finding in published.findings] == [
        "annotations_as_published.json: Y07 takes annotation for annotations",
        "annotations_as_published.json: Y07 takes filename for file_name in "
        f"{len(published.images)} of {len(published.images)} images",
    ]
    spec = Spec("detect", len(plain.names))
    for ours, theirs in zip(published.images, plain.images, strict=True):
        assert (ours.file_name, ours.size) == (theirs.file_name, theirs.size)
        read = [annotated.instances(i.annotations, spec, "a")[0] for i in (ours, theirs)]
        np.testing.assert_array_equal(read[0].boxes, read[1].boxes)
        np.testing.assert_array_equal(read[0].class_id, read[1].class_id)
    assert score_reads(folder / "annotations_as_published.json", "auto") == score_reads(
        folder / "annotations.json", "auto"
    )


def test_two_lists_under_one_name_are_not_taken(files):
    content = {"images": IMAGES, "annotations": [], "categories": CATEGORIES}
    for extra in ("image", "annotation", "category"):
        files.plain.write_text(json.dumps(copy.deepcopy(content) | {extra: 3}))
        assert len(coco.read(files.plain).images) == 3
    files.plain.write_text(json.dumps({"images": IMAGES, "annotation": [], "category": 5}))
    with pytest.raises(TilerError, match="not COCO instances JSON"):
        coco.read(files.plain)
