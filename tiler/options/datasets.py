"""How a dataset is read: the options that every verb with DATA has."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.fields import Checked, choice_option, flag_option

READING = "Reading the dataset"


@dataclass(frozen=True, slots=True)
class DatasetOptions(Checked):
    """What a dataset does not say about itself.

    Raises:
        TilerError: an invalid value, with what is expected.
    """

    as_split: str = choice_option(
        "auto",
        "The split that all images belong to; auto takes it from the names of folders and files.",
        ("auto", "train", "val", "test"),
        READING,
    )
    ignored: str = choice_option(
        "auto",
        "Regions marked iscrowd, ignore or difficult: mask their pixels, skip them (leave the "
        "pixels), or take them as objects. auto: difficult objects are objects; others are masked, "
        "unless all masks of the dataset are crowds.",
        ("auto", "mask", "skip", "objects"),
        READING,
    )
    frame: str = choice_option(
        "auto",
        "Where EXIF turns an image: whether labels are for the stored or the upright image. auto "
        "decides by the declared size, or if the boxes fit one of them only.",
        ("auto", "stored", "upright"),
        READING,
    )
    bbox: str = choice_option(
        "auto",
        "What the four numbers of a COCO bbox are: x, y, width, height, or two corners. auto is "
        "xywh, and stops if they look like corners.",
        ("auto", "xywh", "xyxy"),
        READING,
    )
    unlabelled: bool = flag_option(
        False, "Take images without any label file for background.", READING
    )
