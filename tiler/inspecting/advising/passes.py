"""Images go to the workers, as headers and labels only; with --sample, some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tiler.datasets.dataset import Source
from tiler.options import PlanOptions, RunOptions
from tiler.run import workers
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import draw

Result = TypeVar("Result")

READINGS = 2  # over the images
MANY = 50  # images: from this number on, processes are worth their start, since no pixels are read


def drawn(sources: Sequence[Source], chosen: PlanOptions) -> list[Source]:
    """The images to count on, in order: all, or as many as --sample says."""
    if chosen.sample == 0 or len(sources) <= chosen.sample:
        return list(sources)

    def by_draw(place: int) -> tuple[str, int]:
        return draw(chosen.seed, sources[place].key), place

    places = sorted(range(len(sources)), key=by_draw)[: chosen.sample]
    return [sources[place] for place in sorted(places)]


@dataclass(slots=True)
class Passes:
    """The passes over the images.

    Attributes:
        images: how many there are.
        progress: called with the number of readings done, and of all.
    """

    job: SplitJob
    chosen: PlanOptions
    images: int
    progress: Callable[[int, int], None] | None
    done: int = field(default=0, init=False)

    def each(
        self, work: Callable[[SplitJob, Sequence[Source]], list[Result]], sources: Sequence[Source]
    ) -> Iterator[Result]:
        """What `work` returns for each image, in order."""
        processes = len(sources) >= MANY and workers.count(self.chosen.workers) > 1
        run = RunOptions(workers=self.chosen.workers, backend="loky" if processes else "threading")
        for result in mapped(self.job, work, sources, run):
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, READINGS * self.images)
            yield result
