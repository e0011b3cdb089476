"""`tiler merge`."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Config, configured, with_options
from tiler.cli.printing import emit, findings, progress, shown_path, table, tell
from tiler.cli.score import noticed, shown
from tiler.errors import TilerError, printable
from tiler.formats.locations import PLACES, located
from tiler.options import MergeOptions, PredictionOptions, ReadingOptions, RunOptions

if TYPE_CHECKING:
    from tiler.merging import MergeReport
    from tiler.scoring import Metrics


@with_options(MergeOptions, PredictionOptions, RunOptions)
def command(
    preds: Annotated[
        Path,
        typer.Argument(
            metavar="PREDS", help="Folder of YOLO txt, run folder, or predictions.json."
        ),
    ],
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles", metavar="DIR", help="Output of tiler split.", show_default="upward of PREDS"
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Full images, if tiles are told by their names.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="YAML|JSON",
            help="dataset.yaml or COCO JSON: class names, and a score against its labels.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Output folder.", show_default="PREDS-merged"
        ),
    ] = None,
    only_predicted: Annotated[
        bool,
        typer.Option(
            "--only-predicted", help="With --data: score the images with predictions only."
        ),
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="SOURCE",
            help="Print what becomes of each row of one image.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row that must be refused.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List every finding, notes too.")
    ] = False,
    **options: Any,
) -> None:
    """Merge predictions on tiles into the detections of the full images: no duplicate at a seam, no
    half.
    """
    allowed = {
        item.name for cls in (MergeOptions, PredictionOptions, RunOptions) for item in fields(cls)
    }
    chosen = configured(config, options, {*allowed, *PLACES})
    configured_places = {name: chosen.pop(name) for name in PLACES if name in chosen}
    if config is not None and tiles is None and images is None:
        places = located(configured_places, config)
        tiles, images = places.get("tiles"), places.get("images")
    if only_predicted and data is None:
        raise TilerError("--only-predicted goes with --data, whose labels are scored")
    if explain is not None:
        _explain(preds, explain, tiles=tiles, images=images, data=data, json=json, **chosen)
        return
    from tiler.merging import default, merge

    if not os.path.exists(preds):
        raise TilerError(f"{preds}: no such file or folder")
    target = default(preds) if out is None else out
    with progress("merged", quiet or json) as show:
        merged = merge(
            preds,
            tiles=tiles,
            images=images,
            data=data,
            out=target,
            strict=strict,
            progress=show,
            **chosen,
        )
    report = merged.report
    metrics = None
    if data is not None and report.out:
        reading = {
            item.name: chosen[item.name] for item in fields(ReadingOptions) if item.name in chosen
        }
        metrics = _score(
            target, data, tiles=tiles, tile_preds=preds, only_predicted=only_predicted, **reading
        )
    if json:
        emit(_json(report, metrics))
    elif not quiet:
        _summary(report)
        if metrics is not None and not isinstance(metrics, TilerError):
            print()
            shown(metrics, verbose)
    if isinstance(metrics, TilerError):
        print(f"tiler: no score: {printable(str(metrics))}", file=sys.stderr)
    scored = 0 if metrics is None else 1 if isinstance(metrics, TilerError) else metrics.exit_code()
    if metrics is not None and not isinstance(metrics, TilerError):
        noticed(metrics, target, verbose, quiet)
    findings(report.findings, str(preds), verbose, quiet)
    raise typer.Exit(max(report.exit_code(), scored))


def _score(merged: Path, data: Path, **options: Any) -> Metrics | TilerError:
    """What `tiler score` says of what was merged; or why that cannot be told."""
    from tiler.scoring import score

    try:
        return score(merged, data, **options)
    except TilerError as error:
        return error


def _json(report: MergeReport, metrics: Metrics | TilerError | None) -> str:
    import msgspec

    from tiler.formats import report_json

    text = report.encoded()
    if metrics is not None:
        said = {"refused": str(metrics)} if isinstance(metrics, TilerError) else metrics.plain()
        text = report_json.indented({**msgspec.json.decode(text), "score": said})
    return text.decode()


def _summary(report: MergeReport) -> None:
    """What was read, what became of it, and where it is."""
    counts = report.counts
    tell(f"{report.predictions}; tiles by {report.index}, {shown_path('', report.where)}")
    if not report.names:
        tell("class names are not known: --data gives them")
    if report.left_out:
        tell(f"left out, without any predictions: {', '.join(report.left_out)}")
    lost = {
        name: number
        for name, number in counts.fates.items()
        if name not in ("kept", "fused", "orphan")
    }
    head = [
        "images",
        "tiles",
        "with rows",
        "rows",
        "cut",
        "refused",
        *lost,
        "joined",
        "orphans",
        "detections",
    ]
    row = [
        counts.images,
        counts.tiles,
        counts.predicted,
        counts.rows,
        counts.cut,
        counts.refused,
        *lost.values(),
    ]
    row += [counts.joined, counts.fates.get("orphan", 0), counts.detections]
    tell(table(head, [row]))
    if report.out:
        tell(f"{'already complete: ' if report.unchanged else ''}{report.out}")
    else:
        tell("dry run: nothing was written")


def _explain(preds: Path, source: str, *, json: bool, **options: Any) -> None:
    """A row of predictions a line."""
    from dataclasses import asdict

    from tiler.merging import explain

    fates = explain(preds, source, **options)
    if json:
        from tiler.formats import report_json

        emit(report_json.indented([asdict(fate) for fate in fates]).decode())
        return
    rows = []
    for fate in fates:
        box = "" if fate.box is None else " ".join(f"{value:.1f}" for value in fate.box)
        conf = "" if fate.conf is None else f"{fate.conf:.3f}"
        into = "" if fate.into is None else fate.into
        rows.append(
            [
                fate.tile,
                fate.row,
                "" if fate.class_id is None else fate.class_id,
                conf,
                box,
                fate.fate,
                into,
            ]
        )
    tell(table(["tile", "row", "class", "conf", "box", "fate", "detection"], rows))
