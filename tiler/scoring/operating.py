"""What is right and wrong at one confidence, as a detector is used: by size, class and image; and
how well objects are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tiler.evaluation.bins import Bin
from tiler.evaluation.inputs import EvaluationInputs

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

NAN = float("nan")
IOU = 0.5  # of a detection and the label that it is matched to


@dataclass(frozen=True, slots=True, eq=False)
class OperatingPoint:
    """Labels and detections at a confidence and above. A label that is ignored, and a detection
    that is matched to one, count neither way.

    Attributes:
        conf: the least confidence.
        chosen: how it was chosen, in words.
        detected: `(D,)` detections of that confidence.
        right, wrong: `(D,)` those among them that are matched to a label that counts; to none.
        counted: `(G,)` labels that count.
        found: `(G,)` those among them that are matched.
        most_recall: the recall of all detections, of any confidence; NaN without labels.
    """

    sample: EvaluationInputs
    conf: float
    chosen: str
    detected: Bools
    right: Bools
    wrong: Bools
    counted: Bools
    found: Bools
    most_recall: float

    @classmethod
    def of(cls, sample: EvaluationInputs, label: Ints, conf: float, chosen: str) -> Self:
        """Of a sample that was matched at IoU 0.5.

        Args:
            label: `(D,)` the one that each detection is matched to, -1 for none.
        """
        detected = sample.detections.conf >= conf
        counted = ~sample.labels.ignored
        right = detected & (label >= 0)
        right[right] = counted[label[right]]
        wrong = detected & (label < 0)
        found = np.zeros(len(counted), bool)
        found[label[right]] = True
        reached = np.unique(label[label >= 0])
        most = ratio(int(counted[reached].sum()), int(counted.sum()))
        return cls(sample, conf, chosen, detected, right, wrong, counted, found, most)

    def plain(self, names: Sequence[str], bins: Sequence[Bin]) -> dict[str, Any]:
        """What the JSON holds: of all, of each size, and of each class.

        Args:
            names: of the classes, each one once.
        """
        labels = self.sample.labels
        detections = self.sample.detections
        every = self._numbers(np.ones(len(labels), bool), np.ones(len(detections), bool))
        sizes = {}
        for size in bins:
            sizes[size.name] = self._numbers(
                _within(labels.area, size), _within(detections.area, size)
            )
        classes = {}
        for k, name in enumerate(names):
            classes[name] = self._numbers(labels.class_id == k, detections.class_id == k)
        return {
            "conf": self.conf,
            "chosen": self.chosen,
            "iou": IOU,
            "most_recall": self.most_recall,
            "all": every,
            "sizes": sizes,
            "classes": classes,
        }

    def _numbers(self, labels: Bools, detections: Bools) -> dict[str, float]:
        """Counts, precision, recall and F1 of some of the labels, and of the detections that are
        matched to these, or are wrong and among some of the detections.
        """
        tp = int(np.count_nonzero(self.found & labels))
        fp = int(np.count_nonzero(self.wrong & detections))
        count = int(np.count_nonzero(self.counted & labels))
        numbers = {"labels": count, **rates(tp, fp, count)}
        if not self.counted.any():  # without any labels nothing is known to be wrong
            numbers |= dict.fromkeys(("precision", "recall", "f1"), NAN)
        return numbers

    def by_image(self) -> tuple[Ints, Ints, Ints, Ints]:
        """`(I,)` each: labels, detections, true and false positives."""
        images = self.sample.images
        of_label = self.sample.labels.image
        of_detection = self.sample.detections.image
        labels = np.bincount(of_label[self.counted], minlength=images)
        detections = np.bincount(of_detection[self.detected], minlength=images)
        tp = np.bincount(of_detection[self.right], minlength=images)
        fp = np.bincount(of_detection[self.wrong], minlength=images)
        return labels, detections, tp, fp

    def objects(self) -> tuple[Ints, Ints]:
        """`(I, K)` each: labels and detections of each image and class. Detections of what is
        ignored do not count.
        """
        sample = self.sample
        labels = _table(sample, sample.labels.image, sample.labels.class_id, self.counted)
        detected = self.right | self.wrong
        detections = sample.detections
        return labels, _table(sample, detections.image, detections.class_id, detected)


def _table(sample: EvaluationInputs, image: Ints, class_id: Ints, counted: Bools) -> Ints:
    """`(I, K)` how many count."""
    cell = image[counted] * sample.classes + class_id[counted]
    counts = np.bincount(cell, minlength=sample.images * sample.classes)
    return counts.reshape(sample.images, sample.classes)


def _within(area: Floats, size: Bin) -> Bools:
    return np.asarray((area >= size.low) & (area <= size.high))


def rates(tp: int, fp: int, labels: int) -> dict[str, float]:
    """Counts, precision, recall and F1; NaN of nothing.

    >>> rates(6, 3, 10)["recall"], rates(0, 0, 0)["precision"]
    (0.6, nan)
    """
    fn = labels - tp
    numbers: dict[str, float] = {"tp": tp, "fp": fp, "fn": fn}
    numbers["precision"] = ratio(tp, tp + fp)
    numbers["recall"] = ratio(tp, labels)
    numbers["f1"] = ratio(2 * tp, 2 * tp + fp + fn)
    return numbers


def ratio(part: float, whole: float) -> float:
    """A part of a whole; NaN of nothing."""
    if not whole:
        return NAN
    return part / whole


# --- by image, and counting


def per_image(
    point: OperatingPoint, keys: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each image.

    Args:
        names: of the classes whose objects are counted too; none, if they are not asked for.
    """
    labels, detections, tp, fp = (column.tolist() for column in point.by_image())
    of_class: list[list[list[int]]] = []
    if names:
        of_class = [table.tolist() for table in point.objects()]
    rows = []
    for i, key in enumerate(keys):
        row = {"image": key, "labels": labels[i], "detections": detections[i]}
        row |= rates(tp[i], fp[i], labels[i])
        for k, name in enumerate(names):
            row[f"labels of {name}"] = of_class[0][i][k]
            row[f"detections of {name}"] = of_class[1][i][k]
        rows.append(row)
    return rows


def worst_images(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows of `per_image` by how many are false or missed, the most first."""

    def order(i: int) -> tuple[int, float, str]:
        row = rows[i]
        f1 = row["f1"]
        if f1 is None or np.isnan(f1):
            f1 = 0.0
        return -row["fp"] - row["fn"], f1, row["image"]

    return sorted(range(len(rows)), key=order)


def count_errors(point: OperatingPoint, names: Sequence[str]) -> dict[str, Any]:
    """How far the number of detections is from that of labels, over the images; of all classes
    together, and of each.

    Args:
        names: of the classes, each one once.
    """
    labels, detections = point.objects()
    every = _errors(labels.sum(axis=1), detections.sum(axis=1))
    classes = {}
    for k, name in enumerate(names):
        classes[name] = _errors(labels[:, k], detections[:, k])
    return {"conf": point.conf, "images": point.sample.images, "all": every, "classes": classes}


def _errors(labels: Ints, detections: Ints) -> dict[str, float]:
    """Mean absolute error, root of the mean squared error, and mean error (bias) of counts `(I,)`;
    NaN of no images.
    """
    difference = (detections - labels).astype(np.float64)
    numbers: dict[str, float] = {"labels": int(labels.sum()), "detections": int(detections.sum())}
    if not len(difference):
        return numbers | {"mae": NAN, "rmse": NAN, "bias": NAN}
    numbers["mae"] = float(np.abs(difference).mean())
    numbers["rmse"] = float(np.sqrt((difference**2).mean()))
    numbers["bias"] = float(difference.mean())
    return numbers
