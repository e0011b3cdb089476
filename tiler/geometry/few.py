"""What holds of the few values of each row.

numpy goes along an axis row by row, so its own `all(axis=1)` and `max(axis=1)` take ten times as
long where rows are as short as a box.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats


def every(flags: Bools) -> Bools:
    """Whether all of a row's flags are set: `(..., K)` to `(...)`, K > 0.

    >>> every(np.array([[True, True], [True, False]])).tolist()
    [True, False]
    """
    return np.asarray(reduce(np.logical_and, np.moveaxis(flags, -1, 0)))


def some(flags: Bools) -> Bools:
    """Whether any of a row's flags is set: `(..., K)` to `(...)`, K > 0.

    >>> some(np.array([[False, False], [True, False]])).tolist()
    [False, True]
    """
    return np.asarray(reduce(np.logical_or, np.moveaxis(flags, -1, 0)))


def largest(values: Floats) -> Floats:
    """The largest number of each row: `(..., K)` to `(...)`, K > 0; NaN if one is NaN.

    >>> largest(np.array([[1.0, 2.0], [4.0, 3.0]])).tolist()
    [2.0, 4.0]
    """
    return np.asarray(reduce(np.maximum, np.moveaxis(values, -1, 0)))
