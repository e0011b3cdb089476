"""Where the images and the label files of tiles are in the output of a split."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = {"val": "valid"}  # Roboflow's name of a split, where it is another one


@dataclass(frozen=True, slots=True)
class TileFolders:
    """The folders of tiles: `images/train` and `labels/train`, or as Roboflow lays out datasets
    `train/images` and `train/labels`. In both, trainers find the labels of an image.

    >>> TileFolders().of("images", "val"), TileFolders(roboflow=True).of("images", "val")
    ('images/val', 'valid/images')
    """

    roboflow: bool = False

    @classmethod
    def exported(cls, export: str) -> TileFolders:
        """Those of an output by its --export.

        >>> TileFolders.exported("coco,coco-roboflow").roboflow
        True
        """
        return cls("coco-roboflow" in export.split(","))

    def of(self, kind: str, split: str) -> str:
        """The folder of a split's images, or labels."""
        if self.roboflow:
            return f"{self.of_split(split)}/{kind}"
        return f"{kind}/{split}"

    def of_split(self, split: str) -> str:
        """The folder of a split in Roboflow's layout."""
        return SPLITS.get(split, split)
