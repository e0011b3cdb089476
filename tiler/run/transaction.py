"""How every verb makes its output: looked at, built beside its place, looked at again, renamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tiler.errors import TilerError, Unfinished
from tiler.run.staging import Staging

Result = TypeVar("Result")


def produced(
    target: Path,
    stands: Callable[[], bool],
    unchanged: Callable[[], Result],
    build: Callable[[Staging], Result],
) -> Result:
    """Make an output, or find that it is there already.

    Args:
        target: the output folder, see `target.resolved`.
        stands: whether an output stands there that must be looked at, see `target.occupied`.
        unchanged: looks at it; an error where it is not what this run would make.
        build: everything into the staging tree.

    Raises:
        TilerError: the place holds something else, or the work is in vain; nothing is left.
        Unfinished: what is done is kept, and the same call resumes it.
    """
    if stands():
        Staging.sweep(target)
        return unchanged()
    with Staging(target) as staging:
        if stands():  # the run that held the lock has made it
            staging.discard()
            return unchanged()
        try:
            result = build(staging)
            if stands():  # looked at again: hours may have passed
                made = "has been made by another run in the meantime"
                raise Unfinished(f"{target}: {made}")
        except Unfinished:
            raise
        except TilerError:  # nothing that running again would resume
            staging.discard()
            raise
        staging.commit(replace=True)
    return result
