"""Models that are Python functions: given tiles, they return the detections of each."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import short
from tiler.interop import foreign
from tiler.models.fingerprints import fingerprint
from tiler.models.readers import most_confident

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.models.protocol import Pixels
    from tiler.options.models import ModelOptions
    from tiler.types import Task

Detector: TypeAlias = Callable[[list[Any]], Any]

OWN = Path(__file__).parent.parent
UNUSED = ("nms_iou", "device")  # options


@dataclass(frozen=True, slots=True, eq=False)
class CallableModel:
    """A `Model` that is a function.

    It is given a list of tiles `(H, W, C)` uint8 RGB, and returns for each of them what
    `interop.foreign` takes. Its attribute `names`, if it has one, are those of its classes.

    Attributes:
        name: of the function, for messages.
        function: what runs it.
        options: confidence and number of detections.
    """

    name: str
    function: Detector
    options: ModelOptions
    names: tuple[str, ...] | None
    fingerprint: str

    task: Task | None = None
    kpt_shape: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    batch: int | None = None
    suppresses: bool = True

    @property
    def title(self) -> str:
        classes = "" if self.names is None else f", {len(self.names)} classes"
        return f"{self.name}: Python function{classes}"

    def prepared(self, pixels: Pixels) -> Any:
        """The tile, in memory of its own."""
        return np.ascontiguousarray(pixels)

    def run(self, batch: Sequence[Any]) -> list[Any]:
        """What the function returns, as a list.

        Raises:
            TilerError: it fails, or returns no list of as many as there are tiles.
        """
        tiles = list(batch)
        try:
            result = self.function(tiles)
            if inspect.isgenerator(result):
                result = list(result)
        except Exception as error:
            raise failure(self.name, error) from error
        if not isinstance(result, list | tuple):
            raise TilerError(
                f"{self.name}: expected a list of the detections of each of {len(tiles)} tiles, "
                f"got {type(result).__name__}"
            )
        if len(result) != len(tiles):
            raise TilerError(
                f"{self.name}: expected the detections of each of {len(tiles)} tiles, got "
                f"{len(result)}"
            )
        return list(result)

    def detections(
        self, output: Sequence[Any], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """The detections of each tile, in its px, by falling confidence."""
        return [self._read(given) for given, _ in zip(output, sizes, strict=False)]

    def _read(self, given: Any) -> Instances:
        try:
            found = foreign(given)
            if found.conf is None:
                raise TilerError("detections need a confidence each")
            return most_confident(found, self.options)
        except TilerError as error:
            raise TilerError(f"{self.name}: {error}") from None


def callable_model(function: Detector, options: ModelOptions, name: str = "") -> CallableModel:
    """The model that a function is.

    Args:
        name: as it was given on the command line.

    Raises:
        TilerError: its names are none.

    >>> from tiler.options import ModelOptions
    >>> def detect(tiles):
    ...     return [[[10, 20, 30, 40, 0.9, 2]] for tile in tiles]
    >>> model = callable_model(detect, ModelOptions())
    >>> tile = np.zeros((64, 64, 3), np.uint8)
    >>> model.detections(model.run([model.prepared(tile)]), [(64, 64)])[0].boxes.tolist()
    [[10.0, 20.0, 30.0, 40.0]]
    """
    qualified = _qualified_name(function)
    name = name or qualified
    names = _names(function, options, name)
    made_of = fingerprint(_module_files(qualified), [qualified], options, UNUSED)
    return CallableModel(name, function, options, names, made_of)


def imported(given: str) -> Detector:
    """The function that "module:function" names; modules of the current folder come first.

    Raises:
        TilerError: it cannot be imported, or is no function.
    """
    module_name, _, path = given.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and module_name.startswith(f"{error.name}"):
            raise TilerError(
                f"{given}: no module {error.name}, neither in {here} nor installed"
            ) from None
        raise failure(given, error) from error
    for part in path.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, [name for name in dir(found) if not name.startswith("_")])
            raise TilerError(f"{given}: there is no {short(part)} in it{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise TilerError(f"{given}: expected a function, got {type(found).__name__}")
    if inspect.isclass(found):
        raise TilerError(f"{given}: is a class; name an object of it, or a function that uses one")
    return found  # type: ignore[no-any-return]


def failure(name: str, error: BaseException) -> Exception:
    """The error of a function in one line, and where in its own code it came from; what is short of
    memory stays so.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryError(f"{name}: out of memory")
    if isinstance(error, TilerError) and type(error) is not TilerError:
        return error
    last = traceback.format_exception_only(error)[-1].strip()
    return TilerError(f"{name}: {last}{_place(error)}")


def _place(error: BaseException) -> str:
    """The last line of a traceback that is not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not Path(frame.filename).is_relative_to(OWN)]
    theirs = [frame for frame in theirs if not frame.filename.startswith("<frozen")]
    if not theirs:
        return ""
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})"


def _qualified_name(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def _names(function: Any, options: ModelOptions, name: str) -> tuple[str, ...] | None:
    if options.names is not None:
        return tuple(options.names.split(","))
    given = getattr(function, "names", None)
    if given is None:
        return None
    if isinstance(given, dict) and set(given) == set(range(len(given))):
        given = [given[number] for number in range(len(given))]
    if not isinstance(given, list | tuple):
        raise TilerError(f"{name}: expected a list of class names as its names, got {short(given)}")
    return tuple(map(str, given))


def _module_files(qualified: str) -> list[Path]:
    """The file of the module that a function is in; what that loads is not known."""
    module = sys.modules.get(qualified.partition(":")[0])
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return []
    return [Path(file)]
