"""tiler: large images with small objects, from a YOLO dataset to tiles and back.

>>> import tiler
>>> [(w.x, w.width) for w in tiler.grid(1000, 640, tile=640, overlap=128)]
[(0, 640), (360, 640)]
"""

from __future__ import annotations

from tiler.version import __version__

# Not from typing, which takes a while to load: a Ctrl-C meanwhile would end in a traceback
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from tiler.errors import SourceRefused, TilerError, Unfinished, UnknownImage
    from tiler.findings import Finding
    from tiler.geometry.grids import grid
    from tiler.geometry.instances import Instances
    from tiler.geometry.polygons import Rings
    from tiler.geometry.window import Window
    from tiler.inspecting.advising import PlanReport, plan
    from tiler.inspecting.checking import CheckReport, check
    from tiler.inspecting.showing import show
    from tiler.merging import Merged, MergeReport, merge
    from tiler.options import MergeOptions, PlanOptions, PredictOptions, ScoreOptions, SplitOptions
    from tiler.predicting import PredictReport, predict
    from tiler.scoring import Metrics, score
    from tiler.splitting import SplitReport, split
    from tiler.splitting.lazy_tiles import Tiles
    from tiler.stitching import Stitched, stitch
    from tiler.stitching.detections import ImageDetections

HOMES = {
    "CheckReport": "tiler.inspecting.checking",
    "Finding": "tiler.findings",
    "ImageDetections": "tiler.stitching.detections",
    "Instances": "tiler.geometry.instances",
    "MergeOptions": "tiler.options",
    "MergeReport": "tiler.merging",
    "Merged": "tiler.merging",
    "Metrics": "tiler.scoring",
    "PlanOptions": "tiler.options",
    "PlanReport": "tiler.inspecting.advising",
    "PredictOptions": "tiler.options",
    "PredictReport": "tiler.predicting",
    "Rings": "tiler.geometry.polygons",
    "ScoreOptions": "tiler.options",
    "SourceRefused": "tiler.errors",
    "SplitOptions": "tiler.options",
    "SplitReport": "tiler.splitting",
    "Stitched": "tiler.stitching",
    "TilerError": "tiler.errors",
    "Tiles": "tiler.splitting.lazy_tiles",
    "Unfinished": "tiler.errors",
    "UnknownImage": "tiler.errors",
    "Window": "tiler.geometry.window",
    "check": "tiler.inspecting.checking",
    "grid": "tiler.geometry.grids",
    "merge": "tiler.merging",
    "plan": "tiler.inspecting.advising",
    "predict": "tiler.predicting",
    "score": "tiler.scoring",
    "show": "tiler.inspecting.showing",
    "split": "tiler.splitting",
    "stitch": "tiler.stitching",
}

__all__ = [
    "CheckReport",
    "Finding",
    "ImageDetections",
    "Instances",
    "MergeOptions",
    "MergeReport",
    "Merged",
    "Metrics",
    "PlanOptions",
    "PlanReport",
    "PredictOptions",
    "PredictReport",
    "Rings",
    "ScoreOptions",
    "SourceRefused",
    "SplitOptions",
    "SplitReport",
    "Stitched",
    "TilerError",
    "Tiles",
    "Unfinished",
    "UnknownImage",
    "Window",
    "__version__",
    "check",
    "grid",
    "merge",
    "plan",
    "predict",
    "score",
    "show",
    "split",
    "stitch",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Names are imported when first used, so that `tiler --help` does not wait for numpy."""
    if name not in HOMES:
        raise AttributeError(f"module 'tiler' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(HOMES[name]), name)
    return value
