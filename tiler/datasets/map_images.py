"""Where images lie on the map, as labels of a GIS are placed in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused
from tiler.formats.map_labels import MapImage
from tiler.images import geo
from tiler.images.header import probe


def map_images(root: Path, keys: Sequence[str]) -> list[MapImage]:
    """The size and place of each image. One that cannot be read has neither; it is rejected when
    it is to be cut.

    Args:
        keys: paths relative to the root, or absolute.
    """
    return [_map_image(root / key, key) for key in keys]


def _map_image(path: Path, key: str) -> MapImage:
    try:
        with opened(str(path)) as file:
            header = probe(file)
            located = geo.located(file, header, path)
    except SourceRefused:
        return MapImage(key, None, None)
    if located is None:
        return MapImage(key, header.size, None)
    return MapImage(key, header.size, located.geo)
