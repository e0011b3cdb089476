"""How every verb makes its output: check the place, build beside it, check again, rename."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tiler.errors import TilerError, Unfinished
from tiler.run.staging import Staging

Result = TypeVar("Result")


def produced(
    target: Path,
    exists: Callable[[], bool],
    unchanged: Callable[[], Result],
    build: Callable[[Staging], Result],
) -> Result:
    """Make an output, or find that it exists already.

    Args:
        target: the output folder, see `output_folder.resolved`.
        exists: whether an output exists that must be compared, see `output_folder.occupied`.
        unchanged: compares it; an error where it is not what this run would make.
        build: makes everything in the staging tree.

    Raises:
        TilerError: the place holds something else, or the work cannot succeed; nothing is left.
        Unfinished: what is done is kept, and the same call resumes it.
    """
    if exists():
        Staging.sweep(target)
        return unchanged()
    with Staging(target) as staging:
        if exists():  # the run that held the lock has made it
            staging.discard()
            return unchanged()
        try:
            result = build(staging)
            if exists():  # checked again: hours may have passed
                raise Unfinished(f"{target}: has been made by another run in the meantime")
        except Unfinished:
            raise
        except TilerError:  # running again would not help
            staging.discard()
            raise
        staging.commit(replace=True)
    return result
