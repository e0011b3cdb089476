"""A sample prepared for measuring: what is asked for, and the pairs that all numbers count from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tiler.evaluation import coco, confusion, diagnosis
from tiler.evaluation.bins import Bins, bins
from tiler.evaluation.candidates import Candidates, candidates, same_class
from tiler.evaluation.inputs import EvaluationInputs

if TYPE_CHECKING:
    from tiler.options import ScoreOptions

LEAST = 0.499  # IoU: float32 may make 0.5 of a little less
MANY = 200_000  # detections, from which on analysis is made only when it is asked for


@dataclass(frozen=True, slots=True)
class DetectionLimits:
    """How many detections of a class in an image count, those of highest confidence.

    Attributes:
        asked: by `--max-dets`, rising; empty for COCO's.
        usual: COCO's: 1, 10 and 100; of keypoints 20.
        largest: no smaller limit leaves all in.
    """

    asked: tuple[int, ...]
    usual: tuple[int, ...]
    largest: int

    @classmethod
    def of(cls, options: ScoreOptions, sample: EvaluationInputs) -> Self:
        """What the options ask for of a sample."""
        asked: tuple[int, ...] = ()
        if options.max_dets != "auto":
            asked = tuple(int(number) for number in options.max_dets.split(","))
        usual = coco.KEYPOINT_MAX_DETS if sample.task == "pose" else coco.MAX_DETS
        return cls(asked, usual, sample.most())

    @property
    def caps(self) -> tuple[int, ...]:
        """Those that COCO's numbers are given for."""
        return self.asked or self.usual

    @property
    def limit(self) -> int:
        """The largest that COCO counts."""
        return self.usual[-1]

    @property
    def every(self) -> int:
        """One that leaves all detections in."""
        return max(self.largest, self.limit)

    @property
    def evaluated(self) -> list[int]:
        """All of these, rising."""
        return sorted({*self.caps, self.limit, self.every})


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What is to be measured.

    Attributes:
        names: of the classes.
        keys: of the images.
        card: what is known of the input.
        boxes: of outlines and poses, the same sample with their boxes.
        unreadable: why pycocotools cannot read the predictions.
    """

    sample: EvaluationInputs
    names: tuple[str, ...]
    keys: Sequence[str]
    options: ScoreOptions
    card: Mapping[str, Any] = field(default_factory=dict)
    boxes: EvaluationInputs | None = None
    unreadable: str | None = None

    @property
    def analysed(self) -> bool:
        """Whether intervals, seams and error classes are measured."""
        if self.options.analysis == "auto":
            return len(self.sample.detections) <= MANY
        return self.options.analysis == "full"


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A sample and what its numbers are made from.

    Attributes:
        names: of the classes.
        protocols: those that are asked for.
        analysis: whether intervals, seams and error classes are measured.
        pairs: candidates of any class, as far as something needs them.
        same_class: those of equal class, which the protocols match.
    """

    sample: EvaluationInputs
    names: tuple[str, ...]
    options: ScoreOptions
    protocols: list[str]
    analysis: bool
    size_bins: Bins
    limits: DetectionLimits
    pairs: Candidates
    same_class: Candidates

    @classmethod
    def of(cls, asked: Measurement) -> Self:
        """Find the pairs."""
        sample = asked.sample
        protocols = asked.options.protocol.split(",")
        size_bins = bins(asked.options.bins)
        least = min(LEAST, *(size_bins.thresholds or (LEAST,)))
        if asked.analysed:
            pairs = candidates(sample, min(least, diagnosis.BARELY), any_class=True)
        elif "ultralytics" in protocols:
            pairs = candidates(sample, min(least, confusion.IOU - 0.01), any_class=True)
        else:
            pairs = candidates(sample, least)
        return cls(
            sample=sample,
            names=asked.names,
            options=asked.options,
            protocols=protocols,
            analysis=asked.analysed,
            size_bins=size_bins,
            limits=DetectionLimits.of(asked.options, sample),
            pairs=pairs,
            same_class=_of_same_class(sample, pairs, least),
        )


def _of_same_class(sample: EvaluationInputs, pairs: Candidates, least: float) -> Candidates:
    enough = pairs.iou >= least
    return pairs.take(enough & same_class(sample, pairs))
