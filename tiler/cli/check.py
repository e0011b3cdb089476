"""`tiler check`."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import with_options
from tiler.cli.printing import emit, progress, shown_path
from tiler.errors import TilerError, printable
from tiler.options import CheckOptions

if TYPE_CHECKING:
    from tiler.checking import CheckReport
    from tiler.findings import Finding

FORMATS = ("text", "json", "github")


@with_options(CheckOptions)
def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="dataset.yaml, a folder with one, or COCO instances JSON."
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="DIR", help="The images of a COCO JSON.", show_default=False
        ),
    ] = None,
    output_format: Annotated[
        str,
        typer.Option("--output-format", metavar="|".join(FORMATS), help="How to print findings."),
    ] = "text",
    json: Annotated[bool, typer.Option("--json", help="The same as --output-format json.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Findings only, no closing line.")
    ] = False,
    **options: Any,
) -> None:
    """Find what the trainer would refuse of a dataset, and what else is wrong with it."""
    if output_format not in FORMATS:
        raise TilerError(f"--output-format is one of {', '.join(FORMATS)}, got {output_format!r}")
    if json:
        output_format = "json"
    from tiler.checking import check

    with progress("checked", quiet or output_format != "text") as show:
        report = check(data, images=images, progress=show, **options)
    printers = {"text": _text, "json": _json, "github": _github}
    printers[output_format](report, shown_path)
    if output_format == "text" and not quiet:
        _closing(report)
    raise typer.Exit(report.exit_code())


def _text(report: CheckReport, shown_path: Any) -> None:
    for finding in report.findings:
        print(str(_relative(finding, report, shown_path)))


def _json(report: CheckReport, shown_path: Any) -> None:
    items = []
    for finding in report.findings:
        item = _relative(finding, report, shown_path)
        items.append({**asdict(item), "level": item.level})
    counted = {"task": report.task, "images": report.images, "rows": report.rows}
    result = {**counted, "findings": items}
    emit(dumps(result, indent=1, ensure_ascii=True) + "\n")


def _github(report: CheckReport, shown_path: Any) -> None:
    """Annotations of GitHub Actions."""
    for finding in report.findings:
        item = _relative(finding, report, shown_path)
        kind = {"error": "error", "warning": "warning", "note": "notice"}[item.level]
        line = f",line={item.line}" if item.line is not None else ""
        path = printable(item.path).replace("%", "%25").replace(",", "%2C").replace(":", "%3A")
        print(
            f"::{kind} "
            f"file={path}{line},title={item.code}::{printable(item.message).replace('%', '%25')}"
        )


def _relative(finding: Finding, report: CheckReport, shown_path: Any) -> Finding:
    return replace(finding, path=shown_path(finding.path, os.fspath(report.root)))


def _closing(report: CheckReport) -> None:
    levels = [
        sum(f.count for f in report.findings if f.level == level)
        for level in ("error", "warning", "note")
    ]
    print(
        f"{report.task} dataset ({report.task_reason}): {report.images} images, {report.rows} "
        "rows: "
        f"{levels[0]} errors, {levels[1]} warnings, {levels[2]} notes",
        file=sys.stderr,
    )
