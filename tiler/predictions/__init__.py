"""Prediction files of tiles, to columns: YOLO txt, JSON results, DOTA Task1, supervision.

The format of rows is never guessed row by row: it is decided once for all rows of a folder or a
file, and described in `kind`. Where it is ambiguous, that is an error.
"""

from __future__ import annotations

from tiler.predictions.opening import open_predictions
from tiler.predictions.values import FULL, Batch, Detections, Frames, Predictions, Reading

__all__ = ["FULL", "Batch", "Detections", "Frames", "Predictions", "Reading", "open_predictions"]
