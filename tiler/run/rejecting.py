"""An error of one image rejects that image, by name, and no other.

Where memory ran out, other images may have taken it. Then the image is tried once more, alone
(`workers.stream` does it), so that the result does not depend on the number of workers.
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
    """Why an image is rejected, from an error that occurred while it was worked on.

    Raises:
        MemoryError: the image should be tried once more, alone.
        Exception: the error itself, where the image is not its cause (wrong use, a full disk), or
            where tracebacks are wanted.
    """
    if isinstance(error, SourceRefused):
        return error
    if isinstance(error, MemoryError):
        if not _alone.get():
            raise error
        return SourceRefused("I04", "not enough memory, even for this image alone")
    if isinstance(error, TilerError) or os.environ.get(DEBUG):
        raise error
    if isinstance(error, OSError):
        return SourceRefused("I01", f"cannot be read: {reason(error)}")
    return SourceRefused(
        "X01", f"internal error: {said(error)}; --debug shows where, please report it"
    )


def said(error: Exception) -> str:
    """An error that is not ours, on one line.

    >>> said(ValueError("no such\\nthing"))
    'ValueError: no such thing'
    """
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}"
