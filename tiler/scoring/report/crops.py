"""Cut-outs of the images around the worst mistakes: those that seams make first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from tiler.errors import SourceRefused, printable
from tiler.evaluation.diagnosis import (
    FOUND_KINDS,
    LABEL_KINDS,
    LEFT_OUT,
    LOW_CONF,
    RIGHT,
    Diagnosis,
)
from tiler.evaluation.seams import INSIDE
from tiler.formats.text_files import open_regular
from tiler.images import reading

if TYPE_CHECKING:
    from tiler.evaluation.inputs import EvaluationInputs
    from tiler.geometry.instances import Instances
    from tiler.scoring.metrics import Metrics
    from tiler.types import Bools, Floats, Ints

SIDE = 384  # px of a crop; an enlarged one, or one of a small image, may have less
AROUND, ROOM = 3.0, 1.2  # sides of the object that a crop shows, and the least
WHOLE = 1280  # px of the longer side of a whole image
# labels and detections in a crop, of which all have their names; of more those that are wrong, or
# meant
NAMED = 12
CLOSEST = 8  # times enlarged, unless the whole image is smaller
LONGEST = 26  # letters of a name and a confidence
EACH = 3  # of one image, while others have any
GREEN, BLUE, RED, GREY = (0, 200, 110), (40, 140, 255), (255, 90, 0), (190, 190, 190)

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


def worst(metrics: Metrics, count: int = 12) -> list[Crop]:
    """The worst places: errors of seams by their confidence, labels missed near seams, then other
    mistakes.

    Tiles' sides are thin lines, labels green, right detections blue, wrong ones orange with their
    confidence. Nothing without error classes or a folder of images; images that cannot be opened
    are left out. Each is decoded once.
    """
    if metrics.errors is None or metrics.root is None:
        return []
    ranked = [*_ranked(metrics, metrics.errors)]
    places = _chosen(
        metrics, metrics.errors, [item for item in ranked if item[0] == "Cls"], count // 4
    )
    others = _chosen(metrics, metrics.errors, ranked, count - len(places), places)
    places = [*others, *places]
    crops: dict[int, Crop] = {}
    for image in sorted({place.image for place in places}):
        file = metrics.file_of(image)
        pixels = None if file is None else _opened(file)
        if pixels is None:
            continue
        for i, place in enumerate(places):
            if place.image == image:
                with suppress(MemoryError):
                    crops[i] = _crop(metrics, metrics.errors, pixels, place)
    return [crops[i] for i in sorted(crops)]


# --- which


def worst_images(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows of `per_image` by how many are false or missed, the most first."""

    def order(i: int) -> tuple[int, float, str]:
        f1 = rows[i]["f1"]
        return (
            -rows[i]["fp"] - rows[i]["fn"],
            0.0 if f1 is None or np.isnan(f1) else f1,
            rows[i]["image"],
        )

    return sorted(range(len(rows)), key=order)


def overview(metrics: Metrics) -> Crop | None:
    """The whole of the image with most false and missed that can be opened, with its tiles, labels
    and detections.
    """
    if metrics.errors is None or metrics.root is None:
        return None
    rows = metrics.per_image
    for image in worst_images(rows):
        file = metrics.file_of(image)
        size = None if file is None else _size(file)
        pixels = None if file is None or size is None else _opened(file)
        if size is None or pixels is None:
            continue
        row, reduced = rows[image], -(-max(size) // WHOLE)
        what = (
            f"Whole: {row['labels']} labels, {row['tp']} found, {row['fp']} detections false, "
            f"{row['fn']} labels missed"
        )
        zoom = -reduced if reduced > 1 else 1
        scale = f"; reduced {reduced} times" if reduced > 1 else ""
        place = _Spot(
            image,
            "",
            f"{what} ({size[0]} x {size[1]} px{scale})",
            np.full(4, np.nan),
            (0, 0, *size),
            zoom,
        )
        return _crop(metrics, metrics.errors, pixels, place)
    return None


def _chosen(
    metrics: Metrics,
    errors: Diagnosis,
    ranked: Sequence[tuple[str, bool, int]],
    count: int,
    known: Sequence[_Spot] = (),
) -> list[_Spot]:
    """The first places, none of which is in sight of another; a few of each image, and more if
    these are too few.

    Args:
        known: places that were chosen before.
    """
    sizes: dict[int, tuple[int, int] | None] = {}
    chosen: list[_Spot] = []
    for most in (EACH, count):
        for kind, is_label, i in ranked:
            rows: Any = metrics.sample.labels if is_label else metrics.sample.detections
            image = int(rows.image[i])
            own = [place for place in (*known, *chosen) if place.image == image]
            if len(chosen) >= count:
                return chosen
            if len(own) >= most:
                continue
            if image not in sizes:
                file = metrics.file_of(image)
                sizes[image] = None if file is None else _size(file)
            size = sizes[image]
            if size is None:
                continue
            box = _extent(metrics.sample, errors, is_label, i)
            if any(_in_sight(place, box) for place in own):
                continue
            chosen.append(_place(metrics, rows.instances, image, i, kind, box, size))
    return chosen


def _ranked(metrics: Metrics, errors: Diagnosis) -> Iterator[tuple[str, bool, int]]:
    """Kind, whether it is a label, and its number: of several kinds the worst of each in turn."""
    sample = metrics.sample
    near = None if metrics.seams is None else metrics.seams.margin
    conf = sample.detections.instances.confidence
    wrong = np.flatnonzero((errors.found > RIGHT) & (errors.about >= 0))
    sure = np.zeros(len(sample.labels))  # a label in pieces is as bad as its surest piece
    np.maximum.at(sure, errors.about[wrong], conf[wrong])
    at_seam = np.zeros(len(sample.labels), bool) if near is None else near < INSIDE

    def labels(kind: str, by: Floats, which: Bools | None = None) -> list[tuple[str, bool, int]]:
        some = np.flatnonzero(
            (errors.labels == LABEL_KINDS.index(kind)) & (True if which is None else which)
        )
        return [(kind, True, i) for i in some[np.argsort(by[some], kind="stable")].tolist()]

    def detections(kind: str) -> list[tuple[str, bool, int]]:
        some = np.flatnonzero(errors.found == FOUND_KINDS.index(kind))
        return [(kind, False, i) for i in some[np.argsort(-conf[some], kind="stable")].tolist()]

    area = sample.labels.instances.area
    yield from _in_turn(
        [labels(k, -sure) if k in LABEL_KINDS else detections(k) for k in SEAM_KINDS]
    )
    if near is not None:
        yield from _in_turn([labels(kind, near, at_seam) for kind in MISSED])
    yield from _in_turn(
        [*(detections(kind) for kind in FALSE), *(labels(kind, -area, ~at_seam) for kind in MISSED)]
    )


def _in_turn(lists: list[list[tuple[str, bool, int]]]) -> Iterator[tuple[str, bool, int]]:
    for i in range(max(map(len, lists))):
        yield from (own[i] for own in lists if i < len(own))


def _extent(sample: EvaluationInputs, errors: Diagnosis, is_label: bool, i: int) -> Floats:
    """The label, or the detection and the label that it is about."""
    truth, found = sample.labels.instances.boxes, sample.detections.instances.boxes
    label = i if is_label else int(errors.about[i])
    boxes = np.concatenate([truth[[label] if label >= 0 else []], found[[] if is_label else [i]]])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _in_sight(place: _Spot, box: Floats) -> bool:
    x, y = (box[:2] + box[2:]) / 2
    left, top, right, bottom = place.view
    return bool(left <= x < right and top <= y < bottom)


def _place(
    metrics: Metrics,
    rows: Instances,
    image: int,
    i: int,
    kind: str,
    box: Floats,
    size: tuple[int, int],
) -> _Spot:
    width, height = size
    side = max(float((box[2:] - box[:2]).max()), 1.0)
    closest = SIDE // (ROOM * side)
    if closest:
        zoom = int(
            max(1, SIDE // max(AROUND * side, SIDE / CLOSEST), min(SIDE // min(size), closest))
        )
    else:
        zoom = -round(max(1, min(1.5 * side, max(size)) / SIDE))
    across = SIDE // zoom if zoom > 0 else SIDE * -zoom
    w, h = min(across, width), min(across, height)
    x, y = (
        (np.clip(np.round((box[:2] + box[2:] - (w, h)) / 2), 0, (width - w, height - h)))
        .astype(int)
        .tolist()
    )
    conf = "" if rows.conf is None else f" {rows.conf[i]:.2f}"
    near = f"at {box[0]:.0f}, {box[1]:.0f}"
    scale = (
        f"; enlarged {zoom} times" if zoom > 1 else f"; reduced {-zoom} times" if zoom < -1 else ""
    )
    about = -1 if metrics.errors is None or rows.conf is None else int(metrics.errors.about[i])
    true = ""
    if kind in ("Cls", "Both") and about >= 0:
        true = f" ({metrics.names[metrics.sample.labels.instances.class_id[about]]})"
    what = f"{kind}: {metrics.names[rows.class_id[i]]}{conf}, {WORDS[kind]}{true} ({near}{scale})"
    return _Spot(image, kind, what, box, (x, y, x + w, y + h), zoom)


# --- images


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image that can be opened."""
    try:
        with open_regular(path) as file:
            return reading.plain_header(file).size
    except (OSError, ValueError, SourceRefused):
        return None


def _opened(path: Path) -> Image.Image | None:
    try:
        with open_regular(path) as file:
            return reading.decode(file, reading.plain_header(file))
    except (OSError, ValueError, SourceRefused, MemoryError):
        return None


def _coloured(part: Image.Image) -> Image.Image:
    """In colours of 8 bits; what is grey, or deeper, is stretched between its extremes."""
    if part.mode == "LAB":  # Pillow has no way to RGB
        part = part.getchannel(0)
    if part.mode not in ("L", "LA", "F") and not part.mode.startswith("I"):
        return part.convert("RGB")
    values = np.asarray(part.getchannel(0) if part.mode == "LA" else part).astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    values = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def _crop(metrics: Metrics, errors: Diagnosis, image: Image.Image, place: _Spot) -> Crop:
    x, y, right, bottom = place.view
    part = _coloured(image.crop(place.view))
    scale = float(place.zoom) if place.zoom > 0 else -1 / place.zoom
    size = max(1, round((right - x) * scale)), max(1, round((bottom - y) * scale))
    part = part.resize(size, Image.Resampling.NEAREST if place.zoom > 0 else Image.Resampling.BOX)
    _draw(part, metrics, errors, place, scale)
    file = io.BytesIO()
    part.save(file, "JPEG", quality=85, subsampling="4:4:4")
    return Crop(metrics.keys[place.image], place.what, file.getvalue(), *part.size)


def _draw(
    part: Image.Image, metrics: Metrics, errors: Diagnosis, place: _Spot, scale: float
) -> None:
    sample, origin = metrics.sample, np.array(place.view[:2], float)
    draw = ImageDraw.Draw(part, "RGBA")
    if metrics.layout is not None:
        own = slice(*metrics.layout.offsets[place.image : place.image + 2].tolist())
        for rect, interior in zip(
            metrics.layout.rects[own], metrics.layout.interior[own], strict=True
        ):
            _sides(draw, (rect - np.tile(origin, 2)) * scale, interior)
    truth, found = sample.labels, sample.detections
    labels = _seen(truth.instances, truth.image, place)
    detections = _seen(found.instances, found.image, place)
    of_label, of_detection = (4, 2) if place.kind else (3, 1)
    texts = []
    for i in labels:
        colour = GREY if truth.ignored[i] else GREEN
        _outline(draw, truth.instances, i, origin, scale, colour, of_label)
        texts.append(
            (truth.instances.boxes[i], metrics.names[truth.instances.class_id[i]], colour, True)
        )
    hidden = (
        errors.found == LEFT_OUT
        if place.kind != LABEL_KINDS[LOW_CONF]
        else np.zeros(len(found), bool)
    )
    for i in detections:
        if hidden[i]:
            continue
        is_wrong = errors.found[i] not in (LEFT_OUT, RIGHT, FOUND_KINDS.index("ignored"))
        colour = RED if is_wrong else BLUE if errors.found[i] == RIGHT else GREY
        _outline(draw, found.instances, i, origin, scale, colour, of_detection)
        name = metrics.names[found.instances.class_id[i]]
        texts.append(
            (found.instances.boxes[i], f"{name} {found.instances.confidence[i]:.2f}", colour, False)
        )
    if not np.isnan(place.box).any():
        _brackets(draw, (place.box - np.tile(origin, 2)) * scale)
    few = len(texts) <= NAMED
    for box, text, colour, below in texts:  # above all lines
        meant = colour not in (BLUE, GREEN) or _meets(box, place.box)
        if few or meant:
            _text(
                draw, (box - np.tile(origin, 2)) * scale, plain_text(text), colour, part.size, below
            )


def _seen(instances: Instances, image: Ints, place: _Spot) -> Ints:
    """Those in the crop; the least sure come first, to lie below the others."""
    boxes, (x, y, right, bottom) = instances.boxes, place.view
    there = (
        (image == place.image)
        & (boxes[:, 0] < right)
        & (boxes[:, 2] > x)
        & (boxes[:, 1] < bottom)
        & (boxes[:, 3] > y)
    )
    return np.flatnonzero(there)[::-1]


def _sides(draw: ImageDraw.ImageDraw, rect: Floats, interior: Bools) -> None:
    """A tile's sides within the image as lines, light on dark, so that they show on anything."""
    left, top, right, bottom = rect.round().tolist()
    ends = (
        (left, top, left, bottom),
        (left, top, right, top),
        (right, top, right, bottom),
        (left, bottom, right, bottom),
    )
    for line, inside in zip(ends, interior.tolist(), strict=True):
        if inside:
            draw.line([v + 1 for v in line], fill=(0, 0, 0, 120))
            draw.line(line, fill=(255, 255, 255, 190))


def _outline(
    draw: ImageDraw.ImageDraw,
    rows: Instances,
    i: int,
    origin: Floats,
    scale: float,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    if rows.rings is None:
        box = ((rows.boxes[i].reshape(2, 2) - origin) * scale).ravel()
        half = width // 2
        left, top, right, bottom = box.round().tolist()
        draw.rectangle(
            (left - half, top - half, right + half - 1, bottom + half - 1),
            outline=colour,
            width=width,
        )
        return
    for ring in rows.rings[i]:
        points = [tuple(point) for point in ((ring - origin) * scale).tolist()]
        draw.line([*points, points[0]], fill=colour, width=width, joint="curve")


def _brackets(draw: ImageDraw.ImageDraw, box: Floats) -> None:
    """Corners around what the crop is about."""
    left, top, right, bottom = (box + np.array((-9, -9, 8, 8))).round().tolist()
    for x, dx in ((left, 10), (right, -10)):
        for y, dy in ((top, 10), (bottom, -10)):
            for shift, colour in ((1, (0, 0, 0, 160)), (0, (255, 255, 255, 255))):
                points = [
                    (x + dx + shift, y + shift),
                    (x + shift, y + shift),
                    (x + shift, y + dy + shift),
                ]
                draw.line(points, fill=colour, width=2)


def plain_text(text: str) -> str:
    """What the built-in font can draw, and no more than has room.

    >>> plain_text("a\\nb"), plain_text("x" * 40)
    ('a\\\\nb', 'xxxxxxxxxxxxxxxxxxxxxxx...')
    """
    shown = printable(text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."


def _meets(box: Floats, other: Floats) -> bool:
    """Whether two boxes overlap; none does with one of NaN."""
    return bool((np.maximum(box[:2], other[:2]) < np.minimum(box[2:], other[2:])).all())


def _text(
    draw: ImageDraw.ImageDraw,
    box: Floats,
    text: str,
    colour: tuple[int, int, int],
    size: tuple[int, int],
    below: bool = False,
) -> None:
    """On a dark ground at a corner of the box, within the crop: above it, or below."""
    scalable = features.check("freetype2")
    font = ImageFont.load_default(13 if scalable else None)
    text = text if scalable else text.encode("latin-1", "replace").decode("latin-1")
    _, _, w, h = draw.textbbox((0, 0), text, font=font)
    x = min(max(box[0] - 1, 0), size[0] - w - 4)
    above, under = box[1] - h - 5, box[3] + 2
    y = (
        above
        if above >= 0 and not (below and under + h + 3 <= size[1])
        else min(max(under, 0), size[1] - h - 3)
    )
    draw.rectangle((x, y, x + w + 3, y + h + 2), fill=(0, 0, 0, 190))
    draw.text((x + 2, y + 1), text, fill=colour, font=font)
