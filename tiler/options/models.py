"""The options of a model: what counts as a detection on a tile, and where the model runs."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.fields import Checked, choice_option, option
from tiler.options.values import class_names, described, number, optional, whole

MODEL = "Model"
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class ModelOptions(Checked):
    """What a model finds on one tile. How the detections of tiles are merged is up to
    `MergeOptions`.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> ModelOptions(names=["car", "bus"]).names
    'car,bus'
    """

    conf: float = option(
        0.05,
        "Detections on a tile have a confidence above this.",
        number(0, 1),
        MODEL,
        "0..1",
    )
    nms_iou: float = option(
        0.7,
        "Non-maximum suppression within a tile: of two detections of a class whose IoU is above "
        "this, the one of lower confidence is dropped; not for models that do so themselves.",
        number(0, 1),
        MODEL,
        "0..1",
    )
    max_det: int = option(
        300,
        "Maximum detections on a tile, highest confidence first.",
        whole(1, 30_000),
        MODEL,
        "N",
    )
    names: str | None = option(
        None,
        "Class names, if the model has none or others are wanted: all of them, in order.",
        optional(described(class_names, "names of all classes, each once, such as car,bus,van")),
        MODEL,
        "NAME,NAME,...",
    )
    device: str = choice_option(
        "auto", "Where the model runs. auto: on a GPU, if the runtime has one.", DEVICES, MODEL
    )
