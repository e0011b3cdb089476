"""The options of `tiler score`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiler.options.datasets import LabelOptions
from tiler.options.fields import choice_option, flag_option, option, when
from tiler.options.values import (
    BINS,
    choices,
    described,
    detection_limits,
    number,
    optional,
    size_bins,
    stripped,
    whole,
)

PROTOCOLS = ("coco", "ultralytics", "ultralytics-8.3", "voc", "voc07", "dota")
SCORING = "Scoring"


def _coco_limits_only(options: Any) -> str:
    """Why --max-dets has no effect; free size bins have COCO's limits too."""
    if "coco" in options.protocol.split(",") or options.bins != "coco":
        return ""
    return f"--protocol {options.protocol} has limits of its own"


def _resampling_only(options: Any) -> str:
    """Why --seed has no effect: nothing is resampled."""
    return when("analysis", "none")(options) or when("replicates", 0)(options)


def _reached(options: Any) -> str:
    """Why --at-conf has no effect: less confident detections do not count at all."""
    if options.at_conf is None or options.at_conf >= options.conf:
        return ""
    return f"--conf {options.conf:g} leaves none of less"


@dataclass(frozen=True, slots=True)
class ScoreOptions(LabelOptions):
    """How detections are scored against labels. The same values give the same bytes.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> ScoreOptions(bins=(16, 32, 96)).bins
    '16,32,96'
    """

    protocol: str = option(
        "coco,ultralytics",
        "Evaluation protocols: each gives the numbers of the tool that it is named after.",
        choices(*PROTOCOLS, least=1),
        SCORING,
        ",".join(PROTOCOLS),
        given="str | Sequence[str]",
    )
    bins: str = option(
        "coco",
        "Size bins: those of a benchmark, or increasing sides of squares in pixels of the full "
        "image.",
        described(size_bins, f"{', '.join(BINS)}, or increasing sides in px such as 16,32,96"),
        SCORING,
        "|".join([*BINS, "16,32,96"]),
        given="str | Sequence[float]",
    )
    max_dets: str = option(
        "auto",
        "Maximum detections per class and image, in increasing order. auto: 1, 10 and 100 as in "
        "COCO, and also all of them.",
        described(detection_limits, "auto, or increasing whole numbers such as 1,10,100"),
        SCORING,
        "auto|1,10,100",
        idle=_coco_limits_only,
        given="int | Sequence[int] | str",
    )
    areas: str = choice_option(
        "coco",
        "Size of an outline or pose: coco = as pycocotools has it (of its box, if the file has "
        "boxes), mask = that of its mask or keypoints.",
        ("coco", "mask"),
        SCORING,
    )
    conf: float = option(
        0.0, "Ignore detections below this confidence.", number(0, 1), SCORING, "0..1"
    )
    at_conf: float | None = option(
        None,
        "Confidence at which right and wrong ones are counted, for all tables but those of AP. "
        "Default: --conf if it is given, else that of the best mean F1.",
        optional(number(0, 1)),
        SCORING,
        "0..1",
        idle=_reached,
    )
    counts: bool = flag_option(
        False,
        "Also compare the number of objects in each image with that of its labels: MAE, RMSE, "
        "bias.",
        SCORING,
    )
    only_predicted: bool = flag_option(
        False, "Score only images that have predictions, or an empty prediction file.", SCORING
    )
    ignore_class: str = option(
        "",
        "Labels of this class are regions to ignore: labels and detections that lie at least half "
        "in one do not count (class 0 of VisDrone).",
        stripped,
        SCORING,
        "CLASS",
    )
    analysis: str = choice_option(
        "auto",
        "Confidence intervals, seams and error classes: full = always, none = never, auto = up to "
        "200000 detections.",
        ("auto", "full", "none"),
        SCORING,
    )
    replicates: int = option(
        200,
        "Number of bootstrap resamplings of the images, for confidence intervals; 0 = none.",
        whole(0, 10_000),
        SCORING,
        "N",
        idle=when("analysis", "none"),
    )
    seed: int = option(
        0, "Random seed of the resampling.", whole(0), SCORING, "INT", idle=_resampling_only
    )
