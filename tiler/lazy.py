"""Libraries that are loaded when they are first needed.

Shapely is needed for outlines, not for boxes, and takes a good part of the start of a small run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


class _Lazy:
    """A module that is imported when one of its attributes is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


if TYPE_CHECKING:
    import shapely as shapely
else:
    shapely = _Lazy("shapely")
