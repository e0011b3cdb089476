"""Names of tiles that say which part of which image they are, as several tools write them.

They are read from the right, since the name of the image may contain anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERNS = {
    "tiler": re.compile(
        r"(?P<stem>.+?)__(?:s(?P<percent>\d+(?:\.\d+)?)__)?(?P<x>\d+)_(?P<y>\d+)_(?P<w>\d+)_(?P<h>\d+)"
    ),
    "split_dota": re.compile(r"(?P<stem>.+)__(?P<w>\d{2,})__(?P<x>\d+)___(?P<y>\d+)"),
    "dota_devkit": re.compile(r"(?P<stem>.+)__(?P<rate>\d(?:\.\d+)?)__(?P<x>\d+)___(?P<y>\d+)"),
    "sahi": re.compile(r"(?P<stem>.+)_(?P<x>\d+)_(?P<y>\d+)_(?P<right>\d+)_(?P<bottom>\d+)"),
}
DIGITS = 9  # of a number at most; no image is larger


@dataclass(frozen=True, slots=True)
class TileName:
    """What the name of a tile says, in source pixels.

    Attributes:
        stem: the name of the source image without folder and suffix.
        width, height: 0 if the name does not say.
        scale: tile pixels per source pixel.
    """

    stem: str
    x: float
    y: float
    width: float
    height: float
    scale: float = 1.0


def parse(name: str, pattern: str) -> TileName | None:
    """What a name says according to one of the `PATTERNS`; None if it does not fit.

    `tiler` (yolo_tiler writes the same): `<stem>[__s<percent>]__<x>_<y>_<w>_<h>`;
    `split_dota` of Ultralytics: `<stem>__<side>__<x>___<y>`; `dota_devkit`:
    `<stem>__<rate>__<x>___<y>` in pixels of the image scaled by the rate; `sahi`:
    `<stem>_<x0>_<y0>_<x1>_<y1>`.

    >>> parse("site__A__640__512___0", "split_dota")
    TileName(stem='site__A', x=512.0, y=0.0, width=640.0, height=640.0, scale=1.0)
    """
    match = PATTERNS[pattern].fullmatch(name)
    if match is None:
        return None
    number = {}
    for key, text in match.groupdict().items():
        if key == "stem" or text is None:
            continue
        if len(text) > DIGITS:
            return None
        number[key] = float(text)
    return _tile_name(pattern, match["stem"], number)


def _tile_name(pattern: str, stem: str, number: dict[str, float]) -> TileName | None:
    """The numbers in a name as source pixels; None if the tile would have no size."""
    x = number["x"]
    y = number["y"]
    if pattern == "split_dota":
        return TileName(stem, x, y, number["w"], number["w"])
    if pattern == "dota_devkit":
        rate = number["rate"]
        if rate == 0:
            return None
        return TileName(stem, x / rate, y / rate, 0.0, 0.0, rate)
    scale = number.get("percent", 100.0) / 100
    if pattern == "sahi":
        width = number["right"] - x
        height = number["bottom"] - y
    else:
        width = number["w"]
        height = number["h"]
    if width <= 0 or height <= 0 or scale <= 0:
        return None
    return TileName(stem, x, y, width, height, scale)
