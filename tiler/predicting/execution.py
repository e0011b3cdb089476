"""Images detected and merged one after the other, where `tiler merge` reads files."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused
from tiler.formats import exports
from tiler.images import geo
from tiler.merging.building import MergeExecution
from tiler.merging.work import UNREADABLE, MergeJob, Piece, Work, rejected, work
from tiler.predicting.planning import PredictPlan, PredictReport
from tiler.predicting.running import ModelRun, SeenImage
from tiler.run import workers
from tiler.run.rejecting import refusal
from tiler.run.staging import writing


@dataclass(frozen=True, slots=True)
class TilesProgress:
    """How far a run is: images done of all, and windows that the model has seen."""

    done: int
    total: int
    tiles: int


@dataclass(frozen=True, slots=True)
class PredictExecution(MergeExecution):
    """How images are detected, and then merged. See `MergeExecution`.

    Attributes:
        seen: called with the progress as images are done.
    """

    plan: PredictPlan = None  # type: ignore[assignment]
    seen: Callable[[TilesProgress], None] | None = None

    def works(self, job: MergeJob, pieces: Sequence[Piece]) -> Iterator[Work]:
        """The model sees the images, and each is merged when it is complete."""
        plan = self.plan
        first = len(plan.pieces) - len(pieces)
        threads = workers.count(self.run.workers)
        images = plan.images[first:]
        model_run = ModelRun(plan.model, images, plan.reader, plan.batch, threads)
        with self._digests_ahead(range(first, len(plan.pieces)) if job.write else ()) as digests:
            for seen in model_run:
                yield self._merged(job, first + seen.number, seen, next(digests, ""))
        if isinstance(plan.report, PredictReport) and model_run.clock.tiles:
            plan.report.speed = model_run.clock.speed()

    def digests(self, pieces: Sequence[Piece]) -> Iterator[str]:
        """The digest of each image and its windows as they are now; `pieces`: the first ones."""
        numbers = {piece.key: number for number, piece in enumerate(self.plan.pieces)}

        def digest(piece: Piece) -> str:
            return self._digest(numbers[piece.key])

        return self.stream(digest, pieces)

    def done(self, number: int, total: int) -> None:
        if self.seen is not None:
            self.seen(TilesProgress(number, total, self.plan.reader.clock.tiles))

    @contextmanager
    def _digests_ahead(self, numbers: Iterable[int]) -> Iterator[Iterator[str]]:
        """The digests of images, each made while the model sees the image."""
        pool = ThreadPoolExecutor(1, "tiler-digest")
        try:
            yield _ahead(pool, self._digest, numbers)
        finally:
            pool.shutdown(cancel_futures=True)

    def _merged(self, job: MergeJob, number: int, seen: SeenImage, digest: str) -> Work:
        """An image, merged. `digest`: of it and its windows; "" where nothing is written."""
        piece = self.plan.detected(number, seen.found, digest)
        self.plan.reader.clock.skipped += len(piece.silent.names)
        if seen.refused is not None:
            return rejected(piece, seen.refused)
        writes = job.write and not self.run.dry_run
        if writes and self.plan.chosen.save_tiles_txt is not None:
            self._save_rows(Path(self.plan.chosen.save_tiles_txt, "labels"), number, seen)
        with self.plan.reader.clock.timed("merge"):
            return work(job, piece)

    def _digest(self, number: int) -> str:
        """Of an image and its windows."""
        image = self.plan.images[number]
        root = self.plan.reader.job.root
        return self.plan.digest(number, _content(root / image.source.key))

    def _save_rows(self, folder: Path, number: int, seen: SeenImage) -> None:
        """Write the rows of each window with detections, as `yolo predict` does for tiles."""
        with writing():
            folder.mkdir(parents=True, exist_ok=True)
            tiles = self.plan.images[number].tiles
            for tile, instances in zip(tiles, seen.found, strict=True):
                file = folder / f"{tile.name}.txt"
                if instances is not None and len(instances):
                    file.write_text(exports.yolo_text(instances, *tile.size))
                else:
                    with suppress(FileNotFoundError):
                        file.unlink()


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[int], str], items: Iterable[int]
) -> Iterator[str]:
    """`work(item)` for each item, in order, the next one begun before it is asked for."""
    items = iter(items)
    waiting = deque(pool.submit(work, item) for item in islice(items, 2))

    def results() -> Iterator[str]:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))

    return results()


def _content(path: Path) -> str:
    """The digest of an image's file, and of those that say where it lies."""
    try:
        with opened(os.fspath(path)) as file:
            content = hashlib.file_digest(file, "sha256")
    except (OSError, SourceRefused) as error:
        refusal(error)
        return UNREADABLE
    content.update(geo.sidecars(path))
    return content.hexdigest()
