"""Values in detectors' files, as the parts of an `Entry`; what is not valid stays as it is, so that
it is rejected with the reason later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short


def number(value: Any) -> Any:
    """A number, also one written as text; anything else as it is.

    >>> number("2.5"), number(3), number("x"), number(None)
    (2.5, 3.0, 'x', None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    if isinstance(value, str) and "_" in value:  # which Python reads between digits
        return value
    try:
        return float(value)
    except ValueError:
        return value
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def is_number(value: Any) -> bool:
    """Whether a value is a number, also one written as text."""
    return isinstance(number(value), float)


def score(value: Any) -> Any:
    """A confidence; None where there is none."""
    return None if value in (None, "") else number(value)


def box(sides: Sequence[Any]) -> tuple[Any, ...]:
    """COCO's x, y, width and height of left, top, right and bottom.

    >>> box(["1", 2, 4, 4])
    (1.0, 2.0, 3.0, 2.0)
    """
    given = [number(side) for side in sides]
    if len(given) != 4 or not all(isinstance(side, float) for side in given):
        return tuple(sides)
    left, top, right, bottom = given
    return left, top, right - left, bottom - top


def centred(sides: Sequence[Any]) -> tuple[Any, ...]:
    """COCO's x, y, width and height of the centre's x and y, width and height.

    >>> centred([5, 5, 4, 2])
    (3.0, 4.0, 4.0, 2.0)
    """
    given = [number(side) for side in sides]
    if len(given) != 4 or not all(isinstance(side, float) for side in given):
        return tuple(sides)
    x, y, width, height = given
    return x - width / 2, y - height / 2, width, height


def triples(points: Sequence[Sequence[Any]]) -> list[Any]:
    """Keypoints one after the other, as COCO has them."""
    return [number(value) for point in points for value in point]


def mask(value: Any) -> Any:
    """COCO's mask of rows of pixels, where more than .5 is the object; of a mask or polygons, the
    same.

    >>> mask([[0, 1], [0, 1]])
    {'size': [2, 2], 'counts': [2, 2]}
    """
    if not isinstance(value, list) or not value or not isinstance(value[0], list):
        return value
    rows = value
    if len(rows) == 1 and rows[0] and isinstance(rows[0][0], list):
        rows = rows[0]  # torchvision's masks are of one channel
    if {*map(type, rows)} != {list} or len({*map(len, rows)}) != 1 or len(rows) < 2:
        return value
    try:
        pixels = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        return value
    if pixels.ndim != 2 or not pixels.size or not ((pixels >= 0) & (pixels <= 1)).all():
        return value  # polygons, if anything
    inside = np.concatenate([[False], (pixels > 0.5).ravel(order="F")])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    runs = np.diff(np.concatenate([[0], edges, [pixels.size]]))
    return {"size": list(pixels.shape), "counts": runs.tolist()}


def listed(value: Any, what: str, path: str) -> list[Any]:
    """A list; none for null.

    Raises:
        TilerError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise TilerError(f"{path}: {what} is {short(value)}, expected a list")
    return value


def columns_of(content: dict[str, Any], names: Sequence[str], path: str) -> list[list[Any]]:
    """Lists of one length.

    Raises:
        TilerError: they are not lists, or differ in length.
    """
    columns = [listed(content.get(name), name, path) for name in names]
    lengths = [len(column) for column in columns]
    if len({*lengths}) > 1:
        raise TilerError(
            f"{path}: {', '.join(names)} have {', '.join(map(str, lengths))} values, expected as "
            "many of each"
        )
    return columns
