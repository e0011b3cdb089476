"""One image's predictions: read, merged, and written as text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.errors import SourceRefused
from tiler.findings import Finding, inside
from tiler.formats import exports, jsonl, provenance
from tiler.formats.manifest import Geo
from tiler.formats.provenance import MergedImage, TileRows
from tiler.geometry import boxes as box
from tiler.geometry import polygons, ragged
from tiler.geometry.instances import Instances, empty
from tiler.lazy import shapely
from tiler.matching.tiles import TileRects
from tiler.merging.dataset_json import DATASET
from tiler.merging.mapping import FEATURES, MapFrame, MapLayer, frame_of, has_layer
from tiler.merging.report import OTHER_CLASS, MergeCounts, counted, stays
from tiler.merging.training import training_file, training_labels
from tiler.options import MergeOptions, PredictionOptions
from tiler.predictions import FULL, Batch, Detections, Frames
from tiler.run.rejecting import refusal
from tiler.stitching import (
    DUPLICATE,
    FATES,
    ORPHAN,
    Models,
    Stitched,
    merged,
    merged_ensemble,
    only,
)
from tiler.tiling.roi import Roi

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

UNREADABLE = "unreadable"  # in place of a digest
STEP = 65_536  # detections that become Python objects at once


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What all images have in common.

    Attributes:
        names: of classes, if known.
        preds: the predictions, as findings name them.
        root: the folder of the images, for world files.
        write: make the text of the output too.
        first_category: category id of class 0 in predictions.json.
        categories: category id of each class there, in place of `first_category`.
        all_alike: all tiles have the same number of rows, which was reported for all of them.
        roi: the regions that detections are wanted of.
        layer: what the map frames of all images have in common.
        kpt_shape: of the predictions.
        by_names: no manifest lists the tiles.
    """

    merging: MergeOptions
    files: PredictionOptions
    names: tuple[str, ...] | None
    preds: str
    root: Path | None = None
    write: bool = True
    first_category: int = 0
    categories: tuple[int, ...] | None = None
    all_alike: bool = False
    roi: Roi | None = None
    layer: MapLayer = field(default_factory=MapLayer)
    kpt_shape: tuple[int, int] | None = None
    by_names: bool = False

    @property
    def exports(self) -> list[str]:
        """What is written in addition."""
        return self.files.export.split(",")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An image with its predictions.

    Attributes:
        key: the image's path.
        label: the path of its label file, without suffix.
        name: a short one that no other image has.
        image_id: in predictions.json.
        frames: its tiles with predictions.
        silent: its tiles without: nothing was detected there.
        unread: its tiles whose predictions cannot be read: it is not known what was detected there.
        batch: the predictions.
        predicted: there are predictions, if only an empty file.
        some_blocks: it was divided in blocks, and these are the tiles of some.
        geo: where it lies in the world, if that is known.
        splits: those of the dataset that its tiles are in.
        models: of an ensemble, those with a say, and `numbers` which of the merge's models they
            are.
        digest: of everything that the predictions depend on, where they are not read from files.
    """

    key: str
    label: str
    name: str
    image_id: int | str
    width: int
    height: int
    frames: Frames
    silent: Frames
    unread: Frames
    batch: Batch
    predicted: bool = True
    some_blocks: bool = False
    geo: Geo | None = None
    splits: tuple[str, ...] = ()
    models: Models | None = None
    numbers: tuple[int, ...] = ()
    digest: str = ""

    @property
    def rects(self) -> Floats:
        """`(T, 4)` xyxy of all its tiles."""
        tiles = (self.frames, self.silent, self.unread)
        return np.concatenate([frames.rects for frames in tiles])

    def unknown(self, by_names: bool) -> str:
        """Why it is not known what was detected in some part of it; "" if it is.

        Args:
            by_names: no manifest lists the tiles.
        """
        if by_names and not self.predicted:
            return "no predictions, and it is not known whether it was cut"
        if self.some_blocks:
            return "only the tiles of some of its blocks were predicted"
        if self.unread.names:
            return f"the predictions of {len(self.unread.names)} of its tiles cannot be read"
        return ""


class MergeOutcome(msgspec.Struct):
    """The result of one image, without its detections; `rejected`: it was left out."""

    key: str
    digest: str
    counts: MergeCounts
    findings: list[Finding]
    rejected: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """An outcome, the detections, and what is to be written.

    Attributes:
        files: content by path in the output, of the files of this image alone.
        streams: by path, what is added to the files that all images share.
    """

    outcome: MergeOutcome
    instances: Instances
    files: dict[str, bytes]
    streams: dict[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class MergedRows:
    """The predictions of an image and what they became, in the parts that are written.

    Attributes:
        tile_detections: the predictions as they were read.
        result: the same, merged; its `into` leads to the first part of each merged detection.
        owner: `(D,)` for each detection of the result, the merged one it is, or is a part of.
    """

    tile_detections: Detections
    result: Stitched
    owner: Ints


def digest_of(piece: Piece) -> str:
    """The digest of the predictions of an image as they are now."""
    if piece.digest:
        return piece.digest
    try:
        return _digest(piece, piece.batch.read(piece.frames))
    except Exception as error:
        refusal(error)
        return UNREADABLE


def stitched(job: MergeJob, piece: Piece) -> MergedRows:
    """The predictions of an image, read and merged."""
    detections = piece.batch.read(piece.frames)
    result = _merged(job, piece, detections)
    if job.roi is not None:
        centres = box.centres(result.instances.boxes)
        result = only(job.roi.contains(piece.key, centres, piece.geo), result)
    parts, owner = _in_parts(result.instances, job.merging.parts)
    first_part = np.searchsorted(owner, np.arange(len(result.instances)))
    into = np.append(first_part, -1)[result.into]  # -1 stays -1
    return MergedRows(detections, replace(result, instances=parts, into=into), owner)


def _merged(job: MergeJob, piece: Piece, detections: Detections) -> Stitched:
    """The predictions of an image, merged: of an ensemble within each window first."""
    models = piece.models
    window = np.arange(len(piece.frames.names))
    rects = piece.frames.rects
    if models is not None:
        window = models.window
        rects = rects[np.unique(window, return_index=True)[1]]
    rects = np.concatenate([rects, piece.silent.rects])
    tiles = TileRects.of(rects, (piece.width, piece.height))
    # a rejected row may have been any detection: its tile does not count as having seen nothing
    for number, _, _ in detections.rejected:
        tiles.witness[window[number]] = False
    instances, tile = detections.instances, detections.tile
    if models is None:
        return merged(instances, tile, tiles, job.merging, job.names)
    ensemble = job.files.ensemble
    return merged_ensemble(instances, tile, tiles, models, ensemble, job.merging, job.names)


def work(job: MergeJob, piece: Piece) -> Work:
    """Read, merge, and make the text of everything that is written, if anything is.

    Whatever fails, only this image is rejected: it then has no detections, and no files of its own.

    Raises:
        MemoryError: there is too little while other images are merged as well; it is to be tried
            alone.
    """
    try:
        return _work(job, piece)
    except Exception as error:
        return rejected(piece, refusal(error))


def rejected(piece: Piece, refused: SourceRefused) -> Work:
    """An image without detections, and why."""
    finding = Finding("", refused.code, f"{piece.key}: {refused.message}; it is left out")
    tiles = _tile_rows(piece, [0] * len(piece.frames.names))
    digest = digest_of(piece)
    record = MergedImage(piece.key, piece.width, piece.height, digest, tiles, [], [], [], [])
    counts = MergeCounts(images=1, empty=1, tiles=len(tiles))
    outcome = MergeOutcome(piece.key, digest, counts, [finding], rejected=True)
    none = replace(empty(), conf=np.empty(0))
    return Work(outcome, none, {}, {provenance.NAME: jsonl.line(record)})


def _work(job: MergeJob, piece: Piece) -> Work:
    merge = stitched(job, piece)
    rows = _rows_of_tiles(piece, merge.tile_detections)
    frame = frame_of(piece, job.files, job.root, job.layer)
    counts = counted(len(rows) + len(piece.silent.names), rows, merge.tile_detections, merge.result)
    findings = _findings(job, piece, merge, rows, frame)
    outcome = MergeOutcome(piece.key, _digest(piece, merge.tile_detections), counts, findings)
    instances = merge.result.instances
    if not job.write:
        return Work(outcome, instances, {}, {})
    files = _files(job, piece, instances, frame)
    sizes = {name: len(text) for name, text in files.items()}
    streams = _streams(job, piece, instances, frame)
    record = _provenance(piece, outcome.digest, rows, merge, sizes)
    streams[provenance.NAME] = jsonl.line(record)
    return Work(outcome, instances, files, streams)


def _rows_of_tiles(piece: Piece, detections: Detections) -> Ints:
    """`(T,)` rows of each tile with predictions, the rejected ones too."""
    rows = np.bincount(detections.tile, minlength=len(piece.frames.names))
    for tile, _, _ in detections.rejected:
        rows[tile] += 1
    for tile, _ in detections.left_out:
        rows[tile] += 1
    return rows


def _findings(
    job: MergeJob, piece: Piece, merge: MergedRows, rows: Ints, frame: MapFrame
) -> list[Finding]:
    """The findings of the predictions, and what was noticed about the image."""
    findings = []
    for finding in merge.tile_detections.findings:
        findings.append(replace(finding, path=inside(finding.path, job.preds)))
    if frame.affine is None and job.files.affine == "world" and "geojson" in job.exports:
        message = f"{piece.key}: no world file beside it; its GeoJSON is in pixels"
        findings.append(Finding("", "D13", message))
    repeated = int((merge.result.fate == DUPLICATE).sum())
    if repeated:
        message = f"{piece.key}: {repeated} rows repeat others of their tile; counted once"
        findings.append(Finding("", "D07", message))
    others = len(merge.tile_detections.left_out)
    if others:
        message = f"{piece.key}: {others} rows of other classes left out"
        findings.append(Finding("", "D17", message))
    full = int((rows == FULL).sum())
    if full and not job.all_alike:
        message = f"{piece.key}: {full} tiles have exactly {FULL} rows"
        findings.append(Finding("", "D11", f"{message}: predict with a higher max_det"))
    return findings


def _digest(piece: Piece, detections: Detections) -> str:
    """Of everything that the image's detections depend on, except for the options."""
    if piece.digest:
        return piece.digest
    places = [_places(frames) for frames in (piece.frames, piece.silent, piece.unread)]
    known = msgspec.json.encode([piece.key, piece.width, piece.height, places])
    if piece.models is not None:
        numbers = [piece.numbers, piece.models.model.tolist(), piece.models.seen.tolist()]
        known += msgspec.json.encode(numbers)
    return hashlib.blake2b(detections.digest.encode() + known, digest_size=16).hexdigest()


def _places(frames: Frames) -> list[tuple[str, list[float], float]]:
    """Name, window and scale of each tile."""
    return list(zip(frames.names, frames.rects.tolist(), frames.scale.tolist(), strict=True))


def _in_parts(instances: Instances, parts: str) -> tuple[Instances, Ints]:
    """Outlines in several parts: as they are (to be bridged when written), each a detection, or the
    largest only.

    Returns the detections and, for each, which of those given it is, or is a part of.
    """
    if instances.task != "segment" or instances.rings is None or parts == "bridge":
        return instances, np.arange(len(instances))
    rings, owner = polygons.parts(instances.rings)
    order = np.lexsort((-shapely.area(rings.geometry()), owner))
    if parts == "largest":
        order = order[ragged.firsts(owner[order])]
    rings = rings.take(order)
    owner = owner[order]
    return instances.take(owner).changed(rings=rings, boxes=rings.bounds()), owner


def _files(job: MergeJob, piece: Piece, instances: Instances, frame: MapFrame) -> dict[str, bytes]:
    """The files of this image alone."""
    labels = exports.yolo_text(instances, piece.width, piece.height)
    files = {f"labels/{piece.label}.txt": labels.encode()}
    if "geojson" in job.exports:
        geojson = exports.geojson(instances, job.names or (), frame.affine, frame.crs)
        files[f"geojson/{piece.label}.geojson"] = geojson
    if "yolo-dataset" in job.exports and not piece.unknown(job.by_names):
        size = (piece.width, piece.height)
        text = training_labels(instances, size, len(job.names or ()), job.kpt_shape)
        files[training_file(piece.label)] = text.encode()
    return files


def _streams(
    job: MergeJob, piece: Piece, instances: Instances, frame: MapFrame
) -> dict[str, bytes]:
    """What this image adds to the files that all images share."""
    names = job.names or ()
    streams = _coco(job, piece, instances)
    wanted = job.exports
    if "csv" in wanted:
        streams["detections.csv"] = exports.csv_text(instances, piece.key, names).encode()
    if "dota" in wanted:
        for name, text in exports.dota_text(instances, piece.name, names).items():
            streams[dota_file(name)] = text.encode()
    if has_layer(job.files):
        features = exports.geojson_features(instances, names, frame.affine, piece.key)
        streams[FEATURES] = features
    return streams


def _coco(job: MergeJob, piece: Piece, instances: Instances) -> dict[str, bytes]:
    """The entries of predictions.json and dataset.json, made of a number of detections at a
    time."""
    ids = (piece.image_id, piece.key, job.first_category, job.categories)
    results = []
    annotations = []
    for start in range(0, len(instances), STEP):
        some = instances.take(np.arange(start, min(start + STEP, len(instances))))
        entries = exports.coco_entries(some, *ids)
        results.append(exports.coco_json(entries))
        annotations.append(exports.coco_json(exports.coco_annotations(entries, some)))
    return {
        "predictions.json": b",\n".join(results),
        DATASET: b",\n".join(annotations),
    }


def dota_file(name: str) -> str:
    """The file of a class's DOTA rows.

    >>> dota_file("small car/van")
    'dota/Task1_small-car_van.txt'
    """
    plain = ""
    for c in name.replace(" ", "-"):
        plain += "_" if c in '/\\:*?"<>|' or not c.isprintable() else c
    return f"dota/Task1_{plain.encode()[:200].decode(errors='ignore')}.txt"


def _tile_rows(piece: Piece, rows: list[int]) -> list[TileRows]:
    """All tiles of an image: those with predictions, which have `rows`, first; rows name their tile
    by its place here.
    """
    places = _places(piece.frames)
    others = [*_places(piece.silent), *_places(piece.unread)]
    tiles = []
    for (name, rect, scale), number in zip(
        [*places, *others], [*rows, *[0] * len(others)], strict=True
    ):
        x0, y0, x1, y1 = rect
        tiles.append(TileRows(name, x0, y0, x1 - x0, y1 - y0, scale, number))
    return tiles


def _provenance(
    piece: Piece, digest: str, rows: Ints, merge: MergedRows, files: dict[str, int]
) -> MergedImage:
    """Which rows each detection is made of, and what became of the others.

    Args:
        rows: `(T,)` of each tile with predictions.
        files: the files of this image alone, and their bytes.
    """
    return MergedImage(
        piece.key,
        piece.width,
        piece.height,
        digest,
        tiles=_tile_rows(piece, rows.tolist()),
        detections=_members(merge),
        orphans=_orphans(merge),
        dropped=_dropped(merge),
        refused=merge.tile_detections.rejected,
        files=files,
        predicted=piece.predicted,
        models=_models_of_tiles(piece),
        some_blocks=piece.some_blocks,
    )


def _models_of_tiles(piece: Piece) -> list[int]:
    """Of an ensemble, which of the merge's models each tile with predictions is from."""
    if piece.models is None:
        return []
    return [piece.numbers[model] for model in piece.models.model.tolist()]


def _members(merge: MergedRows) -> list[list[tuple[int, int]]]:
    """Tile and row of what each detection is made of, by falling confidence; all parts of an object
    have the same.
    """
    tile, into = merge.tile_detections.tile, merge.result.into
    instances = merge.tile_detections.instances
    order = np.lexsort((instances.row, tile, -instances.confidence, into))
    order = order[stays(merge.result)[order]]
    first_part = np.searchsorted(merge.owner, merge.owner)
    starts = np.searchsorted(into[order], first_part).tolist()
    ends = np.searchsorted(into[order], first_part + 1).tolist()
    rows = np.stack([tile, instances.row], axis=1)[order].tolist()
    return [rows[start:end] for start, end in zip(starts, ends, strict=True)]


def _orphans(merge: MergedRows) -> list[int]:
    """The detections that are lone cut ones, with all parts of each."""
    result = merge.result
    orphan = np.zeros(len(merge.owner), bool)
    orphan[result.into[stays(result) & (result.fate == ORPHAN)]] = True
    first_part = np.searchsorted(merge.owner, merge.owner)
    return np.flatnonzero(orphan[first_part]).tolist()


def _dropped(merge: MergedRows) -> list[tuple[int, int, str, int]]:
    """Tile, row and fate of the rows in no detection, and the detection that they lost to or
    repeat.
    """
    result = merge.result
    lost = np.flatnonzero(~stays(result))
    tiles = merge.tile_detections.tile[lost].tolist()
    rows = merge.tile_detections.instances.row[lost].tolist()
    fates = [FATES[fate] for fate in result.fate[lost].tolist()]
    dropped = list(zip(tiles, rows, fates, result.into[lost].tolist(), strict=True))
    for tile, row in merge.tile_detections.left_out:
        dropped.append((tile, row, OTHER_CLASS, -1))
    return dropped
