"""One run of `tiler split`: an output is built, or found to be complete already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Dataset
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import jsonl, manifest, plain_yaml, yolo
from tiler.options import RunOptions, SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content
from tiler.run.staging import Staging, writing
from tiler.splitting import mask_tiles
from tiler.splitting import report as reports
from tiler.splitting.job import SplitJob
from tiler.splitting.output import dataset_yaml_of, head_of, owned_in, require_whole
from tiler.splitting.planning import Quota, quota
from tiler.splitting.report import SplitReport
from tiler.splitting.stretching import mapping
from tiler.splitting.work import Progress, fingerprints, key, outcomes


@dataclass(frozen=True, slots=True)
class SplitRun:
    """What is cut, how, and where to.

    Attributes:
        chosen: the options as they were given; the task may be auto.
        target: the output folder.
        progress: called as sources are done.
    """

    dataset: Dataset
    chosen: SplitOptions
    run: RunOptions
    target: Path
    progress: Callable[[Progress], None] | None

    def dry_run(self) -> SplitReport:
        """Cut everything and write nothing."""
        job, report = self._begin()
        names = reports.labels(self.dataset.names)
        for outcome in outcomes(job, self.dataset.sources, self.run, {}, self.progress):
            report.add(outcome, names)
        report.findings += mask_tiles.nothing_shown(self.dataset, report)
        return report

    def build(self, staging: Staging) -> SplitReport:
        """Cut everything into the staging tree."""
        job, report = self._begin()
        if self.chosen.stretch != "none":
            job = replace(job, limits=mapping(job, self.dataset, self.run))
            report.stretch = job.limits or {}
        head = jsonl.line(head_of(job.spec, self.dataset, self.chosen))
        earlier = staging.begin(head.decode().strip() + f"\t{job.quotas}\t{job.limits}")
        job = replace(job, tree=staging.tree)
        folders = self._folders()
        with writing():
            for folder in folders:
                staging.tree.make(folder)
        suffixes = self._write_tiles(job, head, staging, earlier, report)
        report.findings += _mixed_bands(report, self.dataset)
        report.findings += mask_tiles.nothing_shown(self.dataset, report)
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
        job = _job(dataset, decided)
        if isinstance(chosen.background, float):
            job = replace(job, quotas=self._quotas(job, chosen.background))
        report = reports.new(task, reason, dataset.splits, dataset.names, dataset.findings)
        report.root = str(dataset.root)
        report.out = str(self.target)
        return job, report

    def _quotas(self, job: SplitJob, ratio: float) -> dict[str, Quota]:
        """Which background tiles each split takes: a first pass over labels and headers counts
        them."""
        splits = self.dataset.splits
        background: dict[str, dict[str, int]] = {split: {} for split in splits}
        labelled = dict.fromkeys(splits, 0)
        run = replace(self.run, dry_run=True)
        for outcome in outcomes(job, self.dataset.sources, run, {}, None):
            split = outcome.entry.split
            background[split][outcome.entry.source] = outcome.counts.clean
            labelled[split] += outcome.counts.tiles - outcome.counts.background
        quotas = {}
        for split in splits:
            wanted = round(ratio * labelled[split])
            quotas[split] = quota(job.options.seed, wanted, background[split])
        return quotas

    def _folders(self) -> list[str]:
        """The folders of an output, each after the one that it is in."""
        dataset = self.dataset
        masked = {source.split for source in dataset.sources if source.mask}
        folders = []
        for split in dataset.splits:
            for folder in manifest.tile_folders(split, dataset.rows, split in masked):
                folders += [folder.split("/")[0], folder]
        return list(dict.fromkeys(folders))

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
        names = reports.labels(self.dataset.names)
        with writing(), staging.tree.create(manifest.NAME) as file:
            file.write(head)
            for outcome in outcomes(job, self.dataset.sources, self.run, earlier, self.progress):
                entry = outcome.entry
                report.add(outcome, names)
                file.write(jsonl.line(entry))
                if staging.resumed:
                    for tile in entry.tiles:
                        suffixes[entry.split, tile.name] = outcome.suffix
                if not outcome.kept:
                    record = msgspec.json.encode(outcome)
                    staging.note(key(entry.split, entry.source), record)
        return suffixes

    def _write_files(self, job: SplitJob, tree: Folder, report: SplitReport) -> None:
        with writing():
            if self.dataset.labelled:
                tree.write("dataset.yaml", self._dataset_yaml(job, report))
            tree.write("args.yaml", self._args_yaml(job))
            tree.write("report.json", report.encoded())

    def _dataset_yaml(self, job: SplitJob, report: SplitReport) -> bytes:
        return dataset_yaml_of(job.spec, self.dataset, report.channels).encode()

    def _args_yaml(self, job: SplitJob) -> bytes:
        """Every option in effect, as it was given: a valid --config."""
        idle = job.options.idle()  # where the task is decided
        in_effect = self.chosen.in_effect().items()
        return plain_yaml.dump({n: value for n, value in in_effect if n not in idle}).encode()

    def unchanged(self) -> SplitReport:
        """The report of a complete output, if the sources still are what it was made from.

        Raises:
            TilerError: they are not, or tiles are missing; with the first difference.
        """
        target = self.target
        with Folder(target) as folder:
            head = manifest.read_head(target / manifest.NAME, folder.opened)
            task = head.task if self.dataset.labelled else "detect"
            job = _job(self.dataset, replace(self.chosen, task=task))
            report = _report_of(folder)
            self._require_same_yaml(folder, job, report)
            if content(folder, "args.yaml") != self._args_yaml(job):
                raise changed(target, "its args.yaml was changed since")
            entries = manifest.read_sources(target / manifest.NAME, folder.opened)
            self._require_same_sources(entries, job)
            missing = manifest.missing(target)
            if missing:
                first = missing[0].path
                raise changed(target, f"{len(missing)} files of tiles are missing ({first})")
            require_whole(folder, report.total.counts.bytes)
        known = self.dataset.findings
        if report.findings[: len(known)] != known:
            raise changed(target, "the dataset has other findings than when it was made")
        report.root = str(self.dataset.root)
        report.out = str(target)
        report.unchanged = True
        return report

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
                if entry is None or source.key < entry.source:
                    raise changed(self.target, f"{source.key} was added since")
                raise changed(self.target, f"{entry.source} was removed since")
            if entry.fingerprint != fingerprint:
                raise changed(self.target, f"{source.key} or its labels changed since")
            tiles += len(entry.tiles)
            if self.progress is not None:
                self.progress(Progress(done, len(sources), tiles))
        extra = next(entries, None)
        if extra is not None:
            raise changed(self.target, f"{extra.source} was removed since")


def _job(dataset: Dataset, options: SplitOptions) -> SplitJob:
    """The job, with the task decided; nothing is written yet."""
    kpt_shape = dataset.kpt_shape if options.task == "pose" else None
    rows_task = options.task if dataset.rows else "detect"  # of no rows
    spec = yolo.Spec(rows_task, len(dataset.names), kpt_shape)  # type: ignore[arg-type]
    return SplitJob(
        dataset.root,
        spec,
        options,
        pages=dataset.pages,
        masks=dataset.masks,
        rows=dataset.rows,
    )


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
