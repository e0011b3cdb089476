"""One source image and its labels, cut to tiles: all of them or none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader

import msgspec
import numpy as np

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.datasets.labels import LabelFile, Labels
from tiler.datasets.labels import read as read_labels
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats.manifest import SourceTiles
from tiler.formats.text_files import reason
from tiler.images import geo, nodata
from tiler.images.header import Header
from tiler.images.row_reader import Later
from tiler.run.rejecting import refusal
from tiler.run.work_sharing import done as at_once
from tiler.splitting.coco_export import described
from tiler.splitting.planned_source import planned_source
from tiler.splitting.report import SplitOutcome, TileAnnotations
from tiler.splitting.tile_files import Made, stamped, write
from tiler.tiling.counting import Fates, lost_objects, object_counts, tile_counts
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan, planned
from tiler.tiling.sources import estimated_bytes, labels_of

REPAIRED = ("L07", "L08", "L09", "L11")


def cut(
    job: SplitJob, source: Source, earlier: bytes | None = None, later: Later = at_once
) -> SplitOutcome:
    """Cut one source; what cannot be used of it is a finding of the outcome.

    Args:
        earlier: the outcome of an earlier run. If the source is what it was then and its
            tiles are there, nothing is done again.
        later: runs a piece of the work, perhaps at once in another thread.

    Raises:
        Unfinished: the disk is full.
        MemoryError: there is too little while others are cut as well; it is to be tried alone.
    """
    fingerprint = "unreadable"
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            labels = labels_of(job, source)
            fingerprint = _fingerprint(job, source, file, labels)
            if earlier is not None:
                outcome = _kept(job, source, earlier, fingerprint, labels)
                if outcome is not None:
                    return outcome
            return _cut(job, source, file, labels, fingerprint, later)
    except Exception as error:  # whatever it is, the other images are cut
        rejected = refusal(error)
        finding = Finding(rejected.path or source.key, rejected.code, rejected.message)
        return SplitOutcome.rejected(source.split, source.key, finding, fingerprint)


def fingerprint_of(job: SplitJob, source: Source) -> str:
    """The fingerprint of the source's present content."""
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            return _fingerprint(job, source, file, labels_of(job, source))
    except Exception as error:
        refusal(error)
        return "unreadable"


def _fingerprint(job: SplitJob, source: Source, file: BufferedReader, labels: LabelFile) -> str:
    """A hash of everything that tiles are made from."""
    try:
        image = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise SourceRefused("I01", f"cannot be read: {reason(error)}") from None
    place = geo.sidecars(job.root / source.key)
    block = b"" if source.block is None else repr(source.block).encode()
    mask = b"" if job.masks is None else mask_sets.digest(job.root, source, job.masks)
    return hashlib.sha256(image + labels.words() + place + block + mask).hexdigest()[:32]


def _kept(
    job: SplitJob, source: Source, earlier: bytes, fingerprint: str, labels_from: LabelFile
) -> SplitOutcome | None:
    """The outcome of an earlier run, if it still holds."""
    outcome = msgspec.json.decode(earlier, type=SplitOutcome)
    if outcome.entry.fingerprint != fingerprint:
        return None
    if outcome.counts.refused:  # memory may be there now
        return None
    if not _still_there(job, source, outcome):
        return None
    outcome.kept = True
    if job.options.export:
        outcome.annotations = _described_again(job, source, labels_from, outcome.entry)
    return outcome


def _described_again(
    job: SplitJob, source: Source, labels_from: LabelFile, entry: SourceTiles
) -> TileAnnotations:
    """What COCO files say of the tiles that an earlier run had written."""
    size = entry.width, entry.height
    labels = read_labels(source, labels_from, job.spec, *size)
    plan = planned(replace(job, roi=None), source, labels, *size)
    names = {tile.name for tile in entry.tiles}
    written = np.array([tile.name in names for tile in plan.tiles])
    return described(replace(plan, written=written), labels, job.categories)


def _still_there(job: SplitJob, source: Source, outcome: SplitOutcome) -> bool:
    """Whether all tiles of an outcome are in the tree, as they were written, and have the names
    that they would get now."""
    if job.tree is None:
        return False
    entry = outcome.entry
    if (entry.labels, entry.masks) != (job.rows, bool(source.mask)):
        return False
    for tile, stamps in zip(entry.tiles, outcome.stamps, strict=True):
        if not tile.name.startswith(source.stem + "__"):
            return False  # other sources were added since, and stems are unique
        if outcome.packed is not None:
            continue  # whoever puts it into the shards looks there
        paths = job.folders.paths(entry.split, tile.name, outcome.suffix, entry.labels, entry.masks)
        try:
            present = stamped(job.tree, paths, placed=len(stamps) > len(paths))
        except (OSError, TilerError):
            return False
        if present != stamps:
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
    """Cut a source whose tiles are not there yet."""
    ready = planned_source(job, source, file, labels_from)
    header, labels, plan = ready.header, ready.labels, ready.plan
    made = Made()
    if job.tree is not None and plan.written.any():
        made = write(job, source, file, ready, later)
    counts = tile_counts(plan)
    findings: list[Finding] = []
    if source.block is None or source.block.first:  # what is about the whole image counts once
        findings = [*labels.findings, *ready.mask_findings]
        findings += _noticed(job, source, header, made)
        counts.unlabelled = int(job.rows and labels_from.data is None)
        counts.ignored_regions = len(labels.ignored)
        counts.rows_refused = labels.refused
        counts.rows_repaired = _repaired(findings)
    if job.roi is not None:
        counts.outside = int((plan.own & ~plan.inside).sum())
        if not plan.inside.any():
            findings.append(Finding(source.key, "W05", "no region of --roi meets it"))
    counts.copied = made.copied
    counts.flat = made.flat
    counts.bytes = _bytes(job, source, header, plan, made)
    fates = Fates.of(plan, labels.instances, job.roi is not None)
    return SplitOutcome(
        _entry(job, source, header, plan, made, fingerprint),
        counts,
        object_counts(plan, labels.instances, fates),
        lost_objects(source, plan, labels.instances, fates),
        findings,
        made.suffix,
        made.stamps,
        made.channels,
        annotations=_annotations(job, plan, labels),
        packed=made.packed,
    )


def _repaired(findings: list[Finding]) -> int:
    """The number of label rows that were repaired."""
    return sum(finding.count for finding in findings if finding.code in REPAIRED)


def _annotations(job: SplitJob, plan: SourcePlan, labels: Labels) -> TileAnnotations | None:
    """What COCO files say of the tiles, if there are to be any."""
    if job.tree is None or not job.options.export:
        return None
    return described(plan, labels, job.categories)


def _noticed(job: SplitJob, source: Source, header: Header, made: Made) -> Iterator[Finding]:
    """Findings about the image."""
    if header.frames > 1 and job.pages < 2:
        yield Finding(source.key, "I11", "several pages or frames; the first one is cut")
    unseen = nodata.problem(header, job.options.nodata)
    if unseen is not None:
        yield Finding(source.key, "I15", unseen)
    for code, message in made.notes:
        yield Finding(source.key, code, message)


def _entry(
    job: SplitJob, source: Source, header: Header, plan: SourcePlan, made: Made, fingerprint: str
) -> SourceTiles:
    """The source in the manifest."""
    return SourceTiles(
        source.key,
        source.split,
        *header.size,
        fingerprint,
        plan.entries(),
        made.geo,
        source.image_id,
        job.rows,
        bool(source.mask),
    )


def _bytes(job: SplitJob, source: Source, header: Header, plan: SourcePlan, made: Made) -> int:
    """Bytes of tiles, labels, masks; where they were not written, estimated from the source's."""
    folders = job.folders.of(source.split, job.rows, bool(source.mask))
    files = len(folders)  # without a world file
    written = sum(size for stamps in made.stamps for size, _ in stamps[:files])
    return written or estimated_bytes(source, header, plan)
