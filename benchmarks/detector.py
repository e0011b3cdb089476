"""A simulated detector: what a network might report on the tiles of a scene whose truth is known.

There are no weights here and no pixels; it is a model, and its assumptions are these:

- A tile sees of an object what `Window.clip` leaves of it, and nothing of the rest.
- Sides of the visible part are found with a normal error of `jitter` of its width or height
  plus `jitter_px`. Where the tile cuts the object there is no side to find: the box ends
  |N(0, `gap`)| px inside the tile's edge.
- The score's log-odds are 2.8 sqrt(visible share) - 0.8 plus noise: .88 for a whole object, .76
  for half of one, .5 for a twelfth, each give or take. The score is less in proportion where
  the visible part is thinner than `readable` px. So fragments are reported, but less surely.
- A part is missed with the probability `missed`, or more where little of the object shows:
  half of the slightest fragments are. What is thinner than `thinnest` px is never reported.
- Two tiles that show the same object err alike, since they show the same pixels: of the
  variance of sides and scores the share `correlation` is common to all tiles of an object.
- `false_positives` a tile (Poisson), of the size and class of some object, with low scores,
  and each tile its own.
- At last each tile has its own NMS, class by class, at an IoU of `nms`.

What merges the detections is no concern of this module. The same arguments give the same
numbers, and those of a window do not depend on which other windows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.instances import Instances
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

Kind = Literal["small", "mixed", "large", "crowd", "nested"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Noise:
    """How a detector errs; the module's text tells the model.

    Attributes:
        jitter: standard deviation of a side, in parts of the visible width or height.
        jitter_px: what comes on top of it, px.
        score: standard deviation of the log-odds of the score.
        correlation: share of the variance of both that all tiles of an object have in common, 0..1.
        gap: px between a cut end and the tile's edge, the scale of a half-normal.
        false_positives: a tile.
        missed: share of the wholly visible objects that go unreported.
        fragments_missed: share of the slightest fragments that do.
        thinnest: px; thinner parts are not reported.
        readable: px; thinner parts are reported with less confidence.
        nms: IoU of each tile's own NMS.
    """

    jitter: float = 0.035
    jitter_px: float = 0.4
    score: float = 0.9
    correlation: float = 0.9
    gap: float = 1.0
    false_positives: float = 0.5
    missed: float = 0.01
    fragments_missed: float = 0.5
    thinnest: float = 2.0
    readable: float = 10.0
    nms: float = 0.7


NOISELESS = Noise(
    jitter=0,
    jitter_px=0,
    score=0,
    gap=0,
    false_positives=0,
    missed=0,
    fragments_missed=0,
    thinnest=0,
    nms=1,
)  # every clip of every object, with its score


def scenes(kind: Kind, seed: int, size: int = 2944) -> Instances:
    """The truth of one made-up scene of `size` x `size` px; the seed tells one from another.

    `small`: sparse objects of 12 to 44 px. `mixed`: 12 to 320 px. `large`: 30 objects of 140
    to 800 px, wider than an overlap of 128 px and some wider than a tile. These are of three
    classes and lie where they fall, up to an IoU of .3. `crowd`: blocks of like objects (cars
    parked, cells, fruit), some px apart, some overlapping by as much. `nested`: objects of 80
    to 300 px with small ones inside and beside them. These are of one class.

    >>> [len(scenes(kind, 0)) for kind in KINDS]
    [218, 160, 30, 864, 204]
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    if kind == "crowd":
        boxes = _crowd(rng, size)
    elif kind == "nested":
        boxes = _nested(rng, size)
    else:
        count, low, high = {
            "small": (218, 12, 44),
            "mixed": (160, 12, 320),
            "large": (30, 140, 800),
        }[kind]
        boxes = _placed(rng, _sides(rng, count, low, high), size, 0.3)
    classes = 1 if kind in ("crowd", "nested") else 3
    return Instances(class_id=rng.integers(0, classes, len(boxes)), boxes=boxes)


def _sides(rng: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """`(N, 2)` widths and heights: sizes even in their logarithm, proportions up to about 2 : 1."""
    size = np.exp(rng.uniform(np.log(low), np.log(high), count))
    stretch = np.exp(rng.uniform(-0.35, 0.35, count))
    return np.asarray(np.clip(np.stack([size * stretch, size / stretch], axis=1), low, high))


def _placed(rng: np.random.Generator, sides: Floats, size: int, iou: float) -> Floats:
    """`(N, 4)` boxes at random places, the largest first, of no greater IoU than that where there
    is room.
    """
    sides = sides[np.argsort(-sides.prod(axis=1), kind="stable")]
    placed = np.empty((0, 4))
    for side in sides:
        corners = rng.uniform(0, size - side, (100, 2))
        trial = np.concatenate([corners, corners + side], axis=1)
        common = box.area(box.intersection(trial[:, None], placed))
        worst = (common / (side.prod() + box.area(placed) - common)).max(axis=1, initial=0.0)
        first = int(np.argmax(worst <= iou)) if (worst <= iou).any() else int(worst.argmin())
        placed = np.concatenate([placed, trial[first, None]])
    return placed


def _crowd(rng: np.random.Generator, size: int) -> Floats:
    """18 blocks of 6 x 8 boxes; sides and places vary, so that some boxes overlap a little."""
    blocks = _placed(rng, rng.uniform(22, 62, (18, 2)) * [8, 6], size, 0.0)
    pitch = ((blocks[:, 2:] - blocks[:, :2]) / [8, 6])[:, None]
    rows, columns = np.divmod(np.arange(48), 8)
    centres = (
        blocks[:, None, :2]
        + (np.stack([columns, rows], axis=1) + rng.uniform(0.34, 0.66, (18, 48, 2))) * pitch
    )
    half = pitch * rng.uniform(0.38, 0.62, (18, 48, 2))
    return np.asarray(
        np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4).clip(0, size)
    )


def _nested(rng: np.random.Generator, size: int) -> Floats:
    """34 boxes with five small ones each: three inside, each in its third, and one on either
    side.
    """
    hosts = _placed(rng, _sides(rng, 34, 80, 300), size, 0.0)
    found = [hosts]
    for host in hosts:
        third = (host[2:] - host[:2]) * [1 / 3, 1]
        small = np.minimum(_sides(rng, 5, 14, 56), third)
        corners = (
            host[:2]
            + np.stack([np.arange(-1, 4), np.zeros(5)], axis=1) * third
            + rng.uniform(0, 1, (5, 2)) * (third - small)
        )
        corners = np.clip(corners, 0, size - small)
        found.append(np.concatenate([corners, corners + small], axis=1))
    return np.concatenate(found)


def detect(
    truth: Instances, windows: Sequence[Window], size: tuple[int, int], noise: Noise, seed: int
) -> list[tuple[Window, Instances]]:
    """What the detector reports on each window, in the window's own frame, with `conf`, the surest
    first.

    Args:
        truth: boxes in source pixels.
        size: width and height of the source image, px; nothing is reported outside it.

    >>> truth = scenes("small", 0)
    >>> [(window, found)] = detect(truth, [Window(0, 0, 640, 640)], (2944, 2944), NOISELESS, seed=0)
    >>> len(found) == len(window.clip(truth)), round(float(found.conf.max()), 2)
    (True, 0.88)
    """
    common = np.random.default_rng([seed]).standard_normal((len(truth), 5))
    return [(window, _detect(truth, window, size, noise, common, seed)) for window in windows]


def _detect(
    truth: Instances, window: Window, size: tuple[int, int], noise: Noise, common: Floats, seed: int
) -> Instances:
    rng = np.random.default_rng([seed, window.x, window.y, window.width, window.height])
    shown = window.clip(Instances(truth.class_id, truth.boxes))
    n = len(shown)
    own = rng.standard_normal((n, 5))
    z = np.sqrt(noise.correlation) * common[shown.row] + np.sqrt(1 - noise.correlation) * own
    ends, luck = np.abs(rng.normal(0, noise.gap, (n, 4))), rng.random(n)

    sides = shown.boxes[:, 2:] - shown.boxes[:, :2]
    missed = noise.missed + (noise.fragments_missed - noise.missed) * (1 - shown.visible) ** 4
    detected = (luck >= missed) & (sides.min(axis=1) >= noise.thinnest)
    odds = np.exp(2.8 * np.sqrt(shown.visible) - 0.8 + noise.score * z[:, 4])
    conf = odds / (1 + odds) * np.minimum(1, sides.min(axis=1) / noise.readable)

    whole = truth.boxes[shown.row]
    cut = np.concatenate(
        [whole[:, :2] < window.bounds[:2], whole[:, 2:] > window.bounds[2:]], axis=1
    )
    inward = np.array([1, 1, -1, -1])
    moved = np.where(
        cut, inward * ends, z[:, :4] * np.tile(noise.jitter * sides + noise.jitter_px, 2)
    )
    frame = np.array(
        [0, 0, min(window.width, size[0] - window.x), min(window.height, size[1] - window.y)],
        np.float64,
    )

    classes, boxes, scores = _false_positives(truth, frame, noise, rng)
    boxes = np.concatenate([shown.boxes + moved, boxes])
    boxes = np.clip(boxes, np.tile(frame[:2], 2), np.tile(frame[2:], 2))
    classes = np.concatenate([shown.class_id, classes])
    scores = np.concatenate([conf, scores])
    detected = np.concatenate([detected, np.ones(len(boxes) - n, bool)]) & (box.area(boxes) > 0)
    kept = _nms(boxes, scores, classes, np.flatnonzero(detected), noise.nms)
    return Instances(class_id=classes[kept], boxes=boxes[kept], conf=scores[kept])


def _false_positives(
    truth: Instances, frame: Floats, noise: Noise, rng: np.random.Generator
) -> tuple[Ints, Floats, Floats]:
    count = int(rng.poisson(noise.false_positives)) if len(truth) else 0
    like = rng.integers(0, max(1, len(truth)), count)
    sides = np.minimum(truth.boxes[like, 2:] - truth.boxes[like, :2], frame[2:])
    corners = rng.uniform(0, 1, (count, 2)) * (frame[2:] - sides)
    return (
        truth.class_id[like],
        np.concatenate([corners, corners + sides], axis=1),
        rng.uniform(0.05, 0.6, count),
    )


def _nms(boxes: Floats, scores: Floats, classes: Ints, among: Ints, iou: float) -> Ints:
    """Indices of the boxes that stay, the surest first."""
    left = among[np.argsort(-scores[among], kind="stable")]
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        common = box.area(box.intersection(boxes[left], boxes[best]))
        union = box.area(boxes[left]) + box.area(boxes[best]) - common
        left = left[(common <= iou * union) | (classes[left] != classes[best])]
    return np.array(kept, np.int64)
