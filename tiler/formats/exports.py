"""Detections of one full image to the text of other formats.

Pixels are rounded to a millionth, what is normalised and scores to nine significant
digits. What cannot be written is an error: no number that is not finite, no outline
under three points.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
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
    from tiler.geometry.instances import Instances
    from tiler.types import Floats, Ints, Task

NINE = "%.9g"
TWELVE = "%.12g"
PIXEL_DECIMALS = 6
# Going to pixels and back costs up to 5e-16 of the frame, which may be in the ninth digit of a box
# of a hundredth of a pixel in a large image. Rounded to this first, text that is read and written
# stays.
PART_DECIMALS = 14
POWERS = np.array([float(f"1e{k}") for k in range(23)])  # of ten, all that are doubles
STEP = 65_536  # rows whose numbers are Python objects at once

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
    >>> found = Instances(np.array([2]), np.array([[10, 20, 30, 60.0]]), conf=np.array([0.875]))
    >>> yolo_text(found, 100, 300)
    '2 0.2 0.133333333 0.2 0.133333333 0.875\\n'
    """
    conf = _scores(instances)
    size = np.array([width, height], np.float64)
    columns = [_words("%d", instances.class_id[:, None])]
    if outlines := _outlines(instances):
        columns.append(_paths(_joined(outlines), NINE, PART_DECIMALS, size))
    else:
        columns.append(
            _numbers(box.to_cxcywh(instances.boxes) / np.tile(size, 2), NINE, PART_DECIMALS)
        )
    if instances.task == "pose":
        columns.append(
            _numbers(_flat(_keypoints(instances) / [width, height, 1]), NINE, PART_DECIMALS)
        )
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

    Beside it, segment has `segmentation` (a polygon for each part; a part with holes is one
    polygon that runs into them and back), obb `poly` and `segmentation` of its corners,
    pose `keypoints`.

    Args:
        base: category_id of class 0.
        categories: category_id of each class, instead.

    >>> from tiler.geometry.instances import Instances
    >>> found = Instances(np.array([2]), np.array([[10, 20, 30, 60.5]]), conf=np.array([0.875]))
    >>> coco_entries(found, 7, "a.jpg", base=1)[0]["bbox"]
    [10.0, 20.0, 20.0, 40.5]
    """
    conf = _significant(_scores(instances), 9).tolist()
    xywh = np.concatenate(
        [instances.boxes[:, :2], instances.boxes[:, 2:] - instances.boxes[:, :2]], axis=1
    )
    common = zip(
        _category_ids(instances.class_id, base, categories),
        _pixels(xywh).tolist(),
        conf,
        strict=True,
    )
    entries: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": category,
            "bbox": bbox,
            "score": score,
        }
        for category, bbox, score in common
    ]
    if instances.task == "segment":
        for entry, parts in zip(entries, _segmentations(instances), strict=True):
            entry["segmentation"] = parts
    elif instances.task == "obb":
        for entry, corners in zip(
            entries, _pixels(_quads(instances).reshape(-1, 8)).tolist(), strict=True
        ):
            entry["poly"], entry["segmentation"] = corners, [corners]
    elif instances.task == "pose":
        for entry, points in zip(entries, _keypoints_out(instances).tolist(), strict=True):
            entry["keypoints"] = points
    return entries


def coco_json(entries: Sequence[dict[str, Any]]) -> bytes:
    """The entries as JSON, a line each, without the brackets of the list they go into.

    >>> coco_json([{"score": 0.5}, {"score": 0.25}])
    b'{"score":0.5},\\n{"score":0.25}'
    """
    return b",\n".join(map(msgspec.json.Encoder().encode, entries))


def dota_text(instances: Instances, image_id: str, names: Sequence[str]) -> dict[str, str]:
    """DOTA Task1 lines `image_id score x1 y1 .. x4 y4` in pixels, by the name of their class.

    Spaces in a class name become "-". Boxes are their corners, clockwise from the top left,
    segments their smallest rectangle.

    Raises:
        TilerError: two classes share a name, or the image's holds a line break.

    >>> from tiler.geometry.instances import Instances
    >>> found = Instances(np.array([0]), np.array([[1, 2, 3, 4.5]]), conf=np.array([0.875]))
    >>> dota_text(found, "P0001", ["small car"])
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
    instances: Instances, names: Sequence[str], affine: Affine | None = None, crs: str | None = None
) -> bytes:
    """A GeoJSON FeatureCollection, one feature a detection, a line each.

    Rings are closed, outer ones counter-clockwise (x to the right, y up) and holes clockwise
    in the frame that is written: pixels, or the world that `affine` leads to. A detection
    whose outline has no area is drawn as its box; a pose is its box, with `keypoints` among
    the properties.

    Args:
        crs: name of the world's reference system, written as the `crs` member of the
            first GeoJSON, which GIS still read.

    >>> from tiler.geometry.instances import Instances
    >>> found = Instances(np.array([0]), np.array([[0, 0, 2, 1.0]]), conf=np.array([0.875]))
    >>> msgspec.json.decode(geojson(found, ["car"]))["features"][0]["geometry"]["coordinates"]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 0.0]]]
    """
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None:
        head["crs"] = {"type": "name", "properties": {"name": crs}}
    encode = msgspec.json.Encoder().encode
    body = b",\n".join(map(encode, _features(instances, names, affine)))
    return encode(head)[:-1] + b',"features":[\n' + body + b"\n]}\n"


def _features(
    instances: Instances, names: Sequence[str], affine: Affine | None
) -> Iterator[dict[str, Any]]:
    conf = _significant(_scores(instances), 9).tolist()
    class_id = instances.class_id.tolist()
    known = {c: _name(names, c) for c in set(class_id)}
    keypoints = _keypoints_out(instances, affine).tolist() if instances.task == "pose" else None
    for i, parts in enumerate(_coordinates(instances, affine)):
        properties = {
            "index": i,
            "class_id": class_id[i],
            "class": known[class_id[i]],
            "conf": conf[i],
        }
        if keypoints is not None:
            properties["keypoints"] = keypoints[i]
        one = len(parts) == 1
        geometry = {
            "type": "Polygon" if one else "MultiPolygon",
            "coordinates": parts[0] if one else parts,
        }
        yield {"type": "Feature", "properties": properties, "geometry": geometry}


def csv_text(instances: Instances, source: str, names: Sequence[str]) -> str:
    """Rows under `CSV_HEAD[instances.task]`, in pixels; `polygon` and `keypoints` are numbers with
    spaces.

    Several rings are joined into one. Text is quoted where it must be, and escaped where a
    spreadsheet would take it for a formula (see `cells`).

    >>> from tiler.geometry.instances import Instances
    >>> found = Instances(np.array([0]), np.array([[1, 2, 3, 4.5]]), conf=np.array([0.875]))
    >>> csv_text(found, "a.jpg", ["car, red"])
    'a.jpg,0,"car, red",0.875,1,2,3,4.5\\n'
    """
    class_id = instances.class_id.tolist()
    known = {
        c: _fields(csv_cells.escaped(source), c, csv_cells.escaped(_name(names, c)))
        for c in set(class_id)
    }
    columns = [[known[c] for c in class_id], _words(NINE, _scores(instances)[:, None])]
    columns.append(
        [words.replace(" ", ",") for words in _numbers(instances.boxes, TWELVE, PIXEL_DECIMALS)]
    )
    if outlines := _outlines(instances):
        columns.append(_paths(_joined(outlines), TWELVE, PIXEL_DECIMALS))
    elif instances.task == "pose":
        columns.append(_numbers(_flat(_keypoints(instances)), TWELVE, PIXEL_DECIMALS))
    return "".join(",".join(words) + "\n" for words in zip(*columns, strict=True))


def _fields(*values: object) -> str:
    """Values as the beginning of a CSV row. The csv module quotes the characters of its line end."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue()[:-2]


# What is written


def _scores(instances: Instances) -> Floats:
    """The scores of detections that can be written."""
    if instances.conf is None:
        raise TilerError("these are labels: a detection has a conf")
    columns = {"conf": instances.conf, "boxes": instances.boxes, "keypoints": instances.keypoints}
    for name, column in columns.items():
        if column is not None and not np.isfinite(column).all():
            finite = np.isfinite(column).all(axis=tuple(range(1, column.ndim)))
            raise TilerError(f"detection {int(np.argmin(finite))}: {name} that are not finite")
    if rings := _outlines(instances):
        owners = rings.owners()
        points = np.bincount(owners, minlength=len(rings))
        if len(points) and points.min() < 3:
            i = int(np.argmax(points < 3))
            raise TilerError(f"detection {i}: an outline of {points[i]} points, expected 3 or more")
        if not (finite := np.isfinite(rings.coords).all(axis=1)).all():
            raise TilerError(
                f"detection {owners[np.argmin(finite)]}: an outline that is not finite"
            )
    return instances.conf


def _outlines(instances: Instances) -> Rings | None:
    """The outlines, where the task is about them and there are any detections."""
    return instances.rings if instances.task in ("segment", "obb") and len(instances) else None


def _keypoints(instances: Instances) -> Floats:
    assert instances.keypoints is not None
    return instances.keypoints


def _keypoints_out(instances: Instances, affine: Affine | None = None) -> Floats:
    """`(N, 3K)` x, y, visibility as written; 0, 0, 0 stays where nothing is labelled."""
    keypoints = _keypoints(instances)
    places = (
        _pixels(keypoints[..., :2])
        if affine is None
        else _significant(affine.apply(keypoints[..., :2]), 12)
    )
    places[~labelled(keypoints)] = 0.0
    return _flat(np.concatenate([places, keypoints[..., 2:]], axis=-1))


def _flat(keypoints: Floats) -> Floats:
    return keypoints.reshape(len(keypoints), 3 * keypoints.shape[1])


def _category_ids(class_id: Ints, base: int, categories: Sequence[int] | None) -> list[int]:
    if categories is None:
        return [int(c) for c in (class_id + base).tolist()]
    unknown = (class_id < 0) | (class_id >= len(categories))
    if unknown.any():
        raise TilerError(
            f"class {class_id[unknown][0]} has no category id: there are {len(categories)}"
        )
    return [categories[c] for c in class_id.tolist()]


def _name(names: Sequence[str], class_id: int) -> str:
    """A class without a name goes by its number."""
    return names[class_id] if 0 <= class_id < len(names) else str(class_id)


# Geometry


def _quads(instances: Instances) -> Floats:
    """`(N, 4, 2)` corners; of boxes clockwise (as seen) from the top left, of segments the smallest
    rectangle.
    """
    rings = _outlines(instances)
    if rings is None:
        return box.corners(instances.boxes)
    if instances.task == "obb":
        return rings.quads()
    points = np.bincount(rings.owners(), minlength=len(rings))
    result = np.empty((len(rings), 4, 2))
    for count in np.unique(points):
        these = np.flatnonzero(points == count)
        result[these] = polygons.smallest_rectangles(rings.take(these).coords.reshape(-1, count, 2))
    return result


def _joined(rings: Rings) -> Rings:
    """Each object as one ring."""
    many = np.flatnonzero(np.diff(rings.offsets) > 1)
    if not len(many):
        return rings
    return rings.put(many, Rings.of([[polygons.single_ring(rings[i])] for i in many.tolist()]))


def _areas(rings: Rings, boxes: Floats) -> tuple[Rings, Ints]:
    """Each polygon of each object as an object (outer ring, then holes), and whose it is, in order.

    An object without area has its box for a polygon.
    """
    plain = (np.diff(rings.offsets) == 1) & ~polygons.self_crossing(rings)
    odd = np.flatnonzero(~plain)
    if not len(odd):
        return rings, np.arange(len(rings))
    areas, whose = polygons.parts(rings.take(odd))
    shapes = areas.geometry()  # a part that is thinner than a rounded pixel is none
    wide = shapely.area(shapes) > 10.0**-PIXEL_DECIMALS * shapely.length(shapes)
    areas, whose = areas.take(wide), whose[wide]
    flat = np.delete(odd, whose)
    whole = polygons.concatenate(
        [rings.take(plain), areas, Rings.from_quads(box.corners(boxes[flat]))]
    )
    owner = np.concatenate([np.flatnonzero(plain), odd[whose], flat])
    order = np.argsort(owner, kind="stable")
    return whole.take(order), owner[order]


def _segmentations(instances: Instances) -> list[list[list[float]]]:
    """Of each segment its polygons, x and y in turn."""
    rings = _outlines(instances)
    if rings is None:
        return []
    many = np.diff(rings.offsets) > 1
    whole, owner = rings.take(~many), np.flatnonzero(~many)
    if many.any():
        areas, whose = _areas(rings.take(many), instances.boxes[many])
        whole = polygons.concatenate([whole, _joined(areas)])
        owner = np.concatenate([owner, np.flatnonzero(many)[whose]])
    numbers = _pixels(whole.coords).ravel().tolist()
    result: list[list[list[float]]] = [[] for _ in range(len(rings))]
    for i, (start, end) in zip(
        owner.tolist(), pairwise((2 * whole.ring_offsets).tolist()), strict=True
    ):
        result[i].append(numbers[start:end])
    return result


def _coordinates(
    instances: Instances, affine: Affine | None
) -> Iterator[list[list[list[list[float]]]]]:
    """Of each object its polygons, each a list of closed rings that turn as RFC 7946 says."""
    if outlines := _outlines(instances):
        areas, owner = _areas(outlines, instances.boxes)
    else:
        areas, owner = Rings.from_quads(_quads(instances)), np.arange(len(instances))
    of_ring = np.repeat(np.arange(len(areas.ring_offsets) - 1), np.diff(areas.ring_offsets))
    outer = np.zeros(len(areas.ring_offsets) - 1, bool)
    outer[areas.offsets[:-1]] = True
    left = (
        shapely.is_ccw(shapely.linearrings(areas.coords, indices=of_ring)) if len(outer) else outer
    )
    if affine is None:
        points = _pixels(areas.coords)
    else:
        points = _significant(affine.apply(areas.coords), 12)
        left = left ^ (affine.determinant < 0)
    turn = (left != outer).tolist()
    starts = areas.ring_offsets.tolist()
    first = np.searchsorted(owner, np.arange(len(instances) + 1)).tolist()
    offsets = areas.offsets.tolist()

    def ring(r: int) -> list[list[float]]:
        path: list[list[float]] = points[starts[r] : starts[r + 1]].tolist()
        path.append(path[0])
        return path[::-1] if turn[r] else path

    for a, b in pairwise(first):
        yield [[ring(r) for r in range(offsets[k], offsets[k + 1])] for k in range(a, b)]


# Numbers


def _pixels(values: Floats) -> Floats:
    return np.asarray(np.round(values, PIXEL_DECIMALS) + 0.0)  # -0.0 is 0.0


def _significant(values: Floats, digits: int) -> Floats:
    """The doubles nearest to the values' decimals of so many digits: their shortest text shows no
    more.

    A whole number over a power of ten that is itself a double gives just that. Values too
    small for it (scores under 1e-14) stay as they are, larger ones keep their whole digits.
    """
    size = np.abs(values)
    exponent = np.floor(np.log10(size, out=np.zeros_like(size), where=size > 0)).astype(np.int64)
    places = digits - 1 - exponent
    scale = POWERS[places.clip(0, len(POWERS) - 1)]
    return np.where(places < len(POWERS), np.rint(values * scale) / scale, values) + 0.0


def _numbers(values: Floats, form: str, decimals: int) -> list[str]:
    """One text for each row of `(N, F)` values, rounded to `decimals` and then to the digits of
    `form`.
    """
    return _words(" ".join([form] * values.shape[1]), np.round(values, decimals) + 0.0)


def _paths(rings: Rings, form: str, decimals: int, size: Floats | float = 1.0) -> list[str]:
    """`x y x y ..` of each object of one ring, divided by `size`."""
    points = _numbers(rings.coords / size, form, decimals)
    return [" ".join(points[a:b]) for a, b in pairwise(rings.ring_offsets.tolist())]


def _words(form: str, values: Floats | Ints) -> list[str]:
    """One text for each row of `(N, F)` values, block by block: a million rows as Python floats are
    much memory.
    """
    words: list[str] = []
    for start in range(0, len(values), STEP):
        block = values[start : start + STEP]
        words += ((form + "\n") * len(block) % tuple(block.ravel().tolist())).split("\n")[:-1]
    return words
