"""Samples for the tests: from COCO's dictionaries, drawn at random, and what pycocotools makes of
them.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.conftest import SHARED
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.formats import rle
from tiler.geometry.instances import Instances

ORACLES = SHARED / "oracles" / "score"
needs_oracles = pytest.mark.skipif(
    not ORACLES.is_dir(), reason="the oracles of the scorer are not beside the repository"
)
CASES = sorted(path.name for path in ORACLES.iterdir() if path.is_dir()) if ORACLES.is_dir() else []


def oracle(name):
    """One case: ground truth, results, the numbers expected, the arrays expected."""
    folder = ORACLES / name
    gt, dt, expected = (
        json.loads((folder / f"{kind}.json").read_text()) for kind in ("gt", "dt", "expected")
    )
    with np.load(folder / "arrays.npz") as arrays:
        return gt, dt, expected, dict(arrays)


def xyxy(xywh):
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def whole(values):
    return np.array(list(values), np.int64)


def sample_of(gt, dt, task="detect"):
    """COCO's dictionaries as a sample; images and classes by rising id."""
    images = {id: i for i, id in enumerate(sorted(image["id"] for image in gt["images"]))}
    classes = {
        id: i for i, id in enumerate(sorted(category["id"] for category in gt["categories"]))
    }
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in gt["images"]}
    labels = sorted(gt["annotations"], key=lambda a: images[a["image_id"]])

    def columns(rows):
        return whole(classes[r["category_id"]] for r in rows), whole(
            images[r["image_id"]] for r in rows
        )

    def floats(rows, name, *shape):
        return np.array([r[name] for r in rows], float).reshape(len(rows), *shape)

    crowd = np.array([bool(a.get("iscrowd", 0)) for a in labels], bool)
    conf = floats(dt, "score")
    class_id, image = columns(labels)
    found_class, found_image = columns(dt)
    given = floats(labels, "bbox", 4)
    area, box_area, boxes = floats(labels, "area"), given[:, 2] * given[:, 3], xyxy(given)
    if task == "segment":
        pixels, found_pixels = (
            rle.masks(
                [r["segmentation"] for r in rows],
                whole(v for r in rows for v in sizes[r["image_id"]]).reshape(-1, 2),
            )
            for rows in (labels, dt)
        )
        assert not pixels[1] and not found_pixels[1]
        truth = GroundTruth(
            Instances(class_id, boxes, area=area, task=task), image, crowd, masks=pixels[0]
        )
        drawn = found_pixels[0]
        found = Instances(found_class, drawn.bounds(), conf=conf, area=drawn.area(), task=task)
        return EvaluationInputs(
            truth, Predicted.of(found, found_image, masks=drawn), len(images), len(classes), task
        )
    if task == "pose":
        points, found_points = floats(labels, "keypoints", 17, 3), floats(dt, "keypoints", 17, 3)
        low, high = (
            pick(found_points[..., :2], axis=1, initial=start)
            for pick, start in ((np.min, np.inf), (np.max, -np.inf))
        )
        ignored = crowd | np.array([a["num_keypoints"] == 0 for a in labels], bool)
        truth = GroundTruth(
            Instances(class_id, boxes, keypoints=points, area=area, task=task),
            image,
            crowd,
            ignored,
            box_area,
        )
        extent = (high - low).prod(axis=1)
        found = Instances(
            found_class,
            np.hstack([low, high]),
            keypoints=found_points,
            conf=conf,
            area=extent,
            task=task,
        )
        return EvaluationInputs(
            truth, Predicted.of(found, found_image), len(images), len(classes), task
        )
    truth = GroundTruth(Instances(class_id, boxes, area=area), image, crowd, box_area=box_area)
    results = floats(dt, "bbox", 4)
    size = results[:, 2] * results[:, 3]
    found = Predicted.of(
        Instances(found_class, xyxy(results), conf=conf, area=size), found_image, size
    )
    return EvaluationInputs(truth, found, len(images), len(classes))


def by_pycocotools(gt, dt, bins, max_dets, task="detect", thresholds=None):
    """precision, recall and scores as cocoeval.py accumulates them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = copy.deepcopy({"info": {}, **gt})
        truth.createIndex()
        if dt:
            found = truth.loadRes(copy.deepcopy(dt))
        else:
            found.dataset = {
                "images": gt["images"],
                "categories": gt["categories"],
                "annotations": [],
            }
            found.createIndex()
        run = COCOeval(
            truth, found, {"detect": "bbox", "segment": "segm", "pose": "keypoints"}[task]
        )
        run.params.areaRng = [[b.low, b.high] for b in bins]
        run.params.areaRngLbl = [b.name for b in bins]
        run.params.maxDets = list(max_dets)
        if thresholds is not None:
            run.params.iouThrs = np.asarray(thresholds)
        run.evaluate()
        run.accumulate()
    return {name: run.eval[name] for name in ("precision", "recall", "scores")}


class Draw:
    """A ground truth and results as COCO has them, drawn at random."""

    def __init__(self, seed, images=5, most=7):
        self.rng = np.random.default_rng(seed)
        self.categories = [90, 3, 7][: self.rng.integers(1, 4)]
        ids = self.rng.permutation(40)[: self.rng.integers(1, images + 1)] + 1
        self.images = [{"id": int(id), "width": 48, "height": 40} for id in ids]
        self.most = most
        self.confidences = np.round(self.rng.random(self.rng.choice([1, 3, 6, 1000])), 3)
        self.annotations, self.results = [], []

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, values):
        return values[self.rng.integers(len(values))]

    def conf(self):
        return float(self.pick(self.confidences))

    def category(self):
        # the last is often without labels or without detections
        return (
            self.pick(self.categories[:-1] or self.categories)
            if self.chance(0.7)
            else self.pick(self.categories)
        )

    def done(self):
        order = self.rng.permutation(len(self.annotations))
        labels = [{**self.annotations[k], "id": n + 1} for n, k in enumerate(order)]
        results = [self.results[k] for k in self.rng.permutation(len(self.results))]
        categories = [{"id": c, "name": str(c)} for c in self.categories]
        return {"images": self.images, "annotations": labels, "categories": categories}, results


def drawn_boxes(seed, most_found=14):
    """Boxes on a grid of whole or quarter pixels, so that IoUs tie and meet thresholds; some have
    no size, or less.
    """
    draw = Draw(seed)
    rng, grain = draw.rng, draw.pick([1.0, 0.25])
    sides = draw.pick(
        [[4, 8, 12, 16, 20], [31, 32, 33, 30], [95, 96, 97, 33, 8], list(range(1, 40))]
    )

    def a_box():
        w, h = float(draw.pick(sides)), float(draw.pick(sides))
        if draw.chance(0.04):
            w = float(draw.pick([0.0, -3.0]))
        if draw.chance(0.04):
            h = float(draw.pick([0.0, -8.0]))
        return [*(rng.integers(-8, 40, 2) * grain).tolist(), w, h]

    def moved(given):
        steps = rng.integers(-3, 4, 4) * grain if draw.chance(0.8) else np.zeros(4)
        return (np.array(given) + steps).tolist()

    for image in draw.images:
        here = []
        if draw.chance(0.8):
            for _ in range(rng.integers(0, draw.most)):
                given = moved(draw.pick(here)["bbox"]) if here and draw.chance(0.3) else a_box()
                area = given[2] * given[3] * draw.pick([1, 1, 1, 0.5, 2])
                row = {
                    "image_id": image["id"],
                    "category_id": draw.category(),
                    "bbox": given,
                    "area": area,
                }
                here.append({**row, "iscrowd": int(draw.chance(0.12))})
        draw.annotations += here
        if draw.chance(0.8):
            for _ in range(rng.integers(0, most_found)):
                of = draw.pick(here) if here and draw.chance(0.75) else None
                given = a_box() if of is None else moved(of["bbox"])
                category = of["category_id"] if of and draw.chance(0.85) else draw.category()
                draw.results.append(
                    {
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": given,
                        "score": draw.conf(),
                    }
                )
    return draw.done()


def drawn_segments(seed):
    """Outlines of one or more parts, crowds as masks; detections as compressed masks."""
    draw = Draw(seed, images=3, most=6)
    rng = draw.rng
    height, width = 40, 48

    def polygon():
        centre, reach = rng.uniform(2, 44, 2), rng.uniform(2, 16)
        turns = np.sort(rng.uniform(0, 6.28, rng.integers(3, 8)))
        points = centre + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        return (np.round(points * 4) / 4).ravel().tolist()

    def painted(parts):
        return coco_mask.merge(coco_mask.frPyObjects(parts, height, width))

    for image in draw.images:
        here = []
        for _ in range(rng.integers(0, draw.most)):
            parts = [polygon() for _ in range(draw.pick([1, 1, 2, 3]))]
            row = {
                "image_id": image["id"],
                "category_id": draw.category(),
                "segmentation": parts,
                "iscrowd": 0,
            }
            x, y, w, h = coco_mask.toBbox(painted(parts)).tolist()
            area = float(coco_mask.area(painted(parts))) * draw.pick([1, 1, 0.5])
            if draw.chance(0.15):
                row["iscrowd"] = 1
                row["segmentation"] = {
                    "size": [height, width],
                    "counts": rle.counts(painted(parts)["counts"]),
                }
            here.append({**row, "bbox": [x, y, w, h], "area": area, "parts": parts})
        for _ in range(rng.integers(0, 12)):
            of = draw.pick(here) if here and draw.chance(0.8) else None
            parts = [polygon()] if of is None else of["parts"]
            if draw.chance(0.7):
                parts = [(np.array(part) + rng.integers(-2, 3) / 2).tolist() for part in parts]
            mask = painted(parts)
            mask["counts"] = mask["counts"].decode()
            category = of["category_id"] if of else draw.category()
            row = {
                "image_id": image["id"],
                "category_id": category,
                "segmentation": mask,
                "score": draw.conf(),
            }
            draw.results.append(row)
        draw.annotations += [{k: v for k, v in row.items() if k != "parts"} for row in here]
    return draw.done()


def drawn_keypoints(seed):
    """17 points each, not all labelled; of some objects none."""
    draw = Draw(seed, images=4, most=6)
    rng = draw.rng

    def points(around=None):
        if around is not None:
            return around + rng.normal(0, draw.pick([0, 0.5, 3, 9]), (17, 2)) * (
                rng.random((17, 1)) < 0.7
            )
        low, side = rng.integers(0, 30, 2), rng.integers(10, 60, 2)
        return low + rng.integers(0, 40, (17, 2)) * side / 40

    for image in draw.images:
        here = []
        for _ in range(rng.integers(0, draw.most)):
            at = here[0] if here and draw.chance(0.15) else points()
            seen = rng.integers(0, 3, 17) * (rng.random(17) < 0.8)
            if draw.chance(0.2):
                seen[:] = 0
            x0, y0 = np.floor(at.min(axis=0)).tolist()
            w, h = np.ceil(at.max(axis=0) - [x0, y0]).tolist()
            row = {
                "image_id": image["id"],
                "category_id": draw.category(),
                "bbox": [x0, y0, w, h],
                "area": w * h * 0.6,
            }
            kept = np.where(seen[:, None] > 0, at, 0)
            row["keypoints"] = np.column_stack([kept, seen]).ravel().tolist()
            draw.annotations.append(
                {**row, "num_keypoints": int((seen > 0).sum()), "iscrowd": int(draw.chance(0.1))}
            )
            here.append(at)
        for _ in range(rng.integers(0, 26)):
            at = points(draw.pick(here) if here and draw.chance(0.8) else None)
            row = {"image_id": image["id"], "category_id": draw.category(), "score": draw.conf()}
            draw.results.append(
                {**row, "keypoints": np.column_stack([at, np.ones(17)]).ravel().tolist()}
            )
    return draw.done()


@st.composite
def samples(draw, images=3, classes=3, most=8, crowds=True, distinct=False):
    """Boxes on a coarse grid, so that many overlap and tie."""

    def rows(n):
        cell = st.integers(0, 8).map(lambda k: k * 2.0)
        side = st.sampled_from([0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0])
        many = [(draw(cell), draw(cell), draw(side), draw(side)) for _ in range(n)]
        many = np.array([(x, y, x + w, y + h) for x, y, w, h in many]).reshape(-1, 4)
        return many[numbers(n, n)] if n else many  # some of them are equal

    def numbers(n, end):
        return whole(draw(st.lists(st.integers(0, end - 1), min_size=n, max_size=n)))

    g, d = draw(st.integers(0, most)), draw(st.integers(0, 2 * most))
    truth = Instances(numbers(g, classes), rows(g))
    boxes = rows(d)
    if g and d:  # detections of labels, moved or not
        like = numbers(d, 2 * g)
        boxes = np.where((like < g)[:, None], truth.boxes[np.minimum(like, g - 1)], boxes)
    conf = np.array(draw(st.permutations(range(d)))) / max(d, 1) if distinct else numbers(d, 4) / 4
    crowd = numbers(g, 5) == 0 if crowds else np.zeros(g, bool)
    found = Instances(numbers(d, classes), boxes, conf=np.asarray(conf, float))
    image = np.sort(numbers(g, images))
    return EvaluationInputs(
        GroundTruth(truth, image, crowd), Predicted.of(found, numbers(d, images)), images, classes
    )


def shuffled(sample, order):
    """The same sample, its detections given in another order."""
    found = sample.detections
    masks = None if found.masks is None else found.masks.take(order)
    again = Predicted.of(
        found.instances.take(order), found.image[order], found.box_area[order], masks
    )
    return EvaluationInputs(sample.labels, again, sample.images, sample.classes, sample.task)


def kept(sample, which):
    """The sample with only some of its detections, by their place in it."""
    return shuffled(sample, np.arange(len(sample.detections))[which])


def perfect(sample, seed=0):
    """The same labels, each found once; none is a crowd."""
    truth = sample.labels.instances
    conf = (np.random.default_rng(seed).permutation(len(truth)) + 1.0) / (len(truth) + 1)
    labels = GroundTruth(truth, sample.labels.image)
    found = Instances(truth.class_id, truth.boxes, conf=conf)
    return EvaluationInputs(
        labels, Predicted.of(found, sample.labels.image), sample.images, sample.classes
    )
