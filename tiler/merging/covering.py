"""The images of the splits that predictions are for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tiler.datasets import index as indexes
from tiler.datasets.index import Index, TiledImage
from tiler.findings import Finding


@dataclass(slots=True)
class CoveredImages:
    """The images of the splits that predictions are for.

    Attributes:
        members: of each image, the indices of its predictions by tile.
        left_out: the other splits.
        findings: images of which only some blocks have predictions.
    """

    images: list[TiledImage]
    members: list[dict[int, int]]
    left_out: list[str]
    findings: list[Finding]

    @classmethod
    def of(cls, index: Index, members: dict[int, dict[int, int]]) -> CoveredImages:
        """`members`: of the images by their number."""
        numbers = members or range(len(index.images))
        predicted: list[tuple[str, ...]] = []
        for number in numbers:
            predicted += _predicted_splits(index.images[number], members.get(number, {}))
        splits = _covered_splits(predicted)
        covered = cls([], [], [], [])
        others: set[str] = set()
        for number, image in enumerate(index.images):
            others.update(image.splits)
            if splits.intersection(image.splits):
                covered.add(image, members.get(number, {}), splits)
        covered.left_out += sorted(others - splits)
        return covered

    def add(self, image: TiledImage, tiles: dict[int, int], splits: set[str]) -> None:
        """Add an image; of one in blocks, the tiles that the covered splits have."""
        kept = [t for t, split in enumerate(image.tile_splits) if split in splits]
        if len(kept) < len(image.tile_splits):
            number = {tile: i for i, tile in enumerate(kept)}
            tiles = {number.get(tile, tile): row for tile, row in tiles.items()}
            image = replace(image.take(kept), some_blocks=True)
            of = ", ".join(sorted(splits.intersection(image.splits)))
            missed = "labels elsewhere are no part of its score"
            self.findings.append(Finding(image.key, "D16", f"only its tiles of {of}; {missed}"))
        self.images.append(image)
        self.members.append(tiles)


def _predicted_splits(image: TiledImage, tiles: Iterable[int]) -> list[tuple[str, ...]]:
    """The splits that an image's predictions are for: one of several, or each of those whose tiles
    have some if the image is in blocks.
    """
    blocks = {image.tile_splits[t] for t in tiles if image.tile_splits and t != indexes.WHOLE}
    if not blocks:
        return [image.splits]
    return [(split,) for split in sorted(blocks)]


def _covered_splits(predicted: list[tuple[str, ...]]) -> set[str]:
    """The splits that predictions are for; an image in several splits counts for one that other
    images are in, if there is one.
    """
    covered = {splits[0] for splits in predicted if len(splits) == 1}
    for splits in predicted:
        if not covered.intersection(splits):
            covered.add(splits[0])
    return covered
