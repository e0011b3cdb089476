"""`tiler split`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Config, configured, with_options
from tiler.cli.printing import emit, findings, progress, shown_path, table, tell
from tiler.options import RunOptions, SplitOptions

if TYPE_CHECKING:
    from tiler.splitting import SplitReport


@with_options(SplitOptions, RunOptions)
def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="dataset.yaml, a folder with one, or COCO instances JSON."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Output folder.",
            show_default="ROOT-tiles-TILE, beside the dataset",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="DIR", help="The images of a COCO JSON.", show_default=False
        ),
    ] = None,
    config: Config = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if any object is in no tile.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List every finding, notes too.")
    ] = False,
    **options: Any,
) -> None:
    """Cut a dataset's images into overlapping tiles with clipped labels: a new dataset that trains
    as it is.
    """
    allowed = {item.name for cls in (SplitOptions, RunOptions) for item in fields(cls)}
    chosen = configured(config, options, allowed)
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
        _summary(report, dry=str(chosen.get("dry_run", "")).lower() in ("true", "1", "yes", "on"))
    findings(report.findings, report.root, verbose, quiet)
    raise typer.Exit(report.exit_code(strict))


def _summary(report: SplitReport, dry: bool) -> None:
    """A table of the conservation of objects, and where the tiles are."""
    total = report.total
    tell(f"{report.task} dataset ({report.task_reason}) in {shown_path('', report.root)}")
    rows = []
    for name, split in [*report.splits.items(), ("all", total)]:
        c, o = split.counts, split.objects
        refused = f" ({c.refused} refused)" if c.refused else ""
        sizes = [
            f"{getattr(o.before, size)} → {getattr(o.after, size)}"
            for size in ("small", "medium", "large")
        ]
        rows.append(
            [
                name,
                f"{c.sources}{refused}",
                c.tiles,
                c.background,
                o.objects,
                o.whole,
                o.truncated,
                o.lost,
                *sizes,
            ]
        )
    if len(report.splits) == 1:
        rows.pop()
    head = [
        "split",
        "sources",
        "tiles",
        "background",
        "objects",
        "whole",
        "truncated",
        "lost",
        "small",
        "medium",
        "large",
    ]
    tell(table(head, rows))
    for lost in report.lost[:5]:
        tell(f"lost: {lost.source}, row {lost.row}: {lost.reason}")
    if len(report.lost) > 5:
        tell(f"lost: {len(report.lost) - 5} more{'' if dry else ', in report.json'}")
    if total.counts.copied:
        tell(
            f"{total.counts.copied} of {total.counts.tiles} tiles keep the source's JPEG "
            "coefficients"
        )
    for kind, pairs in report.stretch.items():
        tell(
            f"{kind}: {', '.join(f'{low:g}..{high:g}' for low, high in dict.fromkeys(pairs))} "
            "became 0..255"
        )
    if total.counts.unlabelled:
        tell(f"{total.counts.unlabelled} images have no label file; they count as background")
    if dry:
        tell(
            f"dry run: {total.counts.tiles} tiles, about {total.counts.bytes / 1e6:.1f} MB; "
            "nothing was written"
        )
    else:
        tell(f"{'already complete: ' if report.unchanged else ''}{report.out}")
