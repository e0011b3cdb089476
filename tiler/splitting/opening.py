"""What every split begins with: the dataset, the options in effect, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiler.datasets import ignoring, mask_sets, unlabelled
from tiler.datasets.dataset import Dataset, named
from tiler.datasets.opening import find
from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding
from tiler.geometry.grids import by_axis
from tiler.images import lossless
from tiler.options import RunOptions, SplitOptions
from tiler.options.values import background_share, background_shares
from tiler.splitting.dividing import divided
from tiler.splitting.mask_tiles import require_blank
from tiler.splitting.stretching import mapping
from tiler.splitting.work import outcomes
from tiler.tiling import roi
from tiler.tiling.job import SplitJob
from tiler.tiling.placing import placed
from tiler.tiling.planning import Quota, check_grid, crowding, quota
from tiler.tiling.roi import RoiFile


@dataclass(frozen=True, slots=True)
class OpenedSplit:
    """What is cut, and how.

    Attributes:
        chosen: the options as they were given; the task may be auto.
        roi: the regions of --roi.
    """

    dataset: Dataset
    chosen: SplitOptions
    roi: RoiFile | None


def opened_split(
    data: Path, images: Path | None, options: Mapping[str, Any], run: RunOptions
) -> OpenedSplit:
    """A dataset, divided into its splits.

    Args:
        options: those of `SplitOptions` that were given.

    Raises:
        TilerError: unusable input or options.
    """
    chosen = SplitOptions.of(options)
    chosen.require_in_effect()
    _require_one_grid(options, chosen)
    check_grid(chosen)
    _require_jpeg_library(chosen)
    regions = None if chosen.roi is None else roi.read(chosen.roi)
    dataset = find(data, images, chosen)
    if chosen.layout == "tar":
        dataset = named(dataset, dots=False)
    dataset = mask_sets.settled(dataset, chosen.task, chosen.frame)
    require_blank(dataset, chosen)
    chosen = replace(chosen, ignored=ignoring.decide(dataset, chosen.ignored))
    dataset.findings.extend(unlabelled.settle(dataset, chosen.unlabelled))
    _require_labels(dataset, chosen)
    dataset = divided(dataset, chosen, run)
    _require_known_splits(chosen, dataset.splits)
    return OpenedSplit(dataset, chosen, regions)


def _require_one_grid(given: Mapping[str, Any], chosen: SplitOptions) -> None:
    """Raises:
    TilerError: the size of a tile is given beside the number of tiles.
    """
    if chosen.grid is not None and given.get("tile") is not None:
        tile = "x".join(map(str, dict.fromkeys(by_axis(chosen.tile))))
        raise TilerError(f"--tile {tile}: {chosen.idle()['tile']}; give one of the two")


def _require_labels(dataset: Dataset, chosen: SplitOptions) -> None:
    """Raises:
    TilerError: --background would leave out tiles of images that have no labels at all.
    """
    if not dataset.labelled and chosen.background != "all":
        why = "these images have no labels, so all tiles are background"
        raise TilerError(f"--background {chosen.background}: {why}")


def _require_known_splits(chosen: SplitOptions, splits: Sequence[str]) -> None:
    """Raises:
    TilerError: --background names a split that the dataset does not have.
    """
    _, by_split = background_shares(chosen.background)
    for name in by_split:
        if name not in splits:
            hint = did_you_mean(name, splits)
            there = f"the dataset has {', '.join(splits)}"
            raise TilerError(f"--background {chosen.background}: no split {name!r}; {there}{hint}")


def _require_jpeg_library(chosen: SplitOptions) -> None:
    if chosen.jpeg == "keep":
        missing = lossless.missing()
        if missing is not None:
            raise TilerError(f"--jpeg keep: {missing}")


@dataclass(frozen=True, slots=True)
class BegunSplit:
    """What is decided before the first image is cut.

    Attributes:
        task: detect, segment, obb, pose or semantic, and in `task_reason` how that was decided.
        findings: what was noticed so far.
    """

    job: SplitJob
    task: str
    task_reason: str
    findings: list[Finding]


def begin(opened: OpenedSplit, run: RunOptions) -> BegunSplit:
    """Decide the task, place the regions of --roi, and count what a ratio of background needs.

    Raises:
        TilerError: an option does not go with the task, or with the dataset.
    """
    dataset, chosen = opened.dataset, opened.chosen
    task, reason = mask_sets.task_of(dataset, chosen.task)
    decided = replace(chosen, task=task)
    decided.require_in_effect()
    if chosen.ignored != "auto" and dataset.kind == "YOLO":
        only = "YOLO's labels do not mark regions to be ignored"
        raise TilerError(f"--ignored {chosen.ignored}: {only}")
    if chosen.export and not dataset.labelled:
        raise TilerError(f"--export {chosen.export}: these images have no labels")
    job = SplitJob.of(dataset, decided)
    findings = [*dataset.findings, *_crowded(chosen)]
    if opened.roi is not None:
        regions, unknown = placed(opened.roi, job, dataset.sources, run)
        job = replace(job, roi=regions)
        findings += unknown
    ratios = _ratios(opened)
    if ratios:
        job = replace(job, quotas=_quotas(job, dataset, run, ratios))
    return BegunSplit(job, task, reason, findings)


def _ratios(opened: OpenedSplit) -> dict[str, float]:
    """The splits whose background is a ratio."""
    ratios = {}
    for split in opened.dataset.splits:
        share = background_share(opened.chosen.background, split)
        if isinstance(share, float):
            ratios[split] = share
    return ratios


def _quotas(
    job: SplitJob, dataset: Dataset, run: RunOptions, ratios: dict[str, float]
) -> dict[str, Quota]:
    """Which background tiles each of these splits takes: a first pass over labels and headers
    counts them."""
    background: dict[str, dict[str, int]] = {split: {} for split in ratios}
    labelled = dict.fromkeys(ratios, 0)
    sources = [source for source in dataset.sources if source.split in ratios]
    for outcome in outcomes(job, sources, run, {}):
        split = outcome.entry.split
        background[split][outcome.entry.source] = outcome.counts.clean
        labelled[split] += outcome.counts.tiles - outcome.counts.background
    quotas = {}
    for split, ratio in ratios.items():
        wanted = round(ratio * labelled[split])
        quotas[split] = quota(job.options.seed, wanted, background[split])
    return quotas


def mapped_to_8_bits(job: SplitJob, dataset: Dataset, run: RunOptions) -> SplitJob:
    """The job with the mapping of --stretch, which a first pass over the pixels decides."""
    if job.options.stretch == "none":
        return job
    return replace(job, limits=mapping(job, dataset, run))


def _crowded(chosen: SplitOptions) -> list[Finding]:
    """That the overlap leaves nearly no stride, if it does."""
    said = crowding(chosen)
    if not said:
        return []
    overlap = "x".join(f"{share:g}" for share in dict.fromkeys(by_axis(chosen.overlap)))
    return [Finding("", "W01", f"--overlap {overlap}: {said}")]
