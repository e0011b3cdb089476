"""Detections of one full image as the text of other formats.

Pixels are rounded to six decimals, normalised coordinates and scores to nine significant digits.
Numbers that are not finite and outlines of less than three points are errors.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.formats import csv_cells
from tiler.geometry import boxes as box
from tiler.geometry import polygons
from tiler.geometry.instances import labelled
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.formats.affine import Affine
    from tiler.formats.reprojection import Placement
    from tiler.geometry.instances import Instances
    from tiler.types import Floats, Ints, Task

NINE = "%.9g"
TWELVE = "%.12g"
PIXEL_DECIMALS = 6
# Going to pixels and back costs up to 5e-16 of the frame, which may change the ninth digit of a box
# of a hundredth of a pixel in a large image. Rounded to this first, text that is read and written
# again stays the same.
PART_DECIMALS = 14
POWERS = np.array([float(f"1e{k}") for k in range(23)])  # of ten: those that are exact doubles
STEP = 65_536  # rows whose numbers are Python objects at the same time
WGS84 = (
    "EPSG:4326",
    "OGC:CRS84",
    "URN:OGC:DEF:CRS:EPSG::4326",
    "URN:OGC:DEF:CRS:OGC:1.3:CRS84",
)  # in capitals

CSV_COLUMNS = "source,class_id,class,conf,x1,y1,x2,y2"
CSV_HEAD: dict[Task, str] = {
    "detect": f"{CSV_COLUMNS}\n",
    "segment": f"{CSV_COLUMNS},polygon\n",
    "obb": f"{CSV_COLUMNS},polygon\n",
    "pose": f"{CSV_COLUMNS},keypoints\n",
}


def yolo_text(instances: Instances, width: int, height: int) -> str:
    """YOLO rows of a full image of `width` x `height` px, the score last.

    detect `class xc yc w h conf`, obb `class x1 y1 .. x4 y4 conf`, segment `class x1 y1 .. conf`
    (several rings joined into one), pose `class xc yc w h (x y v)·K conf`. Text that is read
    and written again stays the same.

    >>> from tiler.geometry.instances import Instances
    >>> boxes = np.array([[10, 20, 30, 60.0]])
    >>> detections = Instances(np.array([2]), boxes, conf=np.array([0.875]))
    >>> yolo_text(detections, 100, 300)
    '2 0.2 0.133333333 0.2 0.133333333 0.875\\n'
    """
    conf = _scores(instances)
    size = np.array([width, height], np.float64)
    columns = [_words("%d", instances.class_id[:, None])]
    outlines = _outlines(instances)
    if outlines is None:
        boxes = box.to_cxcywh(instances.boxes) / np.tile(size, 2)
        columns.append(_numbers(boxes, NINE, PART_DECIMALS))
    else:
        columns.append(_paths(_joined(outlines), NINE, PART_DECIMALS, size))
    if instances.task == "pose":
        keypoints = _flat(_keypoints(instances) / [width, height, 1])
        columns.append(_numbers(keypoints, NINE, PART_DECIMALS))
    columns.append(_words(NINE, conf[:, None]))
    return "".join(" ".join(words) + "\n" for words in zip(*columns, strict=True))


def coco_entries(
    instances: Instances,
    image_id: int | str,
    file_name: str,
    base: int = 0,
    categories: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """The image's detections as COCO results: bbox is x, y, width, height in pixels.

    Segment adds `segmentation` (a polygon for each part; a part with holes is one polygon that
    runs into them and back), obb `poly` and `segmentation` with its corners, pose `keypoints`.

    Args:
        base: category_id of class 0.
        categories: category_id of each class, instead of `base`.

    >>> from tiler.geometry.instances import Instances
    >>> boxes = np.array([[10, 20, 30, 60.5]])
    >>> detections = Instances(np.array([2]), boxes, conf=np.array([0.875]))
    >>> coco_entries(detections, 7, "a.jpg", base=1)[0]["bbox"]
    [10.0, 20.0, 20.0, 40.5]
    """
    scores = _significant(_scores(instances), 9).tolist()
    category_ids = _category_ids(instances.class_id, base, categories)
    corner = instances.boxes[:, :2]
    sides = instances.boxes[:, 2:] - corner
    bboxes = pixels(np.concatenate([corner, sides], axis=1)).tolist()
    entries: list[dict[str, Any]] = []
    for category, bbox, score in zip(category_ids, bboxes, scores, strict=True):
        entries.append(
            {
                "image_id": image_id,
                "file_name": file_name,
                "category_id": category,
                "bbox": bbox,
                "score": score,
            }
        )
    _add_shapes(entries, instances)
    return entries


def coco_annotations(
    entries: Sequence[dict[str, Any]], instances: Instances
) -> list[dict[str, Any]]:
    """What `coco_entries` gives, as annotations of a COCO dataset without their `id`: with `area`,
    `iscrowd` and, where there is an outline, `segmentation` (the converter of Label Studio fails on
    an empty one); `score` stays.

    >>> from tiler.geometry.instances import Instances
    >>> boxes = np.array([[10, 20, 30, 60.5]])
    >>> detections = Instances(np.array([2]), boxes, conf=np.array([0.875]))
    >>> entries = coco_entries(detections, 7, "a.jpg")
    >>> coco_annotations(entries, detections)[0]["area"]
    810.0
    """
    annotations = []
    for entry, area in zip(entries, pixels(_areas(instances)).tolist(), strict=True):
        annotation = {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": entry["bbox"],
            "area": area,
            "iscrowd": 0,
        }
        if "segmentation" in entry:
            annotation["segmentation"] = entry["segmentation"]
        if "keypoints" in entry:
            points = entry["keypoints"]
            annotation["keypoints"] = points
            annotation["num_keypoints"] = sum(visible > 0 for visible in points[2::3])
        annotation["score"] = entry["score"]
        annotations.append(annotation)
    return annotations


def _areas(instances: Instances) -> Floats:
    """`(N,)` px² of the outlines, else of the boxes."""
    outlines = _outlines(instances)
    if outlines is None:
        return box.area(instances.boxes)
    parts, owner = areas_of(outlines, instances.boxes)
    areas = shapely.area(parts.geometry())
    return np.bincount(owner, areas, minlength=len(instances)).astype(np.float64)


def _add_shapes(entries: Sequence[dict[str, Any]], instances: Instances) -> None:
    """Add to COCO results what a task has besides the box."""
    if instances.task == "segment":
        for entry, parts in zip(entries, _segmentations(instances), strict=True):
            entry["segmentation"] = parts
    elif instances.task == "obb":
        quads = pixels(_quads(instances).reshape(-1, 8)).tolist()
        for entry, corners in zip(entries, quads, strict=True):
            entry["poly"] = corners
            entry["segmentation"] = [corners]
    elif instances.task == "pose":
        for entry, points in zip(entries, _written_keypoints(instances).tolist(), strict=True):
            entry["keypoints"] = points


def coco_json(entries: Sequence[dict[str, Any]]) -> bytes:
    """The entries as JSON, one a line, without the brackets of the list that they go into.

    >>> coco_json([{"score": 0.5}, {"score": 0.25}])
    b'{"score":0.5},\\n{"score":0.25}'
    """
    return b",\n".join(map(msgspec.json.Encoder().encode, entries))


def dota_text(instances: Instances, image_id: str, names: Sequence[str]) -> dict[str, str]:
    """DOTA Task1 lines `image_id score x1 y1 .. x4 y4` in pixels, by the name of their class.

    Spaces in a class name become "-". Boxes are written as their corners, clockwise from the top
    left, segments as their smallest rectangle.

    Raises:
        TilerError: two classes share a name, or the name of the image holds a line break.

    >>> from tiler.geometry.instances import Instances
    >>> detections = Instances(np.array([0]), np.array([[1, 2, 3, 4.5]]), conf=np.array([0.875]))
    >>> dota_text(detections, "P0001", ["small car"])
    {'small-car': 'P0001 0.875 1 2 3 2 3 4.5 1 4.5\\n'}
    """
    if len(image_id.splitlines()) > 1:
        raise TilerError(
            f"{image_id!r}: a line of DOTA text cannot hold an image name with a line break"
        )
    scores = _words(NINE, _scores(instances)[:, None])
    corners = _numbers(_quads(instances).reshape(-1, 8), TWELVE, PIXEL_DECIMALS)
    rows: dict[int, list[str]] = {}
    for class_id, score, points in zip(instances.class_id.tolist(), scores, corners, strict=True):
        rows.setdefault(class_id, []).append(f"{image_id} {score} {points}\n")
    result: dict[str, str] = {}
    for class_id, lines in sorted(rows.items()):
        name = _name(names, class_id).replace(" ", "-")
        if name in result:
            raise TilerError(
                f"two classes would share the DOTA file of {name!r}; class {class_id} is the second"
            )
        result[name] = "".join(lines)
    return result


def geojson(
    instances: Instances,
    names: Sequence[str],
    affine: Affine | Placement | None = None,
    crs: str | None = None,
) -> bytes:
    """A GeoJSON FeatureCollection, one feature a detection, each on a line.

    Rings are closed. In the coordinates that are written, pixels or those that `affine` leads
    to, outer rings are counter-clockwise (x to the right, y up) and holes clockwise. A detection
    whose outline has no area is written as its box; a pose as its box, with `keypoints` among
    the properties.

    Args:
        affine: of the image, or its placement in another reference system.
        crs: name of the reference system, see `geojson_head`.

    >>> from tiler.geometry.instances import Instances
    >>> detections = Instances(np.array([0]), np.array([[0, 0, 2, 1.0]]), conf=np.array([0.875]))
    >>> msgspec.json.decode(geojson(detections, ["car"]))["features"][0]["geometry"]["coordinates"]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 0.0]]]
    """
    body = geojson_features(instances, names, affine)
    return geojson_head(crs) + b"\n" + body + b"\n]}\n"


def geojson_head(crs: str | None) -> bytes:
    """The beginning of a FeatureCollection, up to its list of features.

    A reference system is written as the `crs` member of the first version of GeoJSON, which GIS
    still read; but not WGS 84, which RFC 7946 means by GeoJSON without that member.

    >>> geojson_head("EPSG:4326")
    b'{"type":"FeatureCollection","features":['
    """
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None and crs.upper() not in WGS84:
        head["crs"] = {"type": "name", "properties": {"name": crs}}
    return msgspec.json.encode(head)[:-1] + b',"features":['


def geojson_features(
    instances: Instances,
    names: Sequence[str],
    affine: Affine | Placement | None,
    source: str | None = None,
) -> bytes:
    """The features of `geojson`, one a line, without the brackets of the list that they go into.

    Args:
        source: the image, to be among their properties.
    """
    texts = []
    encode = msgspec.json.Encoder().encode
    for feature in _features(instances, names, affine):
        if source is not None:
            feature["properties"] = {"source": source, **feature["properties"]}
        texts.append(encode(feature))
    return b",\n".join(texts)


def _features(
    instances: Instances, names: Sequence[str], affine: Affine | Placement | None
) -> Iterator[dict[str, Any]]:
    scores = _significant(_scores(instances), 9).tolist()
    class_ids = instances.class_id.tolist()
    keypoints = None
    if instances.task == "pose":
        keypoints = _written_keypoints(instances, affine).tolist()
    for i, written in enumerate(_coordinates(instances, affine)):
        properties = {
            "index": i,
            "class_id": class_ids[i],
            "class": _name(names, class_ids[i]),
            "conf": scores[i],
        }
        if keypoints is not None:
            properties["keypoints"] = keypoints[i]
        geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": written}
        if len(written) == 1:
            geometry = {"type": "Polygon", "coordinates": written[0]}
        yield {"type": "Feature", "properties": properties, "geometry": geometry}


def csv_text(instances: Instances, source: str, names: Sequence[str]) -> str:
    """Rows under `CSV_HEAD[instances.task]`, in pixels; `polygon` and `keypoints` are numbers with
    spaces.

    Several rings are joined into one. Text is quoted where it must be, and escaped where a
    spreadsheet would take it for a formula (see `csv_cells`).

    >>> from tiler.geometry.instances import Instances
    >>> detections = Instances(np.array([0]), np.array([[1, 2, 3, 4.5]]), conf=np.array([0.875]))
    >>> csv_text(detections, "a.jpg", ["car, red"])
    'a.jpg,0,"car, red",0.875,1,2,3,4.5\\n'
    """
    class_ids = instances.class_id.tolist()
    heads = {}
    for class_id in set(class_ids):
        name = csv_cells.escaped(_name(names, class_id))
        heads[class_id] = _fields(csv_cells.escaped(source), class_id, name)
    boxes = _numbers(instances.boxes, TWELVE, PIXEL_DECIMALS)
    columns = [
        [heads[class_id] for class_id in class_ids],
        _words(NINE, _scores(instances)[:, None]),
        [words.replace(" ", ",") for words in boxes],
    ]
    outlines = _outlines(instances)
    if outlines is not None:
        columns.append(_paths(_joined(outlines), TWELVE, PIXEL_DECIMALS))
    elif instances.task == "pose":
        columns.append(_numbers(_flat(_keypoints(instances)), TWELVE, PIXEL_DECIMALS))
    return "".join(",".join(words) + "\n" for words in zip(*columns, strict=True))


def _fields(*values: object) -> str:
    """Values as the beginning of a CSV row."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(values)  # quotes what holds \r or \n
    return text.getvalue()[:-2]


# What is written


def _scores(instances: Instances) -> Floats:
    """The scores of detections, once these are known to be fit to write."""
    if instances.conf is None:
        raise TilerError("these are labels: a detection has a conf")
    columns = {"conf": instances.conf, "boxes": instances.boxes, "keypoints": instances.keypoints}
    for name, column in columns.items():
        if column is not None and not np.isfinite(column).all():
            finite = np.isfinite(column).all(axis=tuple(range(1, column.ndim)))
            raise TilerError(f"detection {int(np.argmin(finite))}: {name} that are not finite")
    outlines = _outlines(instances)
    if outlines is not None:
        _require_writable(outlines)
    return instances.conf


def _require_writable(outlines: Rings) -> None:
    owners = outlines.owners()
    points = np.bincount(owners, minlength=len(outlines))
    if points.min() < 3:
        i = int(np.argmax(points < 3))
        raise TilerError(f"detection {i}: an outline of {points[i]} points, expected 3 or more")
    finite = np.isfinite(outlines.coords).all(axis=1)
    if not finite.all():
        i = int(owners[np.argmin(finite)])
        raise TilerError(f"detection {i}: an outline that is not finite")


def _outlines(instances: Instances) -> Rings | None:
    """The outlines, if the task has them and there are any detections."""
    if instances.task in ("segment", "obb") and len(instances):
        return instances.rings
    return None


def _keypoints(instances: Instances) -> Floats:
    assert instances.keypoints is not None
    return instances.keypoints


def _written_keypoints(instances: Instances, affine: Affine | Placement | None = None) -> Floats:
    """`(N, 3K)` x, y, visibility as written; 0, 0 where nothing is labelled."""
    keypoints = _keypoints(instances)
    points = _written_points(keypoints[..., :2], affine)
    points[~labelled(keypoints)] = 0.0
    return _flat(np.concatenate([points, keypoints[..., 2:]], axis=-1))


def _written_points(points: Floats, affine: Affine | Placement | None) -> Floats:
    """x and y as written, in rounded pixels or in the world."""
    if affine is None:
        return pixels(points)
    return _significant(affine.apply(points), 12)


def _flat(keypoints: Floats) -> Floats:
    return keypoints.reshape(len(keypoints), 3 * keypoints.shape[1])


def _category_ids(class_id: Ints, base: int, categories: Sequence[int] | None) -> list[int]:
    if categories is None:
        return [int(c) for c in (class_id + base).tolist()]
    unknown = (class_id < 0) | (class_id >= len(categories))
    if unknown.any():
        first = class_id[unknown][0]
        raise TilerError(f"class {first} has no category id: there are {len(categories)}")
    return [categories[c] for c in class_id.tolist()]


def _name(names: Sequence[str], class_id: int) -> str:
    """The name of a class; its number if it has none."""
    if 0 <= class_id < len(names):
        return names[class_id]
    return str(class_id)


# Geometry


def _quads(instances: Instances) -> Floats:
    """`(N, 4, 2)` corners: of boxes clockwise on the screen from the top left, of segments those of
    the smallest rectangle.
    """
    rings = _outlines(instances)
    if rings is None:
        return box.corners(instances.boxes)
    if instances.task == "obb":
        return rings.quads()
    points = np.bincount(rings.owners(), minlength=len(rings))
    result = np.empty((len(rings), 4, 2))
    for count in np.unique(points):
        same = np.flatnonzero(points == count)
        coords = rings.take(same).coords.reshape(-1, count, 2)
        result[same] = polygons.smallest_rectangles(coords)
    return result


def _joined(rings: Rings) -> Rings:
    """Each object as one ring."""
    several = np.flatnonzero(np.diff(rings.offsets) > 1)
    if not len(several):
        return rings
    joined = [[polygons.single_ring(rings[i])] for i in several.tolist()]
    return rings.put(several, Rings.of(joined))


def areas_of(rings: Rings, boxes: Floats) -> tuple[Rings, Ints]:
    """Each polygon of each object as an object (outer ring, then holes), and the index of the
    object that it is of, in rising order.

    An object without area has its box as polygon.
    """
    plain = (np.diff(rings.offsets) == 1) & ~polygons.self_crossing(rings)
    others = np.flatnonzero(~plain)
    if not len(others):
        return rings, np.arange(len(rings))
    parts, whole = polygons.parts(rings.take(others))
    shapes = parts.geometry()  # a part thinner than a rounded pixel is left out
    wide = shapely.area(shapes) > 10.0**-PIXEL_DECIMALS * shapely.length(shapes)
    parts = parts.take(wide)
    whole = whole[wide]
    flat = np.delete(others, whole)
    flat_boxes = Rings.from_quads(box.corners(boxes[flat]))
    areas = polygons.concatenate([rings.take(plain), parts, flat_boxes])
    owner = np.concatenate([np.flatnonzero(plain), others[whole], flat])
    order = np.argsort(owner, kind="stable")
    return areas.take(order), owner[order]


def _segmentations(instances: Instances) -> list[list[list[float]]]:
    """The polygons of each segment, x and y in turn."""
    outlines = _outlines(instances)
    if outlines is None:
        return []
    several = np.diff(outlines.offsets) > 1
    rings = outlines.take(~several)
    owner = np.flatnonzero(~several)
    if several.any():
        areas, whole = areas_of(outlines.take(several), instances.boxes[several])
        rings = polygons.concatenate([rings, _joined(areas)])
        owner = np.concatenate([owner, np.flatnonzero(several)[whole]])
    numbers = pixels(rings.coords).ravel().tolist()
    ends = pairwise((2 * rings.ring_offsets).tolist())
    result: list[list[list[float]]] = [[] for _ in range(len(outlines))]
    for i, (start, end) in zip(owner.tolist(), ends, strict=True):
        result[i].append(numbers[start:end])
    return result


def _coordinates(
    instances: Instances, affine: Affine | Placement | None
) -> Iterator[list[list[list[list[float]]]]]:
    """The polygons of each object, each a list of closed rings."""
    outlines = _outlines(instances)
    if outlines is None:
        areas = Rings.from_quads(_quads(instances))
        owner = np.arange(len(instances))
    else:
        areas, owner = areas_of(outlines, instances.boxes)
    rings = _closed_rings(areas, affine)
    counts = np.diff(areas.offsets).tolist()
    first = np.searchsorted(owner, np.arange(len(instances) + 1)).tolist()
    for start, end in pairwise(first):
        yield [list(islice(rings, count)) for count in counts[start:end]]


def _closed_rings(areas: Rings, affine: Affine | Placement | None) -> Iterator[list[list[float]]]:
    """All rings as they are written, in the direction that RFC 7946 asks for."""
    sizes = np.diff(areas.ring_offsets)
    outer = np.zeros(len(sizes), bool)
    outer[areas.offsets[:-1]] = True
    counter_clockwise = outer
    if len(sizes):
        of_ring = np.repeat(np.arange(len(sizes)), sizes)
        counter_clockwise = shapely.is_ccw(shapely.linearrings(areas.coords, indices=of_ring))
    if affine is not None and affine.mirrors:
        counter_clockwise = ~counter_clockwise
    points = _written_points(areas.coords, affine)
    backward = (counter_clockwise != outer).tolist()
    ends = pairwise(areas.ring_offsets.tolist())
    for (start, end), turned in zip(ends, backward, strict=True):
        ring: list[list[float]] = points[start:end].tolist()
        ring.append(ring[0])
        if turned:
            ring.reverse()
        yield ring


# Numbers


def pixels(values: Floats) -> Floats:
    return np.asarray(np.round(values, PIXEL_DECIMALS) + 0.0)  # -0.0 is 0.0


def _significant(values: Floats, digits: int) -> Floats:
    """Values rounded to a number of significant digits: the doubles whose shortest text shows no
    more.

    A whole number divided by a power of ten that is itself a double gives just that. Values too
    small for it (scores under 1e-14) stay as they are, large ones keep their whole digits.
    """
    size = np.abs(values)
    log = np.log10(size, out=np.zeros_like(size), where=size > 0)
    decimals = digits - 1 - np.floor(log).astype(np.int64)
    scale = POWERS[decimals.clip(0, len(POWERS) - 1)]
    rounded = np.rint(values * scale) / scale
    return np.where(decimals < len(POWERS), rounded, values) + 0.0


def _numbers(values: Floats, form: str, decimals: int) -> list[str]:
    """One text for each row of `(N, F)` values, rounded to `decimals` and then to the digits of
    `form`.
    """
    row = " ".join([form] * values.shape[1])
    return _words(row, np.round(values, decimals) + 0.0)


def _paths(rings: Rings, form: str, decimals: int, size: Floats | float = 1.0) -> list[str]:
    """`x y x y ..` of each object, which has one ring, divided by `size`."""
    points = _numbers(rings.coords / size, form, decimals)
    paths = []
    for start, end in pairwise(rings.ring_offsets.tolist()):
        paths.append(" ".join(points[start:end]))
    return paths


def _words(form: str, values: Floats | Ints) -> list[str]:
    """One text for each row of `(N, F)` values.

    Block by block, since a million rows as Python floats take much memory.
    """
    words: list[str] = []
    for start in range(0, len(values), STEP):
        block = values[start : start + STEP]
        text = (form + "\n") * len(block) % tuple(block.ravel().tolist())
        words += text.split("\n")[:-1]
    return words
