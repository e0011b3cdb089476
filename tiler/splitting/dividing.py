"""--val and --test: the images of a dataset that has no such split are divided among splits, as
whole images or, where these are too few, in blocks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Block, Dataset, Source
from tiler.datasets.image_files import opened
from tiler.datasets.labels import Labels, require_usable
from tiler.datasets.labels import read as read_labels
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.images.header import probe
from tiler.options import RunOptions, SplitOptions
from tiler.run.rejecting import refusal
from tiler.splitting.assigning import assigned, missed, stratified
from tiler.splitting.blocks import blocks_of, counts_in
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import draw, planned_tiles
from tiler.tiling.sources import labels_of
from tiler.types import SPLITS

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

LISTED = 10  # classes named in a finding


def way_of(dataset: Dataset, chosen: SplitOptions) -> str:
    """How the splits were made: by images or by blocks; "" if none was."""
    if not asked(chosen):
        return ""
    if any(source.block is not None for source in dataset.sources):
        return "blocks"
    return "images"


def asked(chosen: SplitOptions) -> dict[str, float]:
    """The splits that are to be made, with their shares.

    >>> asked(SplitOptions(val=0.2))
    {'val': 0.2}
    """
    given = {"val": chosen.val, "test": chosen.test}
    return {split: share for split, share in given.items() if share > 0}


def divided(dataset: Dataset, chosen: SplitOptions, run: RunOptions) -> Dataset:
    """The dataset with the splits that --val and --test ask for, made of its train images (or of
    the only split that it has).

    Raises:
        TilerError: there is such a split already, or it cannot be made.
    """
    if not asked(chosen):
        return dataset
    division = Division.of(dataset, chosen)
    task, _ = mask_sets.task_of(dataset, chosen.task)
    job = SplitJob.of(dataset, replace(chosen, task=task))
    groups = _groups(job, division.sources, run)
    if not groups:
        raise TilerError(f"{division.option}: none of the images can be read")
    result = _of_images(division, groups)
    if result is None or missed(result.achieved, division.shares):
        result = _of_blocks(division, groups, job, run) or result
    if result is None:
        few = "1 image" if len(groups) == 1 else f"{len(groups)} images"
        raise TilerError(
            f"{division.option}: {few} for {len(division.names)} splits, and too small to be "
            f"divided by blocks with a guard band of one tile between; a smaller --tile may do"
        )
    return _with_splits(dataset, division, result)


@dataclass(frozen=True, slots=True)
class Division:
    """What is to be divided.

    Attributes:
        option: as it was given, for messages.
        file: the name of the dataset in findings.
        names: of the splits: the one that is divided, then those that are made.
        shares: `(S,)` theirs.
        sources: the images of the split that is divided.
        class_names: of all classes.
    """

    option: str
    file: str
    names: tuple[str, ...]
    shares: Floats
    sources: list[Source]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset, chosen: SplitOptions) -> Self:
        """
        Raises:
            TilerError: a split that is asked for is there already, or nothing would be left.
        """
        wanted = asked(chosen)
        option = " ".join(f"--{split} {share:g}" for split, share in wanted.items())
        if not dataset.labelled:
            raise TilerError(f"{option}: images without a dataset have no splits")
        for split in wanted:
            count = sum(source.split == split for source in dataset.sources)
            if count:
                raise TilerError(
                    f"--{split} {wanted[split]:g}: {dataset.file} has a {split} split already "
                    f"({count} images); leave the option out to keep it"
                )
        rest = 1 - sum(wanted.values())
        if rest < 1e-9:
            raise TilerError(f"{option}: nothing is left to train on; expected less than 1 in all")
        origin = "train" if "train" in dataset.splits else dataset.splits[0]
        return cls(
            option,
            dataset.label,
            (origin, *wanted),
            np.array([rest, *wanted.values()]),
            [source for source in dataset.sources if source.split == origin],
            dataset.names,
        )


@dataclass(frozen=True, slots=True, eq=False)
class DividedImages:
    """Which split each image goes to.

    Attributes:
        splits: by key, the number of an image's split.
        blocks: by key, the block of each split; these images are in every split.
        classes: `(C,)` those that have objects.
        counts: `(S, C + 1)` the objects of each class in each split, and its size in px.
    """

    splits: dict[str, int]
    blocks: dict[str, list[Block]]
    classes: Ints
    counts: Floats

    @property
    def achieved(self) -> Floats:
        """`(S,)` the share of each split, by objects; by size where there are none."""
        counts = self.counts[:, :-1].sum(axis=1)
        if not counts.any():
            counts = self.counts[:, -1]
        return np.asarray(counts / counts.sum())


def _with_splits(dataset: Dataset, division: Division, result: DividedImages) -> Dataset:
    """The dataset with its new splits, and what is to be said of them."""
    sources = []
    for source in dataset.sources:
        if source.split != division.names[0]:
            sources.append(source)
        elif source.key in result.blocks:
            blocks = result.blocks[source.key]
            for split, block in zip(division.names, blocks, strict=True):
                sources.append(replace(source, split=split, block=block))
        else:  # what cannot be read stays where it is, and is reported when it is cut
            split = division.names[result.splits.get(source.key, 0)]
            sources.append(replace(source, split=split))
    present = {source.split for source in sources}
    return replace(
        dataset,
        sources=sorted(sources, key=lambda source: (source.key, source.split)),
        splits=tuple(split for split in SPLITS if split in present),
        findings=[*dataset.findings, *_remarks(division, result)],
    )


def _remarks(division: Division, result: DividedImages) -> Iterable[Finding]:
    """What a user who asked for these shares would not expect."""
    if missed(result.achieved, division.shares):
        shares = [
            f"{name} {share:.0%}"
            for name, share in zip(division.names, result.achieved, strict=True)
        ]
        message = f"{division.option}: objects are shared as {', '.join(shares)}"
        why = "whole images allow no better, and they are too small for blocks"
        if result.blocks:
            why = "blocks with guard bands allow no better"
        yield Finding(division.file, "Y10", f"{message}; {why}")
    objects = result.counts[:, :-1]
    for split, name in enumerate(division.names):
        absent = np.flatnonzero((objects[split] == 0) & (objects.sum(axis=0) > 0))
        if len(absent):
            ids = result.classes[absent[:LISTED]].tolist()
            named = ", ".join(division.class_names[i] for i in ids)
            if len(absent) > LISTED:
                named += f" and {len(absent) - LISTED} more"
            yield Finding(division.file, "Y10", f"split {name}: no object of {named}")


# --- what is known of each image


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """The size of an image in px, and the number of its objects by class."""

    size: tuple[int, int]
    objects: dict[int, int]


@dataclass(frozen=True, slots=True)
class SameImages:
    """An image, and others that are the same file: they must be in one split."""

    sources: list[Source]
    measured: MeasuredImage

    @property
    def key(self) -> str:
        return self.sources[0].key


def _groups(job: SplitJob, sources: Sequence[Source], run: RunOptions) -> list[SameImages]:
    """The images that can be read, in an order drawn with the seed."""
    by_digest: dict[str, list[int]] = {}
    measured = list(mapped(job, _measured, sources, run))
    digests = _digests_of_twins(job, sources, run)
    for number, source in enumerate(sources):
        if measured[number] is not None:
            digest = digests.get(source.key, f"only {source.key}")
            by_digest.setdefault(digest, []).append(number)
    groups = []
    for numbers in by_digest.values():
        first = measured[numbers[0]]
        assert first is not None
        groups.append(SameImages([sources[i] for i in numbers], first))
    return sorted(groups, key=lambda group: draw(job.options.seed, group.key))


def _measured(job: SplitJob, sources: Sequence[Source]) -> list[MeasuredImage | None]:
    """Each image; None where it, or its labels, cannot be used: that is reported when it is cut."""
    return [_measured_image(job, source) for source in sources]


def _measured_image(job: SplitJob, source: Source) -> MeasuredImage | None:
    try:
        size, labels = _size_and_labels(job, source)
    except Exception as error:
        refusal(error)
        return None
    classes, counts = np.unique(labels.instances.class_id, return_counts=True)
    return MeasuredImage(size, dict(zip(classes.tolist(), counts.tolist(), strict=True)))


def _size_and_labels(job: SplitJob, source: Source) -> tuple[tuple[int, int], Labels]:
    """Width and height of an image, and its labels.

    Raises:
        SourceRefused: it cannot be used.
    """
    with opened(os.path.join(job.root, source.key)) as file:
        size = probe(file).size
    labels_from = labels_of(job, source)
    labels = read_labels(source, labels_from, job.spec, *size)
    require_usable(labels, labels_from.key)
    return size, labels


def _digests_of_twins(job: SplitJob, sources: Sequence[Source], run: RunOptions) -> dict[str, str]:
    """The hash of each image that has as many bytes as another one, by key."""
    by_size: dict[int, list[Source]] = {}
    for source in sources:
        by_size.setdefault(source.bytes, []).append(source)
    twins = [source for alike in by_size.values() if len(alike) > 1 for source in alike]
    digests = mapped(job, _digests, twins, run)
    return {source.key: digest for source, digest in zip(twins, digests, strict=True) if digest}


def _digests(job: SplitJob, sources: Sequence[Source]) -> list[str]:
    """The hash of each image's content; "" of one that cannot be read."""
    digests = []
    for source in sources:
        digest = ""
        try:
            with opened(os.path.join(job.root, source.key)) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except Exception as error:
            refusal(error)
        digests.append(digest)
    return digests


# --- by whole images


def _of_images(division: Division, groups: Sequence[SameImages]) -> DividedImages | None:
    """Whole images for each split; None if there are fewer than splits."""
    if len(groups) < len(division.names):
        return None
    classes = _classes(groups)
    amounts = _amounts(groups, classes)
    splits = assigned(amounts, division.shares)
    return _result(groups, classes, amounts, splits, len(division.names))


def _classes(groups: Sequence[SameImages]) -> Ints:
    """`(C,)` the classes that have objects."""
    ids = {class_id for group in groups for class_id in group.measured.objects}
    return np.array(sorted(ids), np.int64)


def _amounts(groups: Sequence[SameImages], classes: Ints) -> Floats:
    """`(G, C + 1)` the objects of each class, and the px of each group of images."""
    column = {class_id: i for i, class_id in enumerate(classes.tolist())}
    amounts = np.zeros((len(groups), len(classes) + 1))
    for row, group in zip(amounts, groups, strict=True):
        for class_id, count in group.measured.objects.items():
            row[column[class_id]] = count
        row[-1] = group.measured.size[0] * group.measured.size[1]
        row *= len(group.sources)
    return amounts


def _result(
    groups: Sequence[SameImages], classes: Ints, amounts: Floats, splits: Ints, count: int
) -> DividedImages:
    """What whole images come to, given the split of each. `count`: of splits."""
    by_key: dict[str, int] = {}
    counts = np.zeros((count, amounts.shape[1]))
    for group, row, split in zip(groups, amounts, splits.tolist(), strict=True):
        counts[split] += row
        by_key.update((source.key, split) for source in group.sources)
    return DividedImages(by_key, {}, classes, counts)


# --- by blocks


Blocks = tuple[list[Block], "Ints"]  # of an image, and `(S, C)` the objects of each


def _of_blocks(
    division: Division, groups: Sequence[SameImages], job: SplitJob, run: RunOptions
) -> DividedImages | None:
    """A block of each image for each split, and whole images where they are too small for that;
    None if all are."""
    work = partial(_blocks, division.shares)
    found = list(mapped(job, work, [group.sources[0] for group in groups], run))
    small = [group for group, blocks in zip(groups, found, strict=True) if blocks is None]
    classes = _classes(groups)
    amounts = _amounts(small, classes)
    splits = stratified(amounts, division.shares)
    result = _result(small, classes, amounts, splits, len(division.names))
    for group, blocks in zip(groups, found, strict=True):
        if blocks is not None:
            result.counts[:, :-1] += blocks[1][:, classes] * len(group.sources)
            result.counts[:, -1] += _pixels(blocks[0], group.measured.size) * len(group.sources)
            result.blocks.update((source.key, blocks[0]) for source in group.sources)
    return result if result.blocks else None


def _pixels(blocks: Sequence[Block], size: tuple[int, int]) -> Floats:
    """`(S,)` the px of each block of an image, without its guard bands."""
    pixels = []
    for block in blocks:
        start, end = np.clip(block.inside, 0, size[block.axis])
        pixels.append(float(end - start) * size[1 - block.axis])
    return np.array(pixels)


def _blocks(shares: Floats, job: SplitJob, sources: Sequence[Source]) -> list[Blocks | None]:
    return [_blocks_of_image(shares, job, source) for source in sources]


def _blocks_of_image(shares: Floats, job: SplitJob, source: Source) -> Blocks | None:
    """The blocks of an image; None where it is too small, or cannot be read any more."""
    try:
        size, labels = _size_and_labels(job, source)
        tiles = planned_tiles("", *size, job.options)
    except Exception as error:
        refusal(error)
        return None
    windows = np.array([tile.window.bounds for tile in tiles])
    boxes, class_id = labels.instances.boxes, labels.instances.class_id
    odd = int(draw(job.options.seed, source.key), 16) % 2 == 1
    blocks = blocks_of(windows, boxes, class_id, shares, mirrored_first=odd)
    if blocks is None:
        return None
    return blocks, counts_in(blocks, boxes, class_id, job.spec.classes)
