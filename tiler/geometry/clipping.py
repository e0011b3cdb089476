"""What a rectangle of the image shows of each instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Floats

ObbPolicy = Literal["aligned", "minrect", "full"]

WHOLE = 1 - 1e-9  # from this visible part on an object is whole; the rest is rounding


def clip(instances: Instances, rects: Floats, obb: ObbPolicy = "aligned") -> Instances:
    """Each instance as its rectangle shows it, in the same frame and order.

    An instance inside its rectangle is returned unchanged, to the last bit. Otherwise the
    outline is intersected, and the box is that of the clipped outline; without an outline
    the box is intersected. Keypoints outside become 0 0 0.

    Args:
        instances: N instances.
        rects: `(N, 4)` or `(4,)` float64 xyxy in the same frame.
        obb: what becomes of a cut OBB. `aligned`: the rectangle of its own orientation
            around the visible part, as the trainer's augmentations do; `minrect`: the
            smallest rectangle around that part; `full`: its corners stay, even outside.

    Returns:
        N instances with `visible` set to the part of `area` inside the rectangle. Where
        that is 0 (touching is not being inside) the other columns mean nothing.

    >>> two = Instances(class_id=np.array([0, 0]), boxes=np.array([[0, 0, 4, 4], [8, 0, 12, 4.0]]))
    >>> clipped = clip(two, np.array([0, 0, 10, 10.0]))
    >>> clipped.boxes[1].tolist(), clipped.visible.tolist()
    ([8.0, 0.0, 10.0, 4.0], [1.0, 0.5])
    """
    rects = np.broadcast_to(rects, (len(instances), 4))
    if instances.rings is None:
        clipped = _clip_boxes(instances, rects)
    else:
        clipped = _clip_outlines(instances, instances.rings, rects, obb)
    if clipped.keypoints is None:
        return clipped
    keypoints = _clip_keypoints(clipped.keypoints, instances.boxes, rects)
    return replace(clipped, keypoints=keypoints)


def largest_share(boxes: Floats, rects: Floats) -> Floats:
    """`(N,)` the largest part of each box that a rectangle of the size of its own can show.

    1 for a box that fits. Of one that is longer than the tile only a part is ever visible, so a
    threshold on the visible part applies relative to that.
    """
    sides = box.sides(boxes)
    room = box.sides(rects)
    shown = np.divide(room, sides, out=np.ones_like(sides), where=sides > 0)
    return np.asarray(np.minimum(1.0, shown).prod(axis=1))


def _clip_boxes(instances: Instances, rects: Floats) -> Instances:
    whole = box.inside(instances.boxes, rects)
    clipped = box.intersection(instances.boxes, rects)
    share = _share(box.area(clipped), instances.area)
    visible = np.where(whole, instances.visible, share)
    return replace(instances, boxes=clipped, visible=visible)


def _clip_outlines(instances: Instances, rings: Rings, rects: Floats, obb: ObbPolicy) -> Instances:
    cut = np.flatnonzero(~box.inside(instances.boxes, rects))
    if not len(cut):
        return instances
    outlines = rings.take(cut)
    frames = shapely.box(*rects[cut].T)
    shown = overlay.common(outlines.geometry(), frames)
    visible = instances.visible.copy()
    visible[cut] = _share(shapely.area(shown), instances.area[cut])
    visible = np.where(visible >= WHOLE, 1.0, visible)
    changed = visible[cut] > 0
    if instances.task == "obb":
        # a whole OBB may reach past the frame: its corners stay, since nothing of it is hidden
        changed &= visible[cut] != 1.0
    cut = cut[changed]
    clipped = _within(Rings.from_geometry(shown[changed]), rects[cut])
    if instances.task == "obb":
        quads = outlines.take(changed).quads()
        clipped = Rings.from_quads(_obb_corners(quads, clipped, obb))
    boxes = instances.boxes.copy()
    boxes[cut] = clipped.bounds()
    return replace(instances, boxes=boxes, rings=rings.put(cut, clipped), visible=visible)


def _within(rings: Rings, rects: Floats) -> Rings:
    """Clipped outlines without what the rounding of crossing points added to their rectangles."""
    owner = rings.owners()
    low = box.top_left(rects)[owner]
    high = box.bottom_right(rects)[owner]
    return replace(rings, coords=np.clip(rings.coords, low, high))


def _obb_corners(quads: Floats, shown: Rings, policy: ObbPolicy) -> Floats:
    if policy == "full":
        return quads
    if policy == "aligned":
        return polygons.bounding_rectangles(shown, *polygons.axes(quads))
    rectangles = [np.empty((0, 4, 2))]
    for i in range(len(shown)):
        points = np.concatenate(shown[i])
        rectangles.append(polygons.smallest_rectangles(points[None]))
    return np.concatenate(rectangles)


def _clip_keypoints(keypoints: Floats, boxes: Floats, rects: Floats) -> Floats:
    """Keypoints outside set to 0 0 0.

    On the far border a point is inside when its object ends there: then no other rectangle shows
    it.
    """
    xy = keypoints[..., :2]
    low = rects[:, None, :2]
    high = rects[:, None, 2:]
    goes_on = boxes[:, None, 2:] > high
    outside = (xy < low) | (xy > high)
    outside |= (xy == high) & goes_on
    return np.where(outside.any(axis=-1, keepdims=True), 0.0, keypoints)


def _share(part: Floats, whole: Floats) -> Floats:
    """`(N,)` the part of each area, 0 where there is none, at most 1 despite rounding."""
    share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return np.minimum(1.0, share)
