"""The options of `tiler plan`."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.datasets import DatasetOptions
from tiler.options.fields import option, when
from tiler.options.shared import RUN, max_pixels_option, task_option, workers_option
from tiler.options.values import described, number, overlaps, tile_sides, whole

WANTED, COMPARED = "What is wanted", "What is compared"


@dataclass(frozen=True, slots=True)
class PlanOptions(DatasetOptions):
    """What `tiler plan` looks for, and what it compares.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> PlanOptions(tile="640,320").tile
    (320, 640)
    """

    imgsz: int = option(
        640,
        "Size to which the trainer resizes the longer side of a tile.",
        whole(32, 65500),
        WANTED,
        "PX",
    )
    keep: float = option(
        99.0,
        "Percentage of the small objects that must be whole in a tile.",
        number(0, 100),
        WANTED,
        "0..100",
    )
    min_px: float = option(
        16.0,
        "Least median side of the small objects after the trainer's resize, in pixels.",
        number(0),
        WANTED,
        "PX",
    )
    tile: str | tuple[int, ...] = option(
        "auto",
        "Sides of tiles to compare; auto takes those that suit the images.",
        described(tile_sides, "auto, or sides of 10 px or more, such as 640,1280"),
        COMPARED,
        "auto|640,1280",
        given="int | Sequence[int] | str",
    )
    overlap: str | tuple[float, ...] = option(
        "auto",
        "Overlaps to compare, as fractions or pixels; auto takes none, the least that keeps enough "
        "objects whole, one that does so wherever they lie, and 0.2.",
        described(overlaps, "auto, or fractions of the tile below 1 or whole pixels: 0,0.2,64"),
        COMPARED,
        "auto|0,0.2,64",
        given="float | Sequence[float] | str",
    )
    task: str = task_option(
        "Type of the labels; auto infers it for the whole dataset and reports it.", COMPARED
    )
    sample: int = option(
        1000,
        "Number of images to count on at most, drawn at random; 0 = all.",
        whole(0),
        RUN,
        "N",
    )
    seed: int = option(
        0, "Random seed for the sample.", whole(0), RUN, "INT", idle=when("sample", 0)
    )
    max_pixels: str | int = max_pixels_option()
    workers: int = workers_option()
