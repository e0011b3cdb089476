"""`tiler score`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiler.cli.parameters import Config, configured, with_options
from tiler.cli.printing import emit, findings, table, tell
from tiler.errors import TilerError
from tiler.options import ReadingOptions, ScoreOptions

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Comparison
    from tiler.scoring import Metrics
    from tiler.scoring.gates import Gate


@with_options(ScoreOptions, ReadingOptions)
def command(
    preds: Annotated[
        Path,
        typer.Argument(
            metavar="PREDS", help="Output of tiler merge, or predictions on full images."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="YAML|JSON",
            help="dataset.yaml, or COCO ground truth JSON.",
            show_default="must be given",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="val|all",
            help="Split of the dataset.",
            show_default="the one that PREDS is for",
        ),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            "--tiles",
            metavar="DIR",
            help="Output of tiler split.",
            show_default="as PREDS were merged, or upward",
        ),
    ] = None,
    tile_preds: Annotated[
        Path | None,
        typer.Option(
            "--tile-preds",
            metavar="DIR",
            help="Predictions on tiles.",
            show_default="as PREDS were merged",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Images of a COCO JSON, for the report.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Also write JSON, CSV, images and report.html.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output of tiler score.")
    ] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="OTHER",
            help="Other predictions: which are better?",
            show_default=False,
        ),
    ] = None,
    fail_under: Annotated[
        str,
        typer.Option(
            "--fail-under",
            metavar="NAME=NUMBER",
            help="Exit 1 below: ap_small=0.2,map50=0.5.",
            show_default=False,
        ),
    ] = "",
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="JSON",
            help="Exit 1 below an older score.json.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table of classes as CSV.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List every finding, notes and times too.")
    ] = False,
    **options: Any,
) -> None:
    """Score detections on full images against their labels: an honest mAP, by a protocol that is
    named.
    """
    chosen = configured(
        config,
        options,
        {item.name for cls in (ScoreOptions, ReadingOptions) for item in fields(cls)},
    )
    if data is None:
        raise TilerError(
            "score against what? --data with a dataset.yaml, or a COCO ground truth JSON"
        )
    if json and csv:
        raise TilerError("--json or --csv, not both")
    from tiler.scoring import score
    from tiler.scoring.comparing import compared

    where: dict[str, Any] = {"split": split, "tiles": tiles, "images": images}
    metrics = score(preds, data, tile_preds=tile_preds, **where, **chosen)
    asked = _gates(metrics, fail_under, baseline)
    versus = None
    if compare is not None:
        other = score(compare, data, **{**where, "split": metrics.card["split"]}, **chosen)
        versus = compared(metrics, other, (str(preds), str(compare)))
    folder = None
    if out is not None:
        from tiler.scoring.output import write

        folder = write(metrics, out, overwrite)
    if json:
        emit(_json(metrics, asked, versus))
    elif csv:
        from tiler.scoring.output import per_class

        emit(per_class(metrics))
    elif not quiet:
        shown(metrics, verbose)
        if versus is not None:
            _versus(versus)
        if folder is not None:
            tell(str(folder))
    noticed(metrics, preds, verbose, quiet)
    failed = [gate for gate in asked if not gate.passed]
    for gate in failed:
        value = "n/a" if gate.value is None else f"{gate.value:.4f}"
        print(f"below: {gate.name} is {value}, expected {gate.least:g} or more", file=sys.stderr)
    raise typer.Exit(max(metrics.exit_code(), int(bool(failed))))


def noticed(metrics: Metrics, preds: Path, verbose: bool, quiet: bool) -> None:
    """Findings to stderr, of the labels and of the predictions."""
    of_preds = [finding for finding in metrics.findings if finding.code[0] in "DS"]
    findings(
        [finding for finding in metrics.findings if finding not in of_preds],
        str(metrics.root or ""),
        verbose,
        quiet,
    )
    findings(of_preds, str(preds), verbose, quiet)


def _gates(metrics: Metrics, fail_under: str, baseline: Path | None) -> list[Gate]:
    from tiler.scoring import gates

    plain = metrics.plain()
    asked = gates.fail_under(fail_under, plain) if fail_under else []
    return asked + (gates.against(baseline, plain) if baseline is not None else [])


def _json(metrics: Metrics, asked: list[Gate], versus: dict[str, Comparison] | None) -> str:
    from dataclasses import asdict

    from tiler.formats import report_json
    from tiler.scoring import comparing

    content = metrics.plain()
    if asked:
        content["gates"] = [{**asdict(gate), "passed": gate.passed} for gate in asked]
    if versus is not None:
        content["comparison"] = comparing.plain(versus)
    return report_json.indented(content).decode()


def number(value: Any, digits: int = 3) -> str:
    """A number in a table: n/a where there is nothing to measure.

    >>> number(0.12345), number(None), number(12)
    ('0.123', 'n/a', '12')
    """
    if value is None or value != value:
        return "n/a"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


SIZES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def shown(metrics: Metrics, verbose: bool) -> None:
    """The tables, for people."""
    plain = metrics.plain()
    card = plain["card"]
    split = f" of {card['split']}" if card["split"] else ""
    tell(f"{card['predictions']}")
    crowds = f" and {card['ignored_labels']} ignored" if card["ignored_labels"] else ""
    tell(
        f"{card['task']}, {card['similarity']}: {card['images']} images{split}, "
        f"{card['labels']} labels{crowds}, {card['detections']} detections"
    )
    if card["task"] in ("segment", "pose"):
        tell(f"size of a detection: {card['area']['detections']}")
    for deviation in card["deviations"]:
        if "loadRes" in deviation:
            tell(f"note: {deviation}")
    _protocols(plain)
    _both(plain)
    _classes(plain)
    _bins(plain)
    _seams(plain)
    _errors(plain)
    for name, reasons in card["left_out"].items():
        tell(f"left out ({name}): {'; '.join(reasons)}")
    if verbose:
        for deviation in card["deviations"]:
            tell(f"note: {deviation}")
        tell(
            "CPU seconds: "
            + ", ".join(f"{name} {seconds:.2f}" for name, seconds in metrics.speed.items())
        )


def _protocols(plain: Mapping[str, Any]) -> None:
    limits = plain["card"]["max_dets"]
    cap = limits["coco"][-1]
    task = plain["card"]["task"]
    boxes = plain.get("boxes", {})
    rows = []
    if "coco" in plain["card"]["protocols"]:
        rows += _coco_rows(f"coco{OBB[0] if task == 'obb' else ''}", plain, cap)
        if plain["intervals"] is not None:
            ends = plain["intervals"]
            rows.append(
                [
                    "  95 % of resampled images",
                    *(_span(ends.get(name)) for name in SIZES),
                    "",
                    "",
                    "",
                ]
            )
        if boxes:
            rows += _coco_rows("coco, boxes", boxes, next(reversed(_caps(boxes["coco"]))))
    for name in ("ultralytics", "ultralytics-8.3"):
        if name in plain:
            version = "ultralytics 8.4.190" if name == "ultralytics" else name
            rows.append(
                _ultralytics_row(f"{version}{OBB[1] if task == 'obb' else ''}", plain[name])
            )
            rows += [_ultralytics_row(f"{version}, boxes", boxes[name])] if boxes else []
    for name, value in plain.get("voc", {}).items():
        rows.append([name, "", number(value), *[""] * 7])
    tell(
        table(["protocol", "AP", "AP50", "AP75", "small", "medium", "large", "AR", "P", "R"], rows)
    )
    if plain["intervals"] is None and plain["card"]["intervals"]:
        tell(plain["card"]["intervals"])
    beyond = limits["images_beyond_limit"]
    cost = plain["coco_auto"]["cost_of_limit"]
    if beyond and cost is not None:
        where = f"in {beyond} of {plain['card']['images']} images"
        tell(
            f"more than {limits['limit']} detections of a class {where}: that limit takes "
            f"{cost:.3f} from AP"
        )
    if limits["detections_beyond_ultralytics"]:
        beyond = limits["detections_beyond_ultralytics"]
        tell(f"ultralytics counts {limits['ultralytics']} detections an image; {beyond} are beyond")


def _both(plain: Mapping[str, Any]) -> None:
    """The main numbers of all images and of those with predictions, where it is not known which of
    the two is meant.
    """
    fewer = plain["only_predicted"]
    if fewer is None:
        return
    every = {"coco": plain["coco"], "ultralytics": plain.get("ultralytics")}
    for what, own in (
        (f"all {plain['card']['images']} images", every),
        (f"the {fewer['images']} with predictions", fewer),
    ):
        values = [f"{name} {number(own['coco'][name])}" for name in ("AP", "AP50")]
        if every["ultralytics"] is not None:
            values.append(f"mAP50-95 {number(own['ultralytics']['map'])}")
        tell(f"{what}: {', '.join(values)}")


OBB = (" (IoU of polygons)", " (ProbIoU)")  # two measures, and numbers apart by as much as a half


def _caps(coco: Mapping[str, Any]) -> list[int]:
    """The limits of detections that COCO's numbers are at."""
    return [int(name[3:]) for name in coco if name.startswith("AR_") and name[3:].isdecimal()]


def _coco_rows(what: str, numbers: Mapping[str, Any], cap: int) -> list[list[str]]:
    """At COCO's limit, and of all detections."""
    coco, auto = numbers["coco"], numbers["coco_auto"]
    kinds = (
        (f"{cap} a class and image", coco, f"AR_{cap}"),
        (f"all ({auto['max_dets']})", auto, "AR"),
    )
    return [
        [f"{what}, {limit}", *(number(own[name]) for name in SIZES), number(own[recall]), "", ""]
        for limit, own, recall in kinds
    ]


def _ultralytics_row(what: str, box: Mapping[str, Any]) -> list[str]:
    values = [number(box[key]) for key in ("map", "map50", "map75")]
    return [
        f"{what}, {box['max_det']} an image",
        *values,
        "",
        "",
        "",
        "",
        number(box["mp"]),
        number(box["mr"]),
    ]


def _span(ends: list[float | None] | None) -> str:
    return "" if ends is None or None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _classes(plain: Mapping[str, Any]) -> None:
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "P", "R", "F1", "best_conf")
    rows = [
        [name, row["labels"], row["detections"], *(number(row[key]) for key in names)]
        for name, row in plain["per_class"].items()
        if row["labels"] or row["detections"]
    ]
    if len(rows) > 1:
        tell("")
        head = [
            "class",
            "labels",
            "found",
            "AP",
            "AP50",
            "AP75",
            "small",
            "medium",
            "large",
            "P",
            "R",
            "F1",
            "best conf",
        ]
        tell(table(head, rows))


def _bins(plain: Mapping[str, Any]) -> None:
    bins = plain["bins"]
    if bins["protocol"] == "coco":
        return
    first = next(iter(bins["sizes"].values()))
    names = [name for name in first if name not in ("low", "high", "interval")]
    rows = [
        [size, *(number(row[name]) for name in names), _span(row.get("interval"))]
        for size, row in bins["sizes"].items()
    ]
    tell("")
    tell(table([f"{bins['protocol']}, {bins['max_dets']} a class", *names, "95 % of AP"], rows))


def _seams(plain: Mapping[str, Any]) -> None:
    if plain["seams"] is None:
        return
    seams, gap = plain["seams"], plain["seams"]["gap"]
    rows = [
        [
            row["margin"],
            row["labels"],
            *(number(row[name]) for name in ("recall50", "recall", "duplicates", "iou")),
        ]
        for row in seams["table"]
    ]
    tell("")
    tell(
        table(
            ["labels in their best tile", "labels", "recall .5", "recall", "repeats", "IoU"], rows
        )
    )
    if gap["gap"] is None:
        tell(f"seam gap: n/a, {gap['missing']}")
    else:
        matched = (
            f"; between objects of one size {number(gap['size_matched'])}"
            if gap["size_matched"] is not None
            else ""
        )
        span = f" (95 %: {_span([gap['low'], gap['high']])})" if gap["low"] is not None else ""
        tell(
            "seam gap, recall .5 away from seams less that at seams: "
            f"{number(gap['gap'])}{span}{matched}"
        )
    dense = [
        f"{row['ratio']:.2f} within {row['distance']:g} px"
        for row in seams["density"]
        if row["ratio"] is not None
    ]
    if dense:
        tell(f"false positives a megapixel near seams, elsewhere being 1: {', '.join(dense)}")


def _errors(plain: Mapping[str, Any]) -> None:
    if plain["errors"] is not None:
        errors = plain["errors"]
        rows = [
            [row["name"], row["count"], number(row["cost"])]
            for row in errors["rows"]
            if row["count"]
        ]
        tell("")
        if rows:
            tell(table([f"error, at confidence {errors['conf']:.2f}", "count", "costs AP"], rows))
        if errors["untold"]:
            tell(f"cannot be told: {', '.join(errors['untold'])}")
    if plain["efficiency"] is not None:
        stages = plain["efficiency"]
        words = {
            "tile": "on tiles (COCO's)",
            "nomerge": "not merged",
            "ideal": "the best one of each object chosen",
            "merged": "merged",
        }
        parts = [
            f"{words[name]} {number(stages[name]['ap'])}"
            for name in words
            if stages[name]["ap"] is not None
        ]
        share = stages["merge"]
        tell(
            f"AP {', '.join(parts)}"
            + (f"; merge efficiency {number(share, 2)}" if share is not None else "")
        )


def _versus(versus: Mapping[str, Comparison]) -> None:
    spans = {name: "" if isnan(c.low) else _span([c.low, c.high]) for name, c in versus.items()}
    rows = [
        [name, number(c.difference), spans[name], "" if isnan(c.p) else number(c.p)]
        for name, c in versus.items()
    ]
    tell("")
    tell(table(["first less other", "difference", "95 %", "p"], rows))
    tell(versus["AP"].verdict)
