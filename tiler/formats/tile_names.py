"""Names of tiles that tell where in which image they lie, as several tools write them.

They are read from the right, since the name of the image may hold anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tiler.errors import TilerError

PATTERNS = {
    "tiler": re.compile(
        r"(?P<stem>.+?)__(?:s(?P<percent>\d+(?:\.\d+)?)__)?(?P<x>\d+)_(?P<y>\d+)_(?P<w>\d+)_(?P<h>\d+)"
    ),
    "split_dota": re.compile(r"(?P<stem>.+)__(?P<w>\d{2,})__(?P<x>\d+)___(?P<y>\d+)"),
    "dota_devkit": re.compile(r"(?P<stem>.+)__(?P<rate>\d(?:\.\d+)?)__(?P<x>\d+)___(?P<y>\d+)"),
    "sahi": re.compile(r"(?P<stem>.+)_(?P<x>\d+)_(?P<y>\d+)_(?P<right>\d+)_(?P<bottom>\d+)"),
}
DIGITS = 9  # of a coordinate; more is no image


@dataclass(frozen=True, slots=True)
class TileName:
    """What a tile's name says, in source pixels.

    Attributes:
        stem: the source image's name without folder and suffix.
        width, height: 0 where the name does not say.
        scale: tile pixels for each source pixel.
    """

    stem: str
    x: float
    y: float
    width: float
    height: float
    scale: float = 1.0


def parse(name: str, pattern: str) -> TileName | None:
    """What a name says by one of the `PATTERNS`, or None if it does not fit.

    `tiler` (yolo_tiler writes the same): `<stem>[__s<percent>]__<x>_<y>_<w>_<h>`;
    `split_dota` of Ultralytics: `<stem>__<side>__<x>___<y>`; `dota_devkit`:
    `<stem>__<rate>__<x>___<y>` in pixels of the image scaled by the rate; `sahi`:
    `<stem>_<x0>_<y0>_<x1>_<y1>`.

    >>> parse("site__A__640__512___0", "split_dota")
    TileName(stem='site__A', x=512.0, y=0.0, width=640.0, height=640.0, scale=1.0)
    """
    found = PATTERNS[pattern].fullmatch(name)
    if found is None or any(
        len(text or "") > DIGITS for key, text in found.groupdict().items() if key != "stem"
    ):
        return None
    number = {
        key: float(text)
        for key, text in found.groupdict().items()
        if key != "stem" and text is not None
    }
    stem, x, y = found["stem"], number["x"], number["y"]
    scale = number.get("percent", 100.0) / 100
    if pattern == "split_dota":
        return TileName(stem, x, y, number["w"], number["w"])
    if pattern == "dota_devkit":
        rate = number["rate"]
        return TileName(stem, x / rate, y / rate, 0.0, 0.0, rate) if rate > 0 else None
    if pattern == "sahi":
        width, height = number["right"] - x, number["bottom"] - y
        return TileName(stem, x, y, width, height) if width > 0 and height > 0 else None
    return (
        TileName(stem, x, y, number["w"], number["h"], scale)
        if number["w"] > 0 < number["h"] and scale > 0
        else None
    )


def decide(names: Sequence[str], stems: Collection[str], optional: bool = False) -> str:
    """The pattern by which most names are tiles of images with these stems; with `optional`, "none"
    if none are.

    Raises:
        TilerError: none is, or about as many are by another pattern.

    >>> decide(["a_0_0_640_640", "a_512_0_1152_640"], {"a"})
    'sahi'
    """
    fits = Counter[str]()
    for name in names:
        for pattern in PATTERNS:
            said = parse(name, pattern)
            if said is not None and said.stem in stems:
                fits[pattern] += 1
                break
    if not fits and optional:
        return "none"
    if not fits:
        shown = ", ".join(name[:80] for name in names[:3])
        raise TilerError(
            f"no prediction is named like a tile of one of the {len(stems)} images (got {shown}); "
            "expected names as tiler, "
            "SAHI, split_dota, DOTA_devkit or yolo_tiler write them, or --tiles with the manifest "
            "of the split"
        )
    (best, count), *others = fits.most_common()
    if others and others[0][1] > count / 9:
        found = ", ".join(
            f"{number} as {pattern} names them" for pattern, number in fits.most_common()
        )
        raise TilerError(
            f"tiles of several tools in one folder: {found}; merge them one after the other"
        )
    return best
