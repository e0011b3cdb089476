"""The windows of all images go through the model: read ahead by threads, in batches across images,
and one image after the other comes out.

Four parties work at once: the threads that read (`_Reading`), the one that runs the model, the one
that reads its output, and the caller, who merges. Each hands over to the next by a queue of bounded
length. An error of an image goes with its windows; one of the run stops all of them.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tiler.errors import SourceRefused, TilerError, Unfinished
from tiler.geometry.instances import Instances
from tiler.models import Model
from tiler.predicting.lanes import Lanes, Stopped
from tiler.predicting.windows import MadeWindow, WindowedImage, WindowReader
from tiler.run.rejecting import DEBUG, refusal, said
from tiler.run.work_sharing import SharedThreads

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_HELD = 256_000_000  # bytes of decoded images beyond which no other is begun
OUTPUTS = 2  # batches whose output may wait to be read
IMAGES = 4  # images that may wait for the caller
PATIENCE = 0.1  # s; how often who waits for a queue looks whether the run has ended


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """What the model found in the windows of an image.

    Attributes:
        number: of the image.
        found: by window; None for a window that was left out as empty.
        refused: why there is nothing, if the image failed.
    """

    number: int
    found: list[Instances | None]
    refused: SourceRefused | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _PreparedWindow:
    """A window as the model takes it; `size` is its width and height."""

    image: int
    window: int
    content: Any
    size: tuple[int, int]


@dataclass(slots=True, eq=False)
class _ImageReading:
    """How far the reading of an image is: windows put into its lane, and those not made yet."""

    number: int
    put: int = 0
    pending: list[Future[_PreparedWindow | None]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _WindowBatch:
    """Windows that the model is given at once, and the images that end with or before them."""

    windows: list[_PreparedWindow] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    output: Any = None
    error: Exception | None = None


class ModelRun:
    """A run of a model over images; iterate over it once.

    Args:
        batch: how many windows the model is given at once.
        threads: how many threads read.
    """

    def __init__(
        self,
        model: Model,
        images: Sequence[WindowedImage],
        reader: WindowReader,
        batch: int,
        threads: int,
    ) -> None:
        self.model = model
        self.images = images
        self.reader = reader
        self.batch = batch
        self.clock = reader.clock
        self._threads = SharedThreads(threads)
        self._readers = ThreadPoolExecutor(threads, "tiler-read")
        ahead = 3 * batch + 2 * threads
        self._lanes: Lanes[Future[_PreparedWindow | None]] = Lanes(
            [len(image.tiles) for image in images],
            [image.held for image in images],
            ahead,
            MOST_HELD,
        )
        self._refused: dict[int, SourceRefused] = {}
        self._outputs: queue.Queue[_WindowBatch | None] = queue.Queue(OUTPUTS)
        self._done: queue.Queue[SeenImage | None] = queue.Queue(IMAGES)
        self._running = threading.Lock()  # the model runs in one thread at a time
        self._proven: _PreparedWindow | None = None  # a window that the model has taken
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[SeenImage]:
        """Each image, in order, as it is complete.

        Raises:
            TilerError: the model cannot be run at all.
            Unfinished: the device, or memory, is lost.
        """
        self.clock.begin()
        for number in range(len(self.images)):
            self._readers.submit(self._guarded, partial(self._read, number))
        parties = [
            threading.Thread(target=self._guarded, args=(party,), daemon=True)
            for party in (self._run_model, self._read_outputs)
        ]
        for party in parties:
            party.start()
        try:
            while (seen := self._taken(self._done)) is not None:
                yield seen
        except Stopped:
            assert self._failure is not None
            raise self._failure from None
        finally:
            self._end()
            for party in parties:
                party.join()
            self._readers.shutdown(cancel_futures=True)
            self._threads.close()

    # --- parties

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do a party's work; whatever fails ends the run."""
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            self._failure = self._failure or error
            self._end()

    def _end(self) -> None:
        self._stop.set()
        self._lanes.stop()

    def _read(self, number: int) -> None:
        """Read an image; its windows are prepared by any free thread."""
        reading = _ImageReading(number)
        try:
            self._lanes.wait_turn(number)
            try:
                with self._threads.busy():
                    self._cut(reading)
            except MemoryError:  # others may have taken it
                self._lanes.wait_first(number)
                with self._threads.busy():
                    self._cut(reading)
        except Stopped:
            pass
        except Exception as error:
            self._refused.setdefault(number, refusal(error))
        finally:
            wait(reading.pending)
            self._lanes.close(number)

    def _cut(self, reading: _ImageReading) -> None:
        """Put the windows of an image into its lane, but those that are there."""
        number = reading.number
        windows = self.reader.windows(self.images[number], self._threads.later)
        for count, (window, make) in enumerate(windows):
            if count < reading.put:
                continue
            if not self._lanes.has_room(number, count):
                with self._threads.waiting():
                    self._lanes.wait_room(number, count)
            future = self._threads.later(partial(self._prepared, number, window, make))
            reading.put += 1
            # not those that are done: they hold their pixels
            reading.pending = [one for one in (*reading.pending, future) if not one.done()]
            self._lanes.put(number, future)

    def _prepared(self, image: int, window: int, make: MadeWindow) -> _PreparedWindow | None:
        """A window as the model takes it; None where it is empty."""
        pixels = make()
        if pixels is None:
            return None
        size = (pixels.shape[1], pixels.shape[0])
        with self.clock.timed("preprocess"):
            return _PreparedWindow(image, window, self._as_taken(pixels), size)

    def _as_taken(self, pixels: NDArray[Any]) -> Any:
        try:
            return self.model.prepared(pixels)
        except (TilerError, MemoryError):
            raise
        except Exception as error:
            raise self._model_failed(error) from error

    def _run_model(self) -> None:
        for batch in self._batches():
            if batch.windows:
                try:
                    batch.output = self._run(batch.windows)
                except Exception as error:
                    batch.error = error
            self._put(self._outputs, batch)
        self._put(self._outputs, None)

    def _batches(self) -> Iterator[_WindowBatch]:
        """The windows of all images, some at a time, in order."""
        batch = _WindowBatch()
        current = 0
        for image, future in self._lanes:
            batch.ended += range(current, image)
            current = image
            window = self._checked(image, future)
            if window is None:
                continue
            batch.windows.append(window)
            if len(batch.windows) == self.batch:
                yield batch
                batch = _WindowBatch()
        batch.ended += range(current, len(self.images))
        yield batch

    def _checked(
        self, image: int, future: Future[_PreparedWindow | None]
    ) -> _PreparedWindow | None:
        """A window of an image; None where it is empty, or the image has failed."""
        if image in self._refused:
            return None
        try:
            return future.result()
        except Exception as error:
            self._refused[image] = refusal(error)
            self._lanes.give_up(image)
            return None

    def _run(self, windows: Sequence[_PreparedWindow]) -> Any:
        """What the model says of some windows; a model of a fixed batch gets one window more than
        once.
        """
        contents = [window.content for window in windows]
        missing = (self.model.batch or 0) - len(contents)
        contents += contents[-1:] * missing
        with self._running, self.clock.timed("inference"):
            return self.model.run(contents)

    def _read_outputs(self) -> None:
        found: dict[int, list[Instances | None]] = {}
        while (batch := self._taken(self._outputs)) is not None:
            for window, instances in zip(batch.windows, self._found(batch), strict=True):
                own = found.setdefault(window.image, [None] * len(self.images[window.image].tiles))
                own[window.window] = instances
            for number in batch.ended:
                nothing: list[Instances | None] = [None] * len(self.images[number].tiles)
                own = found.pop(number, nothing)
                self._put(self._done, SeenImage(number, own, self._refused.get(number)))
        self._put(self._done, None)

    # --- the model's output, and its failures

    def _found(self, batch: _WindowBatch) -> Sequence[Instances | None]:
        """The detections in each window of a batch. Where the model fails, each image is tried
        alone, and rejected if that fails, too.

        Raises:
            TilerError: the model has never worked.
            Unfinished: it no longer does.
        """
        if not batch.windows:
            return []
        try:
            if batch.error is not None:
                raise batch.error
            found = self._detections(batch.output, batch.windows)
        except Exception as error:
            self._require_image_at_fault(error, len(batch.windows))
            return self._found_alone(batch.windows)
        self._proven = self._proven or batch.windows[0]
        return found

    def _detections(self, output: Any, windows: Sequence[_PreparedWindow]) -> list[Instances]:
        with self.clock.timed("postprocess"):
            found = self.model.detections(output, [window.size for window in windows])
        if len(found) != len(windows):
            raise TilerError(f"{self.model.title}: {len(found)} results for {len(windows)} tiles")
        self.clock.tiles += len(windows)
        return found

    def _require_image_at_fault(self, error: Exception, count: int) -> None:
        if os.environ.get(DEBUG) or isinstance(error, Unfinished):
            raise error
        if isinstance(error, MemoryError):
            what = f"{self.model.title}: not enough memory for {count} tiles at once"
            raise Unfinished(f"{what}; use a smaller --batch, and run again to resume") from None
        if self._proven is None:
            if isinstance(error, TilerError):
                raise error
            raise TilerError(f"{self.model.title}: cannot be run: {said(error)}") from None

    def _found_alone(self, windows: Sequence[_PreparedWindow]) -> list[Instances | None]:
        """The detections of a batch, by image; none of those at which the model fails again."""
        found: list[Instances | None] = []
        for number in sorted({window.image for window in windows}):
            own = [window for window in windows if window.image == number]
            try:
                found += self._detections(self._run(own), own)
            except Exception as error:
                self._require_image_at_fault(error, len(own))
                self._require_working(error)
                self._refused.setdefault(number, self._model_failed(error))
                self._lanes.give_up(number)
                found += [None] * len(own)
        return found

    def _require_working(self, error: Exception) -> None:
        """Raises:
        Unfinished: the model fails at what it has taken before: the device is lost.
        """
        assert self._proven is not None
        try:
            self._run([self._proven])
        except Exception:
            what = f"{self.model.title}: no longer runs: {said(error)}"
            raise Unfinished(f"{what}; run again to resume") from None

    def _model_failed(self, error: Exception) -> SourceRefused:
        return SourceRefused("X02", f"the model fails on it: {said(error)}")

    # --- queues that end with the run

    def _put(self, line: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                line.put(item, timeout=PATIENCE)
                return
        raise Stopped

    def _taken(self, line: queue.Queue[Any]) -> Any:
        while not self._stop.is_set():
            with suppress(queue.Empty):
                return line.get(timeout=PATIENCE)
        raise Stopped
