"""What is known of the tiles: their layout, what merged detections are made of, what was said on each tile."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tiler import boxes as box
from tiler import ragged
from tiler.datasets import index as indexes
from tiler.datasets.index import Index, Picture
from tiler.errors import SourceRefused, TilerError
from tiler.evaluation.layout import Layout, Origins
from tiler.evaluation.sample import Found, Sample, Truth
from tiler.findings import printable
from tiler.formats import manifest, provenance, yolo
from tiler.formats.predictions import Frames, Reading, open_predictions
from tiler.formats.text import read_bytes
from tiler.instances import Instances
from tiler.scoring.truth import joined

if TYPE_CHECKING:
    from tiler.options import ReadingOptions
    from tiler.types import Floats, Ints, Task

MERGED = "-merged"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The tiles of the pictures that are scored.

    Attributes:
        names: of the T tiles, in the order of the layout.
        said: where they are known from, in words.
        rows: `(T,)` rows of predictions of each, -1 where that is not known.
        left_out: what cannot be told, and why.
    """

    layout: Layout
    names: list[str]
    said: str
    origins: Origins | None
    per_tile: Sample | None
    left_out: list[str]


def sizes_of(preds: Path | None) -> dict[str, tuple[int, int]]:
    """Width and height of the pictures, as merged predictions have them."""
    path = (preds or Path()) / provenance.NAME
    if preds is None or not path.is_file():
        return {}
    return {source.source: (source.width, source.height) for source in provenance.read_sources(path)}


def tiling(
    preds: Path | None,
    tiles: Path | None,
    tile_preds: Path | None,
    keys: Sequence[str],
    sizes: Floats,
    found: Found,
    names: tuple[str, ...],
    options: ReadingOptions,
) -> Tiling | str:
    """What is known of the tiles, or why nothing is.

    Args:
        preds: the merged predictions, if they are files.
        tiles: the output of tiler split, or its manifest.
        tile_preds: the predictions on tiles. Default: what the merged ones are named after, if it is there.
        keys: the pictures.

    Raises:
        TilerError: what is given cannot be used.
    """
    left_out: list[str] = []
    merged: dict[int, provenance.Merged] = {}
    if preds is not None and (preds / provenance.NAME).is_file():
        merged = _by_picture(keys, {s.source: s for s in provenance.read_sources(preds / provenance.NAME)})
    before = None if preds is None else tile_preds or _before(preds)
    path = indexes.manifest_of(before or preds or Path("."), tiles) if tiles is not None or preds is not None else None
    known = None if path is None else indexes.of_manifest(path)
    if merged:
        said = provenance.NAME
        own = {i: [(t.name, (t.x, t.y, t.x + t.w, t.y + t.h), t.scale) for t in source.tiles] for i, source in merged.items()}
        labels = {i: [name for name, _, _ in tiles] for i, tiles in own.items()}
        rects = {i: np.array([rect for _, rect, _ in tiles], np.float64) for i, tiles in own.items()}
        scales = {i: np.array([scale for _, _, scale in tiles], np.float64) for i, tiles in own.items()}
    elif known is not None:
        pictures = _by_picture(keys, {picture.key: picture for picture in known.pictures})
        if not pictures:
            return f"the pictures of {manifest.NAME} are others"
        said = manifest.NAME
        labels = {i: picture.names for i, picture in pictures.items()}
        rects = {i: picture.rects for i, picture in pictures.items()}
        scales = {i: picture.scale for i, picture in pictures.items()}
    else:
        return "no merged.jsonl of these pictures beside the predictions, and no manifest of tiles (--tiles)"
    none = np.empty((0, 4))
    order = range(len(keys))
    layout = Layout.of([rects.get(i, none).reshape(-1, 4) for i in order], [scales.get(i, none[:, 0]) for i in order], sizes)
    flat = [name for i in order for name in labels.get(i, [])]
    if len(labels) < len(keys):
        left_out.append(f"{len(keys) - len(labels)} pictures have no tiles")
    origins = None
    if merged:
        origins = _origins(merged, layout, found) if preds is not None and _unchanged(preds, merged) else None
        if origins is None:
            left_out.append("origins of the detections: merged.jsonl is of other detections than the label files hold")
    else:
        left_out.append("origins of the detections: no merged.jsonl beside the predictions")
    if origins is not None and before is not None:
        raw = _raw(before, flat, layout, names, options, found.instances.task)
        if isinstance(raw, str):
            left_out.append(f"predictions on tiles: {raw}")
        else:
            origins = Origins(origins.tile, origins.offsets, *raw)
    elif origins is not None:
        left_out.append("predictions on tiles: they are not beside the merged ones (--tile-preds)")
    per_tile = None
    if origins is not None and origins.raw is not None and path is not None and found.instances.task == "detect":
        per_tile = _per_tile(path, flat, layout, origins, names)
    if per_tile is None:
        left_out.append("AP on tiles: it needs boxes, the predictions on tiles, and the output of tiler split (--tiles)")
    return Tiling(layout, flat, said, origins, per_tile, left_out)


def _before(preds: Path) -> Path | None:
    """The predictions that were merged, by the name that tiler merge gives its output."""
    place = Path(os.path.abspath(preds))
    before = place.with_name(place.name.removesuffix(MERGED))
    if not place.name.endswith(MERGED):
        return None
    if not before.exists():
        before = before.with_name(f"{before.name}.json")
    return before if before.exists() else None


def _by_picture(keys: Sequence[str], found: Mapping[str, T]) -> dict[int, T]:
    """By the number of their picture, what is known under its path, or under a name that only it has."""
    none = np.empty((0, 4))
    index = Index([Picture(key, 0, 0, [], none, none[:, 0]) for key in keys], "", Path())
    places = {name: index.place(os.path.splitext(name)[0]) for name in found}
    result = {place[0]: found[name] for name, place in places.items() if place is not None}
    number = {key: i for i, key in enumerate(keys)}
    result.update({number[name]: value for name, value in found.items() if name in number})
    return dict(sorted(result.items()))


def _unchanged(preds: Path, merged: Mapping[int, provenance.Merged]) -> bool:
    """Whether the label files are those that were written: as many bytes."""
    try:
        return all(
            (preds / name).stat().st_size == size
            for source in merged.values()
            for name, size in source.files.items()
            if name.startswith("labels/")
        )
    except OSError:
        return False


def _origins(merged: dict[int, provenance.Merged], layout: Layout, found: Found) -> Origins | None:
    """The tiles that each detection comes from; None if rows do not fit."""
    begin = np.full(len(layout.sizes) + 1, -1)  # where the detections of each picture begin in one list of all
    count = np.zeros(len(layout.sizes), np.int64)
    sources: list[int] = []  # how many rows each detection is made of
    tiles: list[int] = []
    for image, source in merged.items():
        begin[image], count[image] = len(sources), len(source.detections)
        sources += map(len, source.detections)
        own = [tile for rows in source.detections for tile, _ in rows]
        if own and not 0 <= min(own) <= max(own) < len(source.tiles):
            return None
        base = int(layout.offsets[image])
        tiles += [base + tile for tile in own]
    if (found.instances.row >= count[found.image]).any() or (np.bincount(found.image, minlength=len(count)) > count).any():
        return None
    which = begin[found.image] + found.instances.row
    starts, sizes = ragged.offsets(sources), np.array(sources, np.int64)[which]
    flat = np.array(tiles, np.int64)[ragged.spans(starts[which], sizes)]
    owner = np.repeat(np.arange(len(which)), sizes)
    flat = flat[np.lexsort((flat, owner))]
    first = np.ones(len(flat), bool)  # several rows of one tile may have been joined
    first[1:] = (np.diff(flat) != 0) | (np.diff(owner) != 0)
    return Origins(flat[first], ragged.offsets(np.bincount(owner[first], minlength=len(which))))


def _raw(
    preds: Path, names: list[str], layout: Layout, classes: tuple[str, ...], options: ReadingOptions, task: Task
) -> tuple[Instances, Ints] | str:
    """The predictions on tiles in px of the pictures, and the tile of each; or why not."""
    try:
        wanted = options.task if options.task != "auto" else task
        reading = Reading(wanted, classes, None, options.assume_conf, options.conf_first, options.preds_base)
        found = open_predictions(preds, reading)
    except TilerError as error:
        return str(error).replace(printable(str(preds)), printable(preds.name))  # reports do not tell where things lie
    if found.task != task:
        return f"they are of {found.task}"
    place = {name: i for i, name in enumerate(names)}
    at = [place.get(os.path.basename(key), -1) for key in found.keys]
    kept = [i for i, tile in enumerate(at) if tile >= 0]
    if not kept:
        return f"none in {printable(preds.name)} is for a tile of these pictures"
    tiles = np.array([at[i] for i in kept], np.int64)
    pictures = layout.sizes[layout.image()[tiles]]
    within = box.intersection(layout.rects[tiles], np.concatenate([np.zeros_like(pictures), pictures], axis=1))
    frames = Frames([found.keys[i] for i in kept], layout.rects[tiles], layout.scale[tiles], within)
    read = found.batch(kept).read(frames)
    return read.instances, tiles[read.tile]


def _per_tile(path: Path, names: list[str], layout: Layout, origins: Origins, classes: tuple[str, ...]) -> Sample | None:
    """Each tile as an image of its own: its labels as the trainer sees them, and what was predicted on it."""
    assert origins.raw is not None and origins.raw_tile is not None
    splits = {tile.name: source.split for source in manifest.read_sources(path) for tile in source.tiles}
    spec = yolo.Spec("detect", len(classes))
    parts, tiles = [], []
    for number, name in enumerate(names):
        if name not in splits:
            return None
        try:
            data = read_bytes(path.parent / "labels" / splits[name] / f"{name}.txt", yolo.MAX_BYTES)
            x0, y0, x1, y1 = layout.rects[number].tolist()
            read, _ = yolo.read(data, spec, 1, 1, name)
        except (OSError, TilerError, SourceRefused):
            return None
        size = np.array([x1 - x0, y1 - y0])
        parts.append(read.changed(boxes=read.boxes * np.tile(size, 2) + np.array([x0, y0, x0, y0]), rings=None))
        tiles.append(np.full(len(read), number))
    labels = joined(parts, "detect", None)
    image = np.concatenate([np.empty(0, np.int64), *tiles])
    return Sample(Truth(labels, image), Found.of(origins.raw, origins.raw_tile), len(names), len(classes))
