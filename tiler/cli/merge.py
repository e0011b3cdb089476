"""`tiler merge`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Config, JsonReport, Quiet, Verbose, configured, with_options
from tiler.cli.printing import emit, findings, progress, shown_path, table, tell
from tiler.cli.score_tables import print_findings, print_score
from tiler.errors import TilerError, printable
from tiler.formats.input_paths import PLACES, located
from tiler.options import MergeOptions, PredictionOptions, ReadingOptions, RunOptions
from tiler.options.fields import option_names
from tiler.options.values import path

if TYPE_CHECKING:
    from rich.table import Table

    from tiler.merging import MergeReport
    from tiler.merging.report import MergeCounts
    from tiler.scoring import Metrics

Preds = Annotated[
    list[Path],
    typer.Argument(
        metavar="PREDS...",
        help="Predictions: a folder, a run folder, or a file; several are an ensemble.",
    ),
]
Tiles = Annotated[
    Path | None,
    typer.Option(
        "--tiles",
        metavar="DIR|CSV|JSON",
        help="Output of tiler split; or a table of tiles, or the COCO JSON of the tiles.",
        show_default="found in a parent folder of PREDS",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the full images, to place tiles by their names, without a manifest.",
        show_default=False,
    ),
]
ScoreData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="YAML|JSON",
        help="A dataset, as split reads it: gives class names, and labels to score against.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Output folder.", show_default="PREDS-merged"),
]
OnlyPredicted = Annotated[
    bool,
    typer.Option(
        "--only-predicted", help="With --data: score only the images that have predictions."
    ),
]
Explain = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="IMAGE",
        help="Print what becomes of each prediction row of one image; write nothing.",
        show_default=False,
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first rejected row.")]


@with_options(MergeOptions, PredictionOptions, RunOptions)
def command(
    preds: Preds,
    tiles: Tiles = None,
    images: Images = None,
    data: ScoreData = None,
    out: Out = None,
    only_predicted: OnlyPredicted = False,
    explain: Explain = None,
    config: Config = None,
    strict: Strict = False,
    json: JsonReport = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Merge predictions on tiles into detections of the full images, without duplicates or cut
    objects at the seams.
    """
    allowed = option_names(MergeOptions, PredictionOptions, RunOptions)
    chosen = configured(config, options, {*allowed, *PLACES})
    given_roi = options.get("roi")
    places = _configured_places(chosen, config)
    if tiles is None and images is None:
        tiles = places.get("tiles")
        images = places.get("images")
    roi = given_roi or places.get("roi")
    chosen |= {"tiles": tiles, "images": images, "data": data, "roi": roi}
    if only_predicted and data is None:
        raise TilerError("--only-predicted needs --data, whose labels are scored")
    if explain is not None:
        _explain(preds, explain, json=json, **chosen)
        return
    out = _target(preds, out)
    report = _merged(preds, out, strict, quiet or json, chosen)
    score = MergeScore()
    if data is not None and report.out:
        # the classes of merged detections are the dataset's already
        shared = {*option_names(ReadingOptions), "tiles"} - {"map_classes"}
        same = {name: value for name, value in chosen.items() if name in shared}
        same["tile_preds"] = preds[0] if len(preds) == 1 else None
        score = scored(out, data, only_predicted, **same)
    if json:
        emit(encoded(report, score))
    elif not quiet:
        _summary(report)
        score.print_tables(verbose)
    score.print_findings(out, verbose, quiet)
    where = str(preds[0]) if len(preds) == 1 else ""
    findings(report.findings, where, verbose, quiet)
    raise typer.Exit(max(report.exit_code(), score.exit_code()))


def _target(preds: list[Path], out: Path | None) -> Path:
    """The output folder.

    Raises:
        TilerError: there are no predictions.
    """
    from tiler.merging import default

    for place in preds:
        if not os.path.exists(path(place, "preds")):
            raise TilerError(f"{place}: no such file or folder")
    return default(*preds) if out is None else out


def _merged(
    preds: list[Path], out: Path, strict: bool, silent: bool, options: dict[str, Any]
) -> MergeReport:
    """Merge, with a progress bar."""
    from tiler.merging import merge

    with progress("merged", silent) as show:
        return merge(preds, out=out, strict=strict, progress=show, **options).report


def _configured_places(chosen: dict[str, Any], config: Path | None) -> dict[str, Path]:
    """Take the places that a config names (an args.yaml does) out of the options."""
    given = {name: chosen.pop(name) for name in PLACES if name in chosen}
    if config is None:
        return {}
    return located(given, config)


@dataclass(frozen=True, slots=True)
class MergeScore:
    """The score of the merged detections, if there is one.

    Attributes:
        metrics: None where there is none.
        problem: why it could not be made; "" where it was not asked for.
    """

    metrics: Metrics | None = None
    problem: str = ""

    def exit_code(self) -> int:
        if self.metrics is not None:
            return self.metrics.exit_code()
        return int(bool(self.problem))

    def print_tables(self, verbose: bool) -> None:
        """The tables, to stdout."""
        if self.metrics is not None:
            print()
            print_score(self.metrics, verbose)

    def print_findings(self, merged: Path, verbose: bool, quiet: bool) -> None:
        """Why there is no score, or its findings, to stderr."""
        if self.problem:
            print(f"tiler: no score: {printable(self.problem)}", file=sys.stderr)
        if self.metrics is not None:
            print_findings(self.metrics, merged, verbose, quiet)


def scored(merged: Path, data: Path, only_predicted: bool, **options: Any) -> MergeScore:
    """What `tiler score` says of the merged detections, or why it cannot.

    Args:
        options: how the predictions on tiles are read, as the merge did.
    """
    from tiler.datasets.tile_tables import is_table
    from tiler.scoring import score

    if is_table(options.get("tiles")):
        del options["tiles"]  # merged.jsonl has what it says
    try:
        metrics = score(merged, data, only_predicted=only_predicted, **options)
        return MergeScore(metrics)
    except TilerError as error:
        return MergeScore(problem=str(error))


def encoded(report: MergeReport, score: MergeScore) -> str:
    import msgspec

    from tiler.formats import report_json

    text = report.encoded()
    if score.metrics is not None:
        content = {**msgspec.json.decode(text), "score": score.metrics.plain()}
        text = report_json.indented(content)
    elif score.problem:
        content = {**msgspec.json.decode(text), "score": {"refused": score.problem}}
        text = report_json.indented(content)
    return text.decode()


def _summary(report: MergeReport) -> None:
    """What was read, what became of it, and where it is."""
    for line in report.notes(shown_path("", report.where)):
        tell(line)
    tell(counts_table(report.counts))
    tell_place(report)


def counts_table(counts: MergeCounts) -> Table:
    """What became of the rows."""
    columns = counts.columns()
    return table(list(columns), [list(columns.values())])


def tell_place(report: MergeReport) -> None:
    """Where the output is."""
    if not report.out:
        tell("dry run: nothing was written")
    elif report.unchanged:
        tell(f"already complete: {report.out}")
    else:
        tell(report.out)


def _explain(preds: list[Path], source: str, *, json: bool, **options: Any) -> None:
    """What becomes of each prediction row of one image, a row a line."""
    from dataclasses import asdict

    from tiler.merging import explain

    fates = explain(preds, source, **options)
    if json:
        from tiler.formats import report_json

        entries = [asdict(fate) for fate in fates]
        for entry in entries:
            if not entry["model"]:  # there is one only
                del entry["model"]
        emit(report_json.indented(entries).decode())
        return
    rows = []
    for fate in fates:
        class_id = "" if fate.class_id is None else fate.class_id
        conf = "" if fate.conf is None else f"{fate.conf:.3f}"
        box = "" if fate.box is None else " ".join(f"{value:.1f}" for value in fate.box)
        detection = "" if fate.into is None else fate.into
        tile = f"{fate.model}: {fate.tile}" if fate.model else fate.tile
        rows.append([tile, fate.row, class_id, conf, box, fate.fate, detection])
    tell(table(["tile", "row", "class", "conf", "box", "fate", "detection"], rows))
