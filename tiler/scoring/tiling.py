"""What is known of the tiles: where they lie, what each merged detection was made from, and the
labels and predictions of each tile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets.image_names import by_image
from tiler.errors import SourceRefused, TilerError, printable
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.formats import manifest, provenance, shards, yolo
from tiler.formats.text_files import read_bytes
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.predictions import Frames, Predictions, Reading, open_predictions
from tiler.scoring.ground_truth import boxes_of, joined, numbers_of

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task

MERGED = "-merged"


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is scored, as far as tiles matter.

    Attributes:
        preds: the merged predictions, if they are files.
        keys, sizes: the images and their width and height.
        reading: how predictions on tiles are read.
        renamed: gives predictions the classes of the labels.
        counted: which labels or detections count, given the number of each one's image.
    """

    preds: Path | None
    keys: Sequence[str]
    sizes: Floats
    detections: Predicted
    names: tuple[str, ...]
    reading: Reading
    renamed: Callable[[Instances], Instances]
    counted: Callable[[Instances, Ints], Bools]


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The tiles of the images that are scored.

    Attributes:
        source: the name of the file that they are known from.
        origins: of the detections, where they are known.
        per_tile: each tile with its own labels and predictions, where these are at hand.
        left_out: what cannot be measured, and why.
    """

    layout: TileLayout
    source: str
    origins: Origins | None
    per_tile: EvaluationInputs | None
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """In place of a result: the reason why there is none."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ImageTiles:
    """The T tiles of one image.

    Attributes:
        rects: `(T, 4)` float64 xyxy, px of the image.
        scales: `(T,)` tile px per image px.
    """

    names: list[str]
    rects: Floats
    scales: Floats

    @classmethod
    def none(cls) -> ImageTiles:
        return cls([], np.empty((0, 4)), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class TileInstances:
    """Labels or predictions of tiles, in px of the images, and the number of each one's tile."""

    instances: Instances
    tile: Ints


def sizes_of(preds: Path | None) -> dict[str, tuple[int, int]]:
    """Width and height of the images, as merged predictions have them."""
    path = provenance.of_output(preds)
    if path is None:
        return {}
    return {
        source.source: (source.width, source.height) for source in provenance.read_sources(path)
    }


def tiling(scored: Scored, tiles: Path | None, tile_preds: Path | None) -> Tiling | Unavailable:
    """What is known of the tiles, or why nothing is.

    Args:
        tiles: the output of tiler split, or its manifest.
        tile_preds: the predictions on tiles. Default: what the merged ones are named after, if it
            is there.

    Raises:
        TilerError: what is given cannot be used.
    """
    on_tiles = tile_preds
    if on_tiles is None and scored.preds is not None:
        on_tiles = _named_after(scored.preds)
    manifest_path = None
    if tiles is not None or scored.preds is not None:
        manifest_path = indexes.manifest_of(on_tiles or scored.preds or Path(), tiles)
    merged = _merged_images(scored)
    tiles_of = _tiles_by_image(merged, manifest_path, scored.keys)
    if not tiles_of:
        return Unavailable(
            "no merged.jsonl of these images beside the predictions, and no manifest of their "
            "tiles (--tiles)"
        )
    sample = _TiledSample.of(scored, tiles_of)
    left_out = []
    untiled = len(scored.keys) - len(tiles_of)
    if untiled:
        left_out.append(f"seams of {untiled} images without tiles")
    origins, unknown = _known_origins(sample, merged, on_tiles)
    left_out += unknown
    per_tile = _per_tile(sample, origins, manifest_path)
    if per_tile is None:
        left_out.append(
            "AP on tiles: it needs boxes, the predictions on tiles, and the output of tiler split "
            "(--tiles)"
        )
    source = provenance.NAME if merged else manifest.NAME
    return Tiling(sample.layout, source, origins, per_tile, left_out)


# --- the layout of the tiles


def _merged_images(scored: Scored) -> dict[int, provenance.MergedImage]:
    """What `tiler merge` wrote of each image, by its number; empty where it wrote nothing."""
    path = provenance.of_output(scored.preds)
    if path is None:
        return {}
    sources = {source.source: source for source in provenance.read_sources(path)}
    return by_image(scored.keys, sources)


def _tiles_by_image(
    merged: Mapping[int, provenance.MergedImage], manifest_path: Path | None, keys: Sequence[str]
) -> dict[int, ImageTiles]:
    """The tiles of each image by its number: by merged.jsonl, else by the manifest."""
    tiles_of = {}
    if merged or manifest_path is None:
        for i, source in merged.items():
            tiles_of[i] = _merged_tiles(source)
        return tiles_of
    listed = {image.key: image for image in indexes.of_manifest(manifest_path).images}
    for i, image in by_image(keys, listed).items():
        tiles_of[i] = ImageTiles(image.names, image.rects, image.scale)
    return tiles_of


def _merged_tiles(source: provenance.MergedImage) -> ImageTiles:
    names = []
    corners = []
    scales = []
    for tile in source.tiles:
        names.append(tile.name)
        right = tile.x + tile.w
        bottom = tile.y + tile.h
        corners.append((tile.x, tile.y, right, bottom))
        scales.append(tile.scale)
    rects = np.array(corners, np.float64).reshape(-1, 4)
    scale = np.array(scales, np.float64)
    return ImageTiles(names, rects, scale)


@dataclass(frozen=True, slots=True, eq=False)
class _TiledSample:
    """What is scored, and all tiles of its images.

    Attributes:
        names: of the tiles, in the order of the layout.
    """

    scored: Scored
    layout: TileLayout
    names: list[str]

    @classmethod
    def of(cls, scored: Scored, tiles_of: Mapping[int, ImageTiles]) -> Self:
        """The tiles in the order of the images."""
        none = ImageTiles.none()
        rects = []
        scales = []
        names: list[str] = []
        for i in range(len(scored.keys)):
            own = tiles_of.get(i, none)
            rects.append(own.rects)
            scales.append(own.scales)
            names += own.names
        layout = TileLayout.of(rects, scales, scored.sizes)
        return cls(scored, layout, names)

    def counted(self, instances: Instances, tile: Ints) -> TileInstances:
        """The labels or predictions that count, in px of the images, given the tile of each."""
        renamed = self.scored.renamed(instances)
        counts = self.scored.counted(renamed, self.layout.image()[tile])
        return TileInstances(renamed.take(counts), tile[counts])


# --- where detections come from


def _known_origins(
    sample: _TiledSample, merged: Mapping[int, provenance.MergedImage], on_tiles: Path | None
) -> tuple[Origins | None, list[str]]:
    """Where detections come from, with the predictions on tiles if they are at hand; and what is
    not known of it.
    """
    scored = sample.scored
    if not merged or scored.preds is None:
        return None, ["origins of the detections: no merged.jsonl beside the predictions"]
    origins = None
    if _unchanged(scored.preds, merged):
        origins = _origins(merged, sample.layout, scored.detections)
    if origins is None:
        return None, [
            "origins of the detections: merged.jsonl is of other detections than the label files "
            "hold"
        ]
    if on_tiles is None:
        reason = "they are not where they were merged from (--tile-preds)"
        if any(image.models for image in merged.values()):
            reason = "the detections were merged from several models; --tile-preds takes one"
        return origins, [f"predictions on tiles: {reason}"]
    predictions = _tile_predictions(on_tiles, sample)
    if isinstance(predictions, Unavailable):
        return origins, [f"predictions on tiles: {predictions.reason}"]
    return replace(origins, raw=predictions.instances, raw_tile=predictions.tile), []


def _named_after(preds: Path) -> Path | None:
    """The predictions that were merged, by the name that tiler merge gives its output."""
    output = Path(os.path.abspath(preds))
    if not output.name.endswith(MERGED):
        return None
    name = output.name.removesuffix(MERGED)
    for before in (output.with_name(name), output.with_name(f"{name}.json")):
        if os.path.exists(before):
            return before
    return None


def _unchanged(preds: Path, merged: Mapping[int, provenance.MergedImage]) -> bool:
    """Whether the label files are those that were written: as many bytes."""
    try:
        for source in merged.values():
            for name, size in source.files.items():
                if name.startswith("labels/") and (preds / name).stat().st_size != size:
                    return False
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True, eq=False)
class _MergedOrigins:
    """The M detections of merged.jsonl, image after image, and the tiles they come from.

    Attributes:
        first: `(I,)` the first detection of each image, -1 where nothing was merged.
        count: `(I,)` detections of each image.
        sizes: `(M,)` how many predictions each detection was made from.
        tiles: `(sum of sizes,)` the tiles of these predictions, detection after detection.
    """

    first: Ints
    count: Ints
    sizes: Ints
    tiles: Ints

    @classmethod
    def of(
        cls, merged: Mapping[int, provenance.MergedImage], layout: TileLayout
    ) -> _MergedOrigins | None:
        """None if a detection comes from a tile that the image does not have."""
        first = np.full(len(layout.sizes), -1)
        count = np.zeros(len(layout.sizes), np.int64)
        sizes: list[int] = []
        tiles: list[int] = []
        for image, source in merged.items():
            first[image] = len(sizes)
            count[image] = len(source.detections)
            sizes += map(len, source.detections)
            base = int(layout.offsets[image])
            own = [tile for rows in source.detections for tile, _ in rows]
            if own and not 0 <= min(own) <= max(own) < len(source.tiles):
                return None
            tiles += [base + tile for tile in own]
        return cls(first, count, np.array(sizes, np.int64), np.array(tiles, np.int64))

    def hold(self, detections: Predicted) -> bool:
        """Whether the detections can be these: no row beyond the last of its image, and no more."""
        beyond = detections.instances.row >= self.count[detections.image]
        scored = np.bincount(detections.image, minlength=len(self.count))
        return not (beyond.any() or (scored > self.count).any())


def _origins(
    merged: Mapping[int, provenance.MergedImage], layout: TileLayout, detections: Predicted
) -> Origins | None:
    """The tiles that each detection comes from; None if merged.jsonl is of other detections."""
    rows = _MergedOrigins.of(merged, layout)
    if rows is None or not rows.hold(detections):
        return None
    which = rows.first[detections.image] + detections.instances.row
    starts = ragged.offsets(rows.sizes)[which]
    sizes = rows.sizes[which]
    tiles = rows.tiles[ragged.spans(starts, sizes)]
    owner = np.repeat(np.arange(len(which)), sizes)
    tiles = tiles[np.lexsort((tiles, owner))]
    first = np.ones(len(tiles), bool)  # several rows of one tile may have been joined
    other_tile = np.diff(tiles) != 0
    other_owner = np.diff(owner) != 0
    first[1:] = other_tile | other_owner
    counts = np.bincount(owner[first], minlength=len(which))
    return Origins(tiles[first], ragged.offsets(counts))


def _tile_predictions(preds: Path, sample: _TiledSample) -> TileInstances | Unavailable:
    """The predictions on tiles that count, or why there are none."""
    task = sample.scored.detections.instances.task
    opened = _opened(preds, sample.scored.reading, task)
    if isinstance(opened, Unavailable):
        return opened
    kept, tiles = _of_tiles(opened.keys, sample.names)
    if not kept:
        return Unavailable(f"none in {preds.name} is for a tile of these images")
    names = [opened.keys[i] for i in kept]
    rows = opened.batch(kept).read(_frames(names, sample.layout, tiles))
    instances = rows.instances
    if instances.task != task:  # their boxes are compared
        instances = boxes_of(instances)
    return sample.counted(instances, tiles[rows.tile])


def _opened(preds: Path, reading: Reading, task: Task) -> Predictions | Unavailable:
    """The predictions on tiles; by the task of what they were merged into, if none is given."""
    if reading.task == "auto":
        reading = replace(reading, task=task)
    try:
        return open_predictions(preds, reading, tiled=True)
    except TilerError as error:
        # reports do not tell where things lie
        path = printable(str(preds))
        return Unavailable(str(error).replace(path, printable(preds.name)))


def _of_tiles(keys: Sequence[str], names: Sequence[str]) -> tuple[list[int], Ints]:
    """Which keys are those of tiles, and the numbers of these tiles."""
    number = {name: i for i, name in enumerate(names)}
    kept = []
    tiles = []
    for i, key in enumerate(keys):
        name = os.path.basename(key)
        if name in number:
            kept.append(i)
            tiles.append(number[name])
    return kept, np.array(tiles, np.int64)


def _frames(names: list[str], layout: TileLayout, tiles: Ints) -> Frames:
    """The tiles as frames of predictions, of which only the part within the image counts."""
    rects = layout.rects[tiles]
    source = layout.image()[tiles]
    sizes = layout.sizes[source]
    images = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    within = box.intersection(rects, images)
    return Frames(names, rects, layout.scale[tiles], within, sizes, source)


# --- each tile as an image of its own


def _per_tile(
    sample: _TiledSample, origins: Origins | None, manifest_path: Path | None
) -> EvaluationInputs | None:
    """Each tile as an image of its own: its labels as the trainer sees them, and the predictions on
    it. None where they are not boxes, or not all at hand.
    """
    if manifest_path is None or sample.scored.detections.instances.task != "detect":
        return None
    if origins is None or origins.raw is None or origins.raw_tile is None:
        return None
    labels = _tile_labels(manifest_path, sample)
    if labels is None:
        return None
    truth = GroundTruth(labels.instances, labels.tile)
    predicted = Predicted.of(origins.raw, origins.raw_tile)
    return EvaluationInputs(truth, predicted, len(sample.names), len(sample.scored.names))


def _tile_labels(manifest_path: Path, sample: _TiledSample) -> TileInstances | None:
    """The labels of all tiles that count; None if some cannot be read."""
    classes = len(sample.scored.reading.names or sample.scored.names)
    parts = []
    try:
        label_text = _label_texts(manifest_path)
        for name, rect in zip(sample.names, sample.layout.rects, strict=True):
            data = label_text(name)
            normalised, _ = yolo.read(data, yolo.Spec("detect", classes), 1, 1, name)
            parts.append(_in_image(normalised, rect))
    except (KeyError, OSError, TilerError, SourceRefused):
        return None
    return sample.counted(joined(parts, "detect", None), numbers_of(parts))


def _label_texts(manifest_path: Path) -> Callable[[str], bytes]:
    """Reads the label file of a tile by the tile's name.

    Raises:
        TilerError: a shard cannot be read.
    """
    if manifest.read_head(manifest_path).layout == "tar":
        return shards.label_texts(manifest_path.parent, yolo.MAX_BYTES).__getitem__
    files = _label_files(manifest_path)
    return lambda name: read_bytes(files[name], yolo.MAX_BYTES)


def _label_files(manifest_path: Path) -> dict[str, Path]:
    """The label file of each tile by the tile's name."""
    folder = manifest_path.parent / "labels"
    files = {}
    for source in manifest.read_sources(manifest_path):
        for tile in source.tiles:
            files[tile.name] = folder / source.split / f"{tile.name}.txt"
    return files


def _in_image(normalised: Instances, rect: Floats) -> Instances:
    """The labels of a tile in px of its image."""
    corner = np.tile(rect[:2], 2)
    size = np.tile(rect[2:] - rect[:2], 2)
    return normalised.changed(boxes=normalised.boxes * size + corner, rings=None)
