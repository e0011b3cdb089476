"""Which detector's format a file is in, by its content."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from tiler.errors import TilerError
from tiler.formats import labelme, voc, yolo
from tiler.predictions import detector_json, detector_rows, detector_text
from tiler.predictions.coordinates import NORMALISED
from tiler.predictions.detector_files import DetectorFormat
from tiler.predictions.files import decoded

BRACES = 20  # an entry may hold masks and keypoints, which have braces of their own
PICKLES = (b"\x80", b"PK\x03\x04", b"\x93NUMPY")  # pickles, PyTorch's archives, numpy's arrays

NO_IMAGE = (
    "the rows do not name their image: add a custom column "
    f"{', '.join(detector_rows.IMAGE_COLUMNS)}"
)
FROM_ONE = (
    "; torchvision's models count from 1, since their 0 is the background, but for RetinaNet's"
)

SINK_CSV = DetectorFormat("supervision", detector_rows.supervision, names_images=NO_IMAGE)
SINK_JSON = DetectorFormat("supervision", detector_rows.supervision, names_images=NO_IMAGE)
COCO = DetectorFormat("COCO results", detector_json.coco, first_id=None)
COCO_TILES = DetectorFormat("COCO results of tiles", detector_json.coco_tiles, first_id=None)
EMPTY = DetectorFormat("JSON without detections", detector_rows.supervision)
TABLE = DetectorFormat("table of xmin, ymin, xmax, ymax", detector_rows.table)
SUMMARY = DetectorFormat("Ultralytics' summary", detector_rows.summary)
TORCHVISION = DetectorFormat(
    "torchvision's boxes",
    detector_json.torchvision,
    first_id=None,
    base_hint=FROM_ONE,
    max_bytes=yolo.MAX_BYTES,
)
MMDETECTION = DetectorFormat(
    "MMDetection's bboxes", detector_json.mmdetection, max_bytes=yolo.MAX_BYTES
)
ROBOFLOW = DetectorFormat("Roboflow's predictions", detector_json.roboflow)
MEGADETECTOR = DetectorFormat(
    "MegaDetector", detector_json.megadetector, whole_run=True, usual=NORMALISED
)
MEGADETECTOR_LIST = DetectorFormat(
    "MegaDetector, list", detector_json.megadetector_list, whole_run=True
)
DARKNET = DetectorFormat(
    "darknet's result.json", detector_json.darknet, whole_run=True, usual=NORMALISED
)
DARKNET_TEXT = DetectorFormat("darknet's output", detector_text.darknet, whole_run=True)
LABELME = DetectorFormat("labelme", detector_json.labelled, max_bytes=labelme.MAX_BYTES)
VOC = DetectorFormat("Pascal VOC", detector_text.pascal_voc, max_bytes=voc.MAX_BYTES)
KITTI = DetectorFormat("KITTI", detector_text.kitti, max_bytes=yolo.MAX_BYTES)


class Keys(NamedTuple):
    """The keys that a format is known by. `known` is None for COCO results."""

    keys: frozenset[str]
    known: DetectorFormat | None


COLUMNS = (  # of a CSV
    Keys(frozenset(detector_rows.SUPERVISION.box), SINK_CSV),
    Keys(frozenset(detector_rows.TABLE.box), TABLE),
    Keys(frozenset({"box", "confidence"}), SUMMARY),
)
LISTED = (  # of the first object of a list
    Keys(frozenset(detector_rows.SUPERVISION.box), SINK_JSON),
    Keys(frozenset(detector_rows.TABLE.box), TABLE),
    Keys(frozenset({"box", "confidence"}), SUMMARY),
    Keys(frozenset({"filename", "objects"}), DARKNET),
    Keys(frozenset({"file", "detections"}), MEGADETECTOR_LIST),
    Keys(frozenset({"image_id"}), None),
    Keys(frozenset({"file_name"}), None),
    Keys(frozenset({"bbox", "category_id", "score"}), COCO_TILES),
)
OBJECTS = (  # of an object
    Keys(frozenset({"boxes", "labels", "scores"}), TORCHVISION),
    Keys(frozenset({"bboxes", "labels", "scores"}), MMDETECTION),
    Keys(frozenset({"images", "detection_categories"}), MEGADETECTOR),
    Keys(frozenset({"predictions"}), ROBOFLOW),
    Keys(frozenset({"shapes"}), LABELME),
    Keys(frozenset({"annotations"}), None),
)
WANTED = (
    "entries with image_id, category_id, bbox and score (COCO results); box, class, name and "
    "confidence (Ultralytics); boxes or bboxes, labels and scores (torchvision, MMDetection); "
    "x_min to y_max (supervision); or another format of the documentation"
)
PICKLED = (
    "holds Python or numpy objects, which may run code when they are opened, so it is never read: "
    "write JSON instead (MMDetection 3: test.py --cfg-options test_evaluator.format_only=True "
    "test_evaluator.outfile_prefix=results; MMDetection 2: test.py --format-only --eval-options "
    "jsonfile_prefix=results; Detectron2 writes coco_instances_results.json beside it; torch: "
    "json.dump of the boxes, labels and scores as lists, one file for each tile)"
)


def recognised(data: bytes, path: str) -> DetectorFormat | None:
    """The format of a file; None for COCO results, and for a JSON list without entries.

    Args:
        data: its bytes, without BOM, not blank.

    Raises:
        TilerError: it is in no known format; says what was found.
    """
    if data.startswith(PICKLES):
        raise TilerError(f"{path}: {PICKLED}")
    first = data.lstrip()[:1]
    if first == b"<":
        return VOC
    if first in (b"[", b"{"):
        return _of_json(data, path, first == b"[")
    if detector_text.is_darknet(data):
        return DARKNET_TEXT
    columns = detector_rows.header(data, path)
    for keys, known in COLUMNS:
        if keys <= columns:
            return known
    shown = ", ".join(sorted(columns))[:200]
    raise TilerError(
        f"{path}: not predictions: expected columns x_min, y_min, x_max, y_max (supervision); "
        f"xmin, ymin, xmax, ymax; or box, class and confidence (Ultralytics), got {shown}"
    )


def _of_json(data: bytes, path: str, listed: bool) -> DetectorFormat | None:
    keys = first_keys(data, path) if listed else _top_keys(data, path)
    if listed and not keys:
        return None
    for wanted, known in LISTED if listed else OBJECTS:
        if wanted <= keys:
            return known
    inner = None if listed else _inner_format(data, path)
    if inner is not None:
        return inner
    shown = ", ".join(sorted(keys))[:200]
    raise TilerError(f"{path}: expected {WANTED}, got {shown or 'no keys'}")


def _inner_format(data: bytes, path: str) -> DetectorFormat | None:
    """The format of an object that holds an object of columns for each tile."""
    tiles = decoded(data, dict[str, msgspec.Raw], path)
    for content in tiles.values():
        if bytes(content).lstrip()[:1] != b"{":
            return None
        keys = {*decoded(bytes(content), dict[str, msgspec.Raw], path)}
        for wanted, known in OBJECTS[:2]:
            if wanted <= keys:
                return known
        return None
    return None


def _top_keys(data: bytes, path: str) -> set[str]:
    return {*decoded(data, dict[str, msgspec.Raw], path)}


def first_keys(data: bytes, path: str) -> set[str]:
    """The keys of the first entry of a JSON list; none if it has no entries."""
    keys = _keys_of_first_object(data)
    if keys is not None:
        return keys
    entries = decoded(data, list[msgspec.Raw], path)
    if not entries:
        return set()
    return {*decoded(bytes(entries[0]), dict[str, msgspec.Raw], path)}


def _keys_of_first_object(data: bytes) -> set[str] | None:
    """The keys of the first object of a list, without reading on; None if that does not tell.

    The text from an opening brace on is JSON only as a whole: its end is the first closing brace
    up to which it can be decoded.
    """
    start = re.match(rb"\s*\[\s*(?=\{)", data)
    if start is None:
        return None
    end = start.end()
    for _ in range(BRACES):
        end = data.find(b"}", end) + 1
        if not end:
            break
        text = data[start.end() : end]
        try:
            return {*msgspec.json.decode(text, type=dict[str, msgspec.Raw])}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return None
