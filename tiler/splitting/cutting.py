"""One source image and its labels: to tiles, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from io import BufferedReader
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.datasets.labels import LabelFile, Labels, label_file, require_usable
from tiler.datasets.labels import read as read_labels
from tiler.datasets.sources import Source, opened
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats.manifest import SourceTiles, TileEntry
from tiler.formats.text_files import reason
from tiler.geometry import boxes as box
from tiler.geometry.clipping import WHOLE
from tiler.geometry.grids import MIN_SIDE
from tiler.geometry.instances import Instances
from tiler.images import geo, reading
from tiler.images.header import probe
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.run.rejecting import refusal
from tiler.run.work_sharing import done as at_once
from tiler.splitting.job import SourcePlan, SplitJob, tile_paths
from tiler.splitting.planning import places
from tiler.splitting.report import (
    MEDIUM,
    SMALL,
    Lost,
    ObjectCounts,
    Sizes,
    SplitOutcome,
    TileCounts,
)
from tiler.splitting.tile_files import Made, stamped, write
from tiler.splitting.tile_labels import label_rows, views

if TYPE_CHECKING:
    from tiler.types import Floats

REPAIRED = ("L07", "L08", "L09", "L11")


def cut(
    job: SplitJob, source: Source, done: bytes | None = None, later: Later = at_once
) -> SplitOutcome:
    """Cut one source; what cannot be used of it is told in the outcome.

    Args:
        later: runs a piece of the work, perhaps at once in another thread.
        done: the outcome of an earlier run. If the source is what it was then and its
            tiles are there, nothing is done again.

    Raises:
        Unfinished: the disk is full.
        MemoryError: there is too little while others are cut as well; it is to be tried alone.
    """
    fingerprint = "unreadable"
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            labels = label_file(job.root, source, job.coco_name)
            fingerprint = _fingerprint(job, source, file, labels)
            if done is not None:
                earlier = msgspec.json.decode(done, type=SplitOutcome)
                # memory may be there now
                known = earlier.entry.fingerprint == fingerprint and not earlier.counts.refused
                if known and _still_there(job, source, earlier):
                    earlier.kept = True
                    return earlier
            return _cut(job, source, file, labels, fingerprint, later)
    except Exception as error:  # whatever it is, the other images go on
        refused = refusal(error)
        finding = Finding(refused.path or source.key, refused.code, refused.message)
        return SplitOutcome.refused(source.split, source.key, finding, fingerprint)


def fingerprint_of(job: SplitJob, source: Source) -> str:
    """What `cut` would call the source's present content."""
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            return _fingerprint(job, source, file, label_file(job.root, source, job.coco_name))
    except Exception as error:
        refusal(error)
        return "unreadable"


def _fingerprint(job: SplitJob, source: Source, file: BufferedReader, labels: LabelFile) -> str:
    """Of everything that tiles are made from."""
    try:
        image = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise SourceRefused("I01", f"cannot be read: {reason(error)}") from None
    place = geo.sidecars(job.root / source.key)
    return hashlib.sha256(image + labels.words() + place).hexdigest()[:32]


def _still_there(job: SplitJob, source: Source, outcome: SplitOutcome) -> bool:
    """Whether all tiles of an outcome stand in the tree, with the names that they shall have, as
    they were written."""
    if job.tree is None:
        return False
    for tile, stamps in zip(outcome.entry.tiles, outcome.stamps, strict=True):
        if not tile.name.startswith(source.stem + "__"):
            return False  # other sources were added since, and stems are unique
        paths = tile_paths(outcome.entry.split, tile.name, outcome.suffix)
        try:
            if stamped(job.tree, paths, placed=len(stamps) > len(paths)) != stamps:
                return False
        except (OSError, TilerError):
            return False
    return True


def _cut(
    job: SplitJob,
    source: Source,
    file: BufferedReader,
    labels_from: LabelFile,
    fingerprint: str,
    later: Later,
) -> SplitOutcome:
    header = probe(file)
    reading.choose(header, source.bytes, pixel_limit(job.options.max_pixels))
    width, height = header.size
    if min(width, height) < MIN_SIDE and job.options.edge != "pad":
        raise SourceRefused(
            "I05", f"{width} x {height} px; the trainer drops images under {MIN_SIDE} px a side"
        )
    labels = read_labels(source, labels_from, job.spec, job.classes, width, height)
    require_usable(labels, labels_from.key)
    plan = _planned(job, source, labels, width, height)
    tiles = [_tile(plan, int(t)) for t in np.flatnonzero(plan.written)]
    made = Made()
    if tiles and job.tree is not None:
        made = write(job, source, file, header, plan, labels, later)
    findings = list(labels.findings)
    if header.frames > 1 and job.pages < 2:
        findings.append(Finding(source.key, "I11", "several pages or frames; the first one is cut"))
    findings += [Finding(source.key, code, said) for code, said in made.notes]
    counts, classes, lost = _counted(source, plan, labels)
    counts.unlabelled = int(labels_from.data is None)
    counts.rows_refused = labels.refused
    counts.rows_repaired = sum(f.count for f in findings if f.code in REPAIRED)
    counts.copied = made.copied
    shown = sum(
        place.size[0] * place.size[1]
        for place, w in zip(plan.places, plan.written, strict=True)
        if w
    )
    written = sum(size for stamps in made.stamps for size, _ in stamps[:2])
    counts.bytes = written or round(source.bytes * shown / (width * height))
    entry = SourceTiles(
        source.key, source.split, width, height, fingerprint, tiles, made.geo, source.image_id
    )
    return SplitOutcome(
        entry, counts, classes, lost, findings, made.suffix, made.stamps, made.channels
    )


def _planned(job: SplitJob, source: Source, labels: Labels, width: int, height: int) -> SourcePlan:
    """Which windows become tiles, and with which rows."""
    options = job.options
    where = places(source.stem, width, height, options)
    bounds = np.array([place.window.bounds for place in where])
    scales = np.array([place.size[0] / place.window.width for place in where])
    seen = views(labels.instances, bounds, scales, options)
    rows = label_rows(seen, bounds, scales, options, job.spec)
    plan = SourcePlan(where, bounds, scales, seen, rows, np.ones(len(where), bool))
    positive = np.bincount(plan.row_tile, minlength=len(where)) > 0
    written = plan.written
    if options.background != "all":
        empty = [place.name for place, clean in zip(where, plan.clean, strict=True) if clean]
        taken = job.quotas[source.split].take(source.key, empty) if job.quotas else set()
        written = positive | np.array([place.name in taken for place in where])
    if options.truncated == "skip-tile":
        written = written & ~np.isin(np.arange(len(where)), seen.tile[seen.below])
    return replace(plan, written=written)


def _tile(plan: SourcePlan, t: int) -> TileEntry:
    place, seen = plan.places[t], plan.views.seen
    views_here = plan.rows.view[plan.rows_of(t)]
    rows = [
        (row, round(visible, 6))
        for row, visible in zip(
            seen.row[views_here].tolist(), seen.visible[views_here].tolist(), strict=True
        )
    ]
    w = place.window
    return TileEntry(place.name, w.x, w.y, w.width, w.height, place.scale, rows)


def _counted(
    source: Source, plan: SourcePlan, labels: Labels
) -> tuple[TileCounts, dict[int, ObjectCounts], list[Lost]]:
    """The conservation of this source's objects."""
    instances, seen = labels.instances, plan.views
    row_view = plan.rows.view[plan.written[plan.row_tile]]
    visible = np.zeros(len(instances))
    np.maximum.at(visible, seen.object[row_view], seen.seen.visible[row_view])
    scale = plan.scales[seen.tile[row_view]]
    tile_area = plan.rows.area[plan.written[plan.row_tile]] * scale**2
    row_class = instances.class_id[seen.object[row_view]]
    classes = {}
    for class_id in np.unique(instances.class_id):
        mine = instances.class_id == class_id
        classes[int(class_id)] = ObjectCounts(
            objects=int(mine.sum()),
            whole=int((visible[mine] >= WHOLE).sum()),
            truncated=int(((visible[mine] > 0) & (visible[mine] < WHOLE)).sum()),
            lost=int((visible[mine] == 0).sum()),
            rows=int((row_class == class_id).sum()),
            before=_sizes(instances.area[mine]),
            after=_sizes(tile_area[row_class == class_id]),
        )
    lost = [
        Lost(
            source.key,
            source.split,
            int(instances.row[i]),
            int(instances.class_id[i]),
            _why_lost(plan, instances, int(i)),
        )
        for i in np.flatnonzero(visible == 0)
    ]
    positive = np.bincount(plan.row_tile, minlength=len(plan.places)) > 0
    counts = TileCounts(
        sources=1,
        tiles=int(plan.written.sum()),
        background=int((plan.written & ~positive).sum()),
        left_out=int((~plan.written).sum()),
        clean=int(plan.clean.sum()),
        ignored_regions=len(labels.ignored),
    )
    return counts, classes, lost


def _sizes(areas: Floats) -> Sizes:
    small, large = int((areas < SMALL).sum()), int((areas >= MEDIUM).sum())
    return Sizes(small, len(areas) - small - large, large)


def _why_lost(plan: SourcePlan, instances: Instances, i: int) -> str:
    here = np.flatnonzero(plan.views.object == i)
    if not len(here):
        sides = box.to_cxcywh(instances.boxes[i : i + 1])[0, 2:]
        return f"no tile shows any of it ({sides[0]:.3g} x {sides[1]:.3g} px)"
    seen = plan.views.take(here)
    sides = (seen.seen.boxes[:, 2:] - seen.seen.boxes[:, :2]) * plan.scales[seen.tile, None]
    if not seen.large.any():
        best = sides[np.argmax(sides.min(axis=1))]
        return f"{best[0]:.3g} x {best[1]:.3g} px at best, under --min-size"
    if not seen.kept.any():
        if not plan.written[seen.tile].all():
            return "its tiles were skipped (--truncated skip-tile)"
        return f"{seen.seen.visible.max():.0%} visible at best, under --min-visible"
    if not plan.written[seen.tile[seen.kept]].any():
        return "its tiles were skipped (--truncated skip-tile)"
    return "the trainer would refuse its row, or take it for a duplicate"
