"""JSON of detectors that is no list of rows or results: one document for a tile, or for all tiles.

The fields are those of torchvision's detection models (`boxes`, `labels`, `scores`, `masks`), of
MMDetection 3's `DetInferencer` (`preds/*.json`), of Roboflow's inference API, of MegaDetector
("MegaDetector output format" of agentmorris/MegaDetector: one object, parts of the image's sides;
"Output Format" of microsoft/MegaDetector: a list, pixels), of darknet's `-out result.json`
(README of AlexeyAB/darknet), and of labelme.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiler.errors import TilerError
from tiler.findings import Finding, short
from tiler.formats import labelme
from tiler.formats.annotated import AnnotatedImage
from tiler.predictions.detector_files import FileEntries
from tiler.predictions.detector_values import box, centred, columns_of, listed, mask, score, triples
from tiler.predictions.entries import Entry
from tiler.predictions.files import decoded
from tiler.predictions.json_results import Wrapped

CODES = {"L02": "D02", "L04": "D04", "L06": "D06", "L15": "D15"}  # of labels; others are D03
CENTRED = ("center_x", "center_y", "width", "height")


def coco(data: bytes, path: str) -> FileEntries:
    """COCO results, one file among several."""
    if data.lstrip()[:1] == b"{":
        return FileEntries(decoded(data, Wrapped, path).annotations, named_by="image_id")
    return FileEntries(decoded(data, list[Entry], path), named_by="image_id")


def coco_tiles(data: bytes, path: str) -> FileEntries:
    """COCO results of one tile, which they do not name."""
    return FileEntries(decoded(data, list[Entry], path))


def torchvision(data: bytes, path: str) -> FileEntries:
    """`boxes`, `labels` and `scores` of one tile, or of many by their names."""
    return _arrays(data, path, "boxes")


def mmdetection(data: bytes, path: str) -> FileEntries:
    """`bboxes`, `labels` and `scores` of one tile; boxes of five numbers are turned."""
    return _arrays(data, path, "bboxes")


def roboflow(data: bytes, path: str) -> FileEntries:
    """`predictions` with centre, size, class and points."""
    content = decoded(data, dict[str, Any], path)
    found = FileEntries()
    for item in _objects(content["predictions"], "predictions", path):
        entry = Entry(
            file_name=item.get("image_path"),
            category_id=item.get("class_id"),
            category_name=item.get("class"),
            bbox=centred([item.get(name) for name in ("x", "y", "width", "height")]),
            score=score(item.get("confidence")),
        )
        if item.get("points"):
            entry.segmentation = [_points(item["points"], ("x", "y"))]
        if item.get("keypoints"):
            entry.keypoints = _points(item["keypoints"], ("x", "y", "confidence"))
        found.entries.append(entry)
    names = [entry.file_name for entry in found.entries]
    if names and all(isinstance(name, str) and name for name in names):
        found.named_by = "image_path"
    return found


def megadetector(data: bytes, path: str) -> FileEntries:
    """`images` with `detections`, whose boxes are parts of the image's sides."""
    content = decoded(data, dict[str, Any], path)
    names = content.get("detection_categories")
    categories = names if isinstance(names, dict) else {}
    found = FileEntries(named_by="file")
    for image in _objects(content.get("images"), "images", path):
        file = _name(image, "file", path)
        found.images.append(file)
        if image.get("failure"):
            message = f"{file}: the detector failed: {short(image['failure'])}"
            found.findings.append(Finding(path, "D01", message))
        for item in _objects(image.get("detections"), "detections", path):
            category = item.get("category")
            found.entries.append(
                Entry(
                    file_name=file,
                    category_name=categories.get(category) if isinstance(category, str) else None,
                    bbox=item.get("bbox"),
                    score=score(item.get("conf")),
                )
            )
    return found


def megadetector_list(data: bytes, path: str) -> FileEntries:
    """The list of images that MegaDetector's newer package writes: names of classes, and corners in
    pixels.
    """
    found = FileEntries(named_by="file")
    for image in decoded(data, list[dict[str, Any]], path):
        file = _name(image, "file", path)
        found.images.append(file)
        for item in _objects(image.get("detections"), "detections", path):
            sides = item.get("bbox")
            if "confidence" not in item:
                raise TilerError(
                    f"{path}: {file}: detections without confidence: expected category, "
                    f"confidence and bbox in pixels, got {', '.join(sorted(item))[:200]}"
                )
            found.entries.append(
                Entry(
                    file_name=file,
                    category_name=item.get("category"),
                    bbox=box(sides) if isinstance(sides, list) else sides,
                    score=score(item["confidence"]),
                )
            )
    return found


def darknet(data: bytes, path: str) -> FileEntries:
    """Frames with `objects`, whose boxes are parts of the image's sides."""
    found = FileEntries(named_by="filename")
    for frame in decoded(data, list[dict[str, Any]], path):
        file = _name(frame, "filename", path)
        found.images.append(file)
        for item in _objects(frame.get("objects"), "objects", path):
            sides = item.get("relative_coordinates")
            given = sides if isinstance(sides, dict) else {}
            found.entries.append(
                Entry(
                    file_name=file,
                    category_id=item.get("class_id"),
                    category_name=item.get("name"),
                    bbox=centred([given.get(name) for name in CENTRED]),
                    score=score(item.get("confidence")),
                )
            )
    return found


def labelled(data: bytes, path: str) -> FileEntries:
    """labelme's shapes with a `score`, or one among their `flags`."""
    turned = b'"rotation"' in data or b'"oriented_rectangle"' in data
    return of_annotations(labelme.read(data, path), turned)


def of_annotations(image: AnnotatedImage, turned: bool) -> FileEntries:
    """The objects of a label format that have a confidence.

    Args:
        turned: outlines of four points are OBBs.
    """
    found = FileEntries()
    for each in image.annotations:
        outline = each.segmentation
        quad = turned and isinstance(outline, list) and len(outline) == 1 and len(outline[0]) == 8
        found.entries.append(
            Entry(
                category_name=each.category_id,
                bbox=each.bbox and tuple(each.bbox),
                score=score(each.score),
                segmentation=outline,
                poly=outline[0] if quad else None,
            )
        )
    for finding in image.findings:
        code = CODES.get(finding.code, "D03")
        found.findings.append(Finding(finding.path, code, finding.message, finding.line))
    return found


def _arrays(data: bytes, path: str, boxes: str) -> FileEntries:
    """Columns of one tile; else those of many tiles, by the names of these."""
    content = decoded(data, dict[str, Any], path)
    if boxes in content:
        return FileEntries([*_of_columns(content, boxes, path)])
    found = FileEntries(named_by="key")
    for name, columns in content.items():
        if not isinstance(columns, dict):
            raise TilerError(f"{path}: {short(name)} is {short(columns)}, expected {boxes}")
        found.images.append(name)
        for entry in _of_columns(columns, boxes, path):
            entry.file_name = name
            found.entries.append(entry)
    return found


def _of_columns(content: dict[str, Any], boxes: str, path: str) -> Iterator[Entry]:
    names = [boxes, "labels", "scores"]
    names += [name for name in ("masks", "keypoints") if content.get(name)]
    columns = columns_of(content, names, path)
    for sides, label, confidence, *others in zip(*columns, strict=True):
        parts = dict(zip(names[3:], others, strict=True))
        entry = Entry(
            category_id=None if isinstance(label, str) else label,
            category_name=label if isinstance(label, str) else None,
            score=score(confidence),
            segmentation=mask(parts.get("masks")),
            keypoints=_flat(parts.get("keypoints")),
        )
        if isinstance(sides, list) and len(sides) == 5:  # MMRotate: centre, size, radians
            entry.rbox = sides
        else:
            entry.bbox = box(sides) if isinstance(sides, list) else sides
        yield entry


def _flat(points: Any) -> Any:
    if isinstance(points, list) and all(isinstance(point, list) for point in points):
        return triples(points)
    return points


def _points(points: Any, axes: tuple[str, ...]) -> Any:
    """The numbers of points that are objects."""
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        return short(points)
    return triples([[point.get(axis) for axis in axes] for point in points])


def _name(image: dict[str, Any], key: str, path: str) -> str:
    """The name of an image."""
    name = image.get(key)
    if not isinstance(name, str) or not name:
        raise TilerError(f"{path}: {key} is {short(name)}, expected an image")
    return name


def _objects(value: Any, what: str, path: str) -> list[dict[str, Any]]:
    items = listed(value, what, path)
    for item in items:
        if not isinstance(item, dict):
            raise TilerError(f"{path}: {what} holds {short(item)}, expected objects")
    return items
