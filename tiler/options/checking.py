"""The options of `tiler check`."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.datasets import DatasetOptions
from tiler.options.shared import max_pixels_option, task_option, workers_option


@dataclass(frozen=True, slots=True)
class CheckOptions(DatasetOptions):
    """How `tiler check` reads a dataset."""

    task: str = task_option(
        "Type of the labels; auto infers it for the whole dataset and reports it.",
        "Labels",
        "semantic",
    )
    max_pixels: str | int = max_pixels_option()
    workers: int = workers_option()
