"""Types that many modules use, for annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

Task: TypeAlias = Literal["detect", "segment", "obb", "pose"]
TASKS: tuple[Task, ...] = get_args(Task)

SPLITS = ("train", "val", "test", "minival")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]
    Objects: TypeAlias = NDArray[Any]  # shapely geometries
