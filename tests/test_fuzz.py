"""Broken files by the thousand: nothing comes out of the readers but what they promise."""

import copy
import json
import random
import re

import numpy as np
import pytest

from tiler.errors import SourceRefused, TilerError
from tiler.formats import (
    annotated,
    annotation_csv,
    coco,
    coco_ground_truth,
    dataset_yaml,
    dota_labels,
    labelme,
    plain_yaml,
    trainer_rules,
    voc,
    yolo,
)
from tiler.types import TASKS

pytestmark = pytest.mark.slow

CLASSES = 5
SPECS = {task: yolo.Spec(task, CLASSES, (4, 3) if task == "pose" else None) for task in TASKS}
SIZE = (480, 320)
BATCHES = range(4)
# mutants: of labels for each task, of the others for each batch
LABELS, YAMLS, COCOS, OTHERS = 3500, 1500, 750, 450

SEEDS = {
    "detect": [
        "0 0.828125 0.610937 0.072917 0.196875\n0 0.66875 0.553125 0.070833 0.25\n2 0.272917 "
        "0.315625 0.145833 0.25\n",
        "2 0.160416666667 0.64212962963 0.11875 0.0527777777778\r\n0 0.98 0.5 0.1 0.1\r\n",
        "0 0.1 0.1 0.3 0.1 0.3 0.4\n1 5e-1 5.0E-01 1e-1 +0.1\n",
    ],
    "segment": [
        "0 0.791667 0.5125 0.864583 0.5125 0.864583 0.709375 0.791667 0.709375\n3 0.1 0.1 0.2 0.1 "
        "0.2 0.2\n",
        "0 0.1 0.1 0.6 0.1 0.6 0.6 0.1 0.6 0.1 0.1 0.2 0.2 0.2 0.4 0.4 0.4 0.4 0.2 0.2 0.2\n",
        "1 0.1 0.1 0.9 0.1 0.9 0.9 0.7 0.9 0.7 0.3 0.3 0.3 0.3 0.9 0.1 0.9\n0 0.79 0.51 0.86 0.7 "
        "0.86 0.51 0.79 0.7\n",
    ],
    "obb": [
        "0 0.435414 0.408148 0.588924 0.505503 0.564586 0.591852 0.411076 0.494497\n4 0.4 0.4 0.6 "
        "0.4 0.6 0.5 0.4 0.5\n",
        "0 0.3 0.433709 0.344194 0.5 0.3 0.566291 0.255806 0.5\n0 0.915414 0.408148 1.01 0.505503 "
        "1.0 0.591852 0.891076 0.4\n",
    ],
    "pose": [
        "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.52 0.5 1 0.5 0.55 0 0.48 0.5 2\n",
        "1 0.5 0.5 0.1 0.1 0 0 0 0.52 0.5 1 0 0 0 0.48 0.5 2\n0 0.2 0.2 0.1 0.1 0.2 0.2 2 0.2 0.2 "
        "2 0.2 0.2 2 0.2 0.2 2\n",
    ],
}
NUMBERS = (
    "0 1 -1 2 5 0.5 1.01 1.0100001 -0.01 -0.0100001 1e-9 1e-300 1e300 1e308 1.7e308 -1.7e308 "
    "1e999 nan inf -inf"
)
YAML_WORDS = (
    "*a &a !!int !!float !!bool !!str !!python/name:os <<: [ ] { } : - ? | > ' \" # % @ ` ~ null "
    "\\ --- ... 1e9 -1"
)
BYTES = [bytes([byte]) for byte in b"\n\r\t\0\xff\xe9\x0c,-"] + [
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b"0x1",
]
LABEL_WORDS = BYTES + NUMBERS.encode().split()


def mutant(data, chance, words):
    """The bytes after a few edits: a piece dropped, doubled, moved or broken, or something put
    in.
    """
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        a, b = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        b = min(b, a + chance.choice([1, 2, 5, 20, 100]))
        kind = chance.randrange(6)
        if kind == 0:
            data = data[:a] + data[b:]
        elif kind == 1:
            data = data[:b] + data[a:b] * chance.choice([1, 2, 9]) + data[b:]
        elif kind == 2:
            c = chance.randrange(len(data) + 1)
            data = data[:c] + data[a:b] + data[c:]
        elif kind == 3:
            data = data[:a] + bytes([chance.randrange(256)]) + data[a + 1 :]
        else:
            data = data[:a] + chance.choice(words) + data[b if kind == 4 else a :]
    return data


def label_mutant(data, chance):
    """As above, and often one number for another, so that the rows stay rows."""
    if chance.random() < 0.5:
        words = data.split(b" ")
        for _ in range(chance.choice([1, 2, 4])):
            words[chance.randrange(len(words))] = chance.choice(LABEL_WORDS)
        return b" ".join(words)
    return mutant(data, chance, LABEL_WORDS)


def only_promised(read, data):
    """What reading gives, or None when it was refused in one line."""
    try:
        return read()
    except (TilerError, SourceRefused) as error:
        assert "\n" not in str(error), data
        return None
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error} from {data!r}")


def assert_sound(found, findings, data):
    assert np.isfinite(found.boxes).all(), data
    assert np.isfinite(found.area).all(), data
    assert found.rings is None or np.isfinite(found.rings.coords).all(), data
    assert found.keypoints is None or np.isfinite(found.keypoints).all(), data
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all(), data
    assert not [finding for finding in findings if not str(finding).isprintable()], data


def assert_writable(found, findings, spec, data):
    """What was read is written as rows that the trainer takes; what shrinks to nothing in eight
    decimals, and rectangles put in place of broken corners, are what cutting has to see to."""
    numbers = yolo.values(found, np.tile(np.array(SIZE, np.float64), (len(found), 1)))
    rows = [
        np.array(line.split(), np.float64) for line in yolo.text(numbers, spec.task).splitlines()
    ]
    assert len(rows) == len(found), data
    sides = np.array(
        [trainer_rules.derived_boxes(row[None], spec.task)[0, 2:].min() for row in rows]
    )
    repaired = {
        finding.line for finding in findings if finding.code == "L09" and spec.task == "obb"
    }
    lines = yolo.parse(data).lines
    written = zip(rows, found.row, sides, strict=True)
    usual = [row for row, place, side in written if lines[place] not in repaired and side > 1e-7]
    assert trainer_rules.accepted(usual, spec.task, CLASSES, spec.out_shape).all(), data


@pytest.mark.parametrize("task", TASKS)
def test_labels(task):
    chance = random.Random(f"labels {task}")
    seeds = [seed.encode() for seed in SEEDS[task]] * 3 + [
        seed.encode() for other in TASKS for seed in SEEDS[other]
    ]
    read = 0
    for _ in range(LABELS):
        data = label_mutant(chance.choice(seeds), chance)
        result = only_promised(lambda data=data: yolo.read(data, SPECS[task], *SIZE, "a.txt"), data)
        if result is not None:
            assert_sound(*result, data)
            assert_writable(*result, SPECS[task], data)
            read += len(result[0])
    assert read > LABELS / 5


YAML_SEEDS = [
    "path: .\ntrain: images\nval: images\nnames:\n  0: car\n  1: truck\nnc: 2\n",
    "train: [images, ../images]\nval: images\ntest:\nnames: [car, 'truck', \"bus\"]\nkpt_shape: "
    "[4, 3]\nflip_idx: [0, 3, 2, 1]\n",
    "base: &a {x: 1}\nb: {<<: *a, y: 2}\ntrain: images\nval: images\nnames: {0: a, 1: "
    "b}\ndownload: |\n  import os\n",
]


@pytest.mark.parametrize("batch", BATCHES)
def test_dataset_yamls(tmp_path, monkeypatch, batch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    (tmp_path / "images").mkdir()
    file = tmp_path / "dataset.yaml"
    chance = random.Random(f"yaml {batch}")
    words = BYTES + YAML_WORDS.encode().split()
    read = loaded = 0
    for _ in range(YAMLS):
        data = mutant(chance.choice(YAML_SEEDS).encode(), chance, words)
        file.write_bytes(data)
        loaded += only_promised(lambda: plain_yaml.load(file), data) is not None
        found = only_promised(lambda: dataset_yaml.read(file), data)
        if found is not None:
            read += 1
            assert found.names, data
            assert all(isinstance(name, str) for name in found.names), data
            assert all(path.exists() for paths in found.splits.values() for path in paths), data
            assert not [finding for finding in found.findings if not str(finding).isprintable()], (
                data
            )
        file.unlink()  # writing over a file makes some file systems flush each time
    assert loaded > read > YAMLS / 20


SQUARE = [10, 20, 40, 20, 40, 60, 10, 60]
COCO_SEED = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 480, "height": 320},
        {"id": 2, "file_name": "b.jpg", "width": 9, "height": 9},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [10, 20, 30, 40],
            "segmentation": [SQUARE],
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 9,
            "bbox": [1.5, 2, 3, 4],
            "segmentation": [SQUARE, [15, 25, 90, 30, 20, 50]],
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 9,
            "bbox": [0, 0, 2, 2],
            "segmentation": {"size": [4, 4], "counts": [5, 2, 9]},
        },
        {
            "id": 4,
            "image_id": 2,
            "category_id": 7,
            "bbox": [0, 0, 2, 2],
            "segmentation": {"size": [4, 4], "counts": "529"},
        },
        {
            "id": 5,
            "image_id": 1,
            "category_id": 7,
            "bbox": [0, 0, 9, 9],
            "iscrowd": 1,
            "keypoints": [1, 2, 2, 0, 0, 0],
        },
        {
            "id": 6,
            "image_id": 1,
            "category_id": 7,
            "bbox": [0, 0, 9, 9],
            "keypoints": [1, 2, 2, 0, 0, 0],
            "num_keypoints": 1,
        },
    ],
    "categories": [{"id": 7, "name": "car", "keypoints": ["a", "b"]}, {"id": 9, "name": "bus"}],
}
HUGE = {"size": [2**33, 2**33], "counts": [0, 2**66]}
NUMBER_JUNK = [None, True, False, 0, 1, -1, 2, 7, 0.5, 1e-300, 1e300, 10**30, 10**400, 2**63]
JUNK = [
    *NUMBER_JUNK,
    "",
    "x",
    "1",
    "é",
    "\0",
    "../a",
    "o" * 40,
    [],
    {},
    [[]],
    [None],
    [{}],
    [1, 2],
    SQUARE,
    [SQUARE],
    HUGE,
    [[[1]]],
    "0",
    "often",
    "[10, 20, 30, 40]",
    ["10", "20", 30.0, " 40"],
    [[10, 20], [40, 20], [40, 60]],
    [{"x": 1, "y": 2}, {"x": 9, "y": "2"}, {"x": 9, "y": 8}],
]


def places(value, path=()):
    """Every place within a tree of lists and mappings."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


PLACES = list(places(COCO_SEED))


def coco_mutant(chance):
    tree = copy.deepcopy(COCO_SEED)
    for *path, last in chance.sample(PLACES, chance.choice([1, 1, 2, 4])):
        parent = tree
        try:
            for key in path:
                parent = parent[key]
            kind = chance.randrange(4)
            if kind == 0:
                del parent[last]
            elif kind == 1:
                parent[last] = [parent[last], copy.deepcopy(parent[last])]
            else:
                parent[last] = copy.deepcopy(chance.choice(JUNK))
        except (KeyError, IndexError, TypeError):
            continue  # an edit before this one took the place away
    return json.dumps(tree).encode()


@pytest.mark.parametrize("batch", BATCHES)
def test_coco_files(tmp_path, batch):
    file = tmp_path / "instances.json"
    chance = random.Random(f"coco {batch}")
    read = 0
    for i in range(COCOS):
        data = (
            coco_mutant(chance) if i % 4 else mutant(json.dumps(COCO_SEED).encode(), chance, BYTES)
        )
        file.write_bytes(data)
        corners = i % 2 == 0
        found = only_promised(lambda corners=corners: coco.read(file, corners=corners), data)
        truth = only_promised(lambda: coco_ground_truth.read(file), data)
        file.unlink()
        if truth is not None:
            assert np.isfinite(truth.instances.boxes).all(), data
            assert not [f for f in truth.findings if not str(f).isprintable()], data
        if found is None:
            continue
        assert not [finding for finding in found.findings if not str(finding).isprintable()], data
        for task in TASKS:
            spec = yolo.Spec(
                task, len(found.names), (found.kpt_shape or (2, 3)) if task == "pose" else None
            )
            for picture in found.images:
                given = (picture.annotations, spec, "f.json")
                instances, ignored, findings = only_promised(
                    lambda given=given: annotated.instances(*given), data
                )
                assert_sound(instances, findings, data)
                assert np.isfinite(ignored.rings.coords).all(), data
                assert len(instances) + len(ignored) + sum(f.count for f in findings) == len(
                    picture.annotations
                ), data
                read += len(instances)
    assert read > COCOS


VOC_SEED = (
    "<annotation><folder>x</folder><filename>a.jpg</filename><size><width>480</width><height>320"
    "</height><depth>3</depth></size><object><name>car</name><difficult>1</difficult><bndbox><xmin>"
    "10</xmin><ymin>20.5</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object><object><name>bus"
    "</name><robndbox><cx>99</cx><cy>80</cy><w>40</w><h>20</h><angle>0.5</angle></robndbox></object>"
    "<object><name>car</name><polygon><x1>1</x1><y1>2</y1><x2>30</x2><y2>2</y2><x3>30</x3><y3>40</y3>"
    "</polygon></object><object><name>car</name><polygon><pt><x>1</x><y>2</y></pt><pt><x>9</x><y>2</y>"
    "</pt><pt><x>9</x><y>7</y></pt></polygon></object></annotation>"
)
MASK = (  # 3 x 2 px, all set
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAAAAAC4HznGAAAAEElEQVR4nGNkZGBgYmBgAAAAHwAFMx1KnwAAAABJRU5E"
    "rkJggg=="
)
LABELME_SEED = json.dumps(
    {
        "version": "5.4.1",
        "flags": {},
        "imagePath": "a.jpg",
        "imageWidth": 480,
        "imageHeight": 320,
        "shapes": [
            {"label": "car", "points": [[9, 2], [50, 80.5]], "shape_type": "rectangle"},
            {"label": "car", "points": [[0, 0], [40, 0], [40, 20]], "group_id": 1},
            {"label": "car", "points": [[90, 0], [60, 0], [60, 20]], "group_id": 1},
            {"label": "bus", "points": [[50, 60], [53, 64]], "shape_type": "circle"},
            {"label": "bus", "points": [[5, 6], [7, 7]], "shape_type": "mask", "mask": MASK},
            {"label": "bus", "points": [[5, 6]], "shape_type": "point", "difficult": True},
        ],
    }
)
DOTA_SEED = (
    "imagesource:GoogleEarth\ngsd:0.146343\n129.0 105.0 190.0 113.0 186.0 147.0 125.0 139.0 plane "
    "0\n207 131 230 124 237 149 213 156 small-vehicle 1\n\n1 2 30 2 30 4 1 4 ship\n"
)
BOXES_SEED = (
    "image_path,width,height,xmin,ymin,xmax,ymax,label\na.tif,480,320,5,6,9,8,Tree\nb.tif,,,0,0,1.5,1,"
    "Bush\na.tif,480,320,50,60,90,80,Tree\nc.tif,9,9,,,,,\n"
)
WKT_SEED = (
    'image_path,label,geometry\na.jpg,Tree,"POLYGON ((0 0, 4 0, 4 2, 0 0))"\nb.jpg,Tree,'
    '"MULTIPOLYGON (((0 0, 4 0, 4 2, 0 0)), ((9 9, 8 9, 8 8, 9 9)))"\n'
)


def csv_images(data, path):
    try:
        return annotation_csv.read(data.decode(), path)
    except UnicodeDecodeError:
        return []


# what is read: of which texts, and how as a list of images
FORMATS = {
    "voc": ([VOC_SEED], lambda *given: [voc.read(*given)]),
    "labelme": ([LABELME_SEED], lambda *given: [labelme.read(*given)]),
    "dota": ([DOTA_SEED], lambda *given: [dota_labels.read(*given)]),
    "csv": ([BOXES_SEED, WKT_SEED], csv_images),
}
OTHER_WORDS = [
    *LABEL_WORDS,
    *b"< > </ /> & &#0; <!ENTITY <![CDATA[ ]]> \" ' { } [ ] : , null true 10e400 ( ) ((".split(),
    *b"EMPTY Z ))".split(),
]


def other_mutant(data, chance):
    """As the first kind, and often one number for another, so that the form stays whole."""
    if chance.random() < 0.5:
        parts = re.split(rb"([\d.]+)", data)
        for _ in range(chance.choice([1, 2, 4])):
            parts[chance.randrange(1, len(parts), 2)] = chance.choice(NUMBERS.encode().split())
        return b"".join(parts)
    return mutant(data, chance, OTHER_WORDS)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", FORMATS)
def test_files_of_other_formats(name, batch):
    chance = random.Random(f"{name} {batch}")
    texts, read = FORMATS[name]
    objects = 0
    for _ in range(OTHERS):
        data = other_mutant(chance.choice(texts).encode(), chance)
        for image in only_promised(lambda data=data: read(data, "a.txt"), data) or ():
            for annotation in image.annotations:
                annotation.class_id = 0
            for task in ("detect", "segment", "obb"):
                given = (image.annotations, SPECS[task], image.file, image.size)
                instances, ignored, findings = only_promised(
                    lambda given=given: annotated.instances(*given), data
                )
                assert_sound(instances, [*image.findings, *findings], data)
                assert np.isfinite(ignored.rings.coords).all(), data
                assert len(instances) + len(ignored) + len(findings) == len(image.annotations), data
                objects += len(instances)
    assert objects > OTHERS
