"""`tiler.stitch`: what tiles saw becomes what is there. First of all the round trip: cut, put together, the same."""

import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.strategies import assert_same, boxes, quick
from tiler import polygons, stitching
from tiler.errors import TilerError
from tiler.grids import grid
from tiler.instances import Instances, empty
from tiler.matching.common_view import Tiles
from tiler.options import METHODS, MergeOptions
from tiler.polygons import Rings
from tiler.stitching import DUPLICATE, FATES, FUSED, KEPT, LOW_CONF, NOT_OWNED, ORPHAN, OVER_MAX, SUPPRESSED, stitch
from tiler.types import TASKS
from tiler.window import Window

KINDS = ("small", "mixed", "large", "crowd", "nested")
COUNT = {"small": 60, "mixed": 50, "large": 9, "crowd": 250, "nested": 60}
EDGE = 4.0  # px: what ends so near before its tile's edge looks cut by it


# --- scenes


def sides(rng, kind, tile, n):
    """`(n, 2)` widths and heights; `large` ones are up to twice the tile, one in four `nested` ones holds the next three."""
    if kind == "mixed":
        return np.exp(rng.uniform(np.log(0.03), np.log(0.4), (n, 2))) * tile
    if kind == "nested":
        low, high = np.where(np.arange(n)[:, None] % 4 == 0, (0.25, 0.6), (0.03, 0.07)).T
        return rng.uniform(low[:, None], high[:, None], (n, 2)) * tile
    low, high = {"small": (0.03, 0.08), "large": (0.25, 2), "crowd": (0.04, 0.1)}[kind]
    return rng.uniform(low, high, (n, 2)) * tile


def truth_of(task, kind, tile, seed):
    """Objects of one picture of 2.6 x 2.6 tiles, the picture's side, in a frame of floats.

    Objects larger than a tile have classes of their own: where two of one class fill the same
    tile, nothing tells which part is whose.
    """
    rng = np.random.default_rng(seed)
    n, side = COUNT[kind], int(2.6 * tile)
    wh = sides(rng, kind, tile, n)
    turned = task in ("obb", "segment")
    reach = np.hypot(*wh.T)[:, None] / 2 if task == "obb" else wh.max(axis=1)[:, None] / 2 if turned else wh / 2
    centre = reach + rng.uniform(0, 1, (n, 2)) * (side - 2 * reach)
    if kind == "nested":
        host = np.arange(n) - np.arange(n) % 4
        room = np.maximum(wh[host] - wh, 0) * (0.6 if turned else 1)
        inside = np.clip(centre[host] + rng.uniform(-0.5, 0.5, (n, 2)) * room, reach, side - reach)
        centre = np.where(np.arange(n)[:, None] % 4 > 0, inside, centre)
    class_id = np.arange(n) if kind == "large" else rng.integers(0, 2, n)
    if task == "obb":
        angle = rng.uniform(0, np.pi, n)
        along, across = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.stack([-np.sin(angle), np.cos(angle)], axis=1)
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        quads = np.stack([centre + a * along * wh[:, :1] / 2 + b * across * wh[:, 1:] / 2 for a, b in corners], axis=1)
        rings = Rings.from_quads(quads)
        return Instances(class_id, rings.bounds(), rings=rings, task=task), side
    if task == "segment":
        rings = Rings.of([[star(rng, middle, size.max() / 2, side)] for middle, size in zip(centre, wh, strict=True)])
        return Instances(class_id, rings.bounds(), rings=rings, task=task), side
    xyxy = np.concatenate([centre - wh / 2, centre + wh / 2], axis=1)
    if task == "detect":
        return Instances(class_id, xyxy), side
    points = xyxy[:, None, :2] + rng.uniform(0, 1, (n, 5, 2)) * wh[:, None]
    return Instances(class_id, xyxy, keypoints=np.concatenate([points, np.full((n, 5, 1), 2.0)], axis=2), task=task), side


def star(rng, centre, radius, side):
    count = int(rng.integers(7, 20))
    angle = (np.arange(count) + rng.uniform(0, 0.9, count)) * 2 * np.pi / count
    reach = radius * rng.uniform(0.4, 1, count)
    return np.clip(centre + np.stack([np.cos(angle) * reach, np.sin(angle) * reach], axis=1), 0, side)


def clear_of_seams(truth, windows, side):
    """Without those that end within some px before a tile's edge: they look as if it cut them."""
    keep = np.ones(len(truth), bool)
    for axis in (0, 1):
        start, end = truth.boxes[:, axis], truth.boxes[:, axis + 2]
        for window in windows:
            low, high = window.bounds[axis], window.bounds[axis + 2]
            if low > 0:
                keep &= ~((start >= low) & (start < low + EDGE))
            if high < side:
                keep &= ~((end <= high) & (end > high - EDGE))
    return truth.take(keep)


def parts_of(truth, windows):
    """What each window shows, as `split` writes it (outlines in parts: rows of their own); surer the more is visible."""
    parts = []
    for window in windows:
        shown = window.clip(truth)
        if shown.task == "segment":
            rings, owner = polygons.parts(shown.rings)
            shown = replace(shown.take(owner), rings=rings, boxes=rings.bounds())
        parts.append((window, replace(shown, conf=np.minimum(1.0, shown.visible))))
    return parts


def equal(found, truth):
    """`(found, truth)` which are the same object, as exactly as its task can be."""
    if truth.rings is not None:
        one, other = found.rings.geometry(), truth.rings.geometry()
        common = shapely.area(shapely.intersection(one[:, None], other, grid_size=1e-6))
        same = common >= 0.999 * (shapely.area(one)[:, None] + shapely.area(other) - common)
    else:
        same = (np.abs(found.boxes[:, None] - truth.boxes) <= 1e-3).all(axis=-1)
    if truth.keypoints is not None:
        same &= (np.abs(found.keypoints[:, None] - truth.keypoints) <= 1e-3).all(axis=(-1, -2))
    return same & (found.class_id[:, None] == truth.class_id)


def assert_gives_back(truth, windows, size, **options):
    """Every object once, and nothing else."""
    out = stitch(parts_of(truth, windows), size, **options)
    same = equal(out.instances, truth)
    assert np.flatnonzero(~same.any(axis=0)).tolist() == [], "missed"
    assert np.flatnonzero(~same.any(axis=1)).tolist() == [], "extra"
    assert len(out.instances) == len(truth)
    return out
