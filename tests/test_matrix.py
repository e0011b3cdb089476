"""The same objects through every door: each format, each task. Tiles and label rows are the same,
and check and score read them too.
"""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import shapely
import yaml
from PIL import Image, TiffImagePlugin, TiffTags

import tiler
from tests.conftest import rows_of
from tests.doors import image, text
from tests.formats import gis

NAMES = ("bus", "car", "van")
IMAGES = {"a": ("train", 500, 400), "b": ("train", 420, 360), "c": ("val", 460, 380)}
KEYPOINTS = 3


@dataclass(frozen=True)
class Thing:
    """An object: its class, `(N, 2)` outline in px, and keypoints `(K, 3)`."""

    name: str
    points: np.ndarray
    keypoints: np.ndarray
    turn: tuple = ()

    @property
    def xyxy(self):
        return [*self.points.min(axis=0).tolist(), *self.points.max(axis=0).tolist()]

    @property
    def xywh(self):
        x0, y0, x1, y1 = self.xyxy
        return [x0, y0, x1 - x0, y1 - y0]

    @property
    def flat(self):
        return self.points.ravel().tolist()


def things(task, seed, width, height):
    """Objects of an image, away from its sides; coordinates are multiples of 1/8 px."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(14):
        centre = rng.uniform([40, 40], [width - 40, height - 40])
        w, h = rng.uniform(10, 40, 2)
        angle = 0.0 if task in ("detect", "pose") else rng.uniform(0.1, 1.4)
        if task == "segment":
            points = centre + _star(rng, w)
        else:
            points = centre + _rectangle(w, h, angle)
        if task != "obb":
            points = np.round(points * 8) / 8
        keypoints = np.column_stack([rng.uniform(points.min(0), points.max(0), (KEYPOINTS, 2))])
        keypoints = np.round(keypoints * 8) / 8
        visible = rng.integers(1, 3, (KEYPOINTS, 1))
        turn = (*centre, w, h, angle)
        made.append(Thing(NAMES[number % 3], points, np.hstack([keypoints, visible]), turn))
    return made


def _rectangle(w, h, angle):
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return corners @ np.array([[cos, sin], [-sin, cos]])


def _star(rng, size):
    angles = np.sort(rng.uniform(0, 2 * math.pi, 7))
    radius = rng.uniform(size / 3, size / 2, 7)
    return np.column_stack([radius * np.cos(angles), radius * np.sin(angles)])


def all_things(task):
    return {
        stem: things(task, seed, width, height)
        for seed, (stem, (_, width, height)) in enumerate(IMAGES.items())
    }


def write_images(root):
    for seed, (stem, (split, width, height)) in enumerate(IMAGES.items()):
        image(root / f"images/{split}/{stem}.png", width, height, seed)


def yolo_rows(task, stem, objects, conf=""):
    _, width, height = IMAGES[stem]
    side = np.array([width, height])
    rows = []
    for thing in objects:
        x, y, w, h = np.array(thing.xywh) / [width, height, width, height]
        values = [x + w / 2, y + h / 2, w, h]
        if task in ("segment", "obb"):
            values = (thing.points / side).ravel().tolist()
        if task == "pose":
            for x, y, visible in thing.keypoints:
                values += [x / width, y / height, int(visible)]
        row = " ".join(repr(float(value)) for value in values)
        rows.append(f"{NAMES.index(thing.name)} {row}{conf}\n")
    return "".join(rows)


def write_yolo(root, task, objects):
    for stem, of_image in objects.items():
        split = IMAGES[stem][0]
        text(root / f"labels/{split}/{stem}.txt", yolo_rows(task, stem, of_image))
    content = {"train": "images/train", "val": "images/val", "names": list(NAMES)}
    if task == "pose":
        content["kpt_shape"] = [KEYPOINTS, 3]
    text(root / "dataset.yaml", yaml.safe_dump(content))


def write_coco(root, task, objects):
    categories = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(NAMES)]
    if task == "pose":
        for category in categories:
            category["keypoints"] = [str(k) for k in range(KEYPOINTS)]
    for split in ("train", "val"):
        images, annotations = [], []
        for stem, of_image in objects.items():
            if IMAGES[stem][0] != split:
                continue
            id = 100 - len(images)
            _, width, height = IMAGES[stem]
            images.append({"id": id, "file_name": f"{stem}.png", "width": width, "height": height})
            for thing in of_image:
                given = {"id": len(annotations) + 1, "image_id": id, "bbox": thing.xywh}
                given["category_id"] = 3 * NAMES.index(thing.name) + 1
                given |= {"area": given["bbox"][2] * given["bbox"][3], "iscrowd": 0}
                if task in ("segment", "obb"):
                    given["segmentation"] = [thing.flat]
                if task == "pose":
                    given["keypoints"] = thing.keypoints.ravel().tolist()
                    given["num_keypoints"] = KEYPOINTS
                annotations.append(given)
        content = {"images": images, "annotations": annotations, "categories": categories}
        text(root / f"annotations/instances_{split}.json", json.dumps(content))


def write_voc(root, task, objects):
    for stem, of_image in objects.items():
        split, width, height = IMAGES[stem]
        body = f"<filename>{stem}.png</filename>"
        body += f"<size><width>{width}</width><height>{height}</height></size>"
        for thing in of_image:
            body += f"<object><name>{thing.name}</name>{_voc_shape(task, thing)}</object>"
        text(root / f"annotations/{split}/{stem}.xml", f"<annotation>{body}</annotation>")


def _voc_shape(task, thing):
    if task == "obb":
        return _tagged(
            "robndbox", dict(zip(("cx", "cy", "w", "h", "angle"), thing.turn, strict=True))
        )
    box = _tagged("bndbox", dict(zip(("xmin", "ymin", "xmax", "ymax"), thing.xyxy, strict=True)))
    if task == "detect":
        return box
    values = {}
    for number, (x, y) in enumerate(thing.points.tolist(), 1):
        values |= {f"x{number}": x, f"y{number}": y}
    return box + _tagged("polygon", values)


def _tagged(tag, values):
    inner = "".join(f"<{name}>{float(value)!r}</{name}>" for name, value in values.items())
    return f"<{tag}>{inner}</{tag}>"


def write_labelme(root, task, objects):
    for stem, of_image in objects.items():
        split, width, height = IMAGES[stem]
        shapes = []
        for thing in of_image:
            x0, y0, x1, y1 = thing.xyxy
            shape = {"label": thing.name, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]}
            if task in ("segment", "obb"):
                shape |= {"shape_type": "polygon", "points": thing.points.tolist()}
            shapes.append(shape)
        content = {"shapes": shapes, "imagePath": f"{stem}.png"}
        content |= {"imageWidth": width, "imageHeight": height}
        text(root / f"images/{split}/{stem}.json", json.dumps(content))


def write_dota(root, task, objects):
    for stem, of_image in objects.items():
        rows = "imagesource:none\ngsd:0.5\n"
        for thing in of_image:
            corners = thing.points if task == "obb" else _corners(thing.xyxy)
            rows += " ".join(repr(float(value)) for value in np.ravel(corners))
            rows += f" {thing.name} 0\n"
        text(root / f"labelTxt/{IMAGES[stem][0]}/{stem}.txt", rows)


def _corners(xyxy):
    x0, y0, x1, y1 = xyxy
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def write_csv(root, task, objects):
    if task == "detect":
        lines = ["image_path,xmin,ymin,xmax,ymax,label"]
    else:
        lines = ["image_path,geometry,label"]
    for stem, of_image in objects.items():
        path = f"images/{IMAGES[stem][0]}/{stem}.png"
        for thing in of_image:
            if task == "detect":
                lines.append(",".join([path, *map(repr, thing.xyxy), thing.name]))
                continue
            ring = [*thing.points.tolist(), thing.points[0].tolist()]
            wkt = ", ".join(f"{x!r} {y!r}" for x, y in ring)
            lines.append(f'{path},"POLYGON (({wkt}))",{thing.name}')
    text(root / "objects.csv", "\n".join(lines) + "\n")


def write_ndjson(root, task, objects):
    head = {"type": "dataset", "task": task, "class_names": dict(enumerate(NAMES))}
    if task == "pose":
        head["kpt_shape"] = [KEYPOINTS, 3]
    kind = {"detect": "boxes", "segment": "segments"}.get(task, task)
    lines = [json.dumps(head)]
    for stem, of_image in objects.items():
        split, width, height = IMAGES[stem]
        rows = []
        for line in yolo_rows(task, stem, of_image).splitlines():
            class_id, *values = line.split()
            rows.append([int(class_id), *map(float, values)])
        entry = {"type": "image", "file": f"{stem}.png", "split": split}
        entry |= {"width": width, "height": height, "annotations": {kind: rows}}
        lines.append(json.dumps(entry))
    text(root / "set.ndjson", "\n".join(lines))


# a format to be added: its writer here, and its tasks below
DOORS = {
    "yolo": write_yolo,
    "coco": write_coco,
    "voc": write_voc,
    "labelme": write_labelme,
    "dota": write_dota,
    "csv": write_csv,
    "ndjson": write_ndjson,
}
TASKS = {
    "detect": ("coco", "voc", "labelme", "dota", "csv", "ndjson"),
    "segment": ("coco", "voc", "labelme", "csv", "ndjson"),
    "obb": ("coco", "voc", "labelme", "dota", "csv", "ndjson"),
    "pose": ("coco", "ndjson"),
}
PAIRS = [(task, door) for task, doors in TASKS.items() for door in doors]


def made(root, door, task):
    """The objects of a task in a format, and the options that they need."""
    write_images(root)
    DOORS[door](root, task, all_things(task))
    # DOTA's labels are oriented boxes unless another task is asked for
    return {"task": task} if door == "dota" else {}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What the YOLO dataset of a task becomes."""
    outs = {}

    def of(task):
        if task not in outs:
            root = tmp_path_factory.mktemp(task)
            options = made(root / "data", "yolo", task)
            outs[task] = root / "out"
            report = tiler.split(root / "data", out=outs[task], tile=200, overlap=50, **options)
            assert (report.exit_code(), report.task) == (0, task)
        return outs[task]

    return of


@pytest.mark.parametrize(("task", "door"), PAIRS)
def test_every_door_gives_the_same_tiles(tmp_path, reference, task, door):
    options = made(tmp_path / "data", door, task)
    report = tiler.split(tmp_path / "data", out=tmp_path / "out", tile=200, overlap=50, **options)
    assert ([str(f) for f in report.findings], report.task) == ([], task)
    expected = reference(task)
    names = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert names == yaml.safe_load((expected / "dataset.yaml").read_text())
    for split in ("train", "val"):
        rows = rows_of(tmp_path / "out", split)
        others = rows_of(expected, split)
        assert list(rows) == list(others)
        for tile, theirs in others.items():
            assert [row[0] for row in rows[tile]] == [row[0] for row in theirs], tile
            for mine, other in zip(rows[tile], theirs, strict=True):
                np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6, err_msg=tile)
        for path in sorted((expected / "images" / split).iterdir()):
            same = tmp_path / "out/images" / split / path.name
            assert same.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("task", "door"), [*PAIRS, *((task, "yolo") for task in TASKS)])
def test_every_door_is_checked_and_scored(tmp_path, task, door):
    """Detections that are the labels have an AP of 1."""
    data = tmp_path / "data"
    options = made(data, door, task)
    checked = tiler.check(data, **options)
    assert (checked.exit_code(), [str(f) for f in checked.findings]) == (0, [])
    assert (checked.images, checked.rows) == (3, 42)
    for stem, objects in all_things(task).items():
        text(tmp_path / f"preds/{stem}.txt", yolo_rows(task, stem, objects, conf=" 0.9"))
    metrics = tiler.score(tmp_path / "preds", data, split="all", analysis="none", protocol="coco")
    assert (metrics.coco["AP"], metrics.card["labels"]) == (1, 42)


def test_the_table_of_tasks_names_every_door():
    assert {door for doors in TASKS.values() for door in doors} | {"yolo"} == set(DOORS)


def write_geotiffs(root):
    """The images in a row on the map, 0.5 m a pixel, in EPSG:32633."""
    places = {}
    for seed, (stem, (split, width, height)) in enumerate(IMAGES.items()):
        path = image(root / f"images/{split}/{stem}.png", width, height, seed)
        west, north = 500_000 + 1000 * seed, 5_000_000
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, kind, values in (
            (33550, TiffTags.DOUBLE, (0.5, 0.5, 0.0)),
            (33922, TiffTags.DOUBLE, (0.0, 0.0, 0.0, west, north, 0.0)),
            (34735, TiffTags.SHORT, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)),
        ):
            tags.tagtype[tag] = kind
            tags[tag] = values
        with Image.open(path) as opened:
            opened.save(path.with_suffix(".tif"), tiffinfo=tags)
        path.unlink()
        places[stem] = np.array([west, north])
    return places


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@pytest.mark.parametrize("task", ["detect", "segment", "obb"])
def test_features_of_a_gis_give_the_same_rows(tmp_path, reference, task, suffix):
    pytest.importorskip("pyogrio", reason="the extra `gis` is not installed")
    pytest.importorskip("pyproj", reason="the extra `gis` is not installed")
    places = write_geotiffs(tmp_path / "data")
    shapes, names = [], []
    for stem, objects in all_things(task).items():
        for thing in objects:
            shapes.append(shapely.Polygon(places[stem] + thing.points * [0.5, -0.5]))
            names.append(thing.name)
    file = gis.write(tmp_path / f"objects{suffix}", shapes, "EPSG:32633", kind=names)
    options = {"labels": str(file), "class_field": "kind"}
    if suffix == ".geojson":  # GDAL writes seven decimals of a degree there
        options["task"] = task
    report = tiler.split(tmp_path / "data", out=tmp_path / "out", tile=200, overlap=50, **options)
    assert (report.exit_code(), report.task) == (0, task)
    for split in ("train", "val"):
        rows = rows_of(tmp_path / "out", split)
        others = rows_of(reference(task), split)
        assert list(rows) == list(others)
        for tile, theirs in others.items():
            assert [row[0] for row in rows[tile]] == [row[0] for row in theirs], tile
            close = 1e-4 if suffix == ".geojson" else 1e-6
            for mine, other in zip(rows[tile], theirs, strict=True):
                assert len(mine) == len(other)
                assert same_ring(mine[1:], other[1:], close), tile
    checked = tiler.check(tmp_path / "data", **options)
    assert (checked.exit_code(), checked.rows) == (0, 42)


def same_ring(values, others, close):
    """Whether two rows are the same, from whichever corner an outline is written."""
    if len(values) == 4:
        return np.allclose(values, others, rtol=0, atol=close)
    ring = np.reshape(others, (-1, 2))
    turned = [np.roll(way, k, axis=0) for way in (ring, ring[::-1]) for k in range(len(ring))]
    mine = np.reshape(values, (-1, 2))
    return any(np.allclose(mine, other, rtol=0, atol=close) for other in turned)
