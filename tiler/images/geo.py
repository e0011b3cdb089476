"""Where an image and its tiles lie in the world, by GeoTIFF tags or a world file.

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
from tiler.images.tiff import ASCII, DOUBLE, texts_and_doubles

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    from tiler.geometry.window import Window
    from tiler.images.header import Header

SHORT = 3  # type of TIFF
FORMS = {SHORT: "H", DOUBLE: "d"}

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264  # tags: where the pixels lie
DIRECTORY, DOUBLES, TEXTS = 34735, 34736, 34737  # tags: in which reference system
KINDS = {DIRECTORY: SHORT, DOUBLES: DOUBLE, TEXTS: ASCII}

MODEL, RASTER, GEOGRAPHIC, PROJECTED = 1024, 1025, 2048, 3072  # keys of the directory
POINT = 2  # of RASTER: coordinates are of the centres of pixels
FARTHEST = 1e15  # units; no coordinate lies beyond, no pixel has a side under its reciprocal
FLAT = 1e-9  # determinant, relative to its terms, at which pixels no longer have an area

PRJ = (".prj", ".PRJ")
PRJ_BYTES = 100_000
ROOTS = {"PROJCS": PROJECTED, "PROJCRS": PROJECTED, "GEOGCS": GEOGRAPHIC, "GEOGCRS": GEOGRAPHIC}
MODELS = {PROJECTED: 1, GEOGRAPHIC: 2}  # of MODEL: which of the two the system is
# A reference system in well-known text whose own last member is its EPSG code
NAMED = re.compile(
    r'\s*(\w+)\s*\[.*\b(?:AUTHORITY|ID)\s*\[\s*"EPSG"\s*,\s*"?(\d{4,5})"?\s*\]\s*\]\s*',
    re.DOTALL | re.IGNORECASE,
)

Value = tuple[int, ...] | tuple[float, ...] | bytes
Tag = tuple[int, int, int, Value]  # tag, type, number, value; text is bytes with the NUL at its end
Keys = dict[int, tuple[int, int, Value]]  # type, number and value by tag


@dataclass(frozen=True, slots=True)
class Located:
    """Where an image lies.

    Attributes:
        geo: as the manifest has it.
        keys: GeoTIFF's tags 34735 to 34737, which name the reference system.

    >>> from tiler.geometry.window import Window
    >>> located = Located(Geo((0.5, 0, 1000, 0, -0.5, 2000)))
    >>> located.world(Window(100, 40, 64, 64), (0.5, 0.5)).split()
    ['1.0', '0.0', '0.0', '-1.0', '1050.5', '1979.5']
    """

    geo: Geo
    keys: Keys = field(default_factory=dict)

    def affine(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> Affine:
        """The map of a tile. `zoom`: tile pixels a source pixel, across and down."""
        return Affine(*self.geo.transform).of_tile(window.x, window.y, zoom)

    def tags(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> list[Tag]:
        """The GeoTIFF tags of a tile, sorted by number, in the source's reference system."""
        entries = _place_tags(self.affine(window, zoom), _of_points(self.keys)) | self.keys
        return [(tag, *entries[tag]) for tag in sorted(entries)]

    def world(self, window: Window, zoom: tuple[float, float] = (1.0, 1.0)) -> str:
        """The world file of a tile in another format."""
        return world_text(self.affine(window, zoom))


def _place_tags(affine: Affine, of_points: bool) -> Keys:
    """The tags that hold a map.

    Args:
        of_points: whether coordinates are of the centres of pixels.
    """
    a, b, c, d, e, f = astuple(affine)
    if of_points:
        c = c + (a + b) / 2
        f = f + (d + e) / 2
    north_up = b == d == 0 and a > 0 > e
    if north_up:
        scale = (a, -e, 0.0)
        tiepoint = (0.0, 0.0, 0.0, c, f, 0.0)
        return {PIXEL_SCALE: (DOUBLE, 3, scale), TIEPOINTS: (DOUBLE, 6, tiepoint)}
    x_row = (a, b, 0.0, c)
    y_row = (d, e, 0.0, f)
    matrix = (*x_row, *y_row, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    return {TRANSFORMATION: (DOUBLE, 16, matrix)}


def sidecars(path: Path) -> bytes:
    """The content of all files beside an image that say where it lies."""
    content = b""
    for candidate in (*candidates(path), *map(path.with_suffix, PRJ)):
        try:
            with open_regular(candidate) as file:
                content += file.read(PRJ_BYTES)
        except OSError:
            continue
    return content


def located(file: BinaryIO, header: Header, path: Path) -> Located | None:
    """Where an image lies: by its GeoTIFF tags, else by the world file beside it.

    The reference system is that of the tags, else of a .prj beside it. One that is no EPSG code
    has no name here (`geo.crs` is None); its keys are kept all the same.

    None when it is not known: for malformed tags, for control points without a map, and for an
    image that its orientation turns, since the tags are of the stored one.

    Args:
        file: open; it is read from anywhere.
    """
    if header.orientation != 1:
        return None
    affine: Affine | None = None
    keys: Keys = {}
    if header.format == "TIFF":
        affine, keys = _of_tiff(file)
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
        if isinstance(value, bytes):  # Pillow adds the NUL
            result[tag] = value.rstrip(b"\0").decode("latin-1")
        else:
            result[tag] = value
    return result


def for_tifffile(tags: Sequence[Tag]) -> list[tuple[int, int, int, Any, bool]]:
    """Tags as tifffile's `write` takes them in `extratags`."""
    return [(*tag, True) for tag in tags]


def _of_tiff(file: BinaryIO) -> tuple[Affine | None, Keys]:
    """The map by a TIFF's tags, and the keys of its reference system."""
    place = (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION)
    try:
        entries = texts_and_doubles(file, (*place, *KINDS))
    except (struct.error, OSError, OverflowError, ValueError):
        return None, {}
    keys = _keys(entries)
    scale, points, matrix = (_doubles(entries, tag) for tag in place)
    if len(scale) >= 2 and len(points) >= 6:
        terms = _scaled(scale, points)
    elif len(matrix) == 16:
        terms = _of_matrix(matrix)
    else:
        return None, keys
    if _of_points(keys):
        terms = _from_centres(*terms)
    return _valid(*terms), keys


def _keys(entries: dict[int, tuple[int, int, bytes]]) -> Keys:
    """The keys of a reference system; none where there is no valid directory of them."""
    keys: Keys = {}
    for tag, wanted in KINDS.items():
        kind, number, data = entries.get(tag, (0, 0, b""))
        if kind != wanted or number == 0:
            continue
        value: Value = data
        if kind != ASCII:
            value = struct.unpack(f"<{number}{FORMS[kind]}", data)
        keys[tag] = (kind, number, value)
    if DIRECTORY not in keys:
        return {}
    return keys


def _doubles(entries: dict[int, tuple[int, int, bytes]], tag: int) -> tuple[float, ...]:
    """The numbers of a tag; none when it is missing or of another type."""
    kind, number, data = entries.get(tag, (0, 0, b""))
    if kind != DOUBLE:
        return ()
    return struct.unpack(f"<{number}d", data)


Terms = tuple[float, float, float, float, float, float]  # a to f of an affine map


def _scaled(scale: tuple[float, ...], points: tuple[float, ...]) -> Terms:
    """The map by the size of a pixel and the place of one point."""
    across = scale[0]
    down = abs(scale[1])  # below zero it should flip the image; GDAL never does
    column, row, _, x, y = points[:5]
    return across, 0.0, x - column * across, 0.0, -down, y + row * down


def _of_matrix(matrix: tuple[float, ...]) -> Terms:
    """The map by the first two rows of a 4 x 4 matrix; the third of each four is for heights."""
    a, b, _, c, d, e, _, f = matrix[:8]
    return a, b, c, d, e, f


def _from_centres(a: float, b: float, c: float, d: float, e: float, f: float) -> Terms:
    """The map of pixels' corners, from that of their centres."""
    return a, b, c - (a + b) / 2, d, e, f - (d + e) / 2


def _of_world_file(path: Path) -> Affine | None:
    try:
        affine = beside(path)
    except TilerError:
        return None
    if affine is None:
        return None
    return _valid(*astuple(affine))


def _valid(a: float, b: float, c: float, d: float, e: float, f: float) -> Affine | None:
    """The map, or None where it, or that of a tile, would have no area or lie too far away."""
    if not all(abs(term) < FARTHEST for term in (a, b, c, d, e, f)):  # nor NaN
        return None
    smallest = max(FLAT * (abs(a * e) + abs(b * d)), FARTHEST**-2)
    if not abs(a * e - b * d) > smallest:
        return None
    return Affine(a, b, c, d, e, f)


def _of_prj(path: Path) -> Keys:
    """The reference system of a .prj beside an image as keys, where it is an EPSG code."""
    for suffix in PRJ:
        try:
            text = read_text(path.with_suffix(suffix), PRJ_BYTES)
        except (TilerError, ValueError):
            continue
        return _of_well_known_text(text)
    return {}


def _of_well_known_text(text: str) -> Keys:
    match = NAMED.fullmatch(text)
    if match is None or "VERT" in text.upper():  # heights may follow, with a code of their own
        return {}
    key = ROOTS.get(match[1].upper())
    code = int(match[2])
    if key is None or not _registered(code):
        return {}
    head = (1, 1, 0, 3)
    model = (MODEL, 0, 1, MODELS[key])
    raster = (RASTER, 0, 1, 1)
    return {DIRECTORY: (SHORT, 16, (*head, *model, *raster, key, 0, 1, code))}


def _inline(keys: Keys) -> dict[int, int]:
    """The keys whose values are numbers.

    The directory is rows of four numbers: a head that ends with how many rows follow, then key,
    where its value is stored (0: here), number of values, value.
    """
    _, number, values = keys.get(DIRECTORY, (SHORT, 0, ()))
    rows = [values[at : at + 4] for at in range(0, number - 3, 4)]
    if not rows:
        return {}
    count = int(rows[0][3])
    inline = {}
    for key, where, _, value in rows[1 : 1 + count]:
        if where == 0:
            inline[int(key)] = int(value)
    return inline


def _of_points(keys: Keys) -> bool:
    """Whether coordinates are of the centres of pixels."""
    return _inline(keys).get(RASTER) == POINT


def _crs(keys: Keys) -> str | None:
    """The reference system's name, such as EPSG:32632, if it has one."""
    inline = _inline(keys)
    for key, model in MODELS.items():
        code = inline.get(key, 0)
        if inline.get(MODEL) == model and _registered(code):
            return f"EPSG:{code}"
    return None


def _registered(code: int) -> bool:
    """Whether a key's number is an EPSG code; 32767 is a system of the file's own."""
    return 1024 <= code < 32767
