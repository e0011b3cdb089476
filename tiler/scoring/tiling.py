"""What is known of the tiles: their layout, what merged detections are made of, what was said on
each tile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets.index import Index, TiledImage
from tiler.errors import SourceRefused, TilerError, printable
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.formats import manifest, provenance, yolo
from tiler.formats.text_files import read_bytes
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.predictions import Frames, Reading, open_predictions
from tiler.scoring.ground_truth import joined

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

MERGED = "-merged"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is scored, as far as tiles matter.

    Attributes:
        preds: the merged predictions, if they are files.
        keys, sizes: the images and their width and height.
        reading: how predictions on tiles are read.
        renamed: gives predictions the classes of the labels.
        counted: which labels or detections count, of images by their number.
    """

    preds: Path | None
    keys: Sequence[str]
    sizes: Floats
    found: Predicted
    names: tuple[str, ...]
    reading: Reading
    renamed: Callable[[Instances], Instances]
    counted: Callable[[Instances, Ints], Bools]


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The tiles of the images that are scored.

    Attributes:
        said: where they are known from, in words.
        origins: of the detections, where that is known.
        per_tile: each tile with its own labels and predictions, where these are at hand.
        left_out: what cannot be told, and why.
    """

    layout: TileLayout
    said: str
    origins: Origins | None
    per_tile: EvaluationInputs | None
    left_out: list[str]


def sizes_of(preds: Path | None) -> dict[str, tuple[int, int]]:
    """Width and height of the images, as merged predictions have them."""
    path = (preds or Path()) / provenance.NAME
    if preds is None or not os.path.isfile(path):
        return {}
    return {
        source.source: (source.width, source.height) for source in provenance.read_sources(path)
    }


def tiling(scored: Scored, tiles: Path | None, tile_preds: Path | None) -> Tiling | str:
    """What is known of the tiles, or why nothing is.

    Args:
        tiles: the output of tiler split, or its manifest.
        tile_preds: the predictions on tiles. Default: what the merged ones are named after, if it
            is there.

    Raises:
        TilerError: what is given cannot be used.
    """
    preds = scored.preds
    before = tile_preds or (None if preds is None else _before(preds))
    path = (
        indexes.manifest_of(before or preds or Path(), tiles)
        if tiles is not None or preds is not None
        else None
    )
    merged: dict[int, provenance.MergedImage] = {}
    if preds is not None and os.path.isfile(preds / provenance.NAME):
        merged = by_image(
            scored.keys, {s.source: s for s in provenance.read_sources(preds / provenance.NAME)}
        )
    places = _of_merged(merged) if merged or path is None else _of_manifest(path, scored.keys)
    if not places:
        return (
            "no merged.jsonl of these images beside the predictions, and no manifest of their "
            "tiles (--tiles)"
        )
    none: Place = ([], np.empty((0, 4)), np.empty(0))
    ordered = [places.get(i, none) for i in range(len(scored.keys))]
    layout = TileLayout.of(
        [rects for _, rects, _ in ordered], [scales for _, _, scales in ordered], scored.sizes
    )
    names = [name for own, _, _ in ordered for name in own]
    left_out = []
    if len(places) < len(scored.keys):
        left_out.append(f"seams of {len(scored.keys) - len(places)} images without tiles")
    origins, why = _known_origins(scored, merged, layout, names, before)
    left_out += why
    per_tile = None
    if (
        origins is not None
        and origins.raw is not None
        and path is not None
        and scored.found.instances.task == "detect"
    ):
        per_tile = _per_tile(path, names, layout, origins, scored)
    if per_tile is None:
        left_out.append(
            "AP on tiles: it needs boxes, the predictions on tiles, and the output of tiler split "
            "(--tiles)"
        )
    return Tiling(layout, provenance.NAME if merged else manifest.NAME, origins, per_tile, left_out)


Place = tuple[list[str], "Floats", "Floats"]  # names, windows and scales of an image's tiles


def _of_merged(merged: Mapping[int, provenance.MergedImage]) -> dict[int, Place]:
    places = {}
    for i, source in merged.items():
        rects = np.array(
            [(t.x, t.y, t.x + t.w, t.y + t.h) for t in source.tiles], np.float64
        ).reshape(-1, 4)
        places[i] = (
            [t.name for t in source.tiles],
            rects,
            np.array([t.scale for t in source.tiles], np.float64),
        )
    return places


def _of_manifest(path: Path, keys: Sequence[str]) -> dict[int, Place]:
    images = by_image(keys, {image.key: image for image in indexes.of_manifest(path).images})
    return {i: (image.names, image.rects, image.scale) for i, image in images.items()}


def _known_origins(
    scored: Scored,
    merged: Mapping[int, provenance.MergedImage],
    layout: TileLayout,
    names: list[str],
    before: Path | None,
) -> tuple[Origins | None, list[str]]:
    """Where detections come from, with the predictions on tiles if they are at hand; and what is
    not known of it.
    """
    if not merged or scored.preds is None:
        return None, ["origins of the detections: no merged.jsonl beside the predictions"]
    origins = _origins(merged, layout, scored.found) if _unchanged(scored.preds, merged) else None
    if origins is None:
        return None, [
            "origins of the detections: merged.jsonl is of other detections than the label files "
            "hold"
        ]
    if before is None:
        return origins, [
            "predictions on tiles: they are not where they were merged from (--tile-preds)"
        ]
    raw = _raw(before, names, layout, scored)
    if isinstance(raw, str):
        return origins, [f"predictions on tiles: {raw}"]
    return Origins(origins.tile, origins.offsets, *raw), []


def _before(preds: Path) -> Path | None:
    """The predictions that were merged, by the name that tiler merge gives its output."""
    place = Path(os.path.abspath(preds))
    before = place.with_name(place.name.removesuffix(MERGED))
    if not place.name.endswith(MERGED):
        return None
    if not os.path.exists(before):
        before = before.with_name(f"{before.name}.json")
    return before if os.path.exists(before) else None


def by_image(keys: Sequence[str], found: Mapping[str, T]) -> dict[int, T]:
    """By the number of their image, what is known under its path, or under a name that only it has."""
    none = np.empty((0, 4))
    index = Index([TiledImage(key, 0, 0, [], none, none[:, 0]) for key in keys], "", Path())
    places = {name: index.place(os.path.splitext(name)[0]) for name in found}
    result = {place[0]: found[name] for name, place in places.items() if place is not None}
    number = {key: i for i, key in enumerate(keys)}
    result.update({number[name]: value for name, value in found.items() if name in number})
    return dict(sorted(result.items()))


def _unchanged(preds: Path, merged: Mapping[int, provenance.MergedImage]) -> bool:
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


def _origins(
    merged: Mapping[int, provenance.MergedImage], layout: TileLayout, found: Predicted
) -> Origins | None:
    """The tiles that each detection comes from; None if rows do not fit."""
    # where the detections of each image begin in one list of all
    begin = np.full(len(layout.sizes) + 1, -1)
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
    if (found.instances.row >= count[found.image]).any() or (
        np.bincount(found.image, minlength=len(count)) > count
    ).any():
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
    preds: Path, names: list[str], layout: TileLayout, scored: Scored
) -> tuple[Instances, Ints] | str:
    """The predictions on tiles in px of the images, and the tile of each; or why not."""
    task = scored.found.instances.task
    # of merged ones what was merged
    own = task if scored.reading.task == "auto" else scored.reading.task
    try:
        found = open_predictions(preds, replace(scored.reading, task=own))
    except TilerError as error:
        # reports do not tell where things lie
        return str(error).replace(printable(str(preds)), printable(preds.name))
    place = {name: i for i, name in enumerate(names)}
    at = [place.get(os.path.basename(key), -1) for key in found.keys]
    kept = [i for i, tile in enumerate(at) if tile >= 0]
    if not kept:
        return f"none in {preds.name} is for a tile of these images"
    tiles = np.array([at[i] for i in kept], np.int64)
    images = layout.sizes[layout.image()[tiles]]
    within = box.intersection(
        layout.rects[tiles], np.concatenate([np.zeros_like(images), images], axis=1)
    )
    frames = Frames([found.keys[i] for i in kept], layout.rects[tiles], layout.scale[tiles], within)
    read = found.batch(kept).read(frames)
    raw, tile = scored.renamed(read.instances), tiles[read.tile]
    if raw.task != task:  # their boxes are compared
        raw = Instances(raw.class_id, raw.boxes, conf=raw.conf, row=raw.row)
    counted = scored.counted(raw, layout.image()[tile])
    return raw.take(counted), tile[counted]


def _per_tile(
    path: Path, names: list[str], layout: TileLayout, origins: Origins, scored: Scored
) -> EvaluationInputs | None:
    """Each tile as an image of its own: its labels as the trainer sees them, and what was predicted
    on it.
    """
    assert origins.raw is not None and origins.raw_tile is not None
    splits = {
        tile.name: source.split for source in manifest.read_sources(path) for tile in source.tiles
    }
    spec = yolo.Spec("detect", len(scored.reading.names or scored.names))
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
        parts.append(
            read.changed(
                boxes=read.boxes * np.tile(size, 2) + np.array([x0, y0, x0, y0]), rings=None
            )
        )
        tiles.append(np.full(len(read), number))
    labels = scored.renamed(joined(parts, "detect", None))
    tile = np.concatenate([np.empty(0, np.int64), *tiles])
    counted = scored.counted(labels, layout.image()[tile])
    truth = GroundTruth(labels.take(counted), tile[counted])
    return EvaluationInputs(
        truth, Predicted.of(origins.raw, origins.raw_tile), len(names), len(scored.names)
    )
