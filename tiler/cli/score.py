"""`tiler score`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Config, Quiet, configured, with_options
from tiler.cli.printing import emit, tell
from tiler.cli.score_tables import print_comparison, print_findings, print_score
from tiler.errors import TilerError
from tiler.options import ReadingOptions, ScoreOptions
from tiler.options.fields import option_names

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Comparison
    from tiler.scoring import Metrics
    from tiler.scoring.gates import Gate

Preds = Annotated[
    Path,
    typer.Argument(metavar="PREDS", help="Output of tiler merge, or predictions on full images."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="YAML|JSON",
        help="The labels: a COCO ground truth JSON, or a dataset as split reads it.",
        show_default="must be given",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="val|all",
        help="Split of the dataset.",
        show_default="the one that PREDS is for",
    ),
]
Tiles = Annotated[
    Path | None,
    typer.Option(
        "--tiles",
        metavar="DIR",
        help="Output of tiler split.",
        show_default="as in the merge, or found in a parent folder of PREDS",
    ),
]
TilePreds = Annotated[
    Path | None,
    typer.Option(
        "--tile-preds",
        metavar="DIR",
        help="Predictions on tiles, before the merge.",
        show_default="as in the merge",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images, if annotations do not lie with them.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Also write JSON, CSV, images and report.html to this folder.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing output of tiler score.")
]
Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="OTHER",
        help="Other predictions to compare with: which are better?",
        show_default=False,
    ),
]
FailUnder = Annotated[
    str,
    typer.Option(
        "--fail-under",
        metavar="NAME=NUMBER",
        help="Exit 1 if a number is lower, such as ap_small=0.2,map50=0.5.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="JSON",
        help="Exit 1 if a number is lower than in this older score.json.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the table of classes as CSV.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="List every finding, including notes; and CPU time.")
]


@with_options(ScoreOptions, ReadingOptions)
def command(
    preds: Preds,
    data: Data = None,
    split: Split = None,
    tiles: Tiles = None,
    tile_preds: TilePreds = None,
    images: Images = None,
    out: Out = None,
    overwrite: Overwrite = False,
    compare: Compare = None,
    fail_under: FailUnder = "",
    baseline: Baseline = None,
    config: Config = None,
    json: Json = False,
    csv: Csv = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Score detections on full images against labels: exact mAP, by the named protocols."""
    if data is None:
        raise TilerError(
            "--data is needed: a dataset.yaml, a COCO ground truth JSON, or another dataset"
        )
    if json and csv:
        raise TilerError("--json or --csv, not both")
    chosen = configured(config, options, option_names(ScoreOptions, ReadingOptions))
    chosen |= {"split": split, "tiles": tiles, "images": images}
    result = _scored(preds, data, tile_preds, compare, chosen)
    result.gates = _gates(result.metrics, fail_under, baseline)
    if out is not None:
        result.write(out, overwrite)
    if json or csv:
        emit(result.json() if json else result.csv())
    elif not quiet:
        result.print_tables(verbose)
    print_findings(result.metrics, preds, verbose, quiet)
    raise typer.Exit(result.exit_code())


@dataclass(slots=True)
class _ScoreResult:
    """A score, and what is to be said of it.

    Attributes:
        comparison: with other predictions, if --compare names some.
        gates: the conditions of --fail-under and --baseline.
        folder: where the output of --out lies.
    """

    metrics: Metrics
    comparison: dict[str, Comparison] | None
    gates: list[Gate] = field(default_factory=list)
    folder: Path | None = None

    def write(self, out: Path, overwrite: bool) -> None:
        """Write the output folder."""
        self.folder = self.metrics.write(out, overwrite=overwrite)

    def print_tables(self, verbose: bool) -> None:
        """All tables, to stdout."""
        print_score(self.metrics, verbose)
        if self.comparison is not None:
            print_comparison(self.comparison)
        if self.folder is not None:
            tell(str(self.folder))

    def csv(self) -> str:
        """The table of classes."""
        from tiler.scoring.output import per_class

        return per_class(self.metrics)

    def json(self) -> str:
        """All numbers."""
        from tiler.formats import report_json
        from tiler.scoring import comparing

        content = self.metrics.plain()
        if self.gates:
            content["gates"] = [{**asdict(gate), "passed": gate.passed} for gate in self.gates]
        if self.comparison is not None:
            content["comparison"] = comparing.plain(self.comparison)
        return report_json.indented(content).decode()

    def exit_code(self) -> int:
        """1 with findings or a failed gate, which is printed; else 0."""
        failed = [gate for gate in self.gates if not gate.passed]
        _print_failed(failed)
        return max(self.metrics.exit_code(), int(bool(failed)))


def _scored(
    preds: Path,
    data: Path,
    tile_preds: Path | None,
    compare: Path | None,
    options: dict[str, Any],
) -> _ScoreResult:
    """The score, and the comparison with other predictions on the same split."""
    from tiler.images import memory
    from tiler.scoring import score
    from tiler.scoring.comparing import compared

    memory.keep_blocks()
    metrics = score(preds, data, tile_preds=tile_preds, **options)
    if compare is None:
        return _ScoreResult(metrics, None)
    other = score(compare, data, **{**options, "split": metrics.card["split"]})
    return _ScoreResult(metrics, compared(metrics, other, (str(preds), str(compare))))


def _gates(metrics: Metrics, fail_under: str, baseline: Path | None) -> list[Gate]:
    """The conditions of --fail-under and --baseline."""
    from tiler.scoring import gates

    plain = metrics.plain()
    result = []
    if fail_under:
        result += gates.fail_under(fail_under, plain)
    if baseline is not None:
        result += gates.against(baseline, plain)
    return result


def _print_failed(failed: Sequence[Gate]) -> None:
    for gate in failed:
        value = "n/a" if gate.value is None else f"{gate.value:.4f}"
        print(f"below: {gate.name} is {value}, expected {gate.least:g} or more", file=sys.stderr)
