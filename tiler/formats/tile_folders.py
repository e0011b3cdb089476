"""Where the images and the label files of tiles are in the output of a split."""

from __future__ import annotations

from dataclasses import dataclass

SUFFIXES = {"labels": ".txt", "masks": ".png"}
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

    def of(self, split: str, labels: bool = True, masks: bool = False) -> tuple[str, ...]:
        """The folders of a split's images, and of their labels and class masks if they have some;
        images without labels have no split and one folder.

        >>> TileFolders().of("val", labels=False, masks=True)
        ('images/val', 'masks/val')
        """
        if not split:
            return ("images",)
        kinds = self.kinds(labels, masks)
        if self.roboflow:
            return tuple(f"{self.of_split(split)}/{kind}" for kind in kinds)
        return tuple(f"{kind}/{split}" for kind in kinds)

    @staticmethod
    def kinds(labels: bool = True, masks: bool = False) -> tuple[str, ...]:
        """What the files in each folder are."""
        beside = [kind for kind, there in (("labels", labels), ("masks", masks)) if there]
        return ("images", *beside)

    def of_split(self, split: str) -> str:
        """The folder of a split in Roboflow's layout."""
        return SPLITS.get(split, split)

    def paths(
        self, split: str, name: str, suffix: str, labels: bool = True, masks: bool = False
    ) -> tuple[str, ...]:
        """Where a tile's image, its labels and its mask are.

        >>> TileFolders().paths("val", "a__0_0_640_640", ".png")
        ('images/val/a__0_0_640_640.png', 'labels/val/a__0_0_640_640.txt')
        """
        endings = [suffix, *(SUFFIXES[kind] for kind in self.kinds(labels, masks)[1:])]
        files = zip(self.of(split, labels, masks), endings, strict=False)
        return tuple(f"{folder}/{name}{ending}" for folder, ending in files)
