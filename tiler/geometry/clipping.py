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

WHOLE = 1 - 1e-9  # a visible part of this much is the whole object; the rest is rounding


def clip(instances: Instances, rects: Floats, obb: ObbPolicy = "aligned") -> Instances:
    """Each instance as its rectangle shows it, in the same frame and order.

    An instance that lies inside its rectangle is returned untouched, to the last bit.
    Of others the outline is intersected and the box is that of the clipped outline; a
    plain box is intersected. Keypoints outside become 0 0 0.

    Args:
        instances: N instances.
        rects: `(N, 4)` or `(4,)` float64 xyxy in the same frame.
        obb: what becomes of a cut OBB. `aligned`: the rectangle of its own orientation
            around the visible part, as the trainer's augmentations do; `minrect`: the
            smallest rectangle around it; `full`: its corners stay, outside the rectangle.

    Returns:
        N instances with `visible` set to the part of `area` inside the rectangle. Where
        that is 0 (touching is not being in) the other columns mean nothing.

    >>> two = Instances(class_id=np.array([0, 0]), boxes=np.array([[0, 0, 4, 4], [8, 0, 12, 4.0]]))
    >>> seen = clip(two, np.array([0, 0, 10, 10.0]))
    >>> seen.boxes[1].tolist(), seen.visible.tolist()
    ([8.0, 0.0, 10.0, 4.0], [1.0, 0.5])
    """
    rects = np.broadcast_to(rects, (len(instances), 4))
    if instances.rings is None:
        seen = _clip_boxes(instances, rects)
    else:
        seen = _clip_outlines(instances, instances.rings, rects, obb)
    if seen.keypoints is not None:
        seen = replace(seen, keypoints=_clip_keypoints(seen.keypoints, instances.boxes, rects))
    return seen


def largest_share(boxes: Floats, rects: Floats) -> Floats:
    """`(N,)` the part of an object of this size that a rectangle of this size can show at best.

    1 for what fits; of an object longer than the tile only a part ever shows, and a
    threshold on the visible part is meant relative to that.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    room = rects[:, 2:] - rects[:, :2]
    return np.asarray(
        np.minimum(1.0, np.divide(room, sides, out=np.ones_like(sides), where=sides > 0)).prod(
            axis=1
        )
    )


def _clip_boxes(instances: Instances, rects: Floats) -> Instances:
    whole = box.inside(instances.boxes, rects)
    part = box.intersection(instances.boxes, rects)
    visible = np.where(whole, instances.visible, _share(box.area(part), instances.area))
    return replace(instances, boxes=part, visible=visible)


def _clip_outlines(instances: Instances, rings: Rings, rects: Floats, obb: ObbPolicy) -> Instances:
    cut = np.flatnonzero(~box.inside(instances.boxes, rects))
    if not len(cut):
        return instances
    outlines = rings.take(cut)
    shown = overlay.common(outlines.geometry(), shapely.box(*rects[cut].T))
    visible = instances.visible.copy()
    visible[cut] = _share(shapely.area(shown), instances.area[cut])
    visible = np.where(visible >= WHOLE, 1.0, visible)
    gone = visible[cut] <= 0
    # A whole OBB may reach past the frame: its corners stay, since nothing of it is hidden.
    stays = gone | ((visible[cut] == 1.0) if instances.task == "obb" else np.zeros(len(cut), bool))
    cut, shown, outlines = cut[~stays], shown[~stays], outlines.take(~stays)
    clipped = Rings.from_geometry(shown)
    low = rects[cut, :2][clipped.owners()]
    high = rects[cut, 2:][clipped.owners()]
    # rounding of the crossing points
    clipped = replace(clipped, coords=np.clip(clipped.coords, low, high))
    if instances.task == "obb":
        clipped = Rings.from_quads(_obb_corners(outlines.quads(), clipped, obb))
    boxes = instances.boxes.copy()
    boxes[cut] = clipped.bounds()
    return replace(instances, boxes=boxes, rings=rings.put(cut, clipped), visible=visible)


def _obb_corners(quads: Floats, shown: Rings, policy: ObbPolicy) -> Floats:
    if policy == "full":
        return quads
    if policy == "aligned":
        return polygons.bounding_rectangles(shown, *polygons.axes(quads))
    corners = [
        polygons.smallest_rectangles(np.concatenate(shown[i])[None])[0] for i in range(len(shown))
    ]
    return np.reshape(corners, (-1, 4, 2)).astype(np.float64)


def _clip_keypoints(keypoints: Floats, boxes: Floats, rects: Floats) -> Floats:
    """Keypoints outside set to 0 0 0. On the far border a point is inside when its object ends
    there:
    then no other rectangle shows it."""
    xy = keypoints[..., :2]
    low, high = rects[:, None, :2], rects[:, None, 2:]
    goes_on = boxes[:, None, 2:] > high
    outside = (xy < low) | (xy > high) | ((xy == high) & goes_on)
    return np.where(np.any(outside, axis=-1, keepdims=True), 0.0, keypoints)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.minimum(1.0, np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))
