"""The sections of the report, each as HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiler.evaluation.confusion import IOU
from tiler.evaluation.seams import INSIDE, SEAM
from tiler.formats.html import Cell, Html, number, table, text
from tiler.plotting import short
from tiler.scoring.metrics import finite
from tiler.scoring.operating import worst_images
from tiler.scoring.report import plots
from tiler.scoring.report.content import COUNTED, Content
from tiler.scoring.report.crops import Crop, overview, worst
from tiler.scoring.report.elements import (
    commands,
    decimal,
    definitions,
    figure,
    grid,
    interval,
    interval_cell,
    paragraph,
    phrase,
)
from tiler.scoring.report.wording import CARD, CURVES, ERRORS, KEY, NAMES, STAGES

IMAGES = 20  # and findings, that are listed at most
AUTO = (
    ("AP", "AP", "IoU 0.5 to 0.95"),
    ("AP50", "AP50", "IoU 0.5"),
    ("AP of small objects", "AP_small", "IoU 0.5 to 0.95"),
)
BLUE = (0x00, 0x72, 0xB2)  # of the figures


# --- the numbers to look at first


def main_numbers(content: Content) -> str:
    """Each with its interval and protocol."""
    plain = content.plain
    auto = plain["coco_auto"]
    items = []
    for name, key, iou in AUTO:
        if key in auto:
            protocol = f"COCO, {iou}, all detections"
            items.append(_main_number(name, auto[key], content.intervals.get(key), protocol))
    if "ultralytics" in plain:
        protocol, _, _ = content.protocols["ultralytics"].partition(":")
        items.append(_main_number("mAP50-95", plain["ultralytics"]["map"], None, protocol))
    if plain["seams"] is not None:
        gap = plain["seams"]["gap"]
        note = gap["missing"]
        if note is None:
            note = f"IoU 0.5, {gap['seam']} labels there"
        ends = (gap["low"], gap["high"])
        items.append(_main_number("Recall lost at seams", gap["gap"], ends, note))
    return f'<ul class="heads">{"".join(items)}</ul>'


def _main_number(
    name: str, value: float | None, ends: Sequence[float | None] | None, note: str
) -> str:
    between = ""
    if ends is not None and None not in ends:
        between = f"{interval(ends)}<br>"
    return f"<li><strong>{text(name)}</strong><b>{number(value)}</b>{between}{text(note)}</li>"


# --- all numbers


def numbers(content: Content) -> str:
    return _coco_numbers(content) + _other_numbers(content)


def _coco_numbers(content: Content) -> str:
    auto = content.plain["coco_auto"]
    last = content.card["max_dets"]["coco"][-1]
    rows: list[list[Any]] = []
    ar = ["AR", auto["AR"], "", ""]
    for name, value in content.plain["coco"].items():
        if name.startswith("AR") and ar not in rows:
            rows.append(ar)
        ends = interval_cell(content.intervals.get(name))
        rows.append([name, auto.get(name, ""), ends, value])
    words = (
        "COCO's numbers, at IoU 0.5 to 0.95 or as their names say: for all detections (at most "
        f"{auto['max_dets']} of a class in an image), and for at most {last}, or as the name says. "
    )
    intervals = content.card["intervals"]
    if intervals:
        words += f"Intervals: {intervals}."
    else:
        words += "No intervals."
    if auto["cost_of_limit"]:
        words += f" The limit of {auto['limit']} costs {auto['cost_of_limit']:.4f} of AP."
    head = ["COCO", "All detections", "95 % interval", f"At most {last}"]
    return paragraph(words) + table(head, rows)


def _other_numbers(content: Content) -> str:
    plain = content.plain
    rows = _ultralytics_rows(content, plain, "")
    boxes = plain.get("boxes", {})
    if "coco" in boxes:
        for _, key, iou in AUTO:
            protocol = f"COCO, {iou}, all detections"
            rows.append([f"Boxes: {key}", boxes["coco_auto"][key], protocol])
    rows += _ultralytics_rows(content, boxes, "Boxes: ")
    for name, value in plain.get("voc", {}).items():
        rows.append([NAMES.get(name, name), value, content.protocols.get(name, name)])
    if not rows:
        return ""
    return table(["Number", "Value", "Protocol"], rows)


def _ultralytics_rows(content: Content, source: Mapping[str, Any], prefix: str) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for protocol in ("ultralytics", "ultralytics-8.3"):
        values = source.get(protocol, {})
        for key, name in NAMES.items():
            if key not in values:
                continue
            note = content.protocols.get(protocol, protocol)
            if key in ("mp", "mr"):
                note += f"; IoU 0.5, confidence {number(values['conf'])}"
            rows.append([prefix + name, values[key], note])
    return rows


# --- the card


def card(content: Content) -> str:
    rows: dict[str, Any] = {"scored": content.counts}
    for name, value in content.card.items():
        if name not in COUNTED:
            rows[name] = value
    rows["options"] = _options(content.card["options"])
    rows["findings"] = _findings(content)
    terms = {}
    for name, value in rows.items():
        terms[CARD.get(name, phrase(name))] = value
    return definitions(terms)


def _options(options: Mapping[str, Any]) -> str:
    given = []
    for name, value in options.items():
        if value != "":
            given.append(f"{name} {value}")
    return ", ".join(given)


def _findings(content: Content) -> list[str]:
    findings = [str(finding) for finding in content.metrics.findings]
    more = len(findings) - IMAGES
    if more > 0:
        return [*findings[:IMAGES], f"and {more} more"]
    return findings


# --- classes and sizes


def classes(content: Content) -> str:
    words = (
        "AP: COCO, all detections. P, R, F1: Ultralytics, IoU 0.5, at the confidence of the best "
        "mean F1; best conf: the confidence of the class's own best F1."
    )
    rows = []
    head: list[str] = []
    for name, row in content.plain["per_class"].items():
        values = _class_values(row)
        rows.append([name, *values.values()])
        head = [*values]
    return paragraph(words) + table(["Class", *head], rows, look="wide")


def _class_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A class's numbers by their headings, the interval beside its AP."""
    values: dict[str, Any] = {}
    for key, value in row.items():
        if key != "interval":
            values[phrase(key)] = value
        if key == "AP" and "interval" in row:
            values["95 % interval"] = interval_cell(row["interval"])
    return values


def sizes(content: Content) -> str:
    bins = content.plain["bins"]
    words = (
        f"Bins of {bins['protocol']}; at most {bins['max_dets']} detections of a class in an image."
    )
    rows = []
    head: list[str] = []
    for name, row in bins["sizes"].items():
        values = _size_values(row)
        rows.append([name, *values.values()])
        head = [phrase(key) for key in values]
    plot = content.figure("sizes", "AP by size, with 95 % intervals where they are known.")
    bin_table = table(["Size", *head], rows)
    return paragraph(words) + grid("beside", [bin_table, plot])


def _size_values(row: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"sides, px": Cell(plots.between(row))}
    for key, value in row.items():
        if key not in ("low", "high", "interval"):
            values[key] = value
    if "interval" in row:
        values["95 % interval of AP"] = interval_cell(row["interval"])
    return values


def operating(content: Content) -> str:
    """Right and wrong ones at one confidence, and how well objects are counted."""
    found = content.plain["operating"]
    words = (
        f"Of the detections with a confidence of {_confidence(content)} or more "
        f"({found['chosen']}), at IoU {found['iou']:g}, of all sizes together and of each."
    )
    head = ["", "Labels", "Right", "False", "Missed", "Precision", "Recall", "F1"]
    rows = []
    for name, row in {"all": found["all"], **found["sizes"], **found["classes"]}.items():
        rows.append([name, *row.values()])
    return paragraph(words) + table(head, rows) + _counts(content.plain.get("counts"))


def _counts(counts: Mapping[str, Any] | None) -> str:
    if counts is None:
        return ""
    words = (
        f"Numbers of objects in {counts['images']} images. Bias: detections less labels, of an "
        "image in the mean; MAE: without its sign; RMSE: the root of its square's mean."
    )
    rows = []
    for name, row in {"all": counts["all"], **counts["classes"]}.items():
        rows.append([name, *row.values()])
    return paragraph(words) + table(["", "Labels", "Detections", "MAE", "RMSE", "Bias"], rows)


def _confidence(content: Content) -> str:
    return f"{content.plain['operating']['conf']:.3f}"


# --- seams


def seams(content: Content) -> str:
    found = content.plain["seams"]
    if found is None:
        return _missing(content, "seams")
    words = (
        f"Labels at seams lie less than {SEAM:g} px inside every tile, those inside at least "
        f"{INSIDE:g} px inside one. Recall is at IoU 0.5. Small objects are harder to find and "
        "less often at seams, so labels of the same size are compared too."
    )
    plot = content.figure("seams", "Recall of labels by how far inside a tile they lie.")
    margins = _margin_table(found["table"])
    density = _density_table(found["density"])
    resolution = _resolution_table(found["resolution"])
    html = paragraph(words) + _gap_table(found["gap"])
    html += grid("beside", [margins, plot])
    return html + grid("beside", [density, resolution])


def _gap_table(gap: Mapping[str, Any]) -> str:
    every = [
        "all",
        gap["seam"],
        gap["recall_seam"],
        gap["inside"],
        gap["recall_inside"],
        gap["gap"],
        interval_cell((gap["low"], gap["high"])),
    ]
    of_same_size = [
        "of the same size",
        gap["covered"],
        "",
        "",
        "",
        gap["size_matched"],
        interval_cell((gap["size_matched_low"], gap["size_matched_high"])),
    ]
    head = ["Labels", "At seams", "Recall", "Inside", "Recall", "Lost at seams", "95 % interval"]
    return table(head, [every, of_same_size])


def _margin_table(rows: Sequence[Mapping[str, Any]]) -> str:
    caption = (
        "Labels by how far inside a tile they lie. Recall: at IoU 0.5; mean recall: over IoU 0.5 "
        "to 0.95; duplicates: per label."
    )
    head = ["Margin", "Labels", "Recall", "Mean recall", "Duplicates", "Mean IoU"]
    return table(head, [[*row.values()] for row in rows], caption)


def _density_table(rows: Sequence[Mapping[str, Any]]) -> str:
    caption = (
        "False detections near seams. Ratio: how much denser they are there than elsewhere; "
        "1 if seams have no effect."
    )
    head = ["Within, px", "Near seams", "Area, Mpx", "Elsewhere", "Area, Mpx", "Ratio"]
    cells = []
    for row in rows:
        band = decimal(row["band_area"] / 1e6)
        elsewhere = decimal(row["elsewhere_area"] / 1e6)
        ratio = decimal(row["ratio"])
        distance = f"{row['distance']:g}"
        cells.append([distance, row["in_band"], band, row["elsewhere"], elsewhere, ratio])
    return table(head, cells, caption)


def _resolution_table(rows: Sequence[Mapping[str, Any]]) -> str:
    caption = "Labels by their size in pixels of the tiles, which is what the detector sees."
    head = ["Sides, px", "Labels", "Recall at 0.5", "AP50", "AP"]
    return table(head, [[*row.values()] for row in rows], caption)


# --- errors and merging


def errors(content: Content) -> str:
    found = content.plain["errors"]
    if found is None:
        return _missing(content, "errors")
    words = (
        f"Of the detections with a confidence of {number(found['conf'])} or more (AP "
        f"{number(found['ap'])}), at IoU 0.5. The cost is the AP that would be gained if all "
        "errors of that kind were corrected, and no others; costs do not add up."
    )
    most = max((row["cost"] or 0.0 for row in found["rows"]), default=0.0)
    rows = []
    for row in found["rows"]:
        what, remedy = ERRORS.get(row["name"], ("", ""))
        cost = _cost_cell(row["cost"], most)
        meaning = Cell(what, look="long")
        change = Cell(commands(remedy), look="long")
        rows.append([row["name"], row["count"], cost, meaning, change])
    html = paragraph(words)
    html += table(["Error", "Count", "Cost in AP", "What it is", "What to change"], rows)
    if found["untold"]:
        untold = ", ".join(found["untold"])
        html += paragraph(
            f"Not measured, as tiles or predictions on tiles are not known: {untold}."
        )
    return html


def _cost_cell(cost: float | None, most: float) -> Cell:
    """A cost with a bar, which is full at the largest one."""
    shown = "n/a" if cost is None else f"{cost:.4f}"
    if cost is None or cost <= 0 or not most:
        return Cell(shown)
    return Cell(shown, f"--part: {cost / most:.1%}", "n bar")


def merging(content: Content) -> str:
    efficiency = content.metrics.efficiency
    if efficiency is None:
        return _missing(content, "tiles")
    found = finite(efficiency.plain())
    rows = []
    for name, stage in STAGES.items():
        rows.append([stage, found[name]["ap"], found[name]["ap50"]])
    words = (
        f"Merge efficiency {number(found['merge'])}: of the AP that choosing the best predictions "
        "would gain over not merging, the part that merging did gain. Above 1, merging did better "
        "than choosing can."
    )
    html = table(["Measured", "AP", "AP50"], rows) + paragraph(words)
    left_out = content.card["left_out"].get("tiles", [])
    if left_out:
        html += paragraph(f"Left out: {'; '.join(left_out)}")
    return html


# --- curves and confusion


def curves(content: Content) -> str:
    if content.problem:
        return paragraph(f"No curves: {content.problem}")
    drawn = [content.figure(name, caption) for name, caption in CURVES.items()]
    return paragraph("By Ultralytics' protocol, at IoU 0.5.") + grid("figures", drawn)


def confusion(content: Content) -> str:
    matrix = content.metrics.confusion
    if matrix is None:
        return paragraph("n/a: Ultralytics' protocol was not asked for")
    shown = plots.confused(matrix)
    names = [*content.metrics.names, "background"]
    shown_names = [short(names[k]) for k in shown]
    counts = matrix[np.ix_(shown, shown)].tolist()
    shares = plots.shares(matrix)[np.ix_(shown, shown)].tolist()
    rows: list[list[Any]] = []
    for i, name in enumerate(shown_names):
        rows.append([name, *map(_shaded, counts[i], shares[i])])
    words = (
        "Rows: predicted. Columns: true. The last row holds missed labels, the last column false "
        "detections. Shaded by the share of the column; confidence "
        f"{_confidence(content)} or more, IoU above {IOU}."
    )
    if len(shown) < len(matrix):
        classes = len(matrix) - 1
        words += f" Shown are the {len(shown) - 1} of {classes} classes with most mistakes."
    return paragraph(words) + table(["Predicted / true", *shown_names], rows, look="matrix")


def _shaded(count: int, share: float) -> Cell:
    """From white to the blue of the figures."""
    if not count:
        return Cell("0", look="quiet")
    colour = ""
    for end in BLUE:
        channel = round(255 + (end - 255) * share)
        colour += f"{channel:02x}"
    return Cell(str(count), f"background: #{colour}", "dark" if share > 0.5 else "")


# --- images


def places(content: Content) -> str:
    crops = worst(content.metrics)
    if not crops:
        return paragraph("None: there are no mistakes, or the images cannot be opened.")
    return paragraph(Html(KEY)) + grid("crops", map(_crop, crops))


def _crop(crop: Crop) -> str:
    kind, _, rest = crop.what.partition(": ")
    data = base64.b64encode(crop.jpeg).decode()
    image = (
        f'<img src="data:image/jpeg;base64,{data}" width="{crop.width}" height="{crop.height}" '
        f'alt="{text(crop.what)}">'
    )
    caption = f"<strong>{text(kind)}</strong> {text(rest)}<br>{text(crop.key)}"
    return figure(image, Html(caption))


def images(content: Content) -> str:
    metrics = content.metrics
    words = (
        "The images with most false detections and missed labels, at IoU 0.5 and a confidence of "
        f"{_confidence(content)} or more."
    )
    head = ["Image", "Labels", "Detections", "Right", "False", "Missed"]
    head += ["Precision", "Recall", "F1"]
    rows = []
    for i in worst_images(metrics.per_image)[:IMAGES]:
        row = finite(metrics.per_image[i])
        if row["fp"] + row["fn"]:
            rows.append([*row.values()][: len(head)])
    if not rows:
        return paragraph(words) + paragraph("None has any.")
    return paragraph(words) + table(head, rows) + _whole_image(content)


def _whole_image(content: Content) -> str:
    """The first of the worst images that can be shown."""
    crop = overview(content.metrics)
    if crop is None:
        return ""
    words = "The whole of the first one that can be opened, in the colours of the places above."
    return paragraph(words) + _crop(crop)


def _missing(content: Content, name: str) -> str:
    """Why something was not measured."""
    left_out = content.card["left_out"]
    for key in (name, "analysis", "seams"):
        if left_out.get(key):
            return paragraph(f"n/a: {'; '.join(left_out[key])}")
    return paragraph("n/a: not asked for")
