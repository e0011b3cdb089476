"""`tiler predict`: a model over images of any size, window by window, and the detections merged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiler.errors import TilerError
from tiler.formats import provenance
from tiler.merging.building import build, closed, count, require_none, unchanged, works
from tiler.merging.output import owned_in
from tiler.models import opened
from tiler.options import ModelOptions, PredictOptions
from tiler.options.fields import partition
from tiler.options.signatures import takes
from tiler.options.values import optional_path, path
from tiler.predicting.execution import PredictExecution, TilesProgress
from tiler.predicting.planning import PredictPlan, PredictReport, PredictRequest, planned
from tiler.run.output_folder import occupied, require_apart, resolved
from tiler.run.transaction import produced
from tiler.stitching.detections import ImageDetections

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import PredictArguments

__all__ = ["PredictReport", "PredictStream", "TilesProgress", "default", "predict", "written"]

OF_FILES = (  # options of what is written
    "affine",
    "category_base",
    "crs",
    "dry_run",
    "export",
    "image_ids",
    "overwrite",
    "save_tiles_txt",
    "to_crs",
)
AMBIGUOUS = "there is no --iou: --nms-iou is of the model, within a tile; --merge-iou of the merge"
log = logging.getLogger("tiler")


class PredictStream:
    """Detections of images, one image after the other; iterate over it once.

    Attributes:
        report: counts and findings up to now; images that fail are among the findings, and are
            passed over.
        sources: the images' paths, sorted.
    """

    def __init__(self, plan: PredictPlan) -> None:
        self._plan = replace(plan, job=replace(plan.job, write=False))
        self.report: PredictReport = plan.report  # type: ignore[assignment]
        self.sources = [piece.key for piece in plan.pieces]
        self._sizes = {piece.key: (piece.width, piece.height) for piece in plan.pieces}

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[str, ImageDetections]]:
        """Each image's path and its detections, in its pixels.

        Raises:
            TilerError: the model cannot be run.
            Unfinished: the device, or memory, is lost.
        """
        plan = self._plan
        names = self.report.names
        execution = PredictExecution(plan.chosen.running(), plan=plan)
        for item in works(plan, plan.pieces, execution):
            count(self.report, item)
            if not item.outcome.rejected:
                size = self._sizes[item.outcome.key]
                yield item.outcome.key, ImageDetections.of(item.instances, names, size)
                continue
            for finding in item.outcome.findings:
                log.warning("%s", finding)
        closed(self.report)


@takes(PredictOptions, ModelOptions, without=OF_FILES)
def predict(
    source: str | Path,
    model: str | Path | Callable[..., Any],
    *,
    images: str | Path | None = None,
    data: str | Path | None = None,
    **options: Unpack[PredictArguments],
) -> PredictStream:
    """Detect objects in images of any size: a model looks at overlapping windows, and what it
    finds there is merged. Nothing is written.

    Args:
        source: an image, a folder, a glob, a list of images, a dataset.yaml or a COCO JSON.
        model: a file, or a function that is given a list of `(H, W, C)` uint8 arrays and returns
            for each what `stitch` takes.
        images: the images' folder, of a COCO JSON.
        data: a dataset whose class names count.
        options: any of `PredictOptions` (tile, overlap, full, method, ...) and `ModelOptions`
            (conf, nms_iou, max_det, names, device).

    Returns:
        To iterate over: each image's path, and its `ImageDetections`.

    Raises:
        TilerError: unusable input or options, or a model that cannot be opened.

    >>> predict("no/such/image.tif", lambda tiles: [])
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/image.tif: no such file or folder
    """
    for name in OF_FILES:
        if name in options:
            raise TilerError(f"{name}: nothing is written by a stream; see tiler predict")
    return PredictStream(_planned(source, model, images, data, options))


def written(
    model: str | Path | Callable[..., Any],
    source: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    data: str | Path | None = None,
    strict: bool = False,
    progress: Callable[[TilesProgress], None] | None = None,
    **options: Any,
) -> PredictReport:
    """The same, written as `tiler merge` writes it.

    Args:
        out: the output folder.
        strict: anything that is rejected is an error.
        progress: called as images are done.

    Raises:
        TilerError: see `predict`; or an output that must not be replaced.
        Unfinished: a full disk, a lost device, another run on the same output. What is done is
            kept beside `out`, and the same call resumes it.
    """
    plan = _planned(source, model, images, data, options)
    run = plan.chosen.running()
    execution = PredictExecution(run, strict, plan=plan, seen=progress)
    report = plan.report
    require_none(report.findings, strict)
    if run.dry_run:
        for item in works(plan, plan.pieces, execution):
            count(report, item)
        return cast("PredictReport", closed(report))
    target = resolved(path(out, "out"))
    require_apart(target, Path(source), "the images")
    head = plan.head()
    made = produced(
        target,
        lambda: occupied(target, provenance.NAME, run.overwrite, owned_in),
        lambda: unchanged(plan, target, head, execution),
        lambda staging: build(plan, staging, head, execution),
    )
    rows = plan.chosen.save_tiles_txt
    if made.unchanged and rows is not None and not os.path.exists(rows):
        raise TilerError(
            f"--save-tiles-txt {rows}: {target} is complete, so the model did not run; use "
            "--overwrite"
        )
    return cast("PredictReport", made)


def default(source: Path) -> Path:
    """`<SOURCE>-predicted` beside the images.

    >>> default(Path("data/survey")).as_posix(), default(Path("scan.tif")).as_posix()
    ('data/survey-predicted', 'scan-predicted')
    """
    place = source.absolute() if source.name in ("", ".", "..") else source
    name = place.stem if place.suffix else place.name
    return place.with_name(f"{name.strip('*?[]') or 'images'}-predicted")


def _planned(
    source: Any, model: Any, images: Any, data: Any, options: Mapping[str, Any]
) -> PredictPlan:
    """Options checked, the model and the images opened."""
    if "iou" in options:
        raise TilerError(AMBIGUOUS)
    given, given_model = partition(options, PredictOptions, ModelOptions)
    chosen = PredictOptions.of(given)
    for_model = ModelOptions.of(given_model)
    file = None
    if isinstance(model, str | Path) and os.path.exists(model):
        file = Path(model)
    request = PredictRequest(
        opened(model, for_model),
        path(source, "source"),
        chosen,
        for_model,
        optional_path(images, "images"),
        optional_path(data, "data"),
        file,
    )
    return planned(request)
