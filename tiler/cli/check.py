"""`tiler check`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import CocoImages, Data, with_options
from tiler.cli.printing import emit, progress, shown_path
from tiler.errors import TilerError, printable
from tiler.options import CheckOptions

if TYPE_CHECKING:
    from tiler.findings import Finding
    from tiler.inspecting.checking import CheckReport

FORMATS = ("text", "json", "github")
GITHUB_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}

OutputFormat = Annotated[
    str, typer.Option("--output-format", metavar="|".join(FORMATS), help="How to print findings.")
]
Json = Annotated[bool, typer.Option("--json", help="The same as --output-format json.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print findings only, without the summary.")
]


@with_options(CheckOptions)
def command(
    data: Data,
    images: CocoImages = None,
    output_format: OutputFormat = "text",
    json: Json = False,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Check a dataset for everything that the trainer would reject, and for other problems."""
    if output_format not in FORMATS:
        raise TilerError(
            f"--output-format: expected one of {', '.join(FORMATS)}, got {output_format!r}"
        )
    if json:
        output_format = "json"
    from tiler.inspecting.checking import check

    with progress("checked", quiet or output_format != "text") as show:
        report = check(data, images=images, progress=show, **options)
    if output_format == "json":
        _json(report)
    elif output_format == "github":
        _github(report)
    else:
        _text(report)
        if not quiet:
            _closing(report)
    raise typer.Exit(report.exit_code())


def _text(report: CheckReport) -> None:
    for finding in _findings(report):
        print(str(finding))


def _json(report: CheckReport) -> None:
    findings = [{**asdict(finding), "level": finding.level} for finding in _findings(report)]
    content = {
        "task": report.task,
        "images": report.images,
        "rows": report.rows,
        "findings": findings,
    }
    emit(dumps(content, indent=1, ensure_ascii=True) + "\n")


def _github(report: CheckReport) -> None:
    """Annotations of GitHub Actions."""
    for finding in _findings(report):
        level = GITHUB_LEVELS[finding.level]
        path = printable(finding.path)
        path = path.replace("%", "%25").replace(",", "%2C").replace(":", "%3A")
        line = "" if finding.line is None else f",line={finding.line}"
        message = printable(finding.message).replace("%", "%25")
        print(f"::{level} file={path}{line},title={finding.code}::{message}")


def _findings(report: CheckReport) -> Iterator[Finding]:
    """The findings with paths as they are shown."""
    root = os.fspath(report.root)
    for finding in report.findings:
        yield replace(finding, path=shown_path(finding.path, root))


def _closing(report: CheckReport) -> None:
    """One line of numbers, to stderr."""
    from tiler.formats import report_json

    counts = report_json.levels(report.findings)
    found = f"{counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes"
    what = f"{report.images} images, {report.rows} rows"
    print(f"{report.task} dataset ({report.task_reason}): {what}: {found}", file=sys.stderr)
