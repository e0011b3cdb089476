"""One HTML file with all that was measured: no script, nothing fetched, readable anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tiler.errors import TilerError, printable
from tiler.evaluation.confusion import CONF, IOU
from tiler.evaluation.seams import INSIDE, SEAM
from tiler.scoring.metrics import finite
from tiler.scoring.report import plots
from tiler.scoring.report.crops import Crop, overview, worst, worst_images
from tiler.version import __version__

if TYPE_CHECKING:
    from tiler.scoring.metrics import Metrics

IMAGES = 20
LONG = 40  # rows, from which on a table scrolls in its box
CURVES = {
    "pr_curve": "Precision over recall, at IoU 0.5.",
    "f1_curve": "F1 over confidence.",
    "p_curve": "Precision over confidence.",
    "r_curve": "Recall over confidence.",
}
NAMES = {
    "mp": "P",
    "mr": "R",
    "map50": "mAP50",
    "map75": "mAP75",
    "map": "mAP50-95",
    "voc": "AP50 (VOC)",
    "voc07": "AP50 (VOC 2007)",
    "dota": "AP50 (DOTA)",
}
COUNTED = ("images", "labels", "detections", "classes", "task", "similarity")
CARD = {
    "data": "Dataset",
    "split": "Split",
    "predictions": "Detections from",
    "images_without_labels": "Images without labels",
    "images_without_detections": "Images without detections",
    "ignored_labels": "Labels that do not count",
    "area": "Area, for sizes",
    "conf": "Least confidence",
    "max_dets": "Detections that count",
    "ranges": "Size ranges",
    "tiles": "Tiles known from",
    "classes_without_labels": "Classes without labels",
    "deviations": "May differ from the original",
    "left_out": "Left out",
}
ERRORS = {
    "SeamDup": (
        "A second detection of an object, of another tile than the first.",
        "`merge --method cvm`; a lower `--iou`",
    ),
    "Dup": (
        "A second detection of an object.",
        "predict with a lower iou, since within a tile the detector's NMS decides; merge: a lower "
        "`--iou`",
    ),
    "SeamTrunc": (
        "A piece: it ends where its tile does, the object goes on.",
        "`merge --method cvm`, `--orphans decay` or `drop`; split with an `--overlap` as large as "
        "the objects",
    ),
    "Loc": (
        "On an object of its class, with an IoU of 0.1 to 0.5.",
        "merge with a method that does not average or unite boxes; split with a larger `--scale` "
        "if the objects are tiny",
    ),
    "Cls": (
        "Well placed on an object of another class.",
        "`merge --groups` or `--class-agnostic` where two classes stand on one object; else the "
        "detector",
    ),
    "Both": ("Of another class, and not well placed.", "the detector"),
    "Bkg": (
        "On no object.",
        "merge: a higher `--conf`; split `--background all`, to train on more tiles without "
        "objects",
    ),
    "SeamSplit": (
        "An object in pieces, each from a tile that cuts it; together they are the object.",
        "`merge --method cvm`; split with an `--overlap` as large as the objects",
    ),
    "LostInMerge": (
        "An object seen well on a tile, and by no merged detection.",
        "merge: a higher `--iou`, `--metric iou`, `--orphans keep`, no `--max-det`",
    ),
    "NotCovered": (
        "An object of which no tile shows a quarter.",
        "split with a larger `--tile`, or `--scale 1,0.5`; predict on all tiles",
    ),
    "LowConf": (
        "An object seen well, with less confidence.",
        "merge: a lower `--conf`, `--orphans keep`; a lower confidence in use",
    ),
    "Miss": (
        "An object not seen.",
        "the detector; split with a larger `--scale` if it is few pixels large",
    ),
}
STAGES = {
    "tile": (
        "On each tile, as images of their own (COCO's AP; yolo val prints Ultralytics', which is "
        "another number)"
    ),
    "tile_u": "On each tile, every object once however many tiles show it",
    "nomerge": "All predictions on the full images, not merged",
    "merged": "Merged: what is scored here",
    "ideal": "Of the predictions on a label only the best, as no merging can know",
}


class Html(str):
    """Text that is markup already."""


class Cell(NamedTuple):
    """A number that is written, or shown, in its own way."""

    text: str
    style: str = ""
    look: str = "n"


def page(metrics: Metrics) -> str:
    """The report of what `score` returned. The same metrics give the same text."""
    plain = metrics.plain()
    drawn: Mapping[str, str] = {}
    try:
        drawn = plots.svg(metrics)
    except TilerError as error:
        curves = _paragraph(f"No curves: {error}")
    else:
        curves = _grid("figures", [_figure(drawn[name], said) for name, said in CURVES.items()])
        curves = _paragraph("By Ultralytics' protocol, at IoU 0.5.") + curves

    def beside(name: str, said: str) -> str:
        return _figure(drawn[name], said) if name in drawn else ""

    sizes = _sizes(
        metrics, plain, beside("sizes", "AP by size, and where they are known 95 % intervals.")
    )
    seams = _seams(plain, beside("seams", "Recall of labels by how far inside a tile they lie."))
    sections = [
        ("numbers", "All numbers", _numbers(plain)),
        ("card", "What was scored, and how", _card(metrics, plain)),
        ("classes", "Classes", _classes(plain)),
        ("sizes", "Sizes", sizes),
        ("seams", "Seams of tiles", seams),
        ("errors", "Errors and what they cost", _errors(plain)),
        ("merging", "Tiles and full images", _efficiency(metrics, plain)),
        ("curves", "Curves", curves),
        ("confusion", "Confusion matrix", _confusion(metrics)),
        ("places", "Worst places", _places(metrics)),
        ("images", "Worst images", _images(metrics)),
    ]
    card = plain["card"]
    title = (
        f"{card['data']}{', ' + card['split'] if card['split'] else ''}: detections against labels"
    )
    links = "".join(f'<a href="#{name}">{_text(said)}</a>' for name, said, _ in sections)
    body = "".join(
        f'<section id="{name}">\n<h2>{_text(said)}</h2>\n{html}\n</section>\n'
        for name, said, html in sections
    )
    style = files("tiler.scoring.report").joinpath("page.css").read_text("utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
{_paragraph(_counted(card), "quiet")}
{_heads(plain)}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}</main>
<footer>tiler {_text(__version__)}. n/a: nothing to measure.</footer>
</body>
</html>
"""


# --- sections


def _counted(card: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{card[name]} {name}" for name in COUNTED[:4])
    return f"{counts}; {card['task']}, {card['similarity']}"


def _heads(plain: Mapping[str, Any]) -> str:
    """The few numbers to look at first, each with its interval and protocol."""
    auto, known = plain["coco_auto"], plain["intervals"] or {}
    rows = [
        (name, auto[key], known.get(key), f"COCO, {iou}, all detections")
        for name, key, iou in AUTO
        if key in auto
    ]
    if "ultralytics" in plain:
        rows.append(
            (
                "mAP50-95",
                plain["ultralytics"]["map"],
                None,
                plain["card"]["protocols"]["ultralytics"].split(":")[0],
            )
        )
    if plain["seams"] is not None:
        gap = plain["seams"]["gap"]
        said = f"IoU 0.5, {gap['seam']} labels there" if gap["missing"] is None else gap["missing"]
        rows.append(("Recall lost at seams", gap["gap"], (gap["low"], gap["high"]), said))
    items = (
        f"<li><strong>{_text(name)}</strong><b>{_number(value)}</b>{_between(ends)}{_text(how)}</li>"
        for name, value, ends, how in rows
    )
    return f'<ul class="heads">{"".join(items)}</ul>'


def _between(ends: Sequence[float | None] | None) -> str:
    """A line with the interval, where there is one."""
    return "" if ends is None or None in ends else f"{_interval(ends)}<br>"


AUTO = (
    ("AP", "AP", "IoU 0.5 to 0.95"),
    ("AP50", "AP50", "IoU 0.5"),
    ("AP of small objects", "AP_small", "IoU 0.5 to 0.95"),
)


def _numbers(plain: Mapping[str, Any]) -> str:
    card, auto, known = plain["card"], plain["coco_auto"], plain["intervals"] or {}
    last = card["max_dets"]["coco"][-1]
    rows = [
        [name, auto.get(name, ""), _ends(known.get(name)), value]
        for name, value in plain["coco"].items()
    ]
    first = next((i for i, row in enumerate(rows) if row[0].startswith("AR")), len(rows))
    rows.insert(first, ["AR", auto["AR"], "", ""])
    said = "COCO's numbers, at IoU 0.5 to 0.95 or as their names say. Of all detections (at most "
    said += (
        f"{auto['max_dets']} of a class in an image), and of at most {last}, or as the name says. "
    )
    said += f"Intervals: {card['intervals']}." if card["intervals"] else "No intervals."
    said += (
        f" The limit of {auto['limit']} takes {auto['cost_of_limit']:.4f} of AP."
        if auto["cost_of_limit"]
        else ""
    )
    others: list[list[Any]] = []
    for source, prefix in ((plain, ""), (plain.get("boxes", {}), "Boxes: ")):
        if prefix and "coco" in source:
            others += [
                [f"{prefix}{key}", source["coco_auto"][key], f"COCO, {iou}, all detections"]
                for _, key, iou in AUTO
            ]
        for protocol in ("ultralytics", "ultralytics-8.3"):
            own = source.get(protocol, {})
            for name in NAMES:
                if name in own:
                    at = (
                        f"; IoU 0.5, confidence {_number(own['conf'])}"
                        if name in ("mp", "mr")
                        else ""
                    )
                    others.append(
                        [
                            f"{prefix}{NAMES[name]}",
                            own[name],
                            f"{card['protocols'].get(protocol, protocol)}{at}",
                        ]
                    )
    others += [
        [NAMES.get(name, name), value, card["protocols"].get(name, name)]
        for name, value in plain.get("voc", {}).items()
    ]
    tables = _table(["COCO", "All detections", "95 % interval", f"At most {last}"], rows)
    return (
        _paragraph(said)
        + tables
        + (_table(["Number", "Value", "Protocol"], others) if others else "")
    )


def _card(metrics: Metrics, plain: Mapping[str, Any]) -> str:
    card: dict[str, Any] = {"scored": _counted(plain["card"])}
    card |= {name: value for name, value in plain["card"].items() if name not in COUNTED}
    card["options"] = ", ".join(
        f"{name} {value}" for name, value in plain["card"]["options"].items() if value != ""
    )
    findings = [str(finding) for finding in metrics.findings]
    more = [f"and {len(findings) - IMAGES} more"] if len(findings) > IMAGES else []
    rows = {**card, "findings": [*findings[:IMAGES], *more]}
    terms = (
        f"<dt>{_text(CARD.get(name, _phrase(name)))}</dt><dd>{_words(value)}</dd>\n"
        for name, value in rows.items()
    )
    return f"<dl>\n{''.join(terms)}</dl>"


def _classes(plain: Mapping[str, Any]) -> str:
    rows: list[list[Any]] = []
    head: list[str] = []
    for name, own in plain["per_class"].items():
        values: dict[str, Any] = {}
        for key, value in own.items():
            if key != "interval":
                values[_phrase(key)] = value
            if key == "AP" and "interval" in own:
                values["95 % interval"] = _ends(own["interval"])
        rows.append([name, *values.values()])
        head = [*values]
    said = (
        "AP: COCO, all detections. P, R, F1: Ultralytics, IoU 0.5, where the mean F1 is best; "
        "best conf: where a class's own is."
    )
    return _paragraph(said) + _table(["Class", *head], rows, look="wide")


def _sizes(metrics: Metrics, plain: Mapping[str, Any], figure: str) -> str:
    content = plain["bins"]
    rows: list[list[Any]] = []
    head: list[str] = []
    for name, row in content["sizes"].items():
        values = {
            "sides, px": Cell(plots.between(row)),
            **{key: value for key, value in row.items() if key not in ("low", "high", "interval")},
        }
        values |= {"95 % interval of AP": _ends(row["interval"])} if "interval" in row else {}
        head = [_phrase(key) for key in values]
        rows.append([name, *values.values()])
    said = (
        f"Bins of {content['protocol']}, at most {content['max_dets']} detections of a class in "
        "an image."
    )
    return _paragraph(said) + _grid("beside", [_table(["Size", *head], rows), figure])


def _seams(plain: Mapping[str, Any], figure: str) -> str:
    if plain["seams"] is None:
        return _none(plain, "seams")
    content = plain["seams"]
    gap = content["gap"]
    rows: list[list[Any]] = [
        [
            "all",
            gap["seam"],
            gap["recall_seam"],
            gap["inside"],
            gap["recall_inside"],
            gap["gap"],
            _ends((gap["low"], gap["high"])),
        ],
        [
            "of one size",
            gap["covered"],
            "",
            "",
            "",
            gap["size_matched"],
            _ends((gap["size_matched_low"], gap["size_matched_high"])),
        ],
    ]
    head = ["Labels", "At seams", "Recall", "Inside", "Recall", "Lost at seams", "95 % interval"]
    said = (
        f"Labels at seams lie less than {SEAM:g} px inside every tile, those inside {INSIDE:g} px "
        "or more inside one. Recall is "
    )
    said += (
        "at IoU 0.5. Small objects are harder to find and less often at seams, so labels of one "
        "size are compared too."
    )
    tables = []
    for caption, names, own in (
        (
            "Labels by how far inside a tile they lie. Recall: at IoU 0.5; mean: of 0.5 to 0.95. "
            "Duplicates: per label.",
            ("Margin", "Labels", "Recall", "Mean recall", "Duplicates", "Mean IoU"),
            [list(row.values()) for row in content["table"]],
        ),
        (
            "False detections beside seams. Ratio: how much denser they are there than elsewhere; "
            "1 without any effect.",
            ("Within, px", "There", "Area, Mpx", "Elsewhere", "Area, Mpx", "Ratio"),
            [
                [
                    f"{r['distance']:g}",
                    r["in_band"],
                    _one(r["band_area"] / 1e6),
                    r["elsewhere"],
                    *map(_one, (r["elsewhere_area"] / 1e6, r["ratio"])),
                ]
                for r in content["density"]
            ],
        ),
        (
            "Labels by their size in pixels of the tiles, which is what the detector sees.",
            ("Sides, px", "Labels", "Recall at 0.5", "AP50", "AP"),
            [list(row.values()) for row in content["resolution"]],
        ),
    ):
        tables.append(_table(names, own, caption))
    margins, density, resolution = tables
    pairs = _grid("beside", [margins, figure]) + _grid("beside", [density, resolution])
    return _paragraph(said) + _table(head, rows) + pairs


def _errors(plain: Mapping[str, Any]) -> str:
    content = plain["errors"]
    if content is None:
        return _none(plain, "errors")
    most = max((row["cost"] or 0.0 for row in content["rows"]), default=0.0)
    rows: list[list[Any]] = []
    for row in content["rows"]:
        part = max(row["cost"] or 0.0, 0.0) / most if most else 0.0
        cost = Cell(
            "n/a" if row["cost"] is None else f"{row['cost']:.4f}",
            f"--part: {part:.1%}" if part else "",
            "n bar" if part else "n",
        )
        what, change = ERRORS.get(row["name"], ("", ""))
        rows.append(
            [
                row["name"],
                row["count"],
                cost,
                Cell(what, look="long"),
                Cell(_options(change), look="long"),
            ]
        )
    said = (
        f"Of the detections with a confidence of {_number(content['conf'])} or more (AP "
        f"{_number(content['ap'])}), at IoU 0.5. "
        "The cost is the AP that would be gained were all errors of that kind put right, and no "
        "other; costs do not add up."
    )
    untold = (
        "Not told, since tiles or predictions on tiles are not known: "
        f"{', '.join(content['untold'])}."
    )
    table = _table(["Error", "Count", "Cost in AP", "What it is", "What to change"], rows)
    return _paragraph(said) + table + (_paragraph(untold) if content["untold"] else "")


def _efficiency(metrics: Metrics, plain: Mapping[str, Any]) -> str:
    if metrics.efficiency is None:
        return _none(plain, "tiles")
    content = finite(metrics.efficiency.plain())
    rows = [[said, content[name]["ap"], content[name]["ap50"]] for name, said in STAGES.items()]
    part = content["merge"]
    said = (
        f"Merge efficiency {_number(part)}: of the AP that choosing the best predictions would "
        "gain over no merging, the part "
    )
    said += "that was gained. Above 1, merging did better than choosing can."
    reasons = "; ".join(plain["card"]["left_out"].get("tiles", []))
    return (
        _table(["Measured", "AP", "AP50"], rows)
        + _paragraph(said)
        + (_paragraph(f"Left out: {reasons}") if reasons else "")
    )


def _confusion(metrics: Metrics) -> str:
    matrix = metrics.confusion
    if matrix is None:
        return _paragraph("n/a: Ultralytics' protocol was not asked for")
    shown = plots.confused(matrix)
    names = [*metrics.names, "background"]
    part = matrix[np.ix_(shown, shown)].tolist()
    share = plots.shares(matrix)[np.ix_(shown, shown)].tolist()
    rows = [
        [plots.short(names[k]), *(_shade(n, s) for n, s in zip(counts, shares, strict=True))]
        for k, counts, shares in zip(shown, part, share, strict=True)
    ]
    few = (
        f" The {len(shown) - 1} of {len(matrix) - 1} classes with most mistakes."
        if len(shown) < len(matrix)
        else ""
    )
    said = (
        "Rows: predicted. Columns: true. The last row is missed, the last column is false. Shaded "
        "by the part of the column; "
    )
    said += f"confidence above {CONF}, IoU above {IOU}.{few}"
    return _paragraph(said) + _table(
        ["Predicted / true", *(plots.short(names[k]) for k in shown)], rows, look="matrix"
    )


def _shade(count: int, share: float) -> Cell:
    """From white to the blue of the figures."""
    colour = "".join(f"{round(255 + (end - 255) * share):02x}" for end in (0x00, 0x72, 0xB2))
    return Cell(
        str(count),
        f"background: #{colour}" if count else "",
        "dark" if share > 0.5 else "" if count else "quiet",
    )


def _places(metrics: Metrics) -> str:
    crops = worst(metrics)
    if not crops:
        return _paragraph("None: there are no mistakes, or the images are not at hand.")
    said = Html(
        "Errors of seams first, then labels missed near seams, then others, the surest first. "
        "Thin lines are the sides of tiles, white corners show what is meant."
        '<br><span class="key first" style="border-color: #00c86e"></span>label'
        '<span class="key" style="border-color: #288cff"></span>right detection'
        '<span class="key" style="border-color: #ff5a00"></span>wrong detection, each with its '
        "class and confidence"
        '<span class="key" style="border-color: #bebebe"></span>does not count, or is left out'
    )
    return _paragraph(said) + _grid("crops", [_shown(crop) for crop in crops])


def _shown(crop: Crop) -> str:
    kind, _, rest = crop.what.partition(": ")
    data = base64.b64encode(crop.jpeg).decode()
    image = (
        f'<img src="data:image/jpeg;base64,{data}" width="{crop.width}" height="{crop.height}" '
        f'alt="{_text(crop.what)}">'
    )
    return _figure(
        image, Html(f"<strong>{_text(kind)}</strong> {_text(rest)}<br>{_text(crop.key)}")
    )


def _whole(metrics: Metrics) -> str:
    """The first of the worst images that can be shown."""
    crop = overview(metrics)
    said = "The first of them that is at hand, whole, in the colours of the places above."
    return "" if crop is None else _paragraph(said) + _shown(crop)


def _images(metrics: Metrics) -> str:
    ranked = [finite(metrics.per_image[i]) for i in worst_images(metrics.per_image)]
    rows = [list(row.values()) for row in ranked[:IMAGES] if row["fp"] + row["fn"]]
    head = [
        "Image",
        "Labels",
        "Detections",
        "Right",
        "False",
        "Missed",
        "Precision",
        "Recall",
        "F1",
    ]
    said = (
        "Those with most false and missed, at IoU 0.5 and a confidence of "
        f"{float(metrics.box.conf):.3f} or more."
    )
    return _paragraph(said) + (
        _table(head, rows) + _whole(metrics) if rows else _paragraph("None has any.")
    )


def _none(plain: Mapping[str, Any], name: str) -> str:
    left_out = plain["card"]["left_out"]
    reasons = (
        left_out.get(name) or left_out.get("analysis") or left_out.get("seams") or ["not asked for"]
    )
    return _paragraph(f"n/a: {'; '.join(reasons)}")


# --- elements


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(printable(str(value)))


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _options(text: str) -> Html:
    """What stands between `backquotes` is to be typed."""
    return Html(re.sub("`(.*?)`", r"<code>\1</code>", escape(text)))


def _one(value: float | None) -> Cell:
    """With one decimal."""
    return Cell("n/a" if value is None else f"{value:.1f}")


def _phrase(name: str) -> str:
    """A name of the JSON as a heading."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _interval(ends: Sequence[float | None]) -> str:
    return "n/a" if None in ends else f"{_number(ends[0])} to {_number(ends[1])}"


def _ends(ends: Sequence[float | None] | None) -> Cell:
    return Cell("" if ends is None else _interval(ends))


def _paragraph(text: str, look: str = "") -> str:
    return f"<p{_look(look)}>{_text(text)}</p>\n"


def _look(look: str) -> str:
    return f' class="{look}"' if look else ""


def _figure(content: str, said: str) -> str:
    return f"<figure>\n{content}\n<figcaption>{_text(said)}</figcaption>\n</figure>\n"


def _grid(look: str, parts: Iterable[str]) -> str:
    return f'<div class="{look}">\n{"".join(parts)}</div>\n'


def _words(value: Any) -> str:
    """A value of the card: lists and names with values as lists."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, Mapping):
        value = [
            f"{name.replace('_', ' ')}: "
            f"{'; '.join(map(str, own)) if isinstance(own, list) else own}"
            for name, own in value.items()
        ]
    if isinstance(value, list):
        return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in value)}</ul>"
    return _text(value)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], said: str = "", look: str = ""
) -> str:
    """The first cell of each row is its head; columns of numbers stand right."""
    rows = [[cell if isinstance(cell, Cell) else _cell(cell) for cell in row] for row in rows]
    looks = [{cell.look for cell in column} for column in zip(*rows, strict=True)] or [set()] * len(
        head
    )
    heads = (
        "<th "
        f'scope="col"{_look("n" if i and kinds <= {"n", "n bar"} and kinds else "")}>{_text(name)}</th>'
        for i, (name, kinds) in enumerate(zip(head, looks, strict=True))
    )
    body = []
    for first, *rest in rows:
        cells = (
            f"<td{_look(c.look)}{f' style={chr(34)}{c.style}{chr(34)}' if c.style else ''}>{_text(c.text)}</td>"
            for c in rest
        )
        body.append(f'<tr><th scope="row">{_text(first.text)}</th>{"".join(cells)}</tr>\n')
    caption = f"<caption>{_text(said)}</caption>\n" if said else ""
    inner = f"<table{_look(look)}>\n{caption}<thead>\n<tr>{''.join(heads)}</tr>\n</thead>\n<tbody>\n{''.join(body)}</tbody>\n</table>"
    return f'<div class="box{" long" if len(rows) > LONG else ""}" tabindex="0">{inner}</div>\n'


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, int | float):
        return Cell(_number(value) if not isinstance(value, int) else str(value))
    return Cell(str(value), look="" if value else "n")
