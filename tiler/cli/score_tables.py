"""A score on the terminal, for people: tables on stdout, findings on stderr.

The functions take the score as it is written to score.json (`Plain`), or a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiler.cli.printing import findings, table, tell

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Comparison
    from tiler.scoring import Metrics

Plain = Mapping[str, Any]

SIZES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
SIZE_HEADS = ("AP", "AP50", "AP75", "small", "medium", "large")
# Of OBBs, the protocols measure overlap differently: their numbers may differ by half
OBB_OVERLAP = {"coco": " (IoU of polygons)", "ultralytics": " (ProbIoU)"}
VERSIONS = {"ultralytics": "ultralytics 8.4.190", "ultralytics-8.3": "ultralytics-8.3"}
USUAL_LEAST = 0.1  # detectors write less confident ones too, if they are not told otherwise
STAGES = {
    "tile": "on tiles (COCO's)",
    "nomerge": "not merged",
    "ideal": "the best one of each object chosen",
    "merged": "merged",
}


def print_score(metrics: Metrics, verbose: bool) -> None:
    """All tables, with what is to be known about them."""
    plain = metrics.plain()
    card = plain["card"]
    _inputs(card)
    _protocols(plain)
    _cut_off(plain)
    _limits(plain)
    _all_and_predicted(plain)
    if card["labels"]:
        _operating(plain)
    if plain.get("counts") is not None:
        _counts(plain["counts"])
    _classes(plain)
    _bins(plain["bins"])
    if plain["seams"] is not None:
        _seams(plain["seams"])
    if plain["errors"] is not None and card["labels"]:
        _errors(plain["errors"])
    if plain["efficiency"] is not None:
        _efficiency(plain["efficiency"])
    for name, reasons in card["left_out"].items():
        tell(f"left out ({name}): {'; '.join(reasons)}")
    if verbose:
        for deviation in card["deviations"]:
            tell(f"note: {deviation}")
        seconds = [f"{name} {spent:.2f}" for name, spent in metrics.speed.items()]
        tell(f"CPU seconds: {', '.join(seconds)}")


def print_findings(metrics: Metrics, preds: Path, verbose: bool, quiet: bool) -> None:
    """Findings to stderr: first those of the labels, then those of the predictions."""
    of_labels = []
    of_preds = []
    for finding in metrics.findings:
        if finding.code[0] in "DS":
            of_preds.append(finding)
        else:
            of_labels.append(finding)
    findings(of_labels, str(metrics.root or ""), verbose, quiet)
    findings(of_preds, str(preds), verbose, quiet)


def number(value: Any, digits: int = 3) -> str:
    """A number in a table: n/a where there is nothing to measure.

    >>> number(0.12345), number(None), number(12)
    ('0.123', 'n/a', '12')
    """
    if value is None or value != value:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return str(value)


def _span(ends: list[float | None] | None) -> str:
    """An interval; nothing where there is none."""
    if ends is None or None in ends:
        return ""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _inputs(card: Plain) -> None:
    """What was scored."""
    tell(f"{card['predictions']}")
    split = f" of {card['split']}" if card["split"] else ""
    ignored = f" and {card['ignored_labels']} ignored" if card["ignored_labels"] else ""
    tell(
        f"{card['task']}, {card['similarity']}: {card['images']} images{split}, "
        f"{card['labels']} labels{ignored}, {card['detections']} detections"
    )
    if not card["labels"]:
        tell("no labels: there is nothing to measure")
    elif card["images_without_predictions"]:
        tell(_without_predictions(card))
    if card["task"] in ("segment", "pose"):
        tell(f"size of a detection: {card['area']['detections']}")
    for deviation in card["deviations"]:
        if "loadRes" in deviation:
            tell(f"note: {deviation}")


def _protocols(plain: Plain) -> None:
    """A row for each protocol."""
    rows = []
    if "coco" in plain["card"]["protocols"]:
        rows += _coco(plain)
    for name in VERSIONS:
        if name in plain:
            rows += _ultralytics(plain, name)
    for name, value in plain.get("voc", {}).items():
        rows.append([name, "", number(value), *[""] * 7])
    tell(table(["protocol", *SIZE_HEADS, "AR", "P", "R"], rows))
    if plain["intervals"] is None and plain["card"]["intervals"]:
        tell(plain["card"]["intervals"])


def _coco(plain: Plain) -> list[list[str]]:
    """COCO's numbers, their intervals, and the numbers of the boxes of other shapes."""
    card = plain["card"]
    overlap = OBB_OVERLAP["coco"] if card["task"] == "obb" else ""
    rows = _coco_rows(f"coco{overlap}", plain, card["max_dets"]["coco"][-1])
    intervals = plain["intervals"]
    if intervals is not None:
        spans = [_span(intervals.get(name)) for name in SIZES]
        rows.append(["  95 % of resampled images", *spans, "", "", ""])
    boxes = plain.get("boxes")
    if boxes:
        rows += _coco_rows("coco, boxes", boxes, _max_dets(boxes["coco"]))
    return rows


def _max_dets(coco: Plain) -> int:
    """The last limit of detections that COCO's numbers have, such as 100 for AR_100."""
    limits = [name[3:] for name in coco if name.startswith("AR_") and name[3:].isdecimal()]
    return int(limits[-1])


def _coco_rows(what: str, numbers: Plain, limit: int) -> list[list[str]]:
    """At COCO's limit of detections, and with all detections."""
    coco, auto = numbers["coco"], numbers["coco_auto"]
    return [
        _coco_row(f"{what}, {limit} a class and image", coco, f"AR_{limit}"),
        _coco_row(f"{what}, all ({auto['max_dets']})", auto, "AR"),
    ]


def _coco_row(what: str, numbers: Plain, recall: str) -> list[str]:
    values = [number(numbers[name]) for name in (*SIZES, recall)]
    return [what, *values, "", ""]


def _ultralytics(plain: Plain, name: str) -> list[list[str]]:
    """Ultralytics' numbers, and those of the boxes of other shapes."""
    version = VERSIONS[name]
    overlap = OBB_OVERLAP["ultralytics"] if plain["card"]["task"] == "obb" else ""
    rows = [_ultralytics_row(f"{version}{overlap}", plain[name])]
    if plain.get("boxes"):
        rows.append(_ultralytics_row(f"{version}, boxes", plain["boxes"][name]))
    return rows


def _ultralytics_row(what: str, numbers: Plain) -> list[str]:
    ap = [number(numbers[key]) for key in ("map", "map50", "map75")]
    precision, recall = number(numbers["mp"]), number(numbers["mr"])
    return [f"{what}, {numbers['max_det']} an image", *ap, "", "", "", "", precision, recall]


def _without_predictions(card: Plain) -> str:
    """What images without predictions cost."""
    labels = card["labels_without_predictions"]
    share = labels / (card["labels"] + card["ignored_labels"])
    return (
        f"{card['images_without_predictions']} of {card['images']} images have no predictions: "
        f"nothing was detected in them, so their {labels} labels ({share:.0%} of all) count as "
        "missed; --only-predicted leaves them out"
    )


def _cut_off(plain: Plain) -> None:
    """Where the curves of AP end early, as no detection of low confidence was written."""
    card = plain["card"]
    least = card["least_conf"]
    if least is None or least < USUAL_LEAST or not card["labels"]:
        return
    recall = plain["operating"]["most_recall"]
    if recall is None:
        return
    cause = "if the detector was told to keep only these, predict with conf=0.001"
    if card["conf"] >= USUAL_LEAST:
        cause = "they do not count, by --conf"
    tell(
        f"no detection has a confidence under {_confidence(least)}: the curves of AP end there, at "
        f"a recall of {recall:.3f} (IoU 0.5), and AP lacks what less confident ones would add; "
        f"{cause}"
    )


def _limits(plain: Plain) -> None:
    """What the protocols' limits of detections leave out."""
    card = plain["card"]
    limits = card["max_dets"]
    images = limits["images_beyond_limit"]
    cost = plain["coco_auto"]["cost_of_limit"]
    if images and cost is not None:
        tell(
            f"more than {limits['limit']} detections of a class in {images} of {card['images']} "
            f"images: the limit costs {cost:.3f} AP"
        )
    beyond = limits["detections_beyond_ultralytics"]
    if beyond:
        tell(
            f"ultralytics counts at most {limits['ultralytics']} detections an image; {beyond} are "
            "beyond"
        )


def _all_and_predicted(plain: Plain) -> None:
    """The main numbers of all images and of those with predictions, where it is not known which of
    the two is wanted.
    """
    predicted = plain["only_predicted"]
    if predicted is None:
        return
    tell(f"all {plain['card']['images']} images: {_main_numbers(plain)}")
    tell(f"the {predicted['images']} with predictions: {_main_numbers(predicted)}")


def _main_numbers(numbers: Plain) -> str:
    values = [f"{name} {number(numbers['coco'][name])}" for name in ("AP", "AP50")]
    ultralytics = numbers.get("ultralytics")
    if ultralytics is not None:
        values.append(f"mAP50-95 {number(ultralytics['map'])}")
    return ", ".join(values)


def _operating(plain: Plain) -> None:
    """What is right and wrong at one confidence; by class too, if somebody chose the confidence."""
    point = plain["operating"]
    shown = {"all": point["all"], **point["sizes"]}
    several = [name for name, row in point["classes"].items() if row["labels"] or row["fp"]]
    if point["chosen"].startswith("-") and len(several) > 1:
        shown |= {name: point["classes"][name] for name in several}
    rows = []
    for name, row in shown.items():
        if name == "all" or row["labels"] or row["fp"]:
            rows.append([name, *map(number, row.values())])
    head = f"at confidence {_confidence(point['conf'])} ({point['chosen']}), IoU {point['iou']:g}"
    tell("")
    tell(table([head, "labels", "TP", "FP", "FN", "P", "R", "F1"], rows))
    tell("confusion.csv, per_image.csv and the errors are at this confidence too")


def _confidence(conf: float) -> str:
    """A confidence as it was given, or with three digits.

    >>> _confidence(0.25), _confidence(0.123456)
    ('0.25', '0.123')
    """
    return f"{conf:.3g}"


def _counts(counts: Plain) -> None:
    """How far the number of detections is from that of labels."""
    rows = []
    for name, row in {"all": counts["all"], **counts["classes"]}.items():
        if name == "all" or row["labels"] or row["detections"]:
            values = [number(row[key]) for key in ("mae", "rmse", "bias")]
            rows.append([name, row["labels"], row["detections"], *values])
    if len(rows) == 2:  # of one class
        rows.pop(0)
    conf = _confidence(counts["conf"])
    head = f"counts at confidence {conf}, {counts['images']} images"
    tell("")
    tell(table([head, "labels", "detections", "MAE", "RMSE", "bias"], rows))


def _classes(plain: Plain) -> None:
    """A row for each class that occurs, if there are several."""
    names = (*SIZES, "P", "R", "F1", "best_conf")
    rows = []
    for name, numbers in plain["per_class"].items():
        if numbers["labels"] or numbers["detections"]:
            values = [number(numbers[key]) for key in names]
            rows.append([name, numbers["labels"], numbers["detections"], *values])
    if len(rows) > 1:
        tell("")
        head = ["class", "labels", "detections", *SIZE_HEADS, "P", "R", "F1", "best conf"]
        tell(table(head, rows))


def _bins(bins: Plain) -> None:
    """A row for each size bin, if they are not COCO's."""
    if bins["protocol"] == "coco":
        return
    first = next(iter(bins["sizes"].values()))
    names = [name for name in first if name not in ("low", "high", "interval")]
    rows = []
    for size, numbers in bins["sizes"].items():
        values = [number(numbers[name]) for name in names]
        rows.append([size, *values, _span(numbers.get("interval"))])
    tell("")
    tell(table([f"{bins['protocol']}, {bins['max_dets']} a class", *names, "95 % of AP"], rows))


def _seams(seams: Plain) -> None:
    """Recall by how deep in a tile a label lies, the seam gap, and false positives near seams."""
    rows = []
    for row in seams["table"]:
        values = [number(row[name]) for name in ("recall50", "recall", "duplicates", "iou")]
        rows.append([row["margin"], row["labels"], *values])
    tell("")
    head = ["labels in their best tile", "labels", "recall .5", "recall", "repeats", "IoU"]
    tell(table(head, rows))
    tell(_gap(seams["gap"]))
    density = []
    for zone in seams["density"]:
        if zone["ratio"] is not None:
            density.append(f"{zone['ratio']:.2f} within {zone['distance']:g} px")
    if density:
        tell(f"false positives a megapixel near seams, relative to elsewhere: {', '.join(density)}")


def _gap(gap: Plain) -> str:
    if gap["gap"] is None:
        return f"seam gap: n/a, {gap['missing']}"
    text = f"seam gap, recall .5 away from seams minus at seams: {number(gap['gap'])}"
    if gap["low"] is not None:
        text += f" (95 %: {_span([gap['low'], gap['high']])})"
    if gap["size_matched"] is not None:
        text += f"; between objects of one size {number(gap['size_matched'])}"
    return text


def _errors(errors: Plain) -> None:
    """A row for each class of error that occurs."""
    rows = []
    for error in errors["rows"]:
        if error["count"]:
            rows.append([error["name"], error["count"], number(error["cost"])])
    tell("")
    if rows:
        tell(
            table(
                [f"error, at confidence {_confidence(errors['conf'])}", "count", "costs AP"], rows
            )
        )
    if errors["untold"]:
        tell(f"not known: {', '.join(errors['untold'])}")


def _efficiency(efficiency: Plain) -> None:
    """AP at each stage from tile to merged image."""
    parts = []
    for stage, words in STAGES.items():
        ap = efficiency[stage]["ap"]
        if ap is not None:
            parts.append(f"{words} {number(ap)}")
    text = f"AP {', '.join(parts)}"
    if efficiency["merge"] is not None:
        text += f"; merge efficiency {number(efficiency['merge'], 2)}"
    tell(text)


def print_comparison(comparison: Mapping[str, Comparison]) -> None:
    """Which of two sets of predictions is better."""
    rows = []
    for name, found in comparison.items():
        span = "" if isnan(found.low) else _span([found.low, found.high])
        p = "" if isnan(found.p) else number(found.p)
        rows.append([name, number(found.difference), span, p])
    tell("")
    tell(table(["first minus other", "difference", "95 %", "p"], rows))
    tell(comparison["AP"].verdict)
