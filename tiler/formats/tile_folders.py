"""Where the images and the label files of tiles are in the output of a split."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = {"val": "valid"}  # Roboflow's name of a split, where it is another one


@dataclass(frozen=True, slots=True)
class TileFolders:
    """The folders of tiles: `images/train` and `labels/train`, or as Roboflow lays out datasets
    `train/images` and `train/labels`. In both, trainers find the labels of an image.

    >>> TileFolders().of("val"), TileFolders(roboflow=True).of("val"), TileFolders().of("")
    (('images/val', 'labels/val'), ('valid/images', 'valid/labels'), ('images',))
    """

    roboflow: bool = False

    @classmethod
    def exported(cls, export: str) -> TileFolders:
        """Those of an output by its --export.

        >>> TileFolders.exported("coco,coco-roboflow").roboflow
        True
        """
        return cls("coco-roboflow" in export.split(","))

    def of(self, split: str) -> tuple[str, ...]:
        """The folders of a split's images and of their labels; images without labels have no split
        and one folder.
        """
        if not split:
            return ("images",)
        if self.roboflow:
            return f"{self.of_split(split)}/images", f"{self.of_split(split)}/labels"
        return f"images/{split}", f"labels/{split}"

    def of_split(self, split: str) -> str:
        """The folder of a split in Roboflow's layout."""
        return SPLITS.get(split, split)

    def paths(self, split: str, name: str, suffix: str) -> tuple[str, ...]:
        """Where a tile's image and its labels are.

        >>> TileFolders().paths("val", "a__0_0_640_640", ".png")
        ('images/val/a__0_0_640_640.png', 'labels/val/a__0_0_640_640.txt')
        """
        files = zip(self.of(split), (suffix, ".txt"), strict=False)
        return tuple(f"{folder}/{name}{ending}" for folder, ending in files)
