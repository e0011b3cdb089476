"""Affine maps from pixels to the world, and the world files that hold them beside an image."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats.text_files import read_text

if TYPE_CHECKING:
    from tiler.types import Floats

MAX_BYTES = 100_000
FLAT = 1e-12  # determinant, as a part of its terms, of a map that cannot be undone


@dataclass(frozen=True, slots=True)
class Affine:
    """x = a·column + b·row + c, y = d·column + e·row + f, in rasterio's order.

    Columns and rows count from the corner of the first pixel, as boxes do.

    Raises:
        TilerError: a number that is not finite, or a map that cannot be undone.

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
        if not abs(self.determinant) > FLAT * (abs(self.a * self.e) + abs(self.b * self.d)):
            raise TilerError(
                f"an affine map gives pixels an area, but a·e - b·d of {self} is "
                f"{self.determinant:g}"
            )

    def __str__(self) -> str:
        return ",".join(repr(float(value)) for value in astuple(self))

    @classmethod
    def of(cls, given: str | Sequence[float]) -> Affine:
        """From the text "a,b,c,d,e,f", or from six numbers.

        Raises:
            TilerError: anything else.

        >>> Affine.of("2, 0, 5, 0, -2, 7")
        Affine(a=2.0, b=0.0, c=5.0, d=0.0, e=-2.0, f=7.0)
        """
        try:
            values = [
                float(part) for part in (given.split(",") if isinstance(given, str) else given)
            ]
        except (TypeError, ValueError, OverflowError):
            values = []
        if len(values) != 6:
            raise TilerError(f"an affine map is six numbers a,b,c,d,e,f, got {short(given)}")
        return cls(*values)

    @property
    def determinant(self) -> float:
        """Area of a pixel in the world; negative where the map mirrors, as north-up maps do."""
        return self.a * self.e - self.b * self.d

    def apply(self, points: Floats) -> Floats:
        """`(N, 2)` x and y of the world, of columns and rows `(N, 2)` in pixels."""
        column, row = points[..., 0], points[..., 1]
        return np.stack(
            [self.a * column + self.b * row + self.c, self.d * column + self.e * row + self.f],
            axis=-1,
        )

    def of_tile(self, x: float, y: float, zoom: tuple[float, float] = (1.0, 1.0)) -> Affine:
        """The map of a tile that begins at column x and row y.

        Args:
            zoom: pixels of the tile for one of these, across and down.

        >>> Affine(0.5, 0, 1000, 0, -0.5, 2000).of_tile(100, 40, (2, 2))
        Affine(a=0.25, b=0.0, c=1050.0, d=0.0, e=-0.25, f=1980.0)
        """
        across, down = zoom
        return Affine(
            self.a / across,
            self.b / down,
            self.a * x + self.b * y + self.c,
            self.d / across,
            self.e / down,
            self.d * x + self.e * y + self.f,
        )


def world_file(path: Path) -> Affine:
    """The map of an ESRI world file: six lines A, D, B, E, C, F.

    C and F are the centre of the first pixel, so the corner lies half a pixel before them.

    Raises:
        TilerError: names the file and the line at fault.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "map.tfw")
    ...     _ = file.write_text("0.5\\n0\\n0\\n-0.5\\n1000.25\\n1999.75\\n")
    ...     world_file(file)
    Affine(a=0.5, b=0.0, c=1000.0, d=0.0, e=-0.5, f=2000.0)
    """
    shown = str(path)
    values: list[float] = []
    for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
        if not (word := line.strip()):
            continue
        if len(values) == 6:
            raise TilerError(
                f"{shown}:{number}: a world file has six lines, got {short(word)} after them"
            )
        try:
            values.append(float(word))
        except ValueError:
            raise TilerError(f"{shown}:{number}: expected a number, got {short(word)}") from None
        if not math.isfinite(values[-1]):
            raise TilerError(f"{shown}:{number}: expected a finite number, got {short(word)}")
    if len(values) != 6:
        raise TilerError(
            f"{shown}:{len(values) + 1}: a world file has six lines, got {len(values)}"
        )
    a, d, b, e, c, f = values
    try:
        return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    except TilerError as error:
        raise TilerError(f"{shown}: {error}") from None


def world_text(affine: Affine) -> str:
    """A map as the text of a world file.

    >>> world_text(Affine(0.5, 0, 1000, 0, -0.5, 2000)).split()
    ['0.5', '0.0', '0.0', '-0.5', '1000.25', '1999.75']
    """
    a, b, c, d, e, f = astuple(affine)
    return "".join(
        f"{float(value)!r}\n" for value in (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)
    )


def beside(image_path: Path) -> Affine | None:
    """The map of the world file beside an image, if there is one.

    Of `scene.jpg` that is scene.jpgw, scene.jgw or scene.wld, the first that is there, in
    the case of the image's suffix, in small letters or in capitals.

    Raises:
        TilerError: there is one, and it is malformed.
    """
    for path in candidates(image_path):
        if os.path.isfile(path):  # Path.is_file raises where the longer name is too long
            return world_file(path)
    return None


def candidates(image_path: Path) -> list[Path]:
    """Where the world file of an image may lie, first choice first.

    >>> [path.name for path in candidates(Path("a.tif"))]
    ['a.tifw', 'a.TIFW', 'a.tfw', 'a.TFW', 'a.wld', 'a.WLD']
    """
    suffix = image_path.suffix
    stems = [suffix, f".{suffix[1]}{suffix[-1]}"] if len(suffix) > 1 else []
    kinds = [[stem + "w", stem + "W"] for stem in stems] + [[".wld"]]
    variants = [v for kind in kinds for v in (*kind, kind[0].lower(), kind[0].upper())]
    if suffix.islower():  # nobody writes .tifW beside a .tif
        variants = [v for v in variants if v.islower() or v.isupper()]
    return [image_path.with_suffix(v) for v in dict.fromkeys(variants)]
