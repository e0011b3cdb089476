"""The options of the merge itself; those of its files are in `predictions`."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.fields import Checked, choice_option, flag_option, option, unless, when
from tiler.options.values import class_groups, described, optional, per_class, whole

METHODS = ("cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none")
MERGING = "Merging"


@dataclass(frozen=True, slots=True)
class MergeOptions(Checked):
    """How detections on tiles become detections of the full image. The same values give the same
    bytes.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> MergeOptions(method="nms", iou="0.5,person=0.4").iou
    '0.5,person=0.4'
    """

    method: str = choice_option(
        "cvm", "How detections of the same object are found and merged.", METHODS, MERGING
    )
    iou: float | str | None = option(
        None,
        "Minimum overlap of detections of the same object, for all or by class. "
        "Default: 0.3 for cvm (in the area that both tiles see), 0.55 for wbf, else 0.5.",
        optional(described(per_class, "a number from 0 to 1, such as 0.5 or 0.5,car=0.4")),
        MERGING,
        "0..1[,CLASS=0..1]",
        idle=when("method", "soft-nms", "center", "none"),
        given="float | Mapping[str, float] | str | None",
    )
    metric: str = choice_option(
        "iou",
        "Overlap as a fraction of the union (iou) or of the smaller detection (ios); not used by "
        "cvm.",
        ("iou", "ios"),
        MERGING,
        idle=when("method", "cvm", "center", "none"),
    )
    conf: float | str = option(
        0.0,
        "Ignore detections below this confidence, for all or by class.",
        described(per_class, "a number from 0 to 1, such as 0.25 or 0.25,car=0.4"),
        MERGING,
        "0..1[,CLASS=0..1]",
        given="float | Mapping[str, float] | str",
    )
    class_agnostic: bool = flag_option(
        False,
        "Merge across all classes; the class with the highest total confidence wins.",
        MERGING,
        idle=when("method", "center", "none"),
    )
    groups: str = option(
        "",
        "Merge across the classes of a group; groups are separated by semicolons.",
        described(class_groups, "groups of two or more classes, such as car,truck;bus,van"),
        MERGING,
        "car,truck;bus,van",
        idle=when("method", "center", "none"),
        given="str | Sequence[Sequence[str]]",
    )
    orphans: str = choice_option(
        "decay",
        "Cut detections that another tile should have detected too but did not: keep them, halve "
        "their confidence (decay), or drop them; only used by cvm.",
        ("keep", "decay", "drop"),
        MERGING,
        idle=unless("method", "cvm"),
    )
    parts: str = choice_option(
        "bridge",
        "Merged outline in several parts: one row joined by bridges, separate rows, or the "
        "largest part only.",
        ("bridge", "separate", "largest"),
        MERGING,
    )
    max_det: int = option(
        0,
        "Maximum detections per image, highest confidence first; 0 = no limit.",
        whole(0),
        MERGING,
        "N",
    )
