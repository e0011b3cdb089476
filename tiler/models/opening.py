"""Which kind of model was given."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiler.errors import TilerError
from tiler.findings import short
from tiler.models.callables import callable_model, imported
from tiler.models.onnx_model import onnx_model
from tiler.models.ultralytics_model import is_ultralytics, ultralytics_file, ultralytics_model
from tiler.options.models import ModelOptions

if TYPE_CHECKING:
    from tiler.models.protocol import Model

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
BY_ULTRALYTICS = (".pt", ".engine", ".torchscript", ".mlpackage", ".tflite", ".pb")
KINDS = "a .onnx file, module:function, or what Ultralytics runs (.pt, .engine, an exported folder)"


def opened(model: str | Path | Callable[..., Any], options: ModelOptions | None = None) -> Model:
    """The model that was given.

    Args:
        model: a `.onnx` file; the name of a Python function, "module:function"; a function; a file
            or folder that Ultralytics runs, or its object.

    Raises:
        TilerError: it is none, or cannot be loaded.

    >>> opened("best.onxx")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: best.onxx: no such model; expected a .onnx file, module:function, or \
what Ultralytics runs (.pt, .engine, an exported folder)
    """
    options = options or ModelOptions()
    if is_ultralytics(model):
        return ultralytics_model(model, options)
    if not isinstance(model, str | Path):
        return _function(model, options)
    path = Path(model)
    if not path.exists():
        if FUNCTION.fullmatch(str(model)):
            return callable_model(imported(str(model)), options, str(model))
        raise TilerError(f"{path}: no such model; expected {KINDS}")
    if path.suffix.lower() == ".onnx" and path.is_file():
        return onnx_model(path, options)
    if path.suffix.lower() in BY_ULTRALYTICS or (path.is_dir() and _is_exported(path)):
        return ultralytics_file(path, options)
    raise TilerError(f"{path}: is no model; expected {KINDS}")


def _function(model: Any, options: ModelOptions) -> Model:
    if not callable(model):
        raise TilerError(f"model: expected a path or a function, got {short(model)}")
    return callable_model(model, options)


def _is_exported(folder: Path) -> bool:
    """Whether a folder is an export of Ultralytics, such as best_openvino_model."""
    return folder.name.endswith("_model") or (folder / "metadata.yaml").is_file()
