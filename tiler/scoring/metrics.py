"""What `score` returns: numbers by the names of COCO and of Ultralytics' `results.box`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from tiler.errors import amount, printable
from tiler.evaluation.confusion import IOU
from tiler.evaluation.ultralytics import Results
from tiler.findings import Finding
from tiler.formats import html, report_json
from tiler.formats.text_files import within
from tiler.options.values import path

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Draws
    from tiler.evaluation.diagnosis import Diagnosis
    from tiler.evaluation.efficiency import Efficiency
    from tiler.evaluation.inputs import EvaluationInputs
    from tiler.evaluation.layout import TileLayout
    from tiler.evaluation.seams import Density, Gap, ResolutionRow, SeamRow
    from tiler.types import Floats, Ints

SUFFIX = {"segment": "(M)", "pose": "(P)"}  # of Ultralytics' keys; (B) of boxes
# attributes of Ultralytics' `results.box` that `Metrics` has too
_NUMBERS = {"map", "map50", "map75", "mp", "mr", "nc"}
_BY_CLASS = {"p", "r", "f1", "all_ap", "ap", "ap50", "ap_class_index", "maps", "nt_per_class"}
_CURVES = {"px", "p_curve", "r_curve", "f1_curve", "prec_values"}
MEANS = ("map", "map50", "map75", "mp", "mr")  # NaN without labels, of which Ultralytics makes 0
BOX = frozenset(_NUMBERS | _BY_CLASS | _CURVES)


MAIN = ("AP", "AP50", "AP_small")  # of COCO
SHOWN = 20  # classes, in a notebook


class Number(float):
    """A number that may also be called, since it is a method of Ultralytics' results."""

    def __call__(self) -> float:
        return float(self)


class CallableList(list[Any]):
    """A list that may also be called, with an index or without."""

    def __call__(self, i: int | None = None) -> Any:
        if i is None:
            return list(self)
        return self[i]


@dataclass(frozen=True, slots=True)
class Seams:
    """How detections differ near the seams of tiles.

    Attributes:
        table: recall of labels by how far inside a tile they lie.
        gap: recall lost at seams.
        density: false positives near seams.
        resolution: AP by the size in pixels of the tiles.
        margin: `(G,)` px, of each label of the sample; inf where its image has no tiles.
    """

    table: list[SeamRow]
    gap: Gap
    density: list[Density]
    resolution: list[ResolutionRow]
    margin: Floats

    def plain(self) -> dict[str, Any]:
        """What the JSON holds."""
        gap = asdict(self.gap)
        gap["missing"] = self.gap.missing
        return {
            "gap": gap,
            "table": list(map(asdict, self.table)),
            "density": list(map(asdict, self.density)),
            "resolution": list(map(asdict, self.resolution)),
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Metrics:
    """How well detections agree with labels. `write` writes the report.

    The attributes of `results.box` of Ultralytics stand here too, by its 8.4.190 protocol: `map`,
    `map50`, `map75`, `mp`, `mr`, `maps`, `ap`, `ap50`, `all_ap`, `p`, `r`, `f1`, `ap_class_index`,
    `px`, `p_curve`, `r_curve`, `f1_curve`, `prec_values`, `curves_results`, `fitness`,
    `mean_results`, `class_result` (these three callable as there, or printed as they are).

    Attributes:
        card: what the numbers are of, by which protocols, with which limits.
        coco: COCO's numbers by name, AP to AR_large; NaN where there is nothing to measure.
        coco_auto: the same where all detections count, and what the limit of 100 costs.
        box: by Ultralytics 8.4.190; `legacy` by 8.3, where it was asked for.
        boxes: of outlines and poses, the numbers of their boxes, by name of the protocol; else
            None.
        voc: by name of the protocol, the mean AP at IoU 0.5.
        bins: size bins by name.
        per_class: by class name.
        operating: what is right and wrong at one confidence, of all, by size and by class.
        per_image: one row an image, at that confidence.
        confusion: `(classes + 1, classes + 1)` [predicted, true], background last, at the same
            confidence; with the protocol of Ultralytics only.
        counts: how far the number of detections is from that of labels, over the images; None
            where it was not asked for.
        only_predicted: the main numbers of the images with predictions alone, where it is not known
            whether others count.
        intervals, seams, errors, efficiency: None where they were not asked for, or could not be
            measured (`card` says why).
        layout: the tiles, where they are known.
        root: the folder of the images, where it is known; `listed` tells that the user's dataset
            lists them, so that they may lie outside of it.
        inputs: predictions, and folders of images and labels, that were read.
        speed: CPU seconds each step took; no part of the JSON.
    """

    names: tuple[str, ...]
    keys: list[str]
    card: dict[str, Any]
    coco: dict[str, float]
    coco_auto: dict[str, float]
    box: Results
    legacy: Results | None
    voc: dict[str, float]
    bins: dict[str, Any]
    per_class: dict[str, dict[str, Any]]
    operating: dict[str, Any]
    per_image: list[dict[str, Any]]
    confusion: Ints | None
    sample: EvaluationInputs
    counts: dict[str, Any] | None = None
    only_predicted: dict[str, Any] | None = None
    boxes: dict[str, Any] | None = None
    intervals: dict[str, Any] | None = None
    seams: Seams | None = None
    errors: Diagnosis | None = None
    efficiency: Efficiency | None = None
    draws: Draws | None = None
    layout: TileLayout | None = None
    root: Path | None = None
    listed: bool = True
    inputs: tuple[Path, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)

    def file_of(self, image: int) -> Path | None:
        """Where an image lies; None where that is unknown, or its name leads out of the folder."""
        key = self.keys[image]
        name = key if self.listed else within(key)
        if self.root is None or name is None:
            return None
        return self.root / name

    def __repr__(self) -> str:
        return printable(f"Metrics({self.line()})")

    def line(self) -> str:
        """What was scored, and the main numbers."""
        numbers = [f"{name} {html.number(value)}" for name, value in self.main_numbers()]
        return f"{self.title()}: {', '.join(numbers)}{report_json.in_words(self.findings)}"

    def title(self) -> str:
        """What was scored, in a line."""
        card = self.card
        nouns = ("image", "label", "detection")
        parts = [amount(card[f"{noun}s"], noun) for noun in nouns]
        return f"{', '.join(parts)}, {card['task']}"

    def main_numbers(self) -> list[tuple[str, float | None]]:
        """The numbers to look at first, by protocol and name; None where there is nothing to
        measure.
        """
        numbers: dict[str, float] = {}
        if "coco" in self.card["protocols"]:
            for name in MAIN:
                if name in self.coco:
                    numbers[f"COCO {name}"] = self.coco[name]
            numbers["COCO AP of all detections"] = self.coco_auto["AP"]
        if "ultralytics" in self.card["protocols"]:
            box = summary(self.box)
            numbers["Ultralytics mAP50-95"] = box["map"]
            numbers["Ultralytics mAP50"] = box["map50"]
        for name, value in self.voc.items():
            numbers[f"{name} mAP50"] = value
        return list(finite(numbers).items())

    def _repr_html_(self) -> str:
        """The main numbers, and those of each class, for a notebook."""
        title = self.title() + report_json.in_words(self.findings)
        main = html.table(["number", "value"], self.main_numbers(), title)
        head, rows = self.class_table()
        caption = "" if len(rows) <= SHOWN else f"the first {SHOWN} of {len(rows)} classes"
        return main + html.table(head, finite(rows[:SHOWN]), caption)

    def class_table(self) -> tuple[list[str], list[list[Any]]]:
        """The head of a table, and a row a class."""
        first: dict[str, Any] = next(iter(self.per_class.values()), {})
        columns = [name for name in first if name != "interval"]
        rows = []
        for name, row in self.per_class.items():
            rows.append([name, *(row[column] for column in columns)])
        return ["class", *columns], rows

    def write(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write everything into a folder: report.html, score.json, tables as CSV, plots.

        Args:
            out: a new folder, which appears when it is complete.
            overwrite: replace an existing output of tiler score.

        Returns:
            The folder.

        Raises:
            TilerError: the folder holds something else.
            Unfinished: a full disk, or another run on the same folder.
        """
        # by name, since the output is made of metrics and imports this module
        output = import_module("tiler.scoring.output")
        folder: Path = output.write(self, path(out, "out"), overwrite)
        return folder

    def __getattr__(self, name: str) -> Any:
        if not len(self.box.ap_class_index):
            if name in MEANS:
                return float("nan")
            if name == "maps":
                return np.full(self.box.nc, np.nan)
        if name in BOX:
            return getattr(self.box, name)
        known = self.coco_names()
        if name in known:
            return self.coco[known[name]]
        raise AttributeError(f"Metrics has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *BOX, *self.coco_names()})

    def coco_names(self) -> dict[str, str]:
        """Attribute names of COCO's numbers: `ap_small` for AP_small. AP and AP50 are `coco["AP"]`,
        since `ap` and `ap50` are Ultralytics' arrays."""
        names = {name.lower(): name for name in object.__getattribute__(self, "coco")}
        return {attribute: name for attribute, name in names.items() if attribute not in BOX}

    @property
    def fitness(self) -> Number:
        """mAP50-95, as since 8.3.200."""
        return Number(self.map)

    @property
    def mean_results(self) -> CallableList:
        """P, R, mAP50, mAP50-95."""
        return CallableList([self.mp, self.mr, self.map50, self.map])

    @property
    def class_result(self) -> CallableList:
        """P, R, AP50, AP of each class that has labels."""
        return CallableList(self.box.class_result(i) for i in range(len(self.box.p)))

    @property
    def curves_results(self) -> list[list[Any]]:
        box = self.box
        return [
            [box.px, box.prec_values, "Recall", "Precision"],
            [box.px, box.f1_curve, "Confidence", "F1"],
            [box.px, box.p_curve, "Confidence", "Precision"],
            [box.px, box.r_curve, "Confidence", "Recall"],
        ]

    @property
    def curves(self) -> list[str]:
        """Names of `curves_results`."""
        kinds = ("Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence")
        return [kind + self._suffix for kind in kinds]

    @property
    def results_dict(self) -> dict[str, float]:
        """As Ultralytics' `results.results_dict`."""
        result = {}
        names = ("precision", "recall", "mAP50", "mAP50-95")
        for name, value in zip(names, self.mean_results, strict=True):
            result[f"metrics/{name}{self._suffix}"] = value
        result["fitness"] = self.map
        return result

    @property
    def image_metrics(self) -> dict[str, dict[str, float]]:
        """By the image's name precision, recall, f1, tp, fp, fn at IoU 0.5, of all confidences, as
        Ultralytics has it.
        """
        truth = self.sample.labels
        image = self.sample.detections.image
        labels = self._by_image(truth.image[~truth.crowd])
        detections = self._by_image(image[self.box.kept])
        right = self._by_image(image[self.box.correct[:, 0]])
        result = {}
        for i, key in enumerate(self.keys):
            result[key] = _image(right[i], detections[i], labels[i])
        return result

    def _by_image(self, image: Ints) -> list[int]:
        """How many labels or detections each image has."""
        counts: list[int] = np.bincount(image, minlength=self.sample.images).tolist()
        return counts

    @property
    def _suffix(self) -> str:
        return SUFFIX.get(self.sample.task, "(B)")

    def exit_code(self) -> int:
        """1 when something was rejected, so that it does not count."""
        return int(any(finding.level == "error" for finding in self.findings))

    def plain(self) -> dict[str, Any]:
        """What the JSON holds: sorted by meaning, None where there is nothing to measure."""
        content: dict[str, Any] = {
            "card": self.card,
            "coco": self.coco,
            "coco_auto": self.coco_auto,
        }
        if "ultralytics" in self.card["protocols"]:
            content["ultralytics"] = summary(self.box)
        if self.legacy is not None:
            content["ultralytics-8.3"] = summary(self.legacy)
        if self.boxes is not None:
            content["boxes"] = self.boxes
        if self.voc:
            content["voc"] = self.voc
        content["bins"] = self.bins
        content["per_class"] = self.per_class
        content["operating"] = self.operating
        if self.counts is not None:
            content["counts"] = self.counts
        content["intervals"] = self.intervals
        content["seams"] = _plain(self.seams)
        content["errors"] = _plain(self.errors)
        content["efficiency"] = _plain(self.efficiency)
        content["confusion"] = self._plain_confusion()
        content["only_predicted"] = self.only_predicted
        content["findings"] = list(map(_plain_finding, self.findings))
        return cast("dict[str, Any]", finite(content))

    def _plain_confusion(self) -> dict[str, Any] | None:
        if self.confusion is None:
            return None
        names = [*self.names, "background"]
        return {
            "conf": self.operating["conf"],
            "iou": IOU,
            "names": names,
            "matrix": self.confusion.tolist(),
        }

    def encoded(self) -> bytes:
        """The JSON, indented; the same bytes for the same input."""
        return report_json.indented(self.plain())


def _plain_finding(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level, **msgspec.to_builtins(finding)}


def _plain(part: Seams | Diagnosis | Efficiency | None) -> dict[str, Any] | None:
    return None if part is None else part.plain()


def _image(tp: int, detections: int, labels: int) -> dict[str, float]:
    """Of an image without either, all is right (utils/metrics.py: update_image_metrics)."""
    precision = recall = f1 = 0.0
    if not detections and not labels:
        precision = recall = 1.0
    if detections:
        precision = tp / detections
    if labels:
        recall = tp / labels
    if precision + recall:
        f1 = 2 * precision * recall / (precision + recall)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "tp": tp,
        "fp": detections - tp,
        "fn": labels - tp,
    }


def summary(box: Results) -> dict[str, float]:
    """Ultralytics' numbers.

    `conf` is the confidence of the best mean F1, at which mp and mr are. NaN without labels.
    """
    if not len(box.ap_class_index):
        return {**dict.fromkeys(MEANS, float("nan")), "conf": box.conf, "max_det": box.max_det}
    return {
        "mp": box.mp,
        "mr": box.mr,
        "map50": box.map50,
        "map75": box.map75,
        "map": box.map,
        "conf": box.conf,
        "max_det": box.max_det,
    }


def finite(value: Any) -> Any:
    """The same with plain numbers, and None for what is not finite.

    >>> finite({"AP": float("nan"), "rows": [np.float64(0.5)]})
    {'AP': None, 'rows': [0.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return None
        return float(value)
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return value
