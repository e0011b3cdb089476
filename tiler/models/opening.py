"""Which kind of model was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiler.errors import TilerError

if TYPE_CHECKING:
    from tiler.models.protocol import Model
    from tiler.options.models import ModelOptions


def opened(model: str | Path | Callable[..., Any], options: ModelOptions) -> Model:
    from tiler.models.onnx_model import onnx_model
    return onnx_model(Path(model), options)
