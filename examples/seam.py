"""Draw what merging does at the seam of two tiles: docs/seam.png.

    python examples/seam.py OUT.png

A small scene with two tiles that overlap. Each tile's detections are what it shows of the objects,
a little off; they are merged by `tiler.stitch`, by NMS and by Common-View Merge, and each result is
coloured by what it is: compared with the objects, nothing is drawn by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_scenes
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tiler

WIDTH, HEIGHT = 584, 520
TILES = {
    "tile A": tiler.Window(0, 0, 368, HEIGHT),
    "tile B": tiler.Window(216, 0, WIDTH - 216, HEIGHT),
}
# kind, x, y, heading, length; the plane is larger than the overlap, two cars are cut by a tile's
# edge
THINGS = [
    (3, 300, 186, -0.35, 322),
    (0, 206, 118, 0.5, 62),
    (0, 292, 468, 0.12, 84),
    (0, 385, 388, -0.15, 84),
    (0, 198, 388, 0.1, 84),
    (1, 505, 430, 1.35, 110),
    (0, 78, 450, -0.9, 80),
]
GAP, TOP, BOTTOM = 24, 116, 76
BLUE, ORANGE, GREEN, RED, PURPLE = (
    (32, 96, 210),
    (226, 118, 0),
    (0, 142, 70),
    (214, 30, 40),
    (150, 40, 190),
)
INK, GREY = (24, 26, 30), (96, 100, 108)
STATES = {"once": GREEN, "half": RED, "again": PURPLE}


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def scene() -> tuple[Image.Image, tiler.Instances]:
    """The image, and the boxes of the objects in it."""
    rng = np.random.default_rng(8)
    things = [make_scenes.Thing(*thing, rng) for thing in THINGS]
    pixels = np.full((HEIGHT, WIDTH, 3), (206, 208, 205), np.uint8)
    for thing in things:
        make_scenes.paint(pixels, thing, (0.6, 0.8), 1.0, 0.25)
    boxes = np.array([[*thing.poly.min(axis=0), *thing.poly.max(axis=0)] for thing in things])
    return Image.fromarray(pixels), tiler.Instances(np.zeros(len(things), np.int64), boxes)


def detected(
    truth: tiler.Instances, window: tiler.Window, rng: np.random.Generator
) -> tiler.Instances:
    """What a tile shows of each object: sides off by 2 px, less confidence the less it shows."""
    shown = window.clip(truth)
    boxes = np.clip(
        shown.boxes + rng.normal(0, 2, shown.boxes.shape), 0, [window.width, window.height] * 2
    )
    return tiler.Instances(shown.class_id, boxes, conf=0.4 + 0.5 * shown.visible)


def states(truth: tiler.Instances, found: tiler.Instances) -> list[str]:
    """Of each detection: `once` when it is an object, `again` when another was that one, `half`
    when it is less.
    """
    result, taken = [], set()
    areas = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1)
    for box in found.boxes:
        low, high = np.maximum(truth.boxes[:, :2], box[:2]), np.minimum(truth.boxes[:, 2:], box[2:])
        common = np.maximum(high - low, 0).prod(axis=1)
        alike = common / (areas + (box[2:] - box[:2]).prod() - common)
        best = int(alike.argmax())
        result.append(
            "half"
            if alike[best] < 0.75 and best not in taken
            else "again"
            if best in taken
            else "once"
        )
        if alike[best] >= 0.75:
            taken.add(best)
    return result


def dashed(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    x0, y0, x1, y1 = box
    for x in range(x0, x1, 22):
        for y in (y0, y1):
            draw.line([x, y, min(x + 12, x1), y], fill=colour, width=3)
    for y in range(y0, y1, 22):
        for x in (x0, x1):
            draw.line([x, y, x, min(y + 12, y1)], fill=colour, width=3)


def chip(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    colour: tuple[int, int, int],
    right: bool,
) -> None:
    """White words on a colour, their lower left (or right) corner at x, y."""
    width = draw.textlength(text, font=font(26)) + 14
    x = x - width if right else x
    draw.rectangle([x, y - 36, x + width, y], fill=colour)
    draw.text((x + 7, y - 10), text, fill="white", font=font(26), anchor="ls")


def panel(
    scene: Image.Image, boxes: np.ndarray, colours: list[tuple[int, int, int]], words: list[str]
) -> Image.Image:
    """The image with the tiles' borders and the boxes, words above them."""
    image = scene.copy()
    draw = ImageDraw.Draw(image)
    for inset, (window, colour) in enumerate(zip(TILES.values(), (BLUE, ORANGE), strict=True)):
        x0, y0, x1, y1 = map(int, window.bounds)
        dashed(draw, (x0 + 3, y0 + 3 + 7 * inset, x1 - 4, y1 - 4 - 7 * inset), colour)
    for box, colour in zip(boxes, colours, strict=True):
        draw.rectangle([*np.rint(box).tolist()], outline=colour, width=5)
    for box, colour, text in zip(boxes, colours, words, strict=True):
        right = (box[0] + box[2]) / 2 > WIDTH / 2
        if text == "again":
            chip(draw, box[0 if right else 2], box[3] + 38, text, colour, not right)
        elif text:
            chip(draw, box[2 if right else 0], box[1] + 2, text, colour, right)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    image, truth = scene()
    rng = np.random.default_rng(3)
    parts = [(window, detected(truth, window, rng)) for window in TILES.values()]

    moved = [found.boxes + [window.x, window.y] * 2 for window, found in parts]
    colours = [colour for boxes, colour in zip(moved, (BLUE, ORANGE), strict=True) for _ in boxes]
    panels = [panel(image, np.concatenate(moved), colours, [""] * len(colours))]
    draw = ImageDraw.Draw(panels[0])
    chip(draw, 12, 52, "tile A", BLUE, False)
    chip(draw, WIDTH - 13, 52, "tile B", ORANGE, True)
    titles = [("Predictions of two tiles", f"{len(colours)} boxes for {len(truth)} objects")]
    for title, options in (
        ("NMS, IoU 0.5", {"method": "nms", "iou": 0.5}),
        ("Common-View Merge", {}),
    ):
        found = tiler.stitch(parts, (WIDTH, HEIGHT), **options).instances
        said = states(truth, found)
        words = ["" if state == "once" else state for state in said]
        panels.append(panel(image, found.boxes, [STATES[state] for state in said], words))
        wrong = sum(state != "once" for state in said)
        titles.append(
            (
                title,
                f"{len(found)} boxes, {wrong} of them wrong"
                if wrong
                else f"{len(found)} boxes, each object once",
            )
        )

    sheet = Image.new("RGB", (3 * WIDTH + 4 * GAP, TOP + HEIGHT + BOTTOM), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (image, (title, words)) in enumerate(zip(panels, titles, strict=True)):
        x = GAP + k * (WIDTH + GAP)
        sheet.paste(image, (x, TOP))
        draw.text(
            (x, 46), title, fill=INK, font=font(42), anchor="ls", stroke_width=1, stroke_fill=INK
        )
        draw.text((x, 92), words, fill=GREY, font=font(32), anchor="ls")
    legends = [
        [("seen by tile A", BLUE), ("seen by tile B", ORANGE)],
        [("an object, once", GREEN), ("half of one", RED), ("again", PURPLE)],
        [("an object, once", GREEN)],
    ]
    for k, legend in enumerate(legends):
        x = GAP + k * (WIDTH + GAP)
        for text, colour in legend:
            y = TOP + HEIGHT + 46
            draw.rectangle([x, y - 22, x + 26, y], outline=colour, width=5)
            draw.text((x + 36, y), text, fill=INK, font=font(28), anchor="ls")
            x += 36 + int(draw.textlength(text, font=font(28))) + 28
    sheet.quantize(96, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main()
