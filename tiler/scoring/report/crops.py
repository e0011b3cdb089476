"""Cut-outs of the images around the worst mistakes: those that seams make first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from tiler.errors import SourceRefused
from tiler.evaluation.diagnosis import (
    FOUND_KINDS,
    IGNORED,
    LABEL_KINDS,
    LEFT_OUT,
    LOW_CONF,
    RIGHT,
    Diagnosis,
)
from tiler.evaluation.seams import INSIDE
from tiler.formats.text_files import open_regular
from tiler.images import reading
from tiler.images.drawing import BLUE, GREEN, GREY, RED, Canvas, Caption, Stroke
from tiler.images.viewing import coloured
from tiler.scoring.operating import worst_images

if TYPE_CHECKING:
    from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
    from tiler.geometry.instances import Instances
    from tiler.scoring.metrics import Metrics
    from tiler.types import Bools, Floats, Ints

SIDE = 384  # px of a crop; an enlarged one, or one of a small image, may have less
AROUND, ROOM = 3.0, 1.2  # sides of the object that a crop shows, and the least
WHOLE = 1280  # px of the longer side of a whole image
# labels and detections in a crop, up to which all are named; of more only the wrong ones, and those
# that the crop is about
NAMED = 12
CLOSEST = 8  # times enlarged, unless the whole image is smaller
EACH = 3  # of one image, while others have any

SEAM_KINDS = ("SeamSplit", "LostInMerge", "SeamDup", "SeamTrunc")
MISSED = ("NotCovered", "Miss", "LowConf")
FALSE = ("Bkg", "Cls", "Both", "Loc", "Dup")
WORDS = {
    "SeamDup": "a second detection, of another tile",
    "Dup": "a second detection",
    "SeamTrunc": "a piece that ends where its tile does",
    "Loc": "badly placed",
    "Cls": "another class",
    "Both": "another class, and badly placed",
    "Bkg": "nothing there",
    "SeamSplit": "in pieces of different tiles",
    "LostInMerge": "found on a tile, lost in merging",
    "NotCovered": "on no tile",
    "LowConf": "found with too little confidence",
    "Miss": "missed",
}


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image with its labels and detections.

    Attributes:
        key: of the image.
        what: what is wrong, and where; with names of classes as they are.
        width, height: of the JPEG, px.
    """

    key: str
    what: str
    jpeg: bytes
    width: int
    height: int


class Mistake(NamedTuple):
    """A label or a detection that something is wrong with, by its number."""

    kind: str
    is_label: bool
    number: int


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where something is wrong.

    Attributes:
        box: `(4,)` px of the image, the label and the detection in question together.
        view: `(4,)` whole px, what is cut out.
        zoom: whole times enlarged, or -n for reduced n times (1 and -1 are neither).
    """

    image: int
    kind: str
    what: str
    box: Floats
    view: tuple[int, int, int, int]
    zoom: int

    @property
    def scale(self) -> float:
        """Px of the crop per px of the image."""
        if self.zoom > 0:
            return float(self.zoom)
        return -1 / self.zoom


def worst(metrics: Metrics, count: int = 12) -> list[Crop]:
    """The worst places: errors of seams by their confidence, labels missed near seams, then other
    mistakes.

    Tiles' sides are thin lines, labels green, right detections blue, wrong ones orange with their
    confidence. Nothing without error classes or a folder of images; images that cannot be opened
    are left out. Each is decoded once.
    """
    errors = metrics.errors
    if errors is None or metrics.root is None:
        return []
    ranked = [*_ranked(metrics, errors)]
    confused = [mistake for mistake in ranked if mistake.kind == "Cls"]
    of_class = _chosen(metrics, errors, confused, count // 4)
    others = _chosen(metrics, errors, ranked, count - len(of_class), of_class)
    spots = [*others, *of_class]
    crops: dict[int, Crop] = {}
    for image in sorted({spot.image for spot in spots}):
        pixels = _decoded(metrics, image)
        if pixels is None:
            continue
        for i, spot in enumerate(spots):
            if spot.image == image:
                with suppress(MemoryError):
                    crops[i] = _crop(metrics, errors, pixels, spot)
    return [crops[i] for i in sorted(crops)]


def overview(metrics: Metrics) -> Crop | None:
    """The whole of the image with most false and missed that can be opened, with its tiles, labels
    and detections.
    """
    if metrics.errors is None or metrics.root is None:
        return None
    for image in worst_images(metrics.per_image):
        size = _size(metrics, image)
        if size is None:
            continue
        pixels = _decoded(metrics, image)
        if pixels is not None:
            spot = _whole(metrics.per_image[image], image, size)
            return _crop(metrics, metrics.errors, pixels, spot)
    return None


# --- which mistakes


def _ranked(metrics: Metrics, errors: Diagnosis) -> Iterator[Mistake]:
    """All mistakes: of several kinds the worst of each in turn."""
    sample = metrics.sample
    conf = sample.detections.instances.confidence
    area = sample.labels.instances.area
    wrong = np.flatnonzero((errors.found > RIGHT) & (errors.about >= 0))
    # a label in pieces is as bad as its most confident piece
    confident = np.zeros(len(sample.labels))
    np.maximum.at(confident, errors.about[wrong], conf[wrong])
    every = np.ones(len(sample.labels), bool)
    elsewhere = every

    at_seams = []
    for kind in SEAM_KINDS:
        if kind in LABEL_KINDS:
            at_seams.append(_labels_of(errors, kind, -confident, every))
        else:
            at_seams.append(_detections_of(errors, kind, conf))
    yield from _in_turn(at_seams)
    if metrics.seams is not None:
        margin = metrics.seams.margin
        near = margin < INSIDE
        elsewhere = ~near
        yield from _in_turn([_labels_of(errors, kind, margin, near) for kind in MISSED])
    false = [_detections_of(errors, kind, conf) for kind in FALSE]
    missed = [_labels_of(errors, kind, -area, elsewhere) for kind in MISSED]
    yield from _in_turn([*false, *missed])


def _labels_of(errors: Diagnosis, kind: str, order: Floats, chosen: Bools) -> list[Mistake]:
    """Labels of a kind among those chosen, in an order."""
    numbers = np.flatnonzero((errors.labels == LABEL_KINDS.index(kind)) & chosen)
    numbers = numbers[np.argsort(order[numbers], kind="stable")]
    return [Mistake(kind, True, number) for number in numbers.tolist()]


def _detections_of(errors: Diagnosis, kind: str, conf: Floats) -> list[Mistake]:
    """Detections of a kind, the most confident first."""
    numbers = np.flatnonzero(errors.found == FOUND_KINDS.index(kind))
    numbers = numbers[np.argsort(-conf[numbers], kind="stable")]
    return [Mistake(kind, False, number) for number in numbers.tolist()]


def _in_turn(lists: list[list[Mistake]]) -> Iterator[Mistake]:
    for i in range(max(map(len, lists))):
        for mistakes in lists:
            if i < len(mistakes):
                yield mistakes[i]


# --- which places


def _chosen(
    metrics: Metrics,
    errors: Diagnosis,
    ranked: Sequence[Mistake],
    count: int,
    known: Sequence[_Spot] = (),
) -> list[_Spot]:
    """The first places, none of which is in sight of another; a few of each image, and more if
    these are too few.

    Args:
        known: places that were chosen before.
    """
    size_of = cache(partial(_size, metrics))
    chosen: list[_Spot] = []
    for most in (EACH, count):
        for mistake in ranked:
            if len(chosen) >= count:
                return chosen
            image = _image_of(metrics.sample, mistake)
            same_image = [spot for spot in (*known, *chosen) if spot.image == image]
            if len(same_image) >= most:
                continue
            size = size_of(image)
            if size is None:
                continue
            box = _extent(metrics.sample, errors, mistake)
            if not any(_in_sight(spot, box) for spot in same_image):
                chosen.append(_spot(metrics, errors, mistake, box, size))
    return chosen


def _rows_of(sample: EvaluationInputs, mistake: Mistake) -> GroundTruth | Predicted:
    """The labels or the detections, whichever the mistake is one of."""
    return sample.labels if mistake.is_label else sample.detections


def _image_of(sample: EvaluationInputs, mistake: Mistake) -> int:
    return int(_rows_of(sample, mistake).image[mistake.number])


def _extent(sample: EvaluationInputs, errors: Diagnosis, mistake: Mistake) -> Floats:
    """The label, or the detection and the label that it is about."""
    own = _rows_of(sample, mistake).instances.boxes[[mistake.number]]
    boxes = own
    if not mistake.is_label and errors.about[mistake.number] >= 0:
        label = sample.labels.instances.boxes[[errors.about[mistake.number]]]
        boxes = np.concatenate([label, own])
    upper = boxes[:, :2].min(axis=0)
    lower = boxes[:, 2:].max(axis=0)
    return np.concatenate([upper, lower])


def _in_sight(spot: _Spot, box: Floats) -> bool:
    x, y = (box[:2] + box[2:]) / 2
    left, top, right, bottom = spot.view
    return bool(left <= x < right and top <= y < bottom)


def _spot(
    metrics: Metrics, errors: Diagnosis, mistake: Mistake, box: Floats, size: tuple[int, int]
) -> _Spot:
    zoom = _zoom(box, size)
    view = _view(box, zoom, size)
    what = _described(metrics, errors, mistake)
    x, y, _, _ = box
    what += f" (at {x:.0f}, {y:.0f}{_scale_words(zoom)})"
    image = _image_of(metrics.sample, mistake)
    return _Spot(image, mistake.kind, what, box, view, zoom)


def _zoom(box: Floats, size: tuple[int, int]) -> int:
    """How many times what lies around a box is enlarged, or reduced (below 0)."""
    sides = box[2:] - box[:2]
    side = max(float(sides.max()), 1.0)
    closest = SIDE // (ROOM * side)
    if not closest:
        shown = max(1, min(1.5 * side, max(size)) / SIDE)
        return -round(shown)
    around = SIDE // max(AROUND * side, SIDE / CLOSEST)
    filling = min(SIDE // min(size), closest)
    return int(max(1, around, filling))


def _view(box: Floats, zoom: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What is cut out: around the middle of a box, within the image."""
    across = SIDE // zoom if zoom > 0 else SIDE * -zoom
    width, height = size
    w = min(across, width)
    h = min(across, height)
    spare = box[:2] + box[2:] - (w, h)
    corner = np.round(spare / 2)
    last = (width - w, height - h)
    x, y = np.clip(corner, 0, last).astype(int).tolist()
    return x, y, x + w, y + h


def _described(metrics: Metrics, errors: Diagnosis, mistake: Mistake) -> str:
    """The kind of mistake, the class, and what that means."""
    instances = _rows_of(metrics.sample, mistake).instances
    i = mistake.number
    name = metrics.names[instances.class_id[i]]
    if instances.conf is not None:
        name += f" {instances.conf[i]:.2f}"
    what = f"{mistake.kind}: {name}, {WORDS[mistake.kind]}"
    if mistake.kind in ("Cls", "Both") and errors.about[i] >= 0:
        label = errors.about[i]
        true = metrics.sample.labels.class_id[label]
        what += f" ({metrics.names[true]})"
    return what


def _scale_words(zoom: int) -> str:
    if zoom > 1:
        return f"; enlarged {zoom} times"
    if zoom < -1:
        return f"; reduced {-zoom} times"
    return ""


def _whole(row: Mapping[str, Any], image: int, size: tuple[int, int]) -> _Spot:
    """All of an image."""
    width, height = size
    reduced = -(-max(size) // WHOLE)  # rounded up
    zoom = -reduced if reduced > 1 else 1
    labels = f"{row['labels']} labels, {row['tp']} found"
    false = f"{row['fp']} detections false"
    missed = f"{row['fn']} labels missed"
    shown = f"{width} x {height} px{_scale_words(zoom)}"
    what = f"Whole: {labels}, {false}, {missed} ({shown})"
    nowhere = np.full(4, np.nan)
    return _Spot(image, "", what, nowhere, (0, 0, width, height), zoom)


# --- images


def _size(metrics: Metrics, image: int) -> tuple[int, int] | None:
    """Width and height of an image that can be opened."""
    path = metrics.file_of(image)
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            return reading.plain_header(file).size
    except (OSError, ValueError, SourceRefused):
        return None


def _decoded(metrics: Metrics, image: int) -> Image.Image | None:
    """The pixels of an image that can be opened."""
    path = metrics.file_of(image)
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            return reading.decode(file, reading.plain_header(file))
    except (OSError, ValueError, SourceRefused, MemoryError):
        return None


def _crop(metrics: Metrics, errors: Diagnosis, image: Image.Image, spot: _Spot) -> Crop:
    part = _resized(coloured(image.crop(spot.view)), spot)
    _draw(part, metrics, errors, spot)
    file = io.BytesIO()
    part.save(file, "JPEG", quality=85, subsampling="4:4:4")
    return Crop(metrics.keys[spot.image], spot.what, file.getvalue(), *part.size)


def _resized(part: Image.Image, spot: _Spot) -> Image.Image:
    x, y, right, bottom = spot.view
    width = max(1, round((right - x) * spot.scale))
    height = max(1, round((bottom - y) * spot.scale))
    enlarged = spot.zoom > 0
    resample = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return part.resize((width, height), resample)


# --- what is drawn


def _draw(part: Image.Image, metrics: Metrics, errors: Diagnosis, spot: _Spot) -> None:
    canvas = Canvas.on(part, spot.view[:2], spot.scale)
    layout = metrics.layout
    if layout is not None:
        tiles = slice(*layout.offsets[spot.image : spot.image + 2].tolist())
        canvas.tiles(layout.rects[tiles], layout.interior[tiles])
    captions = _draw_labels(canvas, metrics, spot)
    captions += _draw_detections(canvas, metrics, errors, spot)
    if not np.isnan(spot.box).any():
        canvas.brackets(spot.box)
    few = len(captions) <= NAMED
    for caption in captions:  # above all lines
        wrong = caption.colour not in (BLUE, GREEN)
        if few or wrong or _meets(caption.box, spot.box):
            canvas.caption(caption)


def _draw_labels(canvas: Canvas, metrics: Metrics, spot: _Spot) -> list[Caption]:
    labels = metrics.sample.labels
    instances = labels.instances
    width = 4 if spot.kind else 3
    captions = []
    for i in _in_view(instances, labels.image, spot):
        colour = GREY if labels.ignored[i] else GREEN
        canvas.outline(instances, i, Stroke(colour, width))
        name = metrics.names[instances.class_id[i]]
        captions.append(Caption(instances.boxes[i], name, colour, below=True))
    return captions


def _draw_detections(
    canvas: Canvas, metrics: Metrics, errors: Diagnosis, spot: _Spot
) -> list[Caption]:
    """Those that are left out are drawn where they are what the crop is about."""
    detections = metrics.sample.detections
    instances = detections.instances
    all_shown = spot.kind == LABEL_KINDS[LOW_CONF]
    width = 2 if spot.kind else 1
    captions = []
    for i in _in_view(instances, detections.image, spot):
        kind = errors.found[i]
        if kind == LEFT_OUT and not all_shown:
            continue
        colour = _colour_of(kind)
        canvas.outline(instances, i, Stroke(colour, width))
        name = metrics.names[instances.class_id[i]]
        text = f"{name} {instances.confidence[i]:.2f}"
        captions.append(Caption(instances.boxes[i], text, colour, below=False))
    return captions


def _colour_of(kind: int) -> tuple[int, int, int]:
    """Of a detection, by an index into `FOUND_KINDS`."""
    if kind == RIGHT:
        return BLUE
    if kind in (LEFT_OUT, IGNORED):
        return GREY
    return RED


def _in_view(instances: Instances, image: Ints, spot: _Spot) -> Ints:
    """Those in the crop; the least confident come first, to lie below the others."""
    boxes = instances.boxes
    x, y, right, bottom = spot.view
    x0, y0, x1, y1 = boxes.T
    there = image == spot.image
    there &= (x0 < right) & (x1 > x)
    there &= (y0 < bottom) & (y1 > y)
    return np.flatnonzero(there)[::-1]


def _meets(box: Floats, other: Floats) -> bool:
    """Whether two boxes overlap; none does with one of NaN."""
    upper = np.maximum(box[:2], other[:2])
    lower = np.minimum(box[2:], other[2:])
    return bool((upper < lower).all())
