"""The inputs of an output: paths in its args.yaml, relative to the folder of the output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACES = ("preds", "tiles", "images", "roi", "source", "model")  # paths in an args.yaml


def relative(places: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The paths as the args.yaml of an output folder has them.

    A path on another drive is absolute; one that YAML cannot hold (not UTF-8) is left out.

    Args:
        folder: the output, a path without links.

    >>> relative({"preds": Path("/runs/predict")}, Path("/runs/predict-merged"))
    {'preds': '../predict'}
    """
    paths = {}
    for name, place in places.items():
        real = os.path.realpath(place)
        try:
            path = os.path.relpath(real, folder).replace(os.sep, "/")
        except ValueError:
            path = real
        if _writable(path):
            paths[name] = path
    return paths


def _writable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path.isprintable()


def located(content: Mapping[str, Any], file: Path) -> dict[str, Path]:
    """The paths in an args.yaml that exist."""
    folder = os.path.dirname(os.path.realpath(file))
    paths = {}
    for name in PLACES:
        value = content.get(name)
        if not isinstance(value, str) or not value or not value.isprintable():
            continue
        path = os.path.normpath(os.path.join(folder, value))
        if os.path.exists(path):
            paths[name] = Path(path)
    return paths
