"""Classes that an option gives by name or number."""

from __future__ import annotations

from collections.abc import Sequence

from tiler.errors import TilerError, did_you_mean


def class_of(name: str, names: Sequence[str] | None, option: str) -> int:
    """The class that an option gives by its name or number.

    Raises:
        TilerError: it does not exist.

    >>> class_of("bus", ["car", "bus"], "classes"), class_of("0", None, "classes")
    (1, 0)
    """
    if names is not None and name in names:
        return list(names).index(name)
    if name.isdecimal() and len(name) < 16 and (names is None or int(name) < len(names)):
        return int(name)
    hint = "; class names are not known here"
    if names is not None:
        hint = did_you_mean(name, names)
    raise TilerError(f"--{option}: no class {name!r}{hint}")


def listed(names: Sequence[str]) -> str:
    """Class names in a message: the first ones, and how many more.

    >>> listed(["car", "bus"])
    'car, bus'
    """
    shown = ", ".join(names[:12])
    more = len(names) - 12
    return f"{shown}, and {more} more" if more > 0 else shown
