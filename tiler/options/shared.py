"""Options that several verbs have."""

from __future__ import annotations

from typing import Any

from tiler.options.fields import choice_option, option
from tiler.options.values import auto_or, whole
from tiler.types import TASKS

PIXELS, RUN = "Pixels", "Run"


def task_option(help: str, group: str, *more: str) -> Any:
    """--task. `more`: tasks of which only some verbs know."""
    return choice_option("auto", help, ("auto", *TASKS, *more), group)


def max_pixels_option() -> Any:
    """--max-pixels."""
    return option(
        "auto",
        "Reject images with more pixels. auto: 178956970 for an image that must be decoded whole, "
        "no limit for one that is read in strips.",
        auto_or(1),
        PIXELS,
        "auto|N",
        given='Literal["auto"] | int',
    )


def pixel_limit(chosen: str | int) -> int | None:
    """The limit that --max-pixels sets; None (auto) leaves it to the image's reader."""
    if isinstance(chosen, str):
        return None
    return chosen


def workers_option() -> Any:
    """--workers."""
    return option(
        0, "Number of parallel workers; 0 = one per CPU core.", whole(0, 4096), RUN, "INT"
    )
