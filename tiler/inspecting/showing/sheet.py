"""What is drawn: of each image the whole with its tiles and objects, its densest places enlarged,
and a legend; all on one sheet, or each on a page of its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tiler.datasets.image_files import opened
from tiler.errors import printable
from tiler.geometry import boxes as box
from tiler.geometry.window import Window
from tiler.images.drawing import (
    PALETTE,
    Canvas,
    Caption,
    Stroke,
    class_colour,
    text_size,
    write,
)
from tiler.images.header import probe
from tiler.images.viewing import views
from tiler.inspecting.showing.opening import ShownImage, ShownObjects
from tiler.inspecting.showing.places import LEGIBLE, densest, side_of, zoom_for
from tiler.matching.tiles import TileRects

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.types import Floats, Ints

MARGIN = 4  # px around a view, for lines around objects at its edge
SPACE = 12  # px between what stands on a sheet
LINE = 18  # px, of text
NARROW = 240  # px that a caption has at least
WIDE = 1800  # px of a sheet, unless one image needs more
GROUND = (28, 28, 28)
BRIGHT = (235, 235, 235)
PALE = (165, 165, 165)
ENTRIES = 40  # classes in a legend


class PageFormat(NamedTuple):
    """How large an image is shown.

    Attributes:
        whole: width and height that the whole image has at most, px.
        crops: its number at most.
        side: of a crop, px.
    """

    whole: tuple[int, int]
    crops: int
    side: int


ONE = PageFormat((1600, 1200), 4, 480)
SEVERAL = PageFormat((800, 640), 2, 400)


@dataclass(frozen=True, slots=True)
class ClassLegend:
    """What colours mean.

    Attributes:
        names: of all classes.
        both: labels and detections are drawn.
    """

    names: tuple[str, ...]
    both: bool

    def name(self, class_id: int) -> str:
        """The name of a class, or its number where it has none."""
        if class_id < len(self.names):
            return self.names[class_id]
        return f"class {class_id}"

    @property
    def ambiguous(self) -> bool:
        """Whether several classes have one colour."""
        return len(self.names) > len(PALETTE)


@dataclass(frozen=True, slots=True, eq=False)
class ImagePlan:
    """What of an image is drawn, and how large.

    Attributes:
        scale: px of the whole as shown for each px of the image.
        zoom: times that crops are enlarged.
        crops: their windows, the densest first.
    """

    image: ShownImage
    objects: ShownObjects
    tiles: Floats
    cut: int
    scale: float
    zoom: int
    crops: tuple[Window, ...]

    @property
    def whole(self) -> tuple[int, int]:
        """Width and height of the whole as shown, px."""
        width, height = self.objects.size
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))


def planned(
    image: ShownImage, objects: ShownObjects, tiles: Floats, cut: int, page: PageFormat
) -> ImagePlan:
    """Where to look closer. Nowhere, if objects can be told apart in the whole image.

    Args:
        tiles: `(T, 4)` of a full image.
        cut: objects that the edge of this tile cuts.
    """
    width, height = objects.size
    shown = objects.main
    boxes = np.empty((0, 4)) if shown is None else shown.boxes
    side = math.inf if shown is None else side_of(shown.area, 25)
    zoom = zoom_for(side)
    room = min(page.whole[0] / width, page.whole[1] / height)
    scale = min(room, zoom)
    if scale > 1:
        scale = float(int(scale))
    crops: list[Window] = []
    if scale < zoom and side * scale < LEGIBLE:
        crops = densest(boxes, objects.size, max(1, page.side // zoom), page.crops)
    return ImagePlan(image, objects, tiles, cut, scale, zoom, tuple(crops))


# --- one image


def drawn(plan: ImagePlan, legend: ClassLegend, max_pixels: int | None, pages: int) -> Image.Image:
    """An image as it stands on a sheet: its name, the whole, its crops.

    Raises:
        SourceRefused: it cannot be read.
    """
    with opened(plan.image.path) as file:
        header = probe(file)
        seen = views(file, header, plan.whole, plan.crops, max_pixels, pages)
    whole = _whole_view(plan, seen.whole)
    crops = []
    for number, (window, part) in enumerate(zip(plan.crops, seen.parts, strict=True), 1):
        view = _crop_view(plan, window, part, legend)
        crops.append(_titled(view, [(f"{number}: {_crop_words(plan, window)}", PALE)]))
    body = _beside(whole, crops)
    return _titled(body, _head(plan))


def _crop_words(plan: ImagePlan, window: Window) -> str:
    """The line above a crop."""
    count = _count_in(plan.objects.main, window)
    words = f"{count} objects" if count != 1 else "1 object"
    words += f" at {window.x}, {window.y}"
    if plan.zoom > 1:
        words += f", enlarged {plan.zoom} times"
    return words


def _head(plan: ImagePlan) -> list[tuple[str, tuple[int, int, int]]]:
    """The lines above an image."""
    objects = plan.objects
    width, height = objects.size
    facts = [f"{width} x {height} px"]
    if plan.scale < 1:
        facts[0] += f" at {100 * plan.scale:.2g} %"
    elif plan.scale > 1:
        facts[0] += f", enlarged {plan.scale:g} times"
    if plan.image.split:
        facts.append(plan.image.split)
    if objects.labels is not None:
        facts.append(f"{len(objects.labels)} labels{_sides(objects.labels)}")
    if objects.detections is not None:
        facts.append(f"{len(objects.detections)} detections{_sides(objects.detections)}")
    if objects.below:
        facts.append(f"{objects.below} below the confidence")
    if len(objects.ignored):
        facts.append(f"{len(objects.ignored)} regions ignored")
    if plan.cut:
        facts.append(f"{plan.cut} cut by the tile's edge")
    if len(plan.tiles):
        facts.append(f"{len(plan.tiles)} tiles")
    return [(plan.image.key, BRIGHT), ("; ".join(facts), PALE)]


def _sides(instances: Instances) -> str:
    """The extent of objects, in words."""
    if not len(instances):
        return ""
    least = side_of(instances.area, 0)
    most = side_of(instances.area, 100)
    return f" of {least:.0f} to {most:.0f} px"


def _count_in(instances: Instances | None, window: Window) -> int:
    """How many objects have their middle in a window."""
    if instances is None:
        return 0
    middles = box.centres(instances.boxes)
    bounds = window.bounds
    return int(((middles >= bounds[:2]) & (middles < bounds[2:])).all(axis=1).sum())


def _whole_view(plan: ImagePlan, pixels: Image.Image) -> Image.Image:
    view, canvas = _framed(pixels, (0, 0), plan.scale)
    if len(plan.tiles):
        size = plan.objects.size
        canvas.tiles(plan.tiles, TileRects.of(plan.tiles, size).interior)
    _draw(canvas, plan.objects)
    for number, window in enumerate(plan.crops, 1):
        canvas.frame(window.bounds)
        canvas.caption(Caption(window.bounds, str(number), BRIGHT))
    return view


def _crop_view(
    plan: ImagePlan, window: Window, part: Image.Image, legend: ClassLegend
) -> Image.Image:
    size = (part.width * plan.zoom, part.height * plan.zoom)
    pixels = part.resize(size, Image.Resampling.NEAREST)
    view, canvas = _framed(pixels, (window.x, window.y), plan.zoom)
    if len(plan.tiles):
        canvas.tiles(plan.tiles, TileRects.of(plan.tiles, plan.objects.size).interior)
    _draw(canvas, plan.objects)
    _write_captions(canvas, plan.objects, window, legend)
    return view


def _framed(
    pixels: Image.Image, corner: tuple[int, int], scale: float
) -> tuple[Image.Image, Canvas]:
    """Pixels with a margin, and a canvas on both."""
    size = (pixels.width + 2 * MARGIN, pixels.height + 2 * MARGIN)
    view = Image.new("RGB", size, (0, 0, 0))
    view.paste(pixels, (MARGIN, MARGIN))
    beyond = MARGIN / scale
    return view, Canvas.on(view, (corner[0] - beyond, corner[1] - beyond), scale)


def _draw(canvas: Canvas, objects: ShownObjects) -> None:
    """Regions that are ignored, then labels, then detections."""
    ignored = objects.ignored
    for i, bounds in enumerate(ignored.bounds() if len(ignored) else ()):
        canvas.hatch(bounds, ignored[i])
    if objects.labels is not None:
        dashed = objects.detections is not None
        _draw_instances(canvas, objects.labels, dashed)
    if objects.detections is not None:
        _draw_instances(canvas, objects.detections, dashed=False)


def _draw_instances(canvas: Canvas, instances: Instances, dashed: bool) -> None:
    for i in _in_view(canvas, instances).tolist():
        colour = class_colour(int(instances.class_id[i]))
        stroke = Stroke(colour, halo=1)
        if dashed:
            stroke = Stroke(colour, away=2, halo=1, dashed=True)
        canvas.outline(instances, i, stroke)
        sides = canvas.scaled(instances.boxes[i])
        if instances.keypoints is not None and (sides[2:] - sides[:2]).max() >= LEGIBLE:
            canvas.keypoints(instances.keypoints[i], colour)


def _in_view(canvas: Canvas, instances: Instances) -> Ints:
    """The objects of which a part is on the canvas: the larger first, below the smaller; whatever
    the order of rows.
    """
    boxes = canvas.scaled(instances.boxes)
    size = np.array(canvas.size)
    there = (boxes[:, :2] < size + MARGIN) & (boxes[:, 2:] > -MARGIN)
    found = np.flatnonzero(there.all(axis=1))
    keys = [instances.class_id, *instances.boxes.T, -instances.area]
    return found[np.lexsort([key[found] for key in keys])]


def _write_captions(
    canvas: Canvas, objects: ShownObjects, window: Window, legend: ClassLegend
) -> None:
    """What the objects of a crop are called, where there is room: confidences, and classes if
    their colours do not tell.
    """
    shown = objects.main
    if shown is None:
        return
    captions = []
    found = _in_view(canvas, shown)
    if shown.conf is not None:
        found = found[np.argsort(-shown.conf[found], kind="stable")]
    for i in found.tolist():
        class_id = int(shown.class_id[i])
        words = []
        if legend.ambiguous:
            words.append(legend.name(class_id))
        if shown.conf is not None:
            words.append(f"{shown.conf[i]:.2f}")
        if words:
            captions.append(Caption(shown.boxes[i], " ".join(words), class_colour(class_id)))
    boxes = [shown.boxes]
    if objects.labels is not None:
        boxes.append(objects.labels.boxes)
    canvas.captions(captions, np.concatenate(boxes))


# --- layout


def _titled(body: Image.Image, lines: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """Lines of text above."""
    top = LINE * len(lines)
    width = max(body.width, NARROW)
    page = Image.new("RGB", (width, body.height + top), GROUND)
    draw = ImageDraw.Draw(page)
    for number, (text, colour) in enumerate(lines):
        write(draw, (1, number * LINE), _shortened(text, width), colour)
    page.paste(body, (0, top))
    return page


def _shortened(text: str, width: int) -> str:
    """Text that fits into a width; of a longer one its end, where names differ."""
    shown = printable(text)[-500:]
    while text_size(shown)[0] > width and len(shown) > 4:
        shown = f"...{shown[4:]}"
    return shown


def _beside(whole: Image.Image, crops: Sequence[Image.Image]) -> Image.Image:
    """The whole image, and its crops in columns to the right."""
    columns: list[list[Image.Image]] = []
    for crop in crops:
        if columns:
            used = sum(above.height for above in columns[-1])
            if used + crop.height <= whole.height:
                columns[-1].append(crop)
                continue
        columns.append([crop])
    parts = [(whole, 0, 0)]
    left = whole.width
    for column in columns:
        top = 0
        for crop in column:
            parts.append((crop, left + SPACE, top))
            top += crop.height
        left += SPACE + max(crop.width for crop in column)
    return _pasted(parts)


def _pasted(parts: Sequence[tuple[Image.Image, int, int]]) -> Image.Image:
    """Parts at their places, on a ground that holds all of them."""
    width = max(left + part.width for part, left, _ in parts)
    height = max(top + part.height for part, _, top in parts)
    page = Image.new("RGB", (width, height), GROUND)
    for part, left, top in parts:
        page.paste(part, (left, top))
    return page


def composed(
    title: str,
    legend: ClassLegend,
    counts: Sequence[tuple[int, int]],
    images: Sequence[Image.Image],
) -> Image.Image:
    """A sheet: title, legend, then the images in rows.

    Args:
        counts: class and number of its objects, of the classes that are shown.
    """
    width = max([WIDE if len(images) > 1 else 0, *(image.width for image in images)])
    rows = _rows(images, width)
    width = max(sum(image.width + SPACE for image in row) - SPACE for row in rows)
    head = _legend(title, legend, counts, width)
    parts = [(head, 0, 0)]
    top = head.height + SPACE
    for row in rows:
        left = 0
        for image in row:
            parts.append((image, left, top))
            left += image.width + SPACE
        top += max(image.height for image in row) + SPACE
    body = _pasted(parts)
    page = Image.new("RGB", (body.width + 2 * SPACE, body.height + 2 * SPACE), GROUND)
    page.paste(body, (SPACE, SPACE))
    return page


def _rows(images: Sequence[Image.Image], width: int) -> list[list[Image.Image]]:
    """Images in rows of at most a width, in order."""
    rows: list[list[Image.Image]] = []
    used = 0
    for image in images:
        if rows and used + SPACE + image.width <= width:
            rows[-1].append(image)
            used += SPACE + image.width
        else:
            rows.append([image])
            used = image.width
    return rows


def _legend(
    title: str, legend: ClassLegend, counts: Sequence[tuple[int, int]], width: int
) -> Image.Image:
    """The title, and a patch of colour for each class; in as many lines as it takes."""
    entries = []
    for class_id, count in counts[:ENTRIES]:
        entries.append((f"{legend.name(class_id)[:40]} {count}", class_colour(class_id)))
    if len(counts) > ENTRIES:
        entries.append((f"and {len(counts) - ENTRIES} more classes", GROUND))
    places = _flowed([text for text, _ in entries], width)
    page = Image.new("RGB", (width, places[-1][1] + 2 * LINE + 6), GROUND)
    draw = ImageDraw.Draw(page)
    write(draw, (0, 0), _shortened(title, width), BRIGHT)
    for (text, colour), (x, row) in zip(entries, places, strict=False):
        y = row + LINE + 6
        draw.rectangle((x, y + 3, x + 9, y + 12), fill=colour)
        write(draw, (x + 14, y), printable(text), BRIGHT)
    return page


def _flowed(texts: Sequence[str], width: int) -> list[tuple[int, int]]:
    """Where texts begin that stand in lines of a width, and where one more would."""
    places = []
    left = top = 0
    for text in texts:
        room = text_size(printable(text))[0] + 3 * SPACE
        if left and left + room > width:
            left = 0
            top += LINE
        places.append((left, top))
        left += room
    return [*places, (left, top)]


def page_name(number: int, image: ShownImage) -> str:
    """The file of an image's page.

    >>> page_name(3, ShownImage("a/b c.jpg", "", "", ""))
    '03-b_c.png'
    """
    stem, _ = os.path.splitext(os.path.basename(image.key))
    plain = "".join(c if c.isalnum() or c in "-._" else "_" for c in stem)
    short = plain.encode("utf-8", "replace")[:150].decode("utf-8", "ignore")
    return f"{number:02}-{short}.png"
