"""Where an output's inputs lie: paths in its args.yaml, from the folder that holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACES = ("preds", "tiles", "images")  # options of merge that are places


def relative(places: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """What stands in the args.yaml of an output folder, itself a path without links.

    A path that YAML cannot hold (not UTF-8), or that lies on another drive, is left out, or
    absolute.

    >>> relative({"preds": Path("/runs/predict")}, Path("/runs/predict-merged"))
    {'preds': '../predict'}
    """
    found = {}
    for name, place in places.items():
        real = os.path.realpath(place)
        try:
            path = os.path.relpath(real, folder).replace(os.sep, "/")
        except ValueError:
            path = real
        if _writable(path):
            found[name] = path
    return found


def _writable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path.isprintable()


def located(content: Mapping[str, Any], file: Path) -> dict[str, Path]:
    """The places that an args.yaml names, as paths that are there."""
    folder = os.path.dirname(os.path.realpath(file))
    given = {name: content.get(name) for name in PLACES}
    paths = {
        name: Path(os.path.normpath(os.path.join(folder, value)))
        for name, value in given.items()
        if isinstance(value, str) and value and value.isprintable()
    }
    return {name: path for name, path in paths.items() if os.path.exists(path)}
