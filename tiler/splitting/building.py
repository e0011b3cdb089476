"""One run of `tiler split`: an output is built, or found to be complete already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Dataset, Source
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import coco_writing, jsonl, manifest, plain_yaml
from tiler.formats.input_paths import relative
from tiler.formats.tile_folders import TileFolders
from tiler.geometry.grids import by_axis
from tiler.options import RunOptions, SplitOptions
from tiler.options.values import background_share
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content, require_files
from tiler.run.staging import Staging, writing
from tiler.splitting import mask_tiles
from tiler.splitting import report as reports
from tiler.splitting.coco_export import CocoPlace, CocoWriter, places
from tiler.splitting.dividing import way_of
from tiler.splitting.output import (
    PATHS,
    dataset_yaml_of,
    head_of,
    owned_in,
    recorded,
    require_whole,
    without_paths,
)
from tiler.splitting.report import SplitReport
from tiler.splitting.stretching import mapping
from tiler.splitting.work import Progress, fingerprints, key, outcomes
from tiler.tiling.counts import labels
from tiler.tiling.job import SplitJob
from tiler.tiling.placing import placed
from tiler.tiling.planning import Quota, crowding, quota
from tiler.tiling.roi import RoiFile


@dataclass(frozen=True, slots=True)
class SplitRun:
    """What is cut, how, and where to.

    Attributes:
        chosen: the options as they were given; the task may be auto.
        target: the output folder.
        roi: the regions of --roi.
        progress: called as sources are done.
    """

    dataset: Dataset
    chosen: SplitOptions
    run: RunOptions
    target: Path
    roi: RoiFile | None
    progress: Callable[[Progress], None] | None

    def dry_run(self) -> SplitReport:
        """Cut everything and write nothing."""
        job, report = self._begin()
        names = labels(self.dataset.names)
        for outcome in outcomes(job, self.dataset.sources, self.run, {}, self.progress):
            report.add(outcome, names)
        report.findings += mask_tiles.nothing_shown(self.dataset, report)
        report.findings += _empty_splits(report, self.roi)
        return report

    def build(self, staging: Staging) -> SplitReport:
        """Cut everything into the staging tree."""
        job, report = self._begin()
        if self.chosen.stretch != "none":
            job = replace(job, limits=mapping(job, self.dataset, self.run))
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
        if staging.resumed:
            staging.keep_only(owned_in(staging.tree, suffixes), folders)
        return report

    def _begin(self) -> tuple[SplitJob, SplitReport]:
        """The job, and its report, in which nothing is counted yet."""
        dataset, chosen = self.dataset, self.chosen
        task, reason = mask_sets.task_of(dataset, chosen.task)
        decided = replace(chosen, task=task)
        decided.require_in_effect()
        if chosen.ignored != "auto" and dataset.kind == "YOLO":
            only = "YOLO's labels do not mark regions to be ignored"
            raise TilerError(f"--ignored {chosen.ignored}: {only}")
        if chosen.export and not dataset.labelled:
            raise TilerError(f"--export {chosen.export}: these images have no labels")
        job = SplitJob.of(dataset, decided)
        noticed = _crowded(chosen)
        if self.roi is not None:
            roi, unknown = placed(self.roi, job, dataset.sources, self.run)
            job = replace(job, roi=roi)
            noticed += unknown
        ratios = self._ratios()
        if ratios:
            job = replace(job, quotas=self._quotas(job, ratios))
        findings = [*dataset.findings, *noticed]
        report = reports.new(task, reason, dataset.splits, dataset.names, findings)
        report.root = str(dataset.root)
        report.out = str(self.target)
        report.split_by = way_of(dataset, chosen)
        return job, report

    def _ratios(self) -> dict[str, float]:
        """The splits whose background is a ratio."""
        ratios = {}
        for split in self.dataset.splits:
            share = background_share(self.chosen.background, split)
            if isinstance(share, float):
                ratios[split] = share
        return ratios

    def _quotas(self, job: SplitJob, ratios: dict[str, float]) -> dict[str, Quota]:
        """Which background tiles each of these splits takes: a first pass over labels and headers
        counts them."""
        background: dict[str, dict[str, int]] = {split: {} for split in ratios}
        labelled = dict.fromkeys(ratios, 0)
        run = replace(self.run, dry_run=True)
        sources = [source for source in self.dataset.sources if source.split in ratios]
        for outcome in outcomes(job, sources, run, {}, None):
            split = outcome.entry.split
            background[split][outcome.entry.source] = outcome.counts.clean
            labelled[split] += outcome.counts.tiles - outcome.counts.background
        quotas = {}
        for split, ratio in ratios.items():
            wanted = round(ratio * labelled[split])
            quotas[split] = quota(job.options.seed, wanted, background[split])
        return quotas

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
        with writing(), staging.tree.create(manifest.NAME) as file:
            file.write(head)
            for outcome in outcomes(job, self.dataset.sources, self.run, earlier, self.progress):
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
        return suffixes

    def _coco_writer(self, job: SplitJob, tree: Folder) -> CocoWriter:
        """The files of --export, begun in a tree."""
        head = coco_writing.head(self.dataset.names, job.categories, job.spec.points)
        return CocoWriter.begun(tree, self._coco_places(), head)

    def _write_files(self, job: SplitJob, tree: Folder, report: SplitReport) -> None:
        with writing():
            if self.dataset.labelled:
                tree.write("dataset.yaml", self._dataset_yaml(job, report))
            tree.write("args.yaml", self._args_yaml(job))
            tree.write("report.json", report.encoded())

    def _dataset_yaml(self, job: SplitJob, report: SplitReport) -> bytes:
        return dataset_yaml_of(job.spec, self.dataset, job.folders, report.channels).encode()

    def _args_yaml(self, job: SplitJob) -> bytes:
        """Every option in effect, as it was given: a valid --config."""
        idle = job.options.idle()  # where the task is decided
        in_effect = self.chosen.in_effect().items()
        content = {n: value for n, value in in_effect if n not in idle and n not in PATHS}
        if not self.chosen.export:
            content.pop("export", None)
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
            missing = manifest.missing(target)
            if missing:
                first = missing[0].path
                raise changed(target, f"{len(missing)} files of tiles are missing ({first})")
            require_whole(folder, report.total.counts.bytes)
            self._require_exports(folder, report)
        known = self.dataset.findings
        if report.findings[: len(known)] != known:
            raise changed(target, "the dataset has other findings than when it was made")
        report.root = str(self.dataset.root)
        report.out = str(target)
        report.unchanged = True
        return report

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
        if not self.dataset.labelled:
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


def _crowded(chosen: SplitOptions) -> list[Finding]:
    """That the overlap leaves nearly no stride, if it does."""
    said = crowding(chosen)
    if not said:
        return []
    overlap = "x".join(f"{share:g}" for share in dict.fromkeys(by_axis(chosen.overlap)))
    return [Finding("", "W01", f"--overlap {overlap}: {said}")]


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
