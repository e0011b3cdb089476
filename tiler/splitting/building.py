"""One run of `tiler split`: an output is built, or found to be complete already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tiler.datasets.dataset import Dataset, Source
from tiler.findings import Finding
from tiler.formats import coco_writing, jsonl, manifest, plain_yaml
from tiler.formats.input_paths import relative
from tiler.formats.tile_folders import TileFolders
from tiler.options import RunOptions, SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content, require_files
from tiler.run.staging import Staging, writing
from tiler.splitting import mask_tiles
from tiler.splitting import report as reports
from tiler.splitting.coco_export import CocoPlace, CocoWriter, places
from tiler.splitting.dividing import way_of
from tiler.splitting.opening import OpenedSplit, begin, mapped_to_8_bits
from tiler.splitting.output import (
    PATHS,
    dataset_yaml_of,
    head_of,
    owned_in,
    recorded,
    require_whole,
    without_paths,
)
from tiler.splitting.report import SplitOutcome, SplitReport
from tiler.splitting.shards import Shards, outcomes_in_shards
from tiler.splitting.work import Progress, counted, fingerprints, key, outcomes
from tiler.tiling.counts import labels
from tiler.tiling.job import SplitJob
from tiler.tiling.roi import RoiFile


@dataclass(frozen=True, slots=True)
class SplitRun:
    """What is cut, how, and where to.

    Attributes:
        target: the output folder.
        progress: called as sources are done.
    """

    opened: OpenedSplit
    run: RunOptions
    target: Path
    progress: Callable[[Progress], None] | None

    @property
    def dataset(self) -> Dataset:
        return self.opened.dataset

    @property
    def chosen(self) -> SplitOptions:
        return self.opened.chosen

    @property
    def roi(self) -> RoiFile | None:
        return self.opened.roi

    def dry_run(self) -> SplitReport:
        """Cut everything and write nothing."""
        job, report = self._begin()
        names = labels(self.dataset.names)
        for outcome in self._counted(outcomes(job, self.dataset.sources, self.run, {})):
            report.add(outcome, names)
        report.findings += mask_tiles.nothing_shown(self.dataset, report)
        report.findings += _empty_splits(report, self.roi)
        return report

    def build(self, staging: Staging) -> SplitReport:
        """Cut everything into the staging tree."""
        job, report = self._begin()
        job = mapped_to_8_bits(job, self.dataset, self.run)
        report.stretch = job.limits or {}
        head = jsonl.line(head_of(job.spec, self.dataset, recorded(self.chosen, self.roi)))
        decided = f"\t{job.quotas}\t{job.limits}"
        if job.roi is not None:
            decided += f"\t{job.roi.frame}"
        earlier = staging.begin(head.decode().strip() + decided)
        job = replace(job, tree=staging.tree)
        folders = self._folders()
        with writing():
            for folder in folders:
                staging.tree.make(folder)
        suffixes = self._write_tiles(job, head, staging, earlier, report)
        report.findings += _mixed_bands(report, self.dataset)
        report.findings += mask_tiles.nothing_shown(self.dataset, report)
        report.findings += _empty_splits(report, self.roi)
        self._write_files(job, staging.tree, report)
        if staging.resumed or self._in_shards:
            kept = [] if self._in_shards else folders
            staging.keep_only(owned_in(staging.tree, suffixes), kept)
        return report

    def _begin(self) -> tuple[SplitJob, SplitReport]:
        """The job, and its report, in which nothing is counted yet."""
        dataset = self.dataset
        begun = begin(self.opened, self.run)
        report = reports.new(
            begun.task, begun.task_reason, dataset.splits, dataset.names, begun.findings
        )
        report.root = str(dataset.root)
        report.out = str(self.target)
        report.split_by = way_of(dataset, self.chosen)
        return begun.job, report

    def _folders(self) -> list[str]:
        """The folders of an output."""
        result = []
        dataset = self.dataset
        folders = TileFolders.exported(self.chosen.export)
        masked = {source.split for source in dataset.sources if source.mask}
        for split in dataset.splits:
            for folder in folders.of(split, dataset.rows, split in masked):
                result += [folder.partition("/")[0], folder]
        return list(dict.fromkeys(result))

    def _coco_places(self) -> list[CocoPlace]:
        """The files of --export."""
        return places(self.chosen.export, self.dataset.splits)

    def _write_tiles(
        self,
        job: SplitJob,
        head: bytes,
        staging: Staging,
        earlier: dict[str, bytes],
        report: SplitReport,
    ) -> dict[tuple[str, str], str]:
        """Write tiles and manifest; of a resumed run, the suffix of each split's tiles."""
        suffixes: dict[tuple[str, str], str] = {}
        names = labels(self.dataset.names)
        coco = self._coco_writer(job, staging.tree)
        shards = Shards(staging.tree)
        with writing(), staging.tree.create(manifest.NAME) as file:
            file.write(head)
            for outcome in self._counted(self._outcomes(job, shards, earlier)):
                entry = outcome.entry
                report.add(outcome, names)
                coco.add(outcome)
                file.write(jsonl.line(entry))
                if staging.resumed:
                    for tile in entry.tiles:
                        suffixes[entry.split, tile.name] = outcome.suffix
                if not outcome.kept:
                    record = msgspec.json.encode(outcome)
                    staging.note(key(entry.split, entry.source), record)
        report.exports = coco.finish()
        report.shards = shards.finish()
        return suffixes

    @property
    def _in_shards(self) -> bool:
        return self.chosen.layout == "tar"

    def _outcomes(
        self, job: SplitJob, shards: Shards, earlier: dict[str, bytes]
    ) -> Iterator[SplitOutcome]:
        """Each source, cut. `earlier`: the outcomes of an earlier run."""
        sources = self.dataset.sources
        if self._in_shards:
            return outcomes_in_shards(job, sources, self.run, earlier, shards)
        return outcomes(job, sources, self.run, earlier)

    def _counted(self, stream: Iterator[SplitOutcome]) -> Iterator[SplitOutcome]:
        return counted(stream, len(self.dataset.sources), self.progress)

    def _coco_writer(self, job: SplitJob, tree: Folder) -> CocoWriter:
        """The files of --export, begun in a tree."""
        head = coco_writing.head(self.dataset.names, job.categories, job.spec.points)
        return CocoWriter.begun(tree, self._coco_places(), head)

    def _write_files(self, job: SplitJob, tree: Folder, report: SplitReport) -> None:
        with writing():
            if self._has_yaml:
                tree.write("dataset.yaml", self._dataset_yaml(job, report))
            tree.write("args.yaml", self._args_yaml(job))
            tree.write("report.json", report.encoded())

    @property
    def _has_yaml(self) -> bool:
        """Whether the output is a dataset that a trainer reads by its dataset.yaml."""
        return self.dataset.labelled and not self._in_shards

    def _dataset_yaml(self, job: SplitJob, report: SplitReport) -> bytes:
        return dataset_yaml_of(job.spec, self.dataset, job.folders, report.channels).encode()

    def _args_yaml(self, job: SplitJob) -> bytes:
        """Every option in effect, as it was given: a valid --config."""
        idle = job.options.idle()  # where the task is decided
        in_effect = self.chosen.in_effect().items()
        content = {n: value for n, value in in_effect if n not in idle and n not in PATHS}
        if not self.chosen.export:
            content.pop("export", None)
        if self.chosen.layout == "flat":
            content.pop("layout")
        if self.chosen.roi is not None:
            content |= relative({"roi": Path(self.chosen.roi)}, self.target)
        return plain_yaml.dump(content).encode()

    def unchanged(self) -> SplitReport:
        """The report of a complete output, if the sources still are what it was made from.

        Raises:
            TilerError: they are not, or tiles are missing; with the first difference.
        """
        target = self.target
        with Folder(target) as folder:
            head = manifest.read_head(target / manifest.NAME, folder.opened)
            task = head.task if self.dataset.labelled else "detect"
            job = SplitJob.of(self.dataset, replace(self.chosen, task=task))
            report = _report_of(folder)
            self._require_same_yaml(folder, job, report)
            if without_paths(content(folder, "args.yaml")) != without_paths(self._args_yaml(job)):
                raise changed(target, "its args.yaml was changed since")
            entries = manifest.read_sources(target / manifest.NAME, folder.opened)
            self._require_same_sources(entries, job)
            self._require_tiles(folder, report)
            self._require_exports(folder, report)
        known = self.dataset.findings
        if report.findings[: len(known)] != known:
            raise changed(target, "the dataset has other findings than when it was made")
        report.root = str(self.dataset.root)
        report.out = str(target)
        report.unchanged = True
        return report

    def _require_tiles(self, folder: Folder, report: SplitReport) -> None:
        """Raises:
        TilerError: a file of tiles is missing, or has another size.
        """
        if self._in_shards:
            require_files(folder, report.shards)
            return
        missing = manifest.missing(self.target)
        if missing:
            first = missing[0].path
            raise changed(self.target, f"{len(missing)} files of tiles are missing ({first})")
        require_whole(folder, report.total.counts.bytes)

    def _require_exports(self, folder: Folder, report: SplitReport) -> None:
        """Raises:
        TilerError: a file of --export is missing, or has another size.
        """
        sizes = {}
        for place in self._coco_places():
            if place.path not in report.exports:
                raise changed(self.target, f"its report.json does not name {place.path}")
            sizes[place.path] = report.exports[place.path]
        require_files(folder, sizes)

    def _require_same_yaml(self, folder: Folder, job: SplitJob, report: SplitReport) -> None:
        """Raises:
        TilerError: the dataset.yaml would be another one now.
        """
        if not self._has_yaml:
            return
        if content(folder, "dataset.yaml") != self._dataset_yaml(job, report):
            raise changed(self.target, "its dataset.yaml would be another one now")

    def _require_same_sources(self, entries: Iterator[manifest.SourceTiles], job: SplitJob) -> None:
        """Raises:
        TilerError: the first source that is not what its tiles were made from.
        """
        sources = self.dataset.sources
        prints = fingerprints(job, sources, self.run)
        tiles = 0
        for done, (source, fingerprint) in enumerate(zip(sources, prints, strict=True), 1):
            entry = next(entries, None)
            if entry is None or (entry.source, entry.split) != (source.key, source.split):
                raise changed(self.target, _other_source(entry, source))
            if entry.fingerprint != fingerprint:
                raise changed(self.target, f"{source.key} or its labels changed since")
            tiles += len(entry.tiles)
            if self.progress is not None:
                self.progress(Progress(done, len(sources), tiles))
        extra = next(entries, None)
        if extra is not None:
            raise changed(self.target, f"{extra.source} was removed since")


def _other_source(entry: manifest.SourceTiles | None, source: Source) -> str:
    """Why a source is not the one that the manifest has in its place."""
    if entry is None or source.key < entry.source:
        return f"{source.key} was added since"
    if source.key == entry.source:
        return f"{source.key} would be in the split {source.split} now, it was in {entry.split}"
    return f"{entry.source} was removed since"


def _empty_splits(report: SplitReport, roi: RoiFile | None) -> list[Finding]:
    """The splits that have no tile because of --roi."""
    if roi is None:
        return []
    empty = [name for name, split in report.splits.items() if not split.counts.tiles]
    return [Finding("", "W06", f"no tile of {name} is in the regions of --roi") for name in empty]


def _mixed_bands(report: SplitReport, dataset: Dataset) -> list[Finding]:
    """That images of different numbers of bands cannot be trained together, if there are such."""
    numbers = set(report.bands)
    expected = ""
    if dataset.pages:
        numbers.add(str(dataset.channels))
        expected = f"; its channels: {dataset.channels}"
    if len(numbers) < 2:
        return []
    counts = [f"{bands} bands in {count} images" for bands, count in sorted(report.bands.items())]
    message = f"{', '.join(counts)}{expected}; the trainer takes one number of bands"
    return [Finding(dataset.file.name, "I14", message)]


def _report_of(folder: Folder) -> SplitReport:
    try:
        return msgspec.json.decode(content(folder, "report.json"), type=SplitReport)
    except msgspec.DecodeError as error:
        raise changed(folder.path, f"report.json: {error}") from None
