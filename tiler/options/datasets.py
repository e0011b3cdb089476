"""How a dataset is read: the options that every verb with DATA has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiler.options.fields import Checked, choice_option, flag_option, option
from tiler.options.values import number, stripped

READING = "Reading the dataset"
GIS = "Labels of a GIS"


def _labels_only(options: Any) -> str:
    """Why an option of vector files has no effect."""
    return "" if options.labels else "--labels names no vector file"


@dataclass(frozen=True, slots=True)
class LabelOptions(Checked):
    """What annotations do not say about their coordinates."""

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


@dataclass(frozen=True, slots=True)
class DatasetOptions(LabelOptions):
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
    labels: str = option(
        "",
        "GIS file with the labels of GeoTIFFs: GeoPackage, GeoJSON or Shapefile (extra 'gis').",
        stripped,
        GIS,
        "FILE",
        given="str | Path",
    )
    class_field: str = option(
        "",
        "The field of that file that names the class; without it, all features are one class.",
        stripped,
        GIS,
        "NAME",
        idle=_labels_only,
    )
    layer: str = option(
        "", "The layer of that file, if it has several.", stripped, GIS, "NAME", idle=_labels_only
    )
    point_size: float = option(
        0.0,
        "Side in pixels of the box that is made of a point (GIS, labelme, CSV); 0 rejects points.",
        number(0),
        READING,
        "PX",
    )
    unlabelled: bool = flag_option(
        False, "Take images without any label file for background.", READING
    )
