"""COCO instances JSON as text: annotations of objects and of regions to be ignored, and the file
around them.

Pixels are rounded to six decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.formats.exports import areas_of, pixels
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.instances import labelled
from tiler.geometry.masks import Masks
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.geometry.polygons import Rings
    from tiler.types import Floats, Ints

COLUMNS = 10_000_000  # columns of pixels of the masks that are in memory at once

Entry = dict[str, Any]


def objects(instances: Instances, sizes: Ints, categories: Sequence[int]) -> list[Entry]:
    """COCO annotations of N objects, without `id` and `image_id`.

    An outline is written as polygons; one with holes, which polygons cannot say, as a mask. An OBB
    is the polygon of its corners. Boxes have no outline: their `segmentation` is an empty list.
    `area` is that of the outline, of the pixels of a mask, or of the box.

    Args:
        instances: labels in pixels of their frames.
        sizes: `(N, 2)` int64 width and height of the frame of each, px.
        categories: category_id of each class.

    >>> from tiler.geometry.instances import Instances
    >>> car = Instances(class_id=np.array([1]), boxes=np.array([[2, 1, 6, 4.5]]))
    >>> objects(car, np.array([[9, 9]]), (7, 8))[0]["bbox"]
    [2.0, 1.0, 4.0, 3.5]
    """
    entries = _entries(instances, categories, crowd=0)
    if instances.rings is not None and len(instances):
        _add_outlines(entries, instances.rings, instances.boxes, sizes)
    if instances.keypoints is not None:
        for entry, points in zip(entries, instances.keypoints, strict=True):
            entry["keypoints"] = _keypoints(points)
            entry["num_keypoints"] = int((points[:, 2] > 0).sum())
    return entries


def regions(instances: Instances, sizes: Ints, categories: Sequence[int]) -> list[Entry | None]:
    """COCO annotations of N regions to be ignored: `iscrowd` is 1, and the outline a mask.

    None for a region without a pixel in its frame, and for one whose class is unknown (-1).
    Arguments are those of `objects`; outlines are needed.

    >>> from tiler.geometry.instances import Instances
    >>> from tiler.geometry.polygons import Rings
    >>> square = Rings.from_quads(np.array([[[0, 0], [2, 0], [2, 1], [0, 1.0]]]))
    >>> crowd = Instances(np.array([0]), square.bounds(), rings=square, task="segment")
    >>> regions(crowd, np.array([[2, 2]]), (1,))[0]["segmentation"]
    {'size': [2, 2], 'counts': [0, 1, 1, 1, 1]}
    """
    rings = instances.rings
    assert rings is not None
    entries: list[Entry | None] = []
    entries += _entries(instances, categories, crowd=1)
    for i, (mask, xyxy, area) in enumerate(_masks(rings, sizes)):
        entry = entries[i]
        if area == 0 or instances.class_id[i] < 0:
            entries[i] = None
        elif entry is not None:
            entry |= {"bbox": _xywh(xyxy[None])[0], "area": area, "segmentation": mask}
    return entries


def _entries(instances: Instances, categories: Sequence[int], crowd: int) -> list[Entry]:
    """What all annotations have; with the area of the box, and no outline."""
    columns = (
        instances.class_id.tolist(),
        _xywh(instances.boxes),
        pixels(box.area(instances.boxes)).tolist(),
    )
    entries: list[Entry] = []
    for class_id, bbox, area in zip(*columns, strict=True):
        entry = {"category_id": categories[class_id], "bbox": bbox, "area": area}
        entries.append({**entry, "iscrowd": crowd, "segmentation": []})
    return entries


def _xywh(boxes: Floats) -> list[list[float]]:
    corner = boxes[:, :2]
    sides = boxes[:, 2:] - corner
    result: list[list[float]] = pixels(np.concatenate([corner, sides], axis=1)).tolist()
    return result


def _add_outlines(entries: list[Entry], rings: Rings, boxes: Floats, sizes: Ints) -> None:
    """Add the outlines of objects to their annotations, and the areas of these."""
    areas, owner = areas_of(rings, boxes)
    has_hole = np.diff(areas.offsets) > 1
    with_hole = np.zeros(len(rings), bool)
    with_hole[owner[has_hole]] = True
    plain = ~with_hole[owner]
    _add_polygons(entries, areas.take(plain), owner[plain])
    _add_masks(entries, rings, sizes, np.flatnonzero(with_hole))


def _add_polygons(entries: list[Entry], parts: Rings, owner: Ints) -> None:
    """Add parts of one ring each to the annotations that own them."""
    numbers = pixels(parts.coords).ravel().tolist()
    areas = pixels(shapely.area(parts.geometry())).tolist()
    ends = pairwise((2 * parts.ring_offsets).tolist())
    for i in np.unique(owner).tolist():
        entries[i]["area"] = 0.0
    for i, (start, end), area in zip(owner.tolist(), ends, areas, strict=True):
        entries[i]["segmentation"].append(numbers[start:end])
        entries[i]["area"] += area


def _add_masks(entries: list[Entry], rings: Rings, sizes: Ints, of: Ints) -> None:
    """Add the outlines of some objects as masks."""
    masks = _masks(rings.take(of), sizes[of])
    for i, (mask, _, area) in zip(of.tolist(), masks, strict=True):
        entries[i]["segmentation"] = mask
        entries[i]["area"] = area


def _masks(rings: Rings, sizes: Ints) -> Iterator[tuple[Entry, Floats, float]]:
    """Each outline as a mask of its frame, as COCO draws it; with the bounds of its pixels (xyxy)
    and their number."""
    for start, end in ragged.portions(sizes[:, 0], COLUMNS):
        portion = np.arange(start, end)
        masks = Masks.of_rings(rings.take(portion), sizes[portion])
        columns = (masks.sizes.tolist(), masks.counts(), masks.bounds(), masks.area().tolist())
        for (width, height), counts, xyxy, area in zip(*columns, strict=True):
            yield {"size": [height, width], "counts": counts}, xyxy, area


def _keypoints(points: Floats) -> list[float]:
    """x, y, visibility of each keypoint, in turn; zeros for one that is not labelled."""
    xy = pixels(np.where(labelled(points)[:, None], points[:, :2], 0.0)).tolist()
    numbers: list[float] = []
    for (x, y), visibility in zip(xy, points[:, 2].tolist(), strict=True):
        numbers += [x, y, int(visibility)]
    return numbers


# The file


def head(names: Sequence[str], categories: Sequence[int], points: int) -> bytes:
    """The beginning of the JSON, up to the list of images.

    Args:
        names: of the classes.
        categories: their category ids.
        points: number of keypoints; 0 where there are none.

    >>> head(["car"], [1], 0).splitlines()[1]
    b'"categories":[{"id":1,"name":"car","supercategory":""}],'
    """
    info = b'{"info":{"description":"tiles cut by tiler split"},"licenses":[],\n'
    return info + b'"categories":' + category_list(names, categories, points) + b',\n"images":['


def category_list(names: Sequence[str], categories: Sequence[int], points: int) -> bytes:
    """The list of categories; arguments are those of `head`."""
    entries = []
    for id, name in zip(categories, names, strict=True):
        # empty as CVAT writes it; RF-DETR would drop a class without objects that another one names
        entry: Entry = {"id": id, "name": name, "supercategory": ""}
        if points:
            entry |= {"keypoints": [str(k) for k in range(points)], "skeleton": []}
        entries.append(entry)
    return msgspec.json.encode(entries)


def image_line(id: int | str, file_name: str, size: tuple[int, int]) -> bytes:
    """An image of the JSON.

    >>> image_line(1, "a.jpg", (640, 480))
    b'{"id":1,"file_name":"a.jpg","width":640,"height":480}'
    """
    width, height = size
    entry = {"id": id, "file_name": file_name, "width": width, "height": height}
    return msgspec.json.encode(entry)


def annotation_line(id: int, image_id: int, entry: bytes) -> bytes:
    """An annotation of the JSON, of its text without ids.

    >>> annotation_line(3, 1, b'{"iscrowd":0}')
    b'{"id":3,"image_id":1,"iscrowd":0}'
    """
    return b'{"id":%d,"image_id":%d,' % (id, image_id) + entry[1:]
