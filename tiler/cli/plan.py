"""`tiler plan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import CocoImages, Data, JsonReport, Quiet, Verbose, with_options
from tiler.cli.printing import emit, findings, progress, shown_path, table, tell
from tiler.options import PlanOptions

if TYPE_CHECKING:
    from tiler.inspecting.advising import PlanReport
    from tiler.inspecting.advising.report import ObjectSizes

LISTED = 10  # classes printed; all of them are in the JSON
LONGEST_NAME = 24  # characters of a class

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw the comparison into a new PNG file; needs the extra 'plot'.",
        show_default=False,
    ),
]


@with_options(PlanOptions)
def command(
    data: Data,
    images: CocoImages = None,
    plot: Plot = None,
    json: JsonReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Find which tile and overlap suit a dataset: compare several by its labels, and recommend one.

    Nothing is cut; images are not decoded.
    """
    from tiler.inspecting.advising import plan

    with progress("counted", quiet or json) as show:
        report = plan(data, images=images, plot=plot, progress=show, **options)
    if json:
        emit(report.encoded().decode())
    elif quiet:
        tell(report.command or report.reason)
    else:
        _summary(report)
    findings(report.findings, report.root, verbose, quiet)
    raise typer.Exit(report.exit_code())


def _summary(report: PlanReport) -> None:
    images = report.images
    counted = f"{images.counted} images"
    if images.rejected:
        counted += f" ({images.rejected} rejected)"
    where = shown_path("", report.root)
    tell(f"{report.task} dataset ({report.task_reason}) in {where}: {counted}")
    tell("")
    tell(table(SIZES_HEAD, _size_rows(report)))
    tell("")
    _guaranteed_overlap(report)
    tell(table(*report.table()))
    if not all(setting.suits for setting in report.settings):
        tell(f"✗: below --keep {report.keep:g} or --min-px {report.min_px:g}")
    tell("")
    tell(report.reason)
    for remark in report.remarks:
        tell(f"- {remark}")
    if report.command is not None:
        tell("")
        tell(report.command)


SIZES_HEAD = ("objects, px", "number", "small", "side 10 %", "50 %", "90 %", "longest 99 %")


def _size_rows(report: PlanReport) -> Iterator[list[Any]]:
    """A row for each class (of many, the most frequent), and one for all if there are several."""
    classes = sorted(report.classes.items(), key=lambda item: -item[1].objects)
    for name, sizes in classes[:LISTED]:
        yield _size_row(name, sizes)
    if len(classes) != 1:
        yield _size_row("all", report.sizes)


def _size_row(name: str, sizes: ObjectSizes) -> list[Any]:
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    side = sizes.side
    lengths = (side.p10, side.p50, side.p90, sizes.longest.p99)
    return [name, sizes.objects, sizes.small, *(f"{length:.1f}" for length in lengths)]


def _guaranteed_overlap(report: PlanReport) -> None:
    if not report.small:
        return
    tell(
        f"{report.keep:g} % of the {report.small} small objects ({report.small_rule}) are at most "
        f"{report.guaranteed_overlap} px long:"
    )
    tell("with this overlap they are whole in a tile wherever they lie.")
    tell("")
