"""`tiler predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.merge import (
    MergeScore,
    OnlyPredicted,
    ScoreData,
    Strict,
    counts_table,
    encoded,
    scored,
    tell_place,
)
from tiler.cli.parameters import (
    CocoImages,
    Config,
    JsonReport,
    Quiet,
    Verbose,
    configured,
    with_options,
)
from tiler.cli.printing import emit, findings, progress, table, tell
from tiler.errors import TilerError
from tiler.formats.input_paths import PLACES
from tiler.options import ModelOptions, PredictOptions
from tiler.options.fields import option_names

if TYPE_CHECKING:
    from tiler.predicting import PredictReport, TilesProgress
    from tiler.predicting.clock import Speed

RECORDED = {*PLACES, "model_fingerprint"}  # what an args.yaml has beside the options

ModelFile = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX file; a file that Ultralytics reads, if it is installed; or a function, as "
        "package.module:function.",
        show_default=False,
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="An image, a folder, a glob, a list of images, a dataset.yaml, or a COCO JSON.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Output folder.", show_default="SOURCE-predicted"
    ),
]


@with_options(PredictOptions, ModelOptions)
def command(
    model: ModelFile,
    source: Source,
    images: CocoImages = None,
    data: ScoreData = None,
    out: Out = None,
    only_predicted: OnlyPredicted = False,
    config: Config = None,
    strict: Strict = False,
    json: JsonReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Detect objects in images of any size: the model looks at overlapping tiles, which are never
    written, and what it finds there is merged as tiler merge does.
    """
    from tiler.predicting import default, written

    allowed = option_names(PredictOptions, ModelOptions)
    chosen = configured(config, options, {*allowed, "iou", *RECORDED})
    for name in RECORDED - allowed:
        chosen.pop(name, None)
    if only_predicted and data is None:
        raise TilerError("--only-predicted needs --data, whose labels are scored")
    target = default(source) if out is None else out
    with progress("images", quiet or json) as show:

        def seen(now: TilesProgress) -> None:
            show(now.done, now.total, now.tiles)

        places = {"images": images, "data": data}
        report = written(model, source, target, strict=strict, progress=seen, **places, **chosen)
    score = MergeScore()
    if data is not None and report.out:
        on_tiles = chosen.get("save_tiles_txt")
        score = scored(target, data, only_predicted, tile_preds=on_tiles)
    if json:
        emit(encoded(report, score))
    elif not quiet:
        _summary(report)
        score.print_tables(verbose)
    score.print_findings(target, verbose, quiet)
    findings(report.findings, "", verbose, quiet)
    raise typer.Exit(max(report.exit_code(), score.exit_code()))


def _summary(report: PredictReport) -> None:
    """The model, what it found, how fast it was, and where the output is."""
    tell(report.model)
    if not report.names:
        tell("class names are not known: --names or --data gives them")
    tell(counts_table(report.counts))
    if report.speed is not None and not report.unchanged:
        _tell_speed(report.speed)
    tell_place(report)


def _tell_speed(speed: Speed) -> None:
    if speed.skipped:
        tell(f"{speed.skipped} tiles left out as empty")
    per_tile = speed.ms_per_tile
    columns = ["ms per tile", *per_tile, "tiles/s"]
    tell(table(columns, [["", *(f"{ms:.1f}" for ms in per_tile.values()), speed.tiles_per_second]]))
