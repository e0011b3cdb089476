"""Libraries that are loaded when they are first needed.

Shapely knows outlines. Boxes do without it, and loading it is a good part of a small run's start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


if TYPE_CHECKING:
    import shapely as shapely
else:
    shapely = _Lazy("shapely")
