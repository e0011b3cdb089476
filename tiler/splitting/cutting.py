"""One source image and its labels, cut to tiles: all of them or none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader

import msgspec
import numpy as np

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.datasets.labels import LabelFile, label_file, require_usable
from tiler.datasets.labels import read as read_labels
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import manifest
from tiler.formats.manifest import SourceTiles
from tiler.formats.text_files import reason
from tiler.geometry.grids import MIN_SIDE
from tiler.images import geo, nodata, reading
from tiler.images.header import Header, probe
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.run.rejecting import refusal
from tiler.run.work_sharing import done as at_once
from tiler.splitting import mask_tiles
from tiler.splitting.counting import lost_objects, most_visible, object_counts, tile_counts
from tiler.splitting.data_share import has_data
from tiler.splitting.job import SplitJob
from tiler.splitting.report import SplitOutcome
from tiler.splitting.source_plan import SourcePlan, planned, selected
from tiler.splitting.tile_files import Made, stamped, write

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
            labels = _label_file(job, source)
            fingerprint = _fingerprint(job, source, file, labels)
            if earlier is not None:
                outcome = _kept(job, source, earlier, fingerprint)
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
            return _fingerprint(job, source, file, _label_file(job, source))
    except Exception as error:
        refusal(error)
        return "unreadable"


def _label_file(job: SplitJob, source: Source) -> LabelFile:
    """The labels of a source; none where masks are the only ones."""
    if not job.rows:
        return LabelFile(source.key, None)
    return label_file(job.root, source)


def _fingerprint(job: SplitJob, source: Source, file: BufferedReader, labels: LabelFile) -> str:
    """A hash of everything that tiles are made from."""
    try:
        image = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise SourceRefused("I01", f"cannot be read: {reason(error)}") from None
    place = geo.sidecars(job.root / source.key)
    mask = b""
    if job.masks is not None:
        mask = mask_sets.digest(job.root, source, job.masks)
    return hashlib.sha256(image + labels.words() + place + mask).hexdigest()[:32]


def _kept(job: SplitJob, source: Source, earlier: bytes, fingerprint: str) -> SplitOutcome | None:
    """The outcome of an earlier run, if it still holds."""
    outcome = msgspec.json.decode(earlier, type=SplitOutcome)
    if outcome.entry.fingerprint != fingerprint:
        return None
    if outcome.counts.refused:  # memory may be there now
        return None
    if not _still_there(job, source, outcome):
        return None
    outcome.kept = True
    return outcome


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
        paths = manifest.tile_paths(
            entry.split, tile.name, outcome.suffix, entry.labels, entry.masks
        )
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
    header = nodata.declared(probe(file), job.options.nodata)
    _require_cuttable(job, source, header)
    labels = read_labels(source, labels_from, job.spec, *header.size)
    require_usable(labels, labels_from.key)
    mask, mask_findings = mask_tiles.read(job, source, header)
    plan = planned(job, source, labels, *header.size, mask)
    plan = selected(job, source, plan, has_data(job, file, header, plan))
    made = Made()
    if job.tree is not None and plan.written.any():
        made = write(job, source, file, header, plan, labels, later, mask)
    findings = [*labels.findings, *mask_findings, *_noticed(job, source, header, made)]
    counts = tile_counts(plan, labels)
    counts.unlabelled = int(job.rows and labels_from.data is None)
    counts.rows_refused = labels.refused
    counts.rows_repaired = sum(f.count for f in findings if f.code in REPAIRED)
    counts.copied = made.copied
    counts.flat = made.flat
    entry = _entry(job, source, header, plan, made, fingerprint)
    counts.bytes = _bytes(source, entry, plan, made)
    visible = most_visible(plan, labels.instances)
    return SplitOutcome(
        entry,
        counts,
        object_counts(plan, labels.instances, visible),
        lost_objects(source, plan, labels.instances, visible),
        findings,
        made.suffix,
        made.stamps,
        made.channels,
    )


def _require_cuttable(job: SplitJob, source: Source, header: Header) -> None:
    """Raises:
    SourceRefused: the image is too large, or too small.
    """
    reading.choose(header, source.bytes, pixel_limit(job.options.max_pixels))
    width, height = header.size
    if min(width, height) < MIN_SIDE and job.options.edge != "pad":
        why = f"the trainer drops images under {MIN_SIDE} px a side"
        raise SourceRefused("I05", f"{width} x {height} px; {why}")


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


def _bytes(source: Source, entry: SourceTiles, plan: SourcePlan, made: Made) -> int:
    """Bytes of the tiles and labels; where they were not written, estimated from the source's."""
    folders = manifest.tile_folders(entry.split, entry.labels, entry.masks)
    files = len(folders)  # without a world file
    written = sum(size for stamps in made.stamps for size, _ in stamps[:files])
    if written:
        return written
    pixels = 0
    for number in np.flatnonzero(plan.written).tolist():
        width, height = plan.tiles[number].size
        pixels += width * height
    return round(source.bytes * pixels / (entry.width * entry.height))
