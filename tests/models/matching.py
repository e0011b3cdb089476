"""Our detections of an image, held against those of another library."""

import numpy as np
import shapely

CONF = 0.005
NEAR = 0.002  # to a threshold, where a detection may come or go
PIXELS = 0.5  # of the network's frame
MASK = 0.98


def matched(found, expected, scale, threshold, *, near=NEAR, pixels=PIXELS):
    """Assert that both have the same detections: each has a partner of its own among the others,
    unless its confidence is near the threshold.
    """
    conf = np.array(expected["conf"])
    free = list(range(len(found)))
    for k in np.argsort(-conf, kind="stable"):
        partner = next((i for i in free if alike(found, i, expected, k, scale, pixels)), None)
        if partner is None:
            assert conf[k] < threshold + near, f"missing: {conf[k]}"
        else:
            free.remove(partner)
    for i in free:
        assert found.conf[i] < threshold + near, f"extra: {found.conf[i]}"


def alike(found, i, expected, k, scale, pixels):
    if found.class_id[i] != expected["cls"][k]:
        return False
    if abs(found.conf[i] - expected["conf"][k]) > CONF:
        return False
    if "xyxyxyxy" in expected:
        corners = np.array(expected["xyxyxyxy"][k]).reshape(4, 2)
        return np.abs(found.rings.quads()[i] - corners).max() * scale <= pixels
    box = np.array(expected["xyxy"][k])
    if np.abs(found.boxes[i] - box).max() * scale > pixels:
        return False
    if "outlines" in expected:
        return iou(found.rings[i], expected["outlines"][k]) >= MASK
    if "drawn" in expected:
        ours, theirs = expected["drawn"](found.rings[i]), expected["masks"][k]
        return (ours & theirs).sum() >= MASK * max((ours | theirs).sum(), 1)
    if "keypoints" in expected:
        points = np.array(expected["keypoints"][k])
        moved = np.abs(found.keypoints[i][:, :2] - points[:, :2]).max() * scale <= pixels
        return moved and np.abs(found.keypoints[i][:, 2:] - points[:, 2:]).max(initial=0) <= CONF
    return True


def iou(rings, others):
    """Of our rings and an outline that another library has; 1 if theirs is none."""
    if not isinstance(others, list):
        others = [others]
    if all(len(ring) < 3 for ring in others):
        return 1.0
    ours, theirs = filled(rings), filled(others)
    return ours.intersection(theirs).area / max(ours.union(theirs).area, 1e-9)


def filled(rings):
    shapes = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) >= 3]
    return shapely.union_all(shapes)
