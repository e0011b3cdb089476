"""Affine maps from pixels to the world, and the world files that hold them beside an image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats.text_files import read_text
from tiler.options.values import affine_numbers

if TYPE_CHECKING:
    from tiler.types import Floats

MAX_BYTES = 100_000
FLAT = 1e-12  # a map is not invertible if its determinant is at most this part of its terms


@dataclass(frozen=True, slots=True)
class Affine:
    """x = a·column + b·row + c, y = d·column + e·row + f, in rasterio's order.

    Columns and rows count from the corner of the first pixel, as boxes do.

    Raises:
        TilerError: a number is not finite, or the map is not invertible.

    >>> Affine(0.5, 0, 1000, 0, -0.5, 2000).apply(np.array([[0, 0], [10, 4.0]])).tolist()
    [[1000.0, 2000.0], [1005.0, 1998.0]]
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, astuple(self))):
            raise TilerError(f"an affine map has six finite numbers, got {self}")
        terms = abs(self.a * self.e) + abs(self.b * self.d)
        if not abs(self.determinant) > FLAT * terms:
            raise TilerError(
                f"an affine map gives pixels an area, but a·e - b·d of {self} is "
                f"{self.determinant:g}"
            )

    def __str__(self) -> str:
        return ",".join(repr(float(value)) for value in astuple(self))

    @classmethod
    def of(cls, given: str | Iterable[float]) -> Affine:
        """A map from the text "a,b,c,d,e,f", or from six numbers; or from rasterio's `transform`,
        which has three more.

        Raises:
            TilerError: it is neither.

        >>> Affine.of("2, 0, 5, 0, -2, 7")
        Affine(a=2.0, b=0.0, c=5.0, d=0.0, e=-2.0, f=7.0)
        """
        parts = given.split(",") if isinstance(given, str) else given
        try:
            values = [float(part) for part in affine_numbers(parts)]
        except (TypeError, ValueError, OverflowError):
            values = []
        if len(values) != 6:
            raise TilerError(f"an affine map is six numbers a,b,c,d,e,f, got {short(given)}")
        return cls(*values)

    @property
    def determinant(self) -> float:
        """Area of a pixel in the world; negative if the map mirrors, as north-up maps do."""
        return self.a * self.e - self.b * self.d

    @property
    def mirrors(self) -> bool:
        """Whether what turns clockwise in pixels (y down) does not in the world (y up)."""
        return self.determinant < 0

    def apply(self, points: Floats) -> Floats:
        """`(N, 2)` x and y in the world, for columns and rows `(N, 2)` in pixels."""
        column = points[..., 0]
        row = points[..., 1]
        x = self.a * column + self.b * row + self.c
        y = self.d * column + self.e * row + self.f
        return np.stack([x, y], axis=-1)

    def pixels(self, points: Floats) -> Floats:
        """`(N, 2)` columns and rows, for x and y in the world `(N, 2)`: the inverse of `apply`.

        >>> Affine(0.5, 0, 1000, 0, -0.5, 2000).pixels(np.array([[1005.0, 1998]])).tolist()
        [[10.0, 4.0]]
        """
        x = points[..., 0] - self.c
        y = points[..., 1] - self.f
        column = (self.e * x - self.b * y) / self.determinant
        row = (self.a * y - self.d * x) / self.determinant
        return np.stack([column, row], axis=-1)

    def of_tile(self, x: float, y: float, zoom: tuple[float, float] = (1.0, 1.0)) -> Affine:
        """The map of a tile that begins at column x and row y.

        Args:
            zoom: pixels of the tile for one pixel of the image, across and down.

        >>> Affine(0.5, 0, 1000, 0, -0.5, 2000).of_tile(100, 40, (2, 2))
        Affine(a=0.25, b=0.0, c=1050.0, d=0.0, e=-0.25, f=1980.0)
        """
        across, down = zoom
        corner_x = self.a * x + self.b * y + self.c
        corner_y = self.d * x + self.e * y + self.f
        return Affine(
            self.a / across,
            self.b / down,
            corner_x,
            self.d / across,
            self.e / down,
            corner_y,
        )


def world_file(path: Path) -> Affine:
    """The map of an ESRI world file: six lines A, D, B, E, C, F.

    C and F are the centre of the first pixel; its corner lies half a pixel before them.

    Raises:
        TilerError: names the file and the line that is wrong.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "map.tfw")
    ...     _ = file.write_text("0.5\\n0\\n0\\n-0.5\\n1000.25\\n1999.75\\n")
    ...     world_file(file)
    Affine(a=0.5, b=0.0, c=1000.0, d=0.0, e=-0.5, f=2000.0)
    """
    a, d, b, e, centre_x, centre_y = _six_numbers(path)
    corner_x = centre_x - (a + b) / 2
    corner_y = centre_y - (d + e) / 2
    try:
        return Affine(a, b, corner_x, d, e, corner_y)
    except TilerError as error:
        raise TilerError(f"{path}: {error}") from None


def _six_numbers(path: Path) -> list[float]:
    """The numbers in a world file; blank lines do not count."""
    values: list[float] = []
    for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
        word = line.strip()
        if not word:
            continue
        where = f"{path}:{number}"
        if len(values) == 6:
            raise TilerError(f"{where}: a world file has six lines, got {short(word)} after them")
        try:
            value = float(word)
        except ValueError:
            raise TilerError(f"{where}: expected a number, got {short(word)}") from None
        if not math.isfinite(value):
            raise TilerError(f"{where}: expected a finite number, got {short(word)}")
        values.append(value)
    if len(values) != 6:
        line_after = len(values) + 1
        raise TilerError(f"{path}:{line_after}: a world file has six lines, got {len(values)}")
    return values


def world_text(affine: Affine) -> str:
    """A map as the text of a world file.

    >>> world_text(Affine(0.5, 0, 1000, 0, -0.5, 2000)).split()
    ['0.5', '0.0', '0.0', '-0.5', '1000.25', '1999.75']
    """
    a, b, c, d, e, f = astuple(affine)
    centre_x = c + (a + b) / 2
    centre_y = f + (d + e) / 2
    lines = [repr(float(value)) for value in (a, d, b, e, centre_x, centre_y)]
    return "\n".join(lines) + "\n"


def beside(image_path: Path) -> Affine | None:
    """The map of the world file beside an image, if there is one.

    For `scene.jpg` that is scene.jpgw, scene.jgw or scene.wld, whichever exists first; written
    like the suffix of the image, in small letters or in capitals.

    Raises:
        TilerError: the world file is malformed.
    """
    for path in candidates(image_path):
        if os.path.isfile(path):  # Path.is_file raises if the longer name is too long
            return world_file(path)
    return None


def candidates(image_path: Path) -> list[Path]:
    """Where the world file of an image may be, first choice first.

    >>> [path.name for path in candidates(Path("a.tif"))]
    ['a.tifw', 'a.TIFW', 'a.tfw', 'a.TFW', 'a.wld', 'a.WLD']
    """
    suffix = image_path.suffix
    variants: list[str] = []
    if len(suffix) > 1:
        for stem in (suffix, f".{suffix[1]}{suffix[-1]}"):
            variants.append(stem + "w")
            if not suffix.islower():  # nobody writes .tifW beside a .tif
                variants.append(stem + "W")
            variants.append(f"{stem}w".lower())
            variants.append(f"{stem}w".upper())
    variants += [".wld", ".WLD"]
    return [image_path.with_suffix(variant) for variant in dict.fromkeys(variants)]
