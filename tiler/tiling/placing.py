"""Which images the regions of --roi are for, and in which coordinates they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused, TilerError, did_you_mean
from tiler.findings import Finding, short
from tiler.formats.affine import Affine
from tiler.formats.geojson import PIXELS, GeoAreas
from tiler.formats.manifest import Geo
from tiler.geometry import boxes as box
from tiler.images import geo
from tiler.images.header import probe
from tiler.options import RunOptions
from tiler.run.rejecting import refusal
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob
from tiler.tiling.roi import Roi, RoiFile, extent

if TYPE_CHECKING:
    from tiler.types import Floats

NAMED = 3  # images in a message that there are none of them
SAYING = '"crs": {"type": "name", "properties": {"name": "pixels"}}'


def placed(
    file: RoiFile, job: SplitJob, sources: Sequence[Source], run: RunOptions
) -> tuple[Roi, list[Finding]]:
    """The regions, and in which coordinates they are: decided once, for all images.

    Raises:
        TilerError: they may be pixels as well as map coordinates, or meet no image.
    """
    roi, findings = _of_images(file, [source.key for source in sources])
    wanted = [source for source in sources if _is_wanted(roi, source.key)]
    frames = [frame for frame in mapped(job, _frames, wanted, run) if frame is not None]
    return _Coordinates(file, roi, frames).decided(), findings


def placed_in(file: RoiFile, frames: Sequence[Frame]) -> tuple[Roi, list[Finding]]:
    """The same, for images whose size and location are known."""
    roi, findings = _of_images(file, [frame.key for frame in frames])
    wanted = [frame for frame in frames if _is_wanted(roi, frame.key)]
    return _Coordinates(file, roi, wanted).decided(), findings


def _of_images(file: RoiFile, images: Sequence[str]) -> tuple[Roi, list[Finding]]:
    """The regions by image.

    Raises:
        TilerError: none is for any of the images.
    """
    keys, findings = _keys(file, images)
    roi = _by_image(file.content, keys)
    if not any(_is_wanted(roi, key) for key in images):
        raise TilerError("; ".join(finding.message for finding in findings[:NAMED]))
    return roi, findings


def _is_wanted(roi: Roi, key: str) -> bool:
    """Whether some region is for an image."""
    return bool(len(roi.everywhere)) or key in roi.own


def _keys(file: RoiFile, images: Sequence[str]) -> tuple[dict[str, str], list[Finding]]:
    """The image that each name in the file stands for, and the names that stand for none.

    Raises:
        TilerError: a name stands for several images.
    """
    names = {name: name.replace("\\", "/").removeprefix("./") for name in file.content.images}
    fitting: dict[str, set[str]] = {name: set() for name in names.values() if name}
    for key in images:
        for tail in _tails(key):
            if tail in fitting:
                fitting[tail].add(key)
    known = sorted({os.path.basename(key) for key in images})
    findings = []
    keys = {"": ""}
    for given, name in names.items():
        found = sorted(fitting.get(name, ()))
        if len(found) > 1:
            several = f"{found[0]} or {found[1]}"
            message = f"image {short(given)} may be {several}; write which in the file"
            raise TilerError(f"{file.name}: {message}")
        if found:
            keys[given] = found[0]
        elif given:
            hint = did_you_mean(os.path.basename(name), known)
            findings.append(Finding("", "W03", f"{file.name}: no image {short(given)}{hint}"))
    return keys, findings


def _tails(key: str) -> Iterator[str]:
    """A path, and what is left of it without its first folders or its suffix."""
    for path in (key, os.path.splitext(key)[0]):
        parts = path.split("/")
        for start in range(len(parts)):
            yield "/".join(parts[start:])


def _by_image(content: GeoAreas, keys: Mapping[str, str]) -> Roi:
    """The regions that are for all images, and those of single ones."""
    numbers: dict[str, list[int]] = {"": []}
    for number, name in enumerate(content.images):
        if name in keys:
            numbers.setdefault(keys[name], []).append(number)
    everywhere = content.areas[numbers.pop("")]
    return Roi(everywhere, {key: content.areas[mine] for key, mine in numbers.items()})


@dataclass(frozen=True, slots=True)
class Frame:
    """An image, as far as regions may lie in it."""

    key: str
    width: int
    height: int
    geo: Geo | None

    @property
    def whole(self) -> Floats:
        """`(1, 4)` xyxy of all its pixels."""
        return np.array([[0, 0, self.width, self.height]], np.float64)


def _frames(job: SplitJob, sources: Sequence[Source]) -> list[Frame | None]:
    """The frame of each image; None for an unreadable one, which is rejected when it is cut."""
    frames: list[Frame | None] = []
    for source in sources:
        frame = None
        try:
            frame = _frame(job, source)
        except Exception as error:
            refusal(error)
        frames.append(frame)
    return frames


def _frame(job: SplitJob, source: Source) -> Frame:
    path = job.root / source.key
    with opened(str(path)) as file:
        header = probe(file)
        located = geo.located(file, header, path)
    return Frame(source.key, *header.size, None if located is None else located.geo)


@dataclass(frozen=True, slots=True, eq=False)
class _Coordinates:
    """The question of which coordinates the regions are in.

    Attributes:
        frames: of the images that regions are for.
    """

    file: RoiFile
    roi: Roi
    frames: list[Frame]

    def decided(self) -> Roi:
        """The regions with the only coordinates that they can be in.

        Raises:
            TilerError: they can be in either, or in none.
        """
        named = self.file.content.crs
        in_pixels = self.roi
        on_map = replace(self.roi, on_map=True, crs=named)
        pixels_fit = named in ("", PIXELS) and self._meets_some(in_pixels)
        map_fits = named != PIXELS and self._meets_some(on_map)
        if pixels_fit and map_fits:
            raise self._unclear("pixels, or map coordinates")
        if map_fits:
            return replace(on_map, crs=named or self._only_crs())
        if not pixels_fit:
            raise self._outside(named)
        if not named and self._degrees():
            raise self._unclear("pixels, or longitude and latitude")
        return in_pixels

    def _meets_some(self, roi: Roi) -> bool:
        return any(_is_met(roi, frame) for frame in self.frames)

    def _only_crs(self) -> str:
        """The reference system of all images; "" where none has a name."""
        systems = self._systems()
        if len(systems) > 1:
            several = ", ".join(systems)
            message = f"images lie in {several}, and it has no crs member that says which it is in"
            raise TilerError(f"{self.file.name}: {message}")
        return next(iter(systems), "")

    def _systems(self) -> list[str]:
        return sorted({frame.geo.crs for frame in self.frames if frame.geo and frame.geo.crs})

    def _degrees(self) -> bool:
        """Whether pixels are unlikely: as degrees, the numbers would be a place on Earth."""
        x0, y0, x1, y1 = self.file.content.bounds.tolist()
        on_earth = -180 <= x0 <= x1 <= 180 and -90 <= y0 <= y1 <= 90
        located = any(frame.geo for frame in self.frames)
        under_a_pixel = max(x1 - x0, y1 - y0) < 1
        return on_earth and (located or under_a_pixel)

    def _unclear(self, readings: str) -> TilerError:
        message = f"{self.file.extent} may be {readings}; name its reference system in the file"
        return TilerError(f"{self.file.name}: {message} (of pixels: {SAYING})")

    def _outside(self, named: str) -> TilerError:
        """The error that no region meets an image, with what was tried."""
        tried = []
        if named in ("", PIXELS):
            tried.append(f"as pixels, images have up to {_largest(self.frames)} px (y downwards)")
        places = [_on_map(frame) for frame in self.frames if frame.geo]
        if named != PIXELS and places:
            corners = np.concatenate(places)
            bounds = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            systems = ", ".join(self._systems()) or "a reference system without a name"
            tried.append(f"on the map, they lie in {extent(bounds)}, {systems}")
        elif named != PIXELS:
            tried.append("on the map, no image has a location")
        if named not in ("", PIXELS):
            tried.append(f"it is in {named}, and nothing is projected")
        regions = f"its regions, {self.file.extent}, meet no image"
        return TilerError(f"{self.file.name}: {regions}: {'; '.join(tried)}")


def _is_met(roi: Roi, frame: Frame) -> bool:
    try:
        return bool(roi.meets(frame.key, frame.whole, frame.geo).any())
    except SourceRefused:
        return False


def _on_map(frame: Frame) -> Floats:
    """`(4, 2)` the corners of an image in map coordinates."""
    assert frame.geo is not None
    corners: Floats = Affine(*frame.geo.transform).apply(box.corners(frame.whole))[0]
    return corners


def _largest(frames: Iterable[Frame]) -> str:
    width = max((frame.width for frame in frames), default=0)
    height = max((frame.height for frame in frames), default=0)
    return f"{width} x {height}"
