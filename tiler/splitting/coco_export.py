"""--export coco and coco-roboflow: COCO JSON of the tiles, beside their label files.

Ids count from 1 in the order of the manifest: that of an image is the number of its tile in the
whole output. Nothing of a JSON is kept for a run that resumes: what an earlier run had cut is
described again, which needs no pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.datasets.labels import Labels
from tiler.formats import coco_writing
from tiler.formats.tile_folders import TileFolders
from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.run.folders import Folder
from tiler.run.staging import writing
from tiler.splitting.report import SplitOutcome, TileAnnotations
from tiler.tiling.source_plan import SourcePlan
from tiler.tiling.tile_labels import in_view

if TYPE_CHECKING:
    from tiler.types import Ints

BLOCK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class CocoPlace:
    """Where a JSON is in an output.

    Attributes:
        split: whose tiles it describes.
        images: how the `file_name` of a tile begins.
    """

    path: str
    split: str
    images: str

    @property
    def folder(self) -> str:
        return self.path.partition("/")[0]


def places(export: str, splits: Iterable[str]) -> list[CocoPlace]:
    """The COCO files of an output.

    Those of Roboflow's layout are in the folder of their split, in which readers look for images.

    >>> [place.path for place in places("coco,coco-roboflow", ["val"])]
    ['annotations/instances_val.json', 'valid/_annotations.coco.json']
    """
    chosen = export.split(",")
    result = []
    for split in splits:
        if "coco" in chosen:
            result.append(CocoPlace(f"annotations/instances_{split}.json", split, ""))
        if "coco-roboflow" in chosen:
            folder = TileFolders(roboflow=True).of_split(split)
            result.append(CocoPlace(f"{folder}/_annotations.coco.json", split, "images/"))
    return result


# What the tiles of a source show


def described(plan: SourcePlan, labels: Labels, categories: Sequence[int]) -> TileAnnotations:
    """What the tiles that are written show: what their label files say, but in full precision and
    with one annotation for each object; and the regions to be ignored.

    Args:
        categories: category_id of each class.
    """
    all_sizes = np.array([tile.size for tile in plan.tiles])
    tile, shown = _objects(plan)
    entries = coco_writing.objects(plan.in_tiles(shown, tile), all_sizes[tile], categories)
    region_tile, shown = _regions(plan, labels.ignored)
    sizes = all_sizes[region_tile]
    regions = coco_writing.regions(plan.in_tiles(shown, region_tile), sizes, categories)

    tile = np.concatenate([tile, region_tile])
    place = np.cumsum(plan.written) - 1  # of each tile among those that are written
    texts = []
    owners = []
    both = [*entries, *regions]
    for i in np.argsort(tile, kind="stable").tolist():
        entry = both[i]
        if entry is not None:
            texts.append(msgspec.json.encode(entry))
            owners.append(int(place[tile[i]]))
    written = [plan.tiles[t].size for t in np.flatnonzero(plan.written).tolist()]
    return TileAnnotations(written, owners, texts)


def _objects(plan: SourcePlan) -> tuple[Ints, Instances]:
    """The tile of each object that written tiles have rows of, and what these rows show of it
    together."""
    rows = np.flatnonzero(plan.written[plan.row_tile])
    view = plan.rows.view[rows]
    shown = plan.rows.shown.take(rows)
    first = ragged.firsts(view)
    objects = shown.take(first)
    if shown.rings is not None:
        offsets = shown.rings.offsets[np.append(first, len(shown))]
        rings = replace(shown.rings, offsets=offsets)
        objects = replace(objects, rings=rings, boxes=rings.bounds())
    return plan.views.tile[view[first]], objects


def _regions(plan: SourcePlan, ignored: Instances) -> tuple[Ints, Instances]:
    """The tile of each region that a written tile shows, and the part that it shows."""
    written = np.flatnonzero(plan.written)
    tile, _, shown = in_view(ignored, plan.windows[written])
    return written[tile], shown


# The files


@dataclass(slots=True)
class CocoTilesFile:
    """A JSON that grows by sources: its images, and in a second file its annotations, until both
    are put together."""

    tree: Folder
    place: CocoPlace
    images: int = 0
    annotations: int = 0

    @property
    def _second(self) -> str:
        return f"{self.place.path}.annotations"

    def begin(self, head: bytes) -> None:
        self.tree.make(self.place.folder)
        self.tree.write(self.place.path, head)
        self.tree.write(self._second, b'],\n"annotations":[')

    def add(self, images: Sequence[bytes], annotations: Sequence[bytes]) -> None:
        """Add the images and annotations of a source."""
        self.images = self._append(self.place.path, images, self.images)
        self.annotations = self._append(self._second, annotations, self.annotations)

    def _append(self, name: str, lines: Sequence[bytes], before: int) -> int:
        """Add lines to a list; how many it has then."""
        if lines:
            with self.tree.append(name) as file:
                file.write(b",\n" if before else b"\n")
                file.write(b",\n".join(lines))
        return before + len(lines)

    def finish(self) -> int:
        """Put the annotations behind the images; the bytes of the file."""
        with self.tree.append(self.place.path) as file, self.tree.open(self._second) as second:
            for block in iter(lambda: second.read(BLOCK), b""):
                file.write(block)
            file.write(b"]}\n")
        self.tree.remove(self._second)
        return self.tree.stat(self.place.path).st_size


@dataclass(slots=True)
class CocoWriter:
    """The COCO files of an output, to which sources are added in order.

    Attributes:
        files: those of each split.
        images, annotations: how many all files have; the ids that are taken.
    """

    files: dict[str, list[CocoTilesFile]]
    images: int = 0
    annotations: int = 0

    @classmethod
    def begun(cls, tree: Folder, wanted: Sequence[CocoPlace], head: bytes) -> CocoWriter:
        """New files with a head, in a tree."""
        writer = cls({})
        with writing():
            for place in wanted:
                file = CocoTilesFile(tree, place)
                file.begin(head)
                writer.files.setdefault(place.split, []).append(file)
        return writer

    def add(self, outcome: SplitOutcome) -> None:
        """Add the tiles of a source. Its annotations are dropped: the outcome is kept, they are
        not."""
        found = outcome.annotations
        outcome.annotations = None
        if not self.files:
            return
        first = self.images + 1
        self.images += len(outcome.entry.tiles)
        if found is None:
            return
        lines = list(self._numbered(found, first))
        with writing():
            for file in self.files[outcome.entry.split]:
                file.add(_image_lines(outcome, found, first, file.place.images), lines)

    def _numbered(self, found: TileAnnotations, first: int) -> Iterator[bytes]:
        for tile, text in zip(found.tile, found.text, strict=True):
            self.annotations += 1
            yield coco_writing.annotation_line(self.annotations, first + tile, text)

    def finish(self) -> dict[str, int]:
        """Complete all files; the bytes of each by its path."""
        sizes = {}
        with writing():
            for files in self.files.values():
                for file in files:
                    sizes[file.place.path] = file.finish()
        return dict(sorted(sizes.items()))


def _image_lines(
    outcome: SplitOutcome, found: TileAnnotations, first: int, folder: str
) -> list[bytes]:
    lines = []
    tiles = zip(outcome.entry.tiles, found.sizes, strict=True)
    for id, (tile, size) in enumerate(tiles, first):
        file_name = f"{folder}{tile.name}{outcome.suffix}"
        lines.append(coco_writing.image_line(id, file_name, size))
    return lines
