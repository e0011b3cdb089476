#!/usr/bin/env python3
"""Render large aerial-looking scenes full of small objects, with exact ground truth.

One run gives the SAME images with four kinds of YOLO labels at once
(detect, segment, obb, pose), each as a trainable dataset root of its own, plus one
COCO-style truth.json with the unclipped geometry.  numpy + pillow only; seeded:
the same arguments give the same bytes (for PNG/BMP/TIFF; JPEG up to the libjpeg build).

    python make_scenes.py OUT --width 4000 --height 3000 --train 6 --val 2 --objects 400

    OUT/truth.json                       COCO + obb + heading + full (unclipped) polygons
    OUT/<task>/dataset.yaml              task = detect | segment | obb | pose
    OUT/<task>/images/{train,val,test}/  hard links to one copy of each image
    OUT/<task>/labels/{train,val,test}/
    OUT/overlay/                         with --overlay: images with the labels drawn on

Conventions
  * continuous pixel coordinates: pixel (i, j) covers [i, i+1) x [j, j+1)
  * heading: radians, direction of the nose, x to the right, y down
  * keypoints: nose, tail, left, right (kpt_shape [4, 3], flip_idx [0, 1, 3, 2])
    visibility 2 = inside the frame, 0 = outside (then written as 0 0 0)
  * OBB corners: front-left, front-right, rear-right, rear-left (clockwise on screen)
  * silhouettes never overlap one another (a gap of >= 1 px is kept), so the
    segment polygons are also exact instance masks; soft shadows are NOT in the labels
  * objects across the frame edge (--truncated) : detect = bounds of the clipped
    silhouette, segment = the clipped silhouette, obb = rectangle with the object's own
    heading around the clipped silhouette, corners then clamped to the frame;
    "truncated" and "visible" (area share) say so in truth.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

NAMES = ["car", "truck", "boat", "plane", "person", "tree"]
# usual length range (longest side of the OBB, px) per class, before --min-size/--max-size
LENGTHS = [(14, 44), (26, 80), (12, 60), (28, 80), (6, 14), (12, 64)]
TASKS = ["detect", "segment", "obb", "pose"]
GRASS, SOIL, WATER, PAVED = range(4)
ALLOWED = [(PAVED,), (PAVED,), (WATER,), (PAVED,), (PAVED, GRASS, SOIL), (GRASS, SOIL)]


# ----------------------------------------------------------------------------- geometry
def clip_polygon(poly, w, h):
    """Sutherland-Hodgman against [0,w]x[0,h]; poly is (n,2); may return an empty array."""

    def cut(points, inside, cross):
        out = []
        for i in range(len(points)):
            a, b = points[i - 1], points[i]
            ia, ib = inside(a), inside(b)
            if ia != ib:
                out.append(cross(a, b))
            if ib:
                out.append(b)
        return out

    def at_x(x):
        return lambda a, b: (x, a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]))

    def at_y(y):
        return lambda a, b: (a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]), y)

    p = [tuple(map(float, q)) for q in poly]
    for inside, cross in (
        (lambda q: q[0] >= 0, at_x(0.0)),
        (lambda q: q[0] <= w, at_x(float(w))),
        (lambda q: q[1] >= 0, at_y(0.0)),
        (lambda q: q[1] <= h, at_y(float(h))),
    ):
        if p:
            p = cut(p, inside, cross)
    return np.array(p, float).reshape(-1, 2)


def area(poly):
    if len(poly) < 3:
        return 0.0
    x, y = poly[:, 0], poly[:, 1]
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def rects_apart(a, b, gap):
    """Separating axis test for two 4-corner rectangles, True when >= gap apart on an axis."""
    for p, q in ((a, b), (b, a)):
        for i in range(2):
            e = p[i + 1] - p[i]
            n = math.hypot(e[0], e[1])
            if n == 0:
                continue
            ax = np.array([-e[1], e[0]]) / n
            pa, qa = p @ ax, q @ ax
            if pa.min() - qa.max() >= gap or qa.min() - pa.max() >= gap:
                return True
    return False


# ------------------------------------------------------------------------ object shapes
def shape_of(cls, length, rng):
    """Outline in the object's own frame (nose at +x, length along x, centred on its OBB)
    as an (n,2) array, and the painted parts [(polygon, colour)], outline first."""
    L = length
    car_cols = [
        (235, 235, 232),
        (32, 33, 36),
        (170, 26, 30),
        (36, 64, 140),
        (170, 174, 178),
        (214, 178, 40),
        (96, 22, 28),
        (24, 92, 70),
        (228, 228, 240),
    ]
    if cls == 0:
        W = L * rng.uniform(0.42, 0.47)
        a, b = L / 2, W / 2
        c = min(a, b) * 0.45
        out = [
            (a, -b + c),
            (a, b - c),
            (a - c, b),
            (-a + c, b),
            (-a, b - c),
            (-a, -b + c),
            (-a + c, -b),
            (a - c, -b),
        ]
        col = car_cols[rng.integers(len(car_cols))]
        glass = (26, 32, 40) if sum(col) > 200 else (96, 108, 120)
        roof = tuple(min(255, int(v * 1.12 + 10)) for v in col)
        parts = [
            (
                [
                    (0.26 * L, -0.39 * W),
                    (0.26 * L, 0.39 * W),
                    (0.12 * L, 0.33 * W),
                    (0.12 * L, -0.33 * W),
                ],
                glass,
            ),
            (
                [
                    (-0.38 * L, -0.35 * W),
                    (-0.38 * L, 0.35 * W),
                    (-0.26 * L, 0.33 * W),
                    (-0.26 * L, -0.33 * W),
                ],
                glass,
            ),
            (
                [
                    (0.12 * L, -0.33 * W),
                    (0.12 * L, 0.33 * W),
                    (-0.26 * L, 0.33 * W),
                    (-0.26 * L, -0.33 * W),
                ],
                roof,
            ),
        ]
    elif cls == 1:
        W = L * rng.uniform(0.26, 0.33)
        a, b = L / 2, W / 2
        k = 0.22 * L
        out = [
            (a, -b * 0.86),
            (a, b * 0.86),
            (a - k, b * 0.86),
            (a - k, b),
            (-a, b),
            (-a, -b),
            (a - k, -b),
            (a - k, -b * 0.86),
        ]
        col = [(238, 238, 236), (196, 60, 40), (44, 82, 150), (90, 120, 70), (200, 190, 160)][
            rng.integers(5)
        ]
        cab = car_cols[rng.integers(len(car_cols))]
        parts = [
            ([(a, -b * 0.86), (a, b * 0.86), (a - k, b * 0.86), (a - k, -b * 0.86)], cab),
            (
                [
                    (a - 0.06 * L, -b * 0.8),
                    (a - 0.06 * L, b * 0.8),
                    (a - 0.1 * L, b * 0.8),
                    (a - 0.1 * L, -b * 0.8),
                ],
                (30, 34, 40),
            ),
            (
                [(a - k, -b), (a - k, b), (a - k - 0.02 * L, b), (a - k - 0.02 * L, -b)],
                (40, 40, 40),
            ),
            (
                [
                    (a - k - 0.06 * L, -b * 0.1),
                    (a - k - 0.06 * L, b * 0.1),
                    (-a + 0.03 * L, b * 0.1),
                    (-a + 0.03 * L, -b * 0.1),
                ],
                tuple(int(v * 0.86) for v in col),
            ),
        ]
    elif cls == 2:
        W = L * rng.uniform(0.28, 0.36)
        a, b = L / 2, W / 2
        t = np.linspace(0, 1, 7)
        up = [(a - t_ * 0.62 * L, -b * math.sin(math.pi / 2 * t_) ** 0.8) for t_ in t]
        down = [(x, -y) for x, y in reversed(up[1:])]
        out = up + [(-a, -b * 0.8), (-a, b * 0.8)] + down
        col = [(240, 240, 238), (226, 220, 200), (180, 40, 36), (60, 90, 150), (210, 150, 70)][
            rng.integers(5)
        ]
        deck = [(150, 112, 74), (120, 126, 132), (200, 190, 170)][rng.integers(3)]
        parts = [
            (
                [
                    (0.2 * L, -0.2 * W),
                    (0.2 * L, 0.2 * W),
                    (-0.4 * L, 0.33 * W),
                    (-0.4 * L, -0.33 * W),
                ],
                deck,
            ),
            (
                [
                    (0.06 * L, -0.22 * W),
                    (0.06 * L, 0.22 * W),
                    (-0.18 * L, 0.24 * W),
                    (-0.18 * L, -0.24 * W),
                ],
                (250, 250, 250),
            ),
        ]
    elif cls == 3:
        S = L * rng.uniform(0.82, 0.98)  # span
        a, s, f = L / 2, S / 2, 0.055 * L
        half = [
            (a, 0.0),
            (a - 0.06 * L, f),
            (0.12 * L, f),
            (-0.1 * L, s),
            (-0.2 * L, s),
            (-0.08 * L, f),
            (-0.36 * L, f * 0.8),
            (-0.46 * L, 0.17 * L),
            (-0.5 * L, 0.17 * L),
            (-0.47 * L, 0.0),
        ]
        out = half + [(x, -y) for x, y in reversed(half[1:-1])]
        col = [(240, 241, 243), (216, 222, 228), (226, 230, 240)][rng.integers(3)]
        tail = [(190, 30, 40), (30, 70, 150), (230, 150, 20), (20, 110, 70)][rng.integers(4)]
        parts = [
            (
                [
                    (-0.40 * L, -0.03 * L),
                    (-0.40 * L, 0.03 * L),
                    (-0.465 * L, 0.02 * L),
                    (-0.465 * L, -0.02 * L),
                ],
                tail,
            ),
            (
                [
                    (a - 0.05 * L, -f * 0.5),
                    (a - 0.05 * L, f * 0.5),
                    (a - 0.075 * L, f * 0.6),
                    (a - 0.075 * L, -f * 0.6),
                ],
                (40, 46, 56),
            ),
            (
                [
                    (0.02 * L, 0.16 * S),
                    (0.06 * L, 0.16 * S),
                    (0.06 * L, 0.2 * S),
                    (0.02 * L, 0.2 * S),
                ],
                (120, 124, 130),
            ),
            (
                [
                    (0.02 * L, -0.16 * S),
                    (0.06 * L, -0.16 * S),
                    (0.06 * L, -0.2 * S),
                    (0.02 * L, -0.2 * S),
                ],
                (120, 124, 130),
            ),
        ]
        # keep only engine pods that lie inside the wings (all parts must be inside the outline)
        parts = [
            (p, c)
            for p, c in parts
            if points_inside(np.array(p, float), np.array(out, float)).all()
        ]
    elif cls == 4:
        a, b = L / 2, L * rng.uniform(0.30, 0.40)  # seen from above: shoulders are along y
        t = np.linspace(0, 2 * math.pi, 13)[:-1]
        out = [(b * math.cos(u), a * math.sin(u)) for u in t]
        col = [
            (190, 50, 50),
            (40, 80, 170),
            (230, 210, 60),
            (235, 235, 235),
            (30, 120, 70),
            (24, 24, 30),
            (220, 120, 40),
        ][rng.integers(7)]
        r = min(a, b) * 0.62
        head = [(70, 46, 30), (30, 24, 22), (186, 150, 110), (120, 90, 60)][rng.integers(4)]
        parts = [([(r * math.cos(u), r * math.sin(u)) for u in t], head)]
    else:
        n = 22
        r = 1 + 0.13 * rng.standard_normal(n)
        r = (r + np.roll(r, 1) + np.roll(r, -1)) / 3
        t = np.linspace(0, 2 * math.pi, n + 1)[:-1]
        o = np.stack([r * np.cos(t), r * np.sin(t)], 1)
        o -= (o.max(0) + o.min(0)) / 2
        o *= L / max(np.ptp(o, axis=0))
        out = o
        g = rng.uniform(0.8, 1.15)
        col = tuple(int(v * g) for v in [(34, 70, 30), (52, 84, 34), (70, 92, 44)][rng.integers(3)])
        parts = []
        for _ in range(9):  # lighter leaf clumps
            c = rng.uniform(-0.26, 0.26, 2) * L
            q = [
                (c[0] + 0.1 * L * math.cos(u), c[1] + 0.1 * L * math.sin(u))
                for u in np.linspace(0, 2 * math.pi, 9)[:-1]
            ]
            k = rng.uniform(0.75, 1.45)
            if points_inside(np.array(q), o).all():
                parts.append((q, tuple(min(255, int(v * k)) for v in col)))
    out = np.array(out, float)
    mid = (out.max(0) + out.min(0)) / 2
    out = out - mid
    parts = [(out, col)] + [(np.array(p, float) - mid, c) for p, c in parts]
    return out, parts


def points_inside(pts, poly):
    """even-odd test, pts (m,2), poly (n,2)"""
    x, y = pts[:, 0][:, None], pts[:, 1][:, None]
    x1, y1 = poly[:, 0][None], poly[:, 1][None]
    x2, y2 = np.roll(poly[:, 0], -1)[None], np.roll(poly[:, 1], -1)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return hit.sum(1) % 2 == 1


class Thing:
    __slots__ = (
        "cls",
        "cx",
        "cy",
        "heading",
        "length",
        "outline",
        "parts",
        "poly",
        "obb",
        "kpts",
        "radius",
    )

    def __init__(self, cls, cx, cy, heading, length, rng):
        self.cls, self.cx, self.cy, self.heading, self.length = cls, cx, cy, heading, length
        self.outline, self.parts = shape_of(cls, length, rng)
        c, s = math.cos(heading), math.sin(heading)
        R = np.array([[c, s], [-s, c]])
        self.parts = [(p @ R + (cx, cy), col) for p, col in self.parts]
        self.poly = self.parts[0][0]
        a, b = np.ptp(self.outline, axis=0) / 2
        # front-left, front-right, rear-right, rear-left: with y down the left hand is -y of the own
        # frame
        self.obb = np.array([(a, -b), (a, b), (-a, b), (-a, -b)]) @ R + (cx, cy)
        self.kpts = np.array([(a, 0), (-a, 0), (0, -b), (0, b)]) @ R + (cx, cy)
        self.radius = math.hypot(a, b)


# ---------------------------------------------------------------------------- the ground
class Ground:
    """Land cover and colours, evaluated block by block so that any size fits in memory."""

    def __init__(self, w, h, rng):
        self.w, self.h = w, h
        self.grids = []
        for step in (512, 128, 32, 8, 3):
            gw, gh = max(4, w // step + 4), max(4, h // step + 4)
            self.grids.append(
                (step, Image.fromarray(rng.uniform(0, 1, (gh, gw)).astype(np.float32)))
            )
        self.tint = rng.uniform(0.9, 1.1, (4, 3))

    def octave(self, i, x0, y0, bw, bh):
        step, g = self.grids[i]
        box = (1 + x0 / step, 1 + y0 / step, 1 + (x0 + bw) / step, 1 + (y0 + bh) / step)
        box = (box[0], box[1], min(box[2], g.width), min(box[3], g.height))
        return np.asarray(g.resize((bw, bh), Image.BICUBIC, box=box), np.float32)

    def cover(self, x0, y0, bw, bh):
        """four soft weights (grass, soil, water, paved)"""
        a = 0.72 * self.octave(0, x0, y0, bw, bh) + 0.28 * self.octave(1, x0, y0, bw, bh)
        b = 0.6 * self.octave(1, x0, y0, bw, bh) + 0.4 * self.octave(0, x0, y0, bw, bh)

        def soft(v, t, k=60.0):
            return 1 / (1 + np.exp(-np.clip((v - t) * k, -40, 40)))

        water = soft(-a, -0.36, 90)
        paved = soft(a, 0.55, 90)
        soil = soft(b, 0.6) * (1 - water) * (1 - paved)
        grass = np.clip(1 - water - paved - soil, 0, 1)
        return np.stack([grass, soil, water, paved], 0)

    def colours(self, x0, y0, bw, bh):
        wts = self.cover(x0, y0, bw, bh)
        base = (
            np.array([(92, 110, 62), (150, 126, 92), (38, 70, 84), (128, 127, 124)], np.float32)
            * self.tint
        )
        o2, o3, o4 = (self.octave(i, x0, y0, bw, bh) - 0.5 for i in (2, 3, 4))
        amp = np.array([(16, 26, 30), (14, 16, 18), (5, 6, 7), (6, 7, 8)], np.float32)
        img = np.zeros((bh, bw, 3), np.float32)
        for k in range(4):
            tex = amp[k, 0] * o2 + amp[k, 1] * o3 + amp[k, 2] * o4
            img += wts[k][..., None] * (base[k] + tex[..., None])
        return img

    def kind_at(self, x, y):
        x = int(min(max(x, 0), self.w - 1))
        y = int(min(max(y, 0), self.h - 1))
        return int(self.cover(x, y, 1, 1)[:, 0, 0].argmax())


def roads(w, h, rng):
    """straight roads as (p0, p1, width)"""
    out = []
    for _ in range(int(rng.integers(2, 4)) + (w * h) // 12_000_000):
        width = float(rng.uniform(46, 92))
        if rng.random() < 0.5:
            y0, y1 = rng.uniform(0.05, 0.95, 2) * h
            y1 = y0 + (y1 - y0) * 0.35
            out.append((np.array([-200.0, y0]), np.array([w + 200.0, y1]), width))
        else:
            x0, x1 = rng.uniform(0.05, 0.95, 2) * w
            x1 = x0 + (x1 - x0) * 0.35
            out.append((np.array([x0, -200.0]), np.array([x1, h + 200.0]), width))
    return out


def quad(p0, p1, half):
    d = (p1 - p0) / np.linalg.norm(p1 - p0)
    n = np.array([-d[1], d[0]]) * half
    return [tuple(p0 - n), tuple(p1 - n), tuple(p1 + n), tuple(p0 + n)]


def near_road(roads_, x, y, extra=0.0):
    for p0, p1, width in roads_:
        d = p1 - p0
        t = ((x - p0[0]) * d[0] + (y - p0[1]) * d[1]) / (d @ d)
        if 0 <= t <= 1:
            q = p0 + t * d
            if math.hypot(x - q[0], y - q[1]) < width / 2 + extra:
                return True
    return False


# ---------------------------------------------------------------------------- one image
class Layout:
    """placing without overlaps"""

    def __init__(self, w, h, cell=96.0):
        self.w, self.h, self.cell, self.map, self.things = w, h, cell, {}, []

    def fits(self, t, gap=1.0):
        c = self.cell
        reach = t.radius + 60
        for gx in range(int((t.cx - reach) // c), int((t.cx + reach) // c) + 1):
            for gy in range(int((t.cy - reach) // c), int((t.cy + reach) // c) + 1):
                for o in self.map.get((gx, gy), ()):
                    if math.hypot(o.cx - t.cx, o.cy - t.cy) > o.radius + t.radius + gap:
                        continue
                    if not rects_apart(o.obb, t.obb, gap):
                        return False
        return True

    def add(self, t):
        self.map.setdefault((int(t.cx // self.cell), int(t.cy // self.cell)), []).append(t)
        self.things.append(t)


def wholly_inside(t, w, h, margin=0.5):
    lo, hi = np.minimum(t.poly.min(0), t.obb.min(0)), np.maximum(t.poly.max(0), t.obb.max(0))
    return lo[0] >= margin and lo[1] >= margin and hi[0] <= w - margin and hi[1] <= h - margin


def populate(args, ground, roads_, rng):
    w, h = args.width, args.height
    lay = Layout(w, h)
    classes = args.classes
    zoom = float(rng.uniform(0.8, 1.2))

    def size(cls):
        lo, hi = LENGTHS[cls]
        lo, hi = lo * zoom, hi * zoom
        v = math.exp(rng.uniform(math.log(lo), math.log(hi)))
        return float(min(max(v, args.min_size), args.max_size))

    want = args.objects
    tries = 0
    # 1. across the frame edge
    n = 0
    while n < args.truncated and tries < 200 * (args.truncated + 1):
        tries += 1
        cls = classes[rng.integers(len(classes))]
        L = size(cls)
        side = rng.integers(4)
        x = (rng.uniform(0, w), rng.uniform(0, w), 0.0, float(w))[side] + rng.uniform(
            -0.3, 0.3
        ) * L * (side > 1)
        y = (0.0, float(h), rng.uniform(0, h), rng.uniform(0, h))[side] + rng.uniform(
            -0.3, 0.3
        ) * L * (side < 2)
        t = Thing(cls, x, y, rng.uniform(0, 2 * math.pi), L, rng)
        vis = area(clip_polygon(t.poly, w, h)) / area(t.poly)
        if 0.15 < vis < 0.95 and lay.fits(t):
            lay.add(t)
            n += 1
    # 2. dense groups: parking rows, marinas, crowds
    groups = max(1, want // 60) if want >= 40 else 0
    for _ in range(groups * 6):
        if groups <= 0 or len(lay.things) >= want * 0.55:
            break
        kind = [c for c in (0, 2, 4, 1) if c in classes]
        if not kind:
            break
        cls = kind[rng.integers(len(kind))]
        L = min(size(cls), 40 if cls != 1 else 60)
        cx, cy = rng.uniform(0, w), rng.uniform(0, h)
        if ground.kind_at(cx, cy) not in ALLOWED[cls] or near_road(roads_, cx, cy, 60):
            continue
        groups -= 1
        ang = rng.uniform(0, 2 * math.pi)
        c, s = math.cos(ang), math.sin(ang)
        rows, cols = int(rng.integers(2, 5)), int(rng.integers(5, 13))
        for r in range(rows):
            for q in range(cols):
                if rng.random() < 0.15:
                    continue
                across = L * (0.47 if cls == 0 else 0.42) + rng.uniform(1.2, 3.5)
                dx, dy = (
                    (r - rows / 2) * L * (1.12 if r % 2 else 1.3),
                    (q - cols / 2) * (across if cls != 4 else L * 1.5),
                )
                if cls == 4:
                    dx, dy = rng.normal(0, 4 * L), rng.normal(0, 4 * L)
                x, y = cx + c * dx - s * dy, cy + s * dx + c * dy
                hd = ang + rng.normal(0, 0.02) + (math.pi if rng.random() < 0.5 else 0)
                if cls == 4:
                    hd = rng.uniform(0, 2 * math.pi)
                k = L if cls == 4 else L * rng.uniform(0.94, 1.0)
                t = Thing(cls, x, y, hd, max(args.min_size, k), rng)
                if wholly_inside(t, w, h) and lay.fits(t) and ground.kind_at(x, y) in ALLOWED[cls]:
                    lay.add(t)
    # 3. traffic on the roads
    vehicles = [c for c in (0, 1) if c in classes]
    for p0, p1, width in roads_:
        if not vehicles:
            break
        d = (p1 - p0) / np.linalg.norm(p1 - p0)
        nrm = np.array([-d[1], d[0]])
        for lane in (-0.25, 0.25):
            s = 0.0
            end = float(np.linalg.norm(p1 - p0))
            while s < end and len(lay.things) < want * 0.75:
                s += float(rng.uniform(40, 320))
                cls = vehicles[-1] if rng.random() < 0.18 else vehicles[0]
                L = min(size(cls), width * (0.9 if cls == 1 else 0.6))
                L = max(L, args.min_size)
                p = p0 + d * s + nrm * (lane * width + rng.normal(0, 1.0))
                hd = math.atan2(d[1], d[0]) + (math.pi if lane < 0 else 0) + rng.normal(0, 0.02)
                t = Thing(cls, float(p[0]), float(p[1]), hd, L, rng)
                if wholly_inside(t, w, h) and lay.fits(t, 3.0):
                    lay.add(t)
    # 4. the rest, anywhere that suits (and anywhere at all when nothing suits)
    tries = 0
    while len(lay.things) < want and tries < want * 60:
        tries += 1
        cls = classes[rng.integers(len(classes))]
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        if tries < want * 30:
            k = ground.kind_at(x, y)
            on_road = near_road(roads_, x, y, 8)
            if on_road or k not in ALLOWED[cls]:
                continue
        t = Thing(cls, x, y, rng.uniform(0, 2 * math.pi), size(cls), rng)
        if wholly_inside(t, w, h) and lay.fits(t, 1.5):
            lay.add(t)
    return lay.things


def coverage(poly, x0, y0, w, h, ss=16):
    """share of every pixel of the w x h window at (x0, y0) that the polygon covers:
    exact along x, ss sample rows per pixel along y (even-odd rule)"""
    px, py = poly[:, 0] - x0, poly[:, 1] - y0
    qx, qy = np.roll(px, -1), np.roll(py, -1)
    y = ((np.arange(h * ss) + 0.5) / ss)[:, None]
    hit = (py > y) != (qy > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(hit, px + (y - py) * (qx - px) / (qy - py), np.inf)
    x = np.sort(x, axis=1)[:, : int(hit.sum(1).max(initial=0))]
    col = np.arange(w, dtype=np.float64)
    cov = np.zeros((h * ss, w))
    for j in range(x.shape[1]):
        part = np.clip(x[:, j][:, None] - col, 0, 1)
        cov += part if j % 2 else -part
    return cov.reshape(h, ss, w).mean(1).astype(np.float32)[..., None]


def paint(arr, thing, sun, shade, dark=0.42):
    """composite one object and its soft shadow, antialiased"""
    H, W = arr.shape[:2]
    sh = thing.length * 0.16 + 1.0
    off = np.array(sun) * sh
    pad = int(sh) + 4
    lo = np.floor(thing.poly.min(0)).astype(int) - pad
    hi = np.ceil(thing.poly.max(0)).astype(int) + pad
    x0, y0, x1, y1 = max(lo[0], 0), max(lo[1], 0), min(hi[0], W), min(hi[1], H)
    if x1 <= x0 or y1 <= y0:
        return
    w, h = x1 - x0, y1 - y0
    patch = arr[y0:y1, x0:x1].astype(np.float32)
    body = coverage(thing.poly, x0, y0, w, h)
    if dark > 0:
        m = Image.fromarray(
            (coverage(thing.poly + off, x0, y0, w, h, 4)[..., 0] * 255).astype(np.uint8)
        )
        m = m.filter(ImageFilter.GaussianBlur(0.8 + thing.length * 0.015))
        patch *= 1 - dark * np.asarray(m, np.float32)[..., None] / 255.0 * (1 - body)
    for i, (poly, col) in enumerate(thing.parts):
        m = coverage(poly, x0, y0, w, h) if i else body
        patch = patch * (1 - m) + np.array(col, np.float32) * m * shade
    arr[y0:y1, x0:x1] = np.clip(patch + 0.5, 0, 255).astype(np.uint8)


def render(args, index):
    rng = np.random.default_rng([args.seed, index, 1])
    w, h = args.width, args.height
    ground = Ground(w, h, rng)
    roads_ = roads(w, h, rng) if min(w, h) >= 320 else []
    arr = np.empty((h, w, 3), np.uint8)
    B = 1024
    for y in range(0, h, B):
        for x in range(0, w, B):
            bw, bh = min(B, w - x), min(B, h - y)
            arr[y : y + bh, x : x + bw] = np.clip(ground.colours(x, y, bw, bh), 0, 255)
    im = Image.fromarray(arr)
    d = ImageDraw.Draw(im)
    for p0, p1, width in roads_:
        d.polygon(quad(p0, p1, width / 2 + 5), fill=(150, 146, 138))
        d.polygon(quad(p0, p1, width / 2), fill=(88, 88, 91))
    for p0, p1, width in roads_:
        u = (p1 - p0) / np.linalg.norm(p1 - p0)
        n = np.array([-u[1], u[0]])
        end = float(np.linalg.norm(p1 - p0))
        for s in np.arange(0, end, 44):
            d.polygon(quad(p0 + u * s, p0 + u * min(s + 18, end), 1.2), fill=(206, 204, 196))
        for side in (-1, 1):
            d.polygon(
                quad(p0 + n * side * (width / 2 - 4), p1 + n * side * (width / 2 - 4), 0.9),
                fill=(190, 188, 182),
            )
    arr = np.asarray(im).copy()
    del im
    things = populate(args, ground, roads_, rng)
    ang = rng.uniform(0, 2 * math.pi)
    sun = (math.cos(ang), math.sin(ang))
    for t in things:
        paint(arr, t, sun, float(rng.uniform(0.9, 1.06)), args.shadow)
    if args.noise > 0:  # sensor noise, block by block, seeded by the block
        for y in range(0, h, B):
            for x in range(0, w, B):
                nrng = np.random.default_rng([args.seed, index, 2, y, x])
                blk = arr[y : y + B, x : x + B]
                lum = nrng.normal(0, args.noise, blk.shape[:2]).astype(np.float32)[..., None]
                blk[...] = np.clip(
                    blk.astype(np.float32)
                    + lum
                    + nrng.normal(0, args.noise * 0.4, blk.shape).astype(np.float32)
                    + 0.5,
                    0,
                    255,
                )
    return arr, things


# ------------------------------------------------------------------------------- labels
def label_lines(things, w, h):
    out = {t: [] for t in TASKS}
    rows = []

    def f(v):
        return ("%.6f" % v).rstrip("0").rstrip(".") if v else "0"

    for t in things:
        inside = wholly_inside(t, w, h, 0.0)
        poly = t.poly if inside else clip_polygon(t.poly, w, h)
        if len(poly) < 3:
            continue
        lo, hi = poly.min(0), poly.max(0)
        box = [
            (lo[0] + hi[0]) / 2 / w,
            (lo[1] + hi[1]) / 2 / h,
            (hi[0] - lo[0]) / w,
            (hi[1] - lo[1]) / h,
        ]
        if inside:
            obb = t.obb
        else:
            c, s = math.cos(t.heading), math.sin(t.heading)
            own = (poly - (t.cx, t.cy)) @ np.array([[c, -s], [s, c]])
            a, b = own.min(0), own.max(0)
            obb = np.array([(b[0], a[1]), (b[0], b[1]), (a[0], b[1]), (a[0], a[1])]) @ np.array(
                [[c, s], [-s, c]]
            ) + (t.cx, t.cy)
            obb = np.clip(obb, 0, (w, h))
        k = []
        for x, y in t.kpts:
            ok = 0 <= x <= w and 0 <= y <= h
            k += [x, y, 2] if ok else [0, 0, 0]
        norm = lambda p: " ".join(f(v) for v in (np.asarray(p) / (w, h)).ravel())
        out["detect"].append(f"{t.cls} " + " ".join(map(f, box)))
        out["segment"].append(f"{t.cls} " + norm(poly))
        out["obb"].append(f"{t.cls} " + norm(obb))
        out["pose"].append(
            f"{t.cls} "
            + " ".join(map(f, box))
            + " "
            + " ".join(f"{f(k[i] / w)} {f(k[i + 1] / h)} {k[i + 2]}" for i in range(0, 12, 3))
        )
        r = lambda p: [round(float(v), 3) for v in np.asarray(p).ravel()]
        rows.append(
            dict(
                category_id=t.cls,
                bbox=r([lo[0], lo[1], hi[0] - lo[0], hi[1] - lo[1]]),
                area=round(area(poly), 3),
                iscrowd=0,
                segmentation=[r(poly)],
                keypoints=[round(float(v), 3) for v in k],
                num_keypoints=sum(v == 2 for v in k[2::3]),
                obb=r(obb),
                heading=round(t.heading % (2 * math.pi), 6),
                center=r([t.cx, t.cy]),
                length=round(t.length, 3),
                truncated=not inside,
                visible=round(area(poly) / area(t.poly), 5),
                full_polygon=r(t.poly),
                full_obb=r(t.obb),
            )
        )
    return out, rows


def write_yaml(path, task, names, splits):
    lines = [f"# made by make_scenes.py, task: {task}", "train: images/train", "val: images/val"]
    if splits.get("test"):
        lines.append("test: images/test")
    lines.append("names:")
    lines += [f"  {i}: {n}" for i, n in enumerate(names)]
    if task == "pose":
        lines += ["kpt_shape: [4, 3]", "flip_idx: [0, 1, 3, 2]"]
    path.write_text("\n".join(lines) + "\n")


def overlay(arr, labels, w, h):
    """all four labels drawn on one copy: green box, yellow outline, red obb (thick front edge),
    cyan nose point
    """
    im = Image.fromarray(arr)
    d = ImageDraw.Draw(im)
    for ln_d, ln_s, ln_o, ln_p in zip(*(labels[t] for t in TASKS)):
        v = list(map(float, ln_d.split()[1:]))
        x, y, bw, bh = v[0] * w, v[1] * h, v[2] * w, v[3] * h
        d.rectangle(
            [x - bw / 2 - 0.5, y - bh / 2 - 0.5, x + bw / 2 - 0.5, y + bh / 2 - 0.5],
            outline=(0, 255, 0),
        )
        sc = lambda s: [(float(a) * w - 0.5, float(b) * h - 0.5) for a, b in zip(s[1::2], s[2::2])]
        d.polygon(sc(ln_o.split()), outline=(255, 0, 0))
        d.polygon(sc(ln_s.split()), outline=(255, 255, 0))
        p = list(map(float, ln_p.split()[5:]))
        for i, c in ((0, (0, 255, 255)), (3, (255, 0, 255))):
            if p[i + 2]:
                q = (p[i] * w - 0.5, p[i + 1] * h - 0.5)
                d.ellipse([q[0] - 1, q[1] - 1, q[0] + 1, q[1] + 1], fill=c)
    return im


def main(argv=None):
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("out", type=Path)
    ap.add_argument("--width", type=int, default=4000)
    ap.add_argument("--height", type=int, default=3000)
    ap.add_argument("--train", type=int, default=4)
    ap.add_argument("--val", type=int, default=1)
    ap.add_argument("--test", type=int, default=0)
    ap.add_argument(
        "--objects", type=int, default=400, help="per image (fewer when they do not fit)"
    )
    ap.add_argument("--truncated", type=int, default=0, help="of them, across the frame edge")
    ap.add_argument(
        "--background",
        type=int,
        default=0,
        help="further train images without any object (no label file)",
    )
    ap.add_argument("--min-size", type=float, default=6)
    ap.add_argument("--max-size", type=float, default=80)
    ap.add_argument("--classes", default=",".join(NAMES), help="subset of " + ",".join(NAMES))
    ap.add_argument("--tasks", default=",".join(TASKS))
    ap.add_argument("--format", default="jpg", choices=["jpg", "png", "bmp", "tif", "webp"])
    ap.add_argument("--quality", type=int, default=92)
    ap.add_argument("--noise", type=float, default=3.0, help="sensor noise, grey levels")
    ap.add_argument(
        "--shadow", type=float, default=0.42, help="darkness of the soft shadows, 0 = none"
    )
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--link", default="hard", choices=["hard", "copy"])
    ap.add_argument("--overlay", action="store_true")
    args = ap.parse_args(argv)
    names = args.classes.split(",")
    bad = [n for n in names if n not in NAMES]
    if bad or args.width < 64 or args.height < 64:
        ap.error(f"unknown classes {bad}" if bad else "width and height must be at least 64")
    args.classes = [NAMES.index(n) for n in names]
    tasks = [t for t in TASKS if t in args.tasks.split(",")]
    out = args.out
    if out.exists() and any(out.iterdir()):
        ap.error(f"{out} is not empty")
    splits = {"train": args.train + args.background, "val": args.val, "test": args.test}
    remap = {c: i for i, c in enumerate(args.classes)}
    truth = dict(
        info=dict(description="make_scenes.py", args={k: str(v) for k, v in vars(args).items()}),
        images=[],
        annotations=[],
        categories=[
            dict(
                id=i, name=n, keypoints=["nose", "tail", "left", "right"], skeleton=[[1, 2], [3, 4]]
            )
            for i, n in enumerate(names)
        ],
    )
    for t in tasks:
        for s, n in splits.items():
            if n:
                (out / t / "images" / s).mkdir(parents=True, exist_ok=True)
                (out / t / "labels" / s).mkdir(parents=True, exist_ok=True)
    if args.overlay:
        (out / "overlay").mkdir(parents=True, exist_ok=True)
    index = 0
    for split, n in splits.items():
        for i in range(n):
            empty = split == "train" and i >= args.train
            keep = args.objects, args.truncated
            if empty:
                args.objects = args.truncated = 0
            arr, things = render(args, index)
            args.objects, args.truncated = keep
            for t in things:
                t.cls = remap[t.cls]
            labels, rows = label_lines(things, args.width, args.height)
            stem = f"{split}_{index:05d}"
            first = out / tasks[0] / "images" / split / f"{stem}.{args.format}"
            opts = (
                dict(quality=args.quality, subsampling=0)
                if args.format == "jpg"
                else dict(quality=args.quality)
                if args.format == "webp"
                else {}
            )
            Image.fromarray(arr).save(first, **opts)
            for t in tasks:
                dst = out / t / "images" / split / first.name
                if dst != first:
                    try:
                        if args.link == "copy":
                            raise OSError
                        os.link(first, dst)
                    except OSError:
                        shutil.copyfile(first, dst)
                if not empty:
                    (out / t / "labels" / split / f"{stem}.txt").write_text(
                        "\n".join(labels[t]) + ("\n" if labels[t] else "")
                    )
            truth["images"].append(
                dict(
                    id=index,
                    file_name=f"{split}/{first.name}",
                    width=args.width,
                    height=args.height,
                )
            )
            for r in rows:
                truth["annotations"].append(
                    dict(id=len(truth["annotations"]) + 1, image_id=index, **r)
                )
            if args.overlay and not empty:
                overlay(arr, labels, args.width, args.height).save(out / "overlay" / f"{stem}.png")
            print(f"{stem}: {args.width}x{args.height}, {len(rows)} objects", file=sys.stderr)
            index += 1
    for t in tasks:
        write_yaml(out / t / "dataset.yaml", t, names, splits)
    (out / "truth.json").write_text(json.dumps(truth))


if __name__ == "__main__":
    main()
