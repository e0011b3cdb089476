"""Detectors: tiles in, detections out. What `tiler predict` runs."""

from __future__ import annotations

from tiler.models.opening import opened
from tiler.models.protocol import Model

__all__ = ["Model", "opened"]
