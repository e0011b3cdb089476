"""ONNX Runtime behind a gate: where it runs, what it takes, and its errors as ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiler.errors import TilerError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA = "pip install 'tilestitch[onnx]'"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
SHORT_OF_MEMORY = ("bad_alloc", "allocate memory", "out of memory")
SILENT = 4  # only what is fatal is logged
LARGEST = 2**30  # bytes of one output


class Session:
    """A loaded model."""

    def __init__(self, path: Path, device: str) -> None:
        """
        Raises:
            TilerError: ONNX Runtime is not installed, cannot load the model, or has no such
                device.
        """
        self.path = path
        runtime = _runtime(path)
        providers = _providers(runtime, device)
        options = runtime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = _cores()
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except MemoryError:
            raise
        except Exception as error:  # it has no base class of its own
            raise self._failed("cannot load it", error) from None
        self.device = "cpu"
        if PROVIDERS["cuda"] in self._session.get_providers():
            self.device = "cuda"
        if device == "cuda" and self.device != "cuda":
            raise TilerError(
                f"{path}: --device cuda: ONNX Runtime cannot use the GPU: its CUDA or cuDNN is not "
                "there or of another version"
            )
        self.version = str(runtime.__version__)
        self.inputs: Sequence[Any] = self._session.get_inputs()
        self.outputs = [output.name for output in self._session.get_outputs()]
        self.words: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, name: str, values: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs for an input.

        Raises:
            MemoryError: there is not enough.
            TilerError: it failed otherwise.
        """
        try:
            arrays: list[NDArray[Any]] = self._session.run(self.outputs, {name: values})
        except MemoryError:
            raise
        except Exception as error:
            if any(words in str(error).lower() for words in SHORT_OF_MEMORY):
                raise MemoryError(f"{self.path}: out of memory") from None
            raise self._failed("failed", error) from None
        for output, array in zip(self.outputs, arrays, strict=True):
            if not hasattr(array, "nbytes") or array.nbytes > LARGEST:
                raise TilerError(
                    f"{self.path}: output {printable(output)} is no array, or too large"
                )
        return arrays

    def _failed(self, what: str, error: Exception) -> TilerError:
        reason = str(error).strip().splitlines()
        return TilerError(f"{self.path}: ONNX Runtime {what}: {(reason or ['?'])[0][:300]}")


def _runtime(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        if error.name == "onnxruntime":
            raise TilerError(f"{path}: running it needs {EXTRA}") from None
        raise TilerError(f"{path}: ONNX Runtime cannot be loaded: {error}") from None
    return onnxruntime


def _providers(runtime: Any, device: str) -> list[str]:
    """Where a model may run, best first.

    Raises:
        TilerError: the device is not there.
    """
    there = runtime.get_available_providers()
    if device == "cuda" and PROVIDERS["cuda"] not in there:
        known = [name for name, provider in PROVIDERS.items() if provider in there]
        raise TilerError(
            f"--device cuda: ONNX Runtime as installed runs on {', '.join(known)}; pip install "
            "onnxruntime-gpu, instead of onnxruntime, runs on a GPU"
        )
    names = ("cpu",) if device == "cpu" else ("cuda", "cpu")
    return [PROVIDERS[name] for name in names if PROVIDERS[name] in there]


def _cores() -> int:
    """As many threads as there are cores for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
