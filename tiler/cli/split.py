"""`tiler split`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import (
    CocoImages,
    Config,
    Data,
    JsonReport,
    Quiet,
    Verbose,
    configured,
    with_options,
)
from tiler.cli.printing import emit, findings, progress, shown_path, table, tell
from tiler.options import RunOptions, SplitOptions
from tiler.options.fields import option_names
from tiler.options.values import YES

if TYPE_CHECKING:
    from tiler.splitting import SplitReport

MANY = 20  # tiles, of which one of a single value is worth a word
LISTED = 5  # lost objects printed; all of them are in the report

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Output folder.",
        show_default="ROOT-tiles-TILE, beside the dataset",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Exit 1 if an object is in no tile (a guard band of --val aside)."
    ),
]


@with_options(SplitOptions, RunOptions)
def command(
    data: Data,
    out: Out = None,
    images: CocoImages = None,
    config: Config = None,
    strict: Strict = False,
    json: JsonReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Cut the images of a dataset into overlapping tiles with clipped labels: a new dataset, ready
    to train.
    """
    chosen = configured(config, options, option_names(SplitOptions, RunOptions))
    _prefer_given(chosen, options, config)
    from tiler.images import memory
    from tiler.splitting import split

    memory.keep_blocks()
    with progress("cut", quiet or json) as show:
        report = split(
            data,
            out=out,
            images=images,
            progress=lambda p: show(p.done, p.total, p.tiles),
            **chosen,
        )
    if json:
        emit(report.encoded().decode())
    elif not quiet:
        _summary(report, dry_run=str(chosen.get("dry_run", "")).lower() in YES)
    findings(report.findings, report.root, verbose, quiet)
    raise typer.Exit(report.exit_code(strict))


def _prefer_given(chosen: dict[str, Any], given: dict[str, Any], config: Path | None) -> None:
    """Of a config: its --tile or --grid ends where the other one is given on the command line, and
    its paths are relative to its folder."""
    for name, other in (("tile", "grid"), ("grid", "tile")):
        if name in given and other not in given:
            chosen.pop(other, None)
    if config is not None and "roi" in chosen and "roi" not in given:
        chosen["roi"] = os.path.join(os.path.dirname(config), str(chosen["roi"]))


def _summary(report: SplitReport, dry_run: bool) -> None:
    """What became of images and objects, and where the tiles are."""
    tell(report.kind(shown_path("", report.root)))
    tell(table(*report.table()))
    _lost(report, dry_run)
    _remarks(report)
    if dry_run:
        counts = report.total.counts
        megabytes = counts.bytes / 1e6
        tell(f"dry run: {counts.tiles} tiles, about {megabytes:.1f} MB; nothing was written")
    elif report.unchanged:
        tell(f"already complete: {report.out}")
    else:
        tell(report.out)


def _lost(report: SplitReport, dry_run: bool) -> None:
    """The first objects that are in no tile, but for those in guard bands."""
    shown = report.lost_elsewhere
    for lost in shown[:LISTED]:
        tell(f"lost: {lost.source}, row {lost.row}: {lost.reason}")
    more = len(shown) - LISTED
    if more > 0:
        where = "" if dry_run else ", in report.json"
        tell(f"lost: {more} more{where}")


def _remarks(report: SplitReport) -> None:
    counts = report.total.counts
    if report.in_regions:
        objects = report.total.objects.outside or 0
        tell(f"outside --roi: {counts.outside} tiles, and {objects} objects that are only there")
    without = sum(finding.code == "W05" for finding in report.findings)
    if without:
        tell(f"{without} of {counts.sources} images meet no region of --roi: they have no tiles")
    if report.split_by == "images":
        tell(f"{', '.join(report.splits)} by whole images")
    if report.split_by == "blocks":
        objects = len(report.lost) - len(report.lost_elsewhere)
        left_out = f"{counts.guard} tiles and {objects} objects are left out there"
        tell(f"{', '.join(report.splits)} by blocks, with guard bands of one tile: {left_out}")
    if counts.copied:
        tell(f"{counts.copied} of {counts.tiles} tiles keep the source's JPEG coefficients")
    if report.shards:
        gigabytes = sum(report.shards.values()) / 1e9
        tell(f"shards: {len(report.shards)}, {gigabytes:.3g} GB, as webdataset reads them")
    if counts.without_data:
        left_out = "have too little data and no label: left out (--min-data)"
        tell(f"{counts.without_data} tiles {left_out}")
    if counts.flat * MANY >= counts.tiles > 0:
        tell(
            f"background tiles of a single value: {counts.flat}; if that is no data, --nodata VALUE"
        )
    for kind, limits in report.stretch.items():
        ranges = [f"{low:g}..{high:g}" for low, high in dict.fromkeys(limits)]
        tell(f"{kind}: {', '.join(ranges)} became 0..255")
    if counts.ignored_regions:
        tell(f"{counts.ignored_regions} regions are marked iscrowd or ignore; see --ignored")
    if counts.unlabelled and "" not in report.splits:
        tell(f"{counts.unlabelled} images have no label file; they count as background")
