"""One image's predictions: read, merged, and written as text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.errors import SourceRefused
from tiler.findings import Finding, inside
from tiler.formats import exports, jsonl, provenance
from tiler.formats.affine import Affine, beside
from tiler.formats.manifest import Geo
from tiler.formats.provenance import MergedImage, TileRows
from tiler.formats.text_files import within
from tiler.geometry import polygons, ragged
from tiler.geometry.instances import Instances, empty
from tiler.lazy import shapely
from tiler.matching.tiles import Tiles
from tiler.merging.report import MergeCounts, counted
from tiler.options import MergeOptions, PredictionOptions
from tiler.predictions import FULL, Batch, Detections, Frames
from tiler.run.rejecting import refusal
from tiler.stitching import DUPLICATE, FATES, FUSED, KEPT, ORPHAN, Stitched, merged

if TYPE_CHECKING:
    from tiler.types import Ints

UNREADABLE = "unreadable"  # in place of a digest
STEP = 65_536  # detections that are Python objects at once


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What all images have in common."""

    merging: MergeOptions
    files: PredictionOptions
    names: tuple[str, ...] | None
    preds: str  # as findings name it
    root: Path | None = None  # of the images, for world files
    write: bool = True  # make the text of the output too
    base: int = 0  # category id of class 0
    categories: tuple[int, ...] | None = None  # of each class, in place of `base`


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """An image with its predictions.

    Attributes:
        key: the image's path.
        label: where its label file goes, without suffix.
        name: a short one, that only it has.
        image_id: of predictions.json.
        frames: its tiles with predictions.
        silent: those without, in which nothing was found.
        unread: those whose predictions could not be read; it is not known what they saw.
        batch: the predictions; `predicted` that there are any, if only an empty file.
        geo: where it lies in the world, if that is known.
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
    geo: Geo | None = None


class MergeOutcome(msgspec.Struct):
    """What became of one image, without its detections."""

    key: str
    digest: str
    counts: MergeCounts
    findings: list[Finding]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """An outcome, the detections, and what is to be written.

    Attributes:
        files: by path in the output, files of this image alone.
        streams: by path, what it adds to files that all images share.
    """

    outcome: MergeOutcome
    instances: Instances
    files: dict[str, bytes]
    streams: dict[str, bytes]


def digest_of(piece: Piece) -> str:
    """What the predictions of an image are called now."""
    try:
        return _digest(piece, piece.batch.read(piece.frames))
    except Exception as error:
        refusal(error)
        return UNREADABLE


def stitched(job: MergeJob, piece: Piece) -> tuple[Detections, Stitched, Ints]:
    """The predictions of an image, read and merged, in the parts that are written.

    The last of the three is, for each detection, which merged one it is, or is a part of:
    `Stitched.into` leads to the first part.
    """
    read = piece.batch.read(piece.frames)
    tiles = Tiles.of(
        np.concatenate([piece.frames.rects, piece.silent.rects]), (piece.width, piece.height)
    )
    doubtful = [tile for tile, _, _ in read.rejected]  # who knows what these rows were
    tiles.witness[doubtful] = False
    result = merged(read.instances, read.tile, tiles, job.merging, job.names)
    out, owner = _in_parts(result.instances, job.merging.parts)
    first = np.append(np.searchsorted(owner, np.arange(len(result.instances))), -1)
    return read, replace(result, instances=out, into=first[result.into]), owner


def work(job: MergeJob, piece: Piece) -> Work:
    """Read, merge, and make the text of everything that is written, if it is.

    Whatever goes wrong, it is this image that is refused: it then has no detections, and no files
    of its own.

    Raises:
        MemoryError: there is too little while others are merged as well; it is to be tried alone.
    """
    try:
        return _work(job, piece)
    except Exception as error:
        return _refused(piece, refusal(error))


def _refused(piece: Piece, refused: SourceRefused) -> Work:
    finding = Finding("", refused.code, f"{piece.key}: {refused.message}; it is left out")
    places = [*_places(piece.frames), *_places(piece.silent), *_places(piece.unread)]
    tiles = [
        TileRows(name, x0, y0, x1 - x0, y1 - y0, scale, 0)
        for name, (x0, y0, x1, y1), scale in places
    ]
    digest = digest_of(piece)
    line = jsonl.line(
        MergedImage(piece.key, piece.width, piece.height, digest, tiles, [], [], [], [])
    )
    counts = MergeCounts(images=1, empty=1, tiles=len(tiles))
    none = replace(empty(), conf=np.empty(0))
    return Work(
        MergeOutcome(piece.key, digest, counts, [finding]), none, {}, {provenance.NAME: line}
    )


def _work(job: MergeJob, piece: Piece) -> Work:
    read, result, owner = stitched(job, piece)
    rows = np.bincount(read.tile, minlength=len(piece.frames.names))
    for tile, _, _ in read.rejected:
        rows[tile] += 1
    findings = [replace(finding, path=inside(finding.path, job.preds)) for finding in read.findings]
    shown = piece.key
    affine, crs = _frame(job, piece)
    if affine is None and job.files.affine == "world" and "geojson" in job.files.export:
        findings.append(
            Finding("", "D13", f"{shown}: no world file beside it; its GeoJSON is in pixels")
        )
    repeated = int((result.fate == DUPLICATE).sum())
    if repeated:
        findings.append(
            Finding(
                "", "D07", f"{shown}: {repeated} rows repeat others of their tile; counted once"
            )
        )
    full = int((rows == FULL).sum())
    if full:
        what = f"{shown}: {full} tiles have exactly {FULL} rows: predict with a higher max_det"
        findings.append(Finding("", "D11", what))
    counts = counted(len(rows) + len(piece.silent.names), rows, read, result)
    outcome = MergeOutcome(piece.key, _digest(piece, read), counts, findings)
    out = result.instances
    if not job.write:
        return Work(outcome, out, {}, {})
    files, streams = _texts(job, piece, out, affine, crs)
    sizes = {name: len(text) for name, text in files.items()}
    streams["merged.jsonl"] = jsonl.line(
        _provenance(piece, outcome.digest, rows, read, result, owner, sizes)
    )
    return Work(outcome, out, files, streams)


def _digest(piece: Piece, read: Detections) -> str:
    """Of everything that decides what the image's detections become, but for the options."""
    places = [_places(frames) for frames in (piece.frames, piece.silent, piece.unread)]
    known = msgspec.json.encode([piece.key, piece.width, piece.height, places])
    return hashlib.blake2b(read.digest.encode() + known, digest_size=16).hexdigest()


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
    rings, owner = rings.take(order), owner[order]
    return instances.take(owner).changed(rings=rings, boxes=rings.bounds()), owner


def _texts(
    job: MergeJob, piece: Piece, out: Instances, affine: Affine | None, crs: str | None
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of this image, and what it adds to common ones. `affine`, `crs`: of its GeoJSON."""
    chosen = job.files
    names = job.names or ()
    files = {
        f"labels/{piece.label}.txt": exports.yolo_text(out, piece.width, piece.height).encode()
    }
    some = (out.take(np.arange(k, min(k + STEP, len(out)))) for k in range(0, len(out), STEP))
    ids = (piece.image_id, piece.key, job.base, job.categories)
    coco = (exports.coco_json(exports.coco_entries(part, *ids)) for part in some)
    streams = {"predictions.json": b",\n".join(coco)}
    wanted = chosen.export.split(",")
    if "csv" in wanted:
        streams["detections.csv"] = exports.csv_text(out, piece.key, names).encode()
    if "dota" in wanted:
        for name, text in exports.dota_text(out, piece.name, names).items():
            streams[dota_file(name)] = text.encode()
    if "geojson" in wanted:
        files[f"geojson/{piece.label}.geojson"] = exports.geojson(out, names, affine, crs)
    return files, streams


def dota_file(name: str) -> str:
    """The file of a class's DOTA rows.

    >>> dota_file("small car/van")
    'dota/Task1_small-car_van.txt'
    """
    plain = "".join(
        "_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name.replace(" ", "-")
    )
    return f"dota/Task1_{plain.encode()[:200].decode(errors='ignore')}.txt"


def _frame(job: MergeJob, piece: Piece) -> tuple[Affine | None, str | None]:
    """The map of an image's GeoJSON, None for pixels, and the name of the reference system it leads
    to.
    """
    chosen = job.files
    affine, crs = None, None
    if "geojson" not in chosen.export.split(",") or chosen.affine == "pixels":
        pass
    elif chosen.affine == "world":
        inner = within(piece.key)  # of a manifest, or from --images on
        affine = None if job.root is None or inner is None else beside(job.root / inner)
    elif chosen.affine:
        affine = Affine.of(chosen.affine)
    elif piece.geo is not None:
        affine, crs = Affine.of(piece.geo.transform), piece.geo.crs
    return affine, None if affine is None else chosen.crs or crs


def _provenance(
    piece: Piece,
    digest: str,
    rows: Ints,
    read: Detections,
    result: Stitched,
    owner: Ints,
    files: dict[str, int],
) -> MergedImage:
    """Which rows each detection is made of, and what became of the others. `owner`: see `stitched`."""
    others = [*_places(piece.silent), *_places(piece.unread)]  # after those that rows are named by
    tiles = [
        TileRows(name, x0, y0, x1 - x0, y1 - y0, scale, number)
        for (name, (x0, y0, x1, y1), scale), number in zip(
            [*_places(piece.frames), *others], [*rows.tolist(), *[0] * len(others)], strict=True
        )
    ]
    fate, into = result.fate, result.into
    made = np.isin(fate, (KEPT, FUSED, ORPHAN)) & (into >= 0)
    places = np.stack([read.tile, read.instances.row], axis=1)
    order = np.lexsort((places[:, 1], places[:, 0], -read.instances.conf, into))  # type: ignore[operator]
    order = order[made[order]]
    # the first part of each object: its rows are those of all its parts
    heads = np.searchsorted(owner, owner)
    ends = np.searchsorted(into[order], np.stack([heads, heads + 1]))
    members = places[order].tolist()
    orphans = np.zeros(len(owner), bool)
    orphans[into[made & (fate == ORPHAN)]] = True
    lost = np.flatnonzero(~made)
    dropped = [
        (t, r, FATES[f], k)
        for (t, r), f, k in zip(
            places[lost].tolist(), fate[lost].tolist(), into[lost].tolist(), strict=True
        )
    ]
    return MergedImage(
        piece.key,
        piece.width,
        piece.height,
        digest,
        tiles,
        [members[a:b] for a, b in ends.T.tolist()],
        np.flatnonzero(orphans[heads]).tolist(),
        dropped,
        read.rejected,
        files,
        piece.predicted,
    )
