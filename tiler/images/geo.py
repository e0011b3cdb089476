"""Where an image lies in the world, by the tags of GeoTIFF or a world file, and so where its tiles
lie.

GeoTIFF 1.1, OGC 19-008r4. What files get wrong is read as GDAL reads it, since that is how
people have seen them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tiler.errors import TilerError
from tiler.formats.affine import Affine, beside, candidates, world_text
from tiler.formats.manifest import Geo
from tiler.formats.text_files import open_regular, read_text
from tiler.images.tiff import texts_and_doubles

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    from tiler.geometry.window import Window
    from tiler.images.header import Header

ASCII, SHORT, DOUBLE = 2, 3, 12  # types of TIFF
FORMS = {SHORT: "H", DOUBLE: "d"}

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264  # tags: where the pixels lie
DIRECTORY, DOUBLES, TEXTS = 34735, 34736, 34737  # tags: in which reference system
KINDS = {DIRECTORY: SHORT, DOUBLES: DOUBLE, TEXTS: ASCII}

MODEL, RASTER, GEOGRAPHIC, PROJECTED = 1024, 1025, 2048, 3072  # keys of the directory
POINT = 2  # of RASTER: coordinates are of the centres of pixels
FARTHEST = 1e15  # units; what lies beyond, or is as small, is no place
FLAT = 1e-9  # determinant, as a part of its terms, at which pixels are no longer an area

PRJ = (".prj", ".PRJ")
PRJ_BYTES = 100_000
ROOTS = {"PROJCS": PROJECTED, "PROJCRS": PROJECTED, "GEOGCS": GEOGRAPHIC, "GEOGCRS": GEOGRAPHIC}
# A reference system in well-known text whose own last member is its EPSG code
NAMED = re.compile(
    r'\s*(\w+)\s*\[.*\b(?:AUTHORITY|ID)\s*\[\s*"EPSG"\s*,\s*"?(\d{4,5})"?\s*\]\s*\]\s*',
    re.DOTALL | re.IGNORECASE,
)

Value = tuple[int, ...] | tuple[float, ...] | bytes
Tag = tuple[int, int, int, Value]  # tag, type, number, value; text is bytes with the NUL at its end


@dataclass(frozen=True, slots=True)
class Located:
    """An image's place.

    Attributes:
        geo: as the manifest has it.
        keys: of GeoTIFF's tags 34735 to 34737, which name the reference system, type, number and
            value.

    >>> from tiler.geometry.window import Window
    >>> Located(Geo((0.5, 0, 1000, 0, -0.5, 2000))).world(Window(100, 40, 64, 64), (0.5, 0.5)).split()
    ['1.0', '0.0', '0.0', '-1.0', '1050.5', '1979.5']
    """

    geo: Geo
    keys: dict[int, tuple[int, int, Value]] = field(default_factory=dict)

    def affine(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> Affine:
        """The map of a tile. `zoom`: its px for a source px, across and down."""
        return Affine(*self.geo.transform).of_tile(window.x, window.y, zoom)

    def tags(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> list[Tag]:
        """The tags of a tile that is a TIFF, by number: its own place, in the source's reference
        system.
        """
        a, b, c, d, e, f = astuple(self.affine(window, zoom))
        if _of_points(self.keys):
            c, f = c + (a + b) / 2, f + (d + e) / 2
        if b == d == 0 and a > 0 > e:
            place = {PIXEL_SCALE: (a, -e, 0.0), TIEPOINTS: (0.0, 0.0, 0.0, c, f, 0.0)}
        else:
            place = {TRANSFORMATION: (a, b, 0.0, c, d, e, 0.0, f, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0)}
        found: list[Tag] = [(tag, DOUBLE, len(values), values) for tag, values in place.items()]
        return sorted(
            found + [(tag, *entry) for tag, entry in self.keys.items()], key=lambda tag: tag[0]
        )

    def world(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> str:
        """The world file of a tile in another format."""
        return world_text(self.affine(window, zoom))


def sidecars(path: Path) -> bytes:
    """What files beside an image say of its place, if there are such."""
    found = b""
    for candidate in (*candidates(path), *map(path.with_suffix, PRJ)):
        try:
            with open_regular(candidate) as file:
                found += file.read(PRJ_BYTES)
        except OSError:
            continue
    return found


def located(file: BinaryIO, header: Header, path: Path) -> Located | None:
    """Where an image lies: by its GeoTIFF tags, else by the world file beside it.

    The reference system is that of the tags, else of a .prj beside it. One that is no EPSG code
    has no name here (`geo.crs` is None); its keys are kept all the same.

    None: nowhere that is known. So it is for what is malformed, for control points without a map,
    and for an image that its orientation turns, since the tags are of the stored one.

    Args:
        file: open; it is read from anywhere.
    """
    if header.orientation != 1:
        return None
    affine, keys = _of_tiff(file) if header.format == "TIFF" else (None, {})
    if affine is None:
        affine = _of_world_file(path)
        if affine is None:
            return None
        keys = keys or _of_prj(path)
    return Located(Geo(astuple(affine), _crs(keys)), keys)


def for_pillow(tags: Sequence[Tag]) -> ImageFileDirectory_v2:
    """Tags as Pillow's `save` takes them in `tiffinfo`."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    result = ImageFileDirectory_v2()
    for tag, kind, _, value in tags:
        result.tagtype[tag] = kind
        # it adds the NUL
        result[tag] = value.rstrip(b"\0").decode("latin-1") if isinstance(value, bytes) else value
    return result


def for_tifffile(tags: Sequence[Tag]) -> list[tuple[int, int, int, Any, bool]]:
    """Tags as tifffile's `write` takes them in `extratags`."""
    return [(*tag, True) for tag in tags]


def _of_tiff(file: BinaryIO) -> tuple[Affine | None, dict[int, tuple[int, int, Value]]]:
    """The map by a TIFF's tags, and the keys of its reference system."""
    try:
        entries = texts_and_doubles(file, (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, *KINDS))
    except (struct.error, OSError, OverflowError, ValueError):
        return None, {}
    keys: dict[int, tuple[int, int, Value]] = {}
    for tag, wanted in KINDS.items():
        kind, number, data = entries.get(tag, (0, 0, b""))
        if kind == wanted and number:
            keys[tag] = (
                kind,
                number,
                data if kind == ASCII else struct.unpack(f"<{number}{FORMS[kind]}", data),
            )
    if DIRECTORY not in keys:
        keys = {}
    scale, points, matrix = (
        struct.unpack(f"<{number}d", data) if kind == DOUBLE else ()
        for kind, number, data in (
            entries.get(tag, (0, 0, b"")) for tag in (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION)
        )
    )
    if len(scale) >= 2 and len(points) >= 6:
        # below zero it should turn the image over; GDAL has it that none does
        across, down = scale[0], abs(scale[1])
        column, row, _, x, y = points[:5]
        a = across
        b = 0.0
        c = x - column * across
        d = 0.0
        e = -down
        f = y + row * down
    elif len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    else:
        return None, keys
    if _of_points(keys):
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return _sound(a, b, c, d, e, f), keys


def _of_world_file(path: Path) -> Affine | None:
    try:
        affine = beside(path)
    except TilerError:
        return None
    return None if affine is None else _sound(*astuple(affine))


def _sound(a: float, b: float, c: float, d: float, e: float, f: float) -> Affine | None:
    """The map, if it is one, and so well that those of all tiles are too."""
    if not all(abs(value) < FARTHEST for value in (a, b, c, d, e, f)):  # nor NaN
        return None
    if not abs(a * e - b * d) > max(FLAT * (abs(a * e) + abs(b * d)), FARTHEST**-2):
        return None
    return Affine(a, b, c, d, e, f)


def _of_prj(path: Path) -> dict[int, tuple[int, int, Value]]:
    """The reference system of a .prj beside an image as keys, where it is an EPSG code."""
    for suffix in PRJ:
        try:
            text = read_text(path.with_suffix(suffix), PRJ_BYTES)
        except (TilerError, ValueError):
            continue
        match = NAMED.fullmatch(text)
        key = ROOTS.get(match[1].upper()) if match else None
        # heights may follow, with a code of their own
        if match is None or key is None or "VERT" in text.upper():
            return {}
        model = 1 if key == PROJECTED else 2
        if not _registered(code := int(match[2])):
            return {}
        return {
            DIRECTORY: (
                SHORT,
                16,
                (1, 1, 0, 3, MODEL, 0, 1, model, RASTER, 0, 1, 1, key, 0, 1, code),
            )
        }
    return {}


def _inline(keys: dict[int, tuple[int, int, Value]]) -> dict[int, int]:
    """The keys that are numbers: of four columns, the first after a head that ends with how many
    there are.
    """
    _, number, values = keys.get(DIRECTORY, (SHORT, 0, ()))
    rows = [values[at : at + 4] for at in range(0, number - 3, 4)]
    return (
        {
            int(key): int(value)
            for key, where, _, value in rows[1 : 1 + int(rows[0][3])]
            if where == 0
        }
        if rows
        else {}
    )


def _of_points(keys: dict[int, tuple[int, int, Value]]) -> bool:
    """Whether the tags tell of the centres of pixels."""
    return _inline(keys).get(RASTER) == POINT


def _crs(keys: dict[int, tuple[int, int, Value]]) -> str | None:
    values = _inline(keys)
    code = values.get({1: PROJECTED, 2: GEOGRAPHIC}.get(values.get(MODEL, 0), 0), 0)
    return f"EPSG:{code}" if _registered(code) else None


def _registered(code: int) -> bool:
    """Whether a key's number is an EPSG code; 32767 is a system of the file's own."""
    return 1024 <= code < 32767
