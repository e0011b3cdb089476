"""`tiler plan`: which tile and overlap suit a dataset, counted on its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.datasets import ignoring, tasks, unlabelled
from tiler.datasets.dataset import Dataset
from tiler.datasets.opening import find
from tiler.inspecting.advising import plotting, wording
from tiler.inspecting.advising.building import report_of
from tiler.inspecting.advising.counting import count_all
from tiler.inspecting.advising.passes import Passes, drawn
from tiler.inspecting.advising.report import PlanReport, recommended
from tiler.inspecting.advising.settings import SmallObjects, settings
from tiler.inspecting.advising.survey import gathered, survey_all
from tiler.options import DatasetOptions, PlanOptions, SplitOptions
from tiler.options.fields import option_names
from tiler.options.signatures import takes
from tiler.options.values import optional_path, path
from tiler.run import notes
from tiler.tiling.job import SplitJob

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import PlanArguments

__all__ = ["PlanReport", "plan"]

SPLIT_TOO = option_names(DatasetOptions) | {"task", "max_pixels"}  # options of split as well


@takes(PlanOptions)
def plan(
    data: str | Path,
    *,
    images: str | Path | None = None,
    plot: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[PlanArguments],
) -> PlanReport:
    """Which tile and overlap suit a dataset: what several make of its labels, and the best of them.

    Only labels and the headers of images are read. The numbers are those of `tiler.split` with the
    same tile and overlap.

    Args:
        data: as of `tiler.split`.
        images: the images' folder, of a COCO JSON.
        plot: a PNG file to make, in which the comparison is drawn; needs the extra `plot`.
        progress: called with the number of readings done, and of all: two for each image.
        options: any of `PlanOptions` (imgsz, keep, min_px, tile, overlap, sample, ...).

    Raises:
        TilerError: the dataset cannot be read at all, an overlap leaves no stride, or the plot
            cannot be made.
        Unfinished: a label file or image was changed meanwhile.

    >>> report = plan("examples/scenes", tile=(512, 640), overlap=(0, 0.1))
    >>> report.command
    'tiler split examples/scenes --tile 512 --overlap 0.1'
    """
    chosen = PlanOptions.of(options)
    chosen.require_in_effect()
    if plot is not None:
        plotting.require(Path(plot))
    source, folder = path(data, "data"), optional_path(images, "images")
    dataset = find(source, folder, chosen)
    split = SplitOptions(**{name: getattr(chosen, name) for name in SPLIT_TOO})
    ignored = ignoring.decide(dataset, chosen.ignored)
    task, task_reason = tasks.decide(dataset, chosen.task)
    decided = replace(split, task=task, ignored=ignored)
    dataset.findings.extend(unlabelled.settle(dataset, chosen.unlabelled))
    watched = notes.watched("readings of images", progress, notes.images)
    report = _compared(dataset, SplitJob.of(dataset, decided), chosen, watched)
    report.task, report.task_reason = task, task_reason
    report.recommended = recommended(report.settings)
    if report.choice is not None and report.choice.tile is not None:
        report.command = wording.command_line(source, folder, split, report.choice)
    report.reason = wording.reason(report)
    report.remarks = wording.remarks(report)
    if plot is not None:
        plotting.write(report, Path(plot))
    notes.finished("plan", [report.title(), *report.remarks], report.findings)
    return report


def _compared(
    dataset: Dataset,
    job: SplitJob,
    chosen: PlanOptions,
    progress: Callable[[int, int], None] | None,
) -> PlanReport:
    """Read all labels once to know what to compare, and once more to count it."""
    sources = drawn(dataset.sources, chosen)
    passes = Passes(job, chosen, len(sources), progress)
    survey = gathered(sources, passes.each(survey_all, sources))
    small = SmallObjects.among(survey.objects.area)
    compared = settings(survey, survey.objects.take(small.of(survey.objects.area)), chosen)
    counted = passes.each(partial(count_all, compared, small), survey.sources)
    return report_of(dataset, chosen, survey, small, compared, counted)
