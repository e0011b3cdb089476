"""The options of `tiler show`."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.datasets import DatasetOptions
from tiler.options.fields import flag_option, option
from tiler.options.shared import RUN, max_pixels_option, task_option
from tiler.options.values import number, whole

SHOWN = "What is shown"


@dataclass(frozen=True, slots=True)
class ShowOptions(DatasetOptions):
    """What `tiler show` draws."""

    n: int = option(12, "Number of images.", whole(1, 1000), SHOWN, "INT")
    conf: float = option(
        0.25, "Draw detections of at least this confidence.", number(0, 1), SHOWN, "FLOAT"
    )
    task: str = task_option(
        "Type of the labels or detections; auto infers it from the images that are looked at.",
        "Labels",
    )
    max_pixels: str | int = max_pixels_option()
    overwrite: bool = flag_option(False, "Replace an existing output of tiler show.", RUN)
