"""The options of each verb: one dataclass for the library, the command line and `--config`."""

from __future__ import annotations

from tiler.options.checking import CheckOptions
from tiler.options.datasets import DatasetOptions, LabelOptions
from tiler.options.merging import METHODS, MergeOptions
from tiler.options.models import ModelOptions
from tiler.options.planning import PlanOptions
from tiler.options.predicting import PredictOptions
from tiler.options.predictions import PredictionOptions, ReadingOptions
from tiler.options.running import RunOptions
from tiler.options.scoring import ScoreOptions
from tiler.options.shared import pixel_limit
from tiler.options.showing import ShowOptions
from tiler.options.splitting import SplitOptions

__all__ = [
    "METHODS",
    "CheckOptions",
    "DatasetOptions",
    "LabelOptions",
    "MergeOptions",
    "ModelOptions",
    "PlanOptions",
    "PredictOptions",
    "PredictionOptions",
    "ReadingOptions",
    "RunOptions",
    "ScoreOptions",
    "ShowOptions",
    "SplitOptions",
    "pixel_limit",
]
