"""An error of one image is that image's: it is refused, by name, and the others go on.

Memory that ran out while others worked beside it may have been theirs: then the image is tried
once more, alone (`workers.stream` does it), so that the result does not depend on the number of
workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from tiler.errors import SourceRefused, TilerError
from tiler.formats.text_files import reason

Item = TypeVar("Item")
Result = TypeVar("Result")

DEBUG = "TILER_DEBUG"
_alone: ContextVar[bool] = ContextVar("alone", default=True)


def among_others(work: Callable[[Item], Result], item: Item) -> Result:
    """`work(item)`, while other threads or processes work as well."""
    token = _alone.set(False)
    try:
        return work(item)
    finally:
        _alone.reset(token)


def refusal(error: Exception) -> SourceRefused:
    """What an error of one image means for it.

    Raises:
        MemoryError: it is to be tried once more, alone.
        Exception: the error itself, where it is not of the image: wrong use, a full disk; or where
            tracebacks are asked for.
    """
    if isinstance(error, SourceRefused):
        return error
    if isinstance(error, MemoryError):
        if not _alone.get():
            raise error
        return SourceRefused("I04", "not enough memory for it, even alone")
    if isinstance(error, TilerError) or os.environ.get(DEBUG):
        raise error
    if isinstance(error, OSError):
        return SourceRefused("I01", f"cannot be read: {reason(error)}")
    said = " ".join(str(error).split())[:300]
    return SourceRefused(
        "X01",
        f"a fault of tiler itself: {type(error).__name__}: {said}; --debug shows where, please "
        "report it",
    )
