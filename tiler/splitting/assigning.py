"""Which split each image goes to: whole images, so that their objects come near to the shares of
the splits in every class. Arithmetic only.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data,
ECML PKDD 2011), with numbers of objects in place of labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

NEAR = 0.1  # of its share that a split may be short of without any image being moved


def assigned(amounts: Floats, shares: Floats) -> Ints:
    """`(I,)` the split of each image. No split is empty if there are as many images.

    Stratification rounds each class by itself; where the sizes of the splits then are not near to
    their shares, images are moved.

    Args:
        amounts: `(I, C + 1)` the objects of each class in each image, and the image's size, which
            is more than 0. The order of the images breaks ties.
        shares: `(S,)` of the splits; their sum is 1.

    >>> cars_and_size = np.array([[4, 1], [4, 1], [4, 1], [0, 1], [0, 1], [0, 1.0]])
    >>> assigned(cars_and_size, np.array([2 / 3, 1 / 3])).tolist()
    [0, 0, 1, 0, 0, 1]
    """
    return _evened(stratified(amounts, shares), _parts(amounts), shares)


def _parts(amounts: Floats) -> Floats:
    """What each image has of the total of each column."""
    totals = amounts.sum(axis=0)
    return np.asarray(amounts / np.where(totals > 0, totals, 1))


def stratified(amounts: Floats, shares: Floats) -> Ints:
    """`(I,)` the split of each image, class after class, that of the fewest images first: its
    images, those of most objects first, each go to the split that is shortest of the class (ties:
    of sizes, then the first split). The size comes last, as a class that all images have.

    >>> stratified(np.array([[1, 1], [1, 1.0]]), np.array([0.5, 0.5])).tolist()
    [0, 1]
    """
    parts = _parts(amounts)
    splits = np.full(len(parts), -1)
    missing = np.outer(shares, parts.any(axis=0).astype(float))  # (S, C + 1)
    images_left = np.count_nonzero(parts, axis=0)
    while images_left.any():
        column = int(np.argmin(np.where(images_left > 0, images_left, len(parts) + 1)))
        here = np.flatnonzero((splits < 0) & (parts[:, column] > 0))
        most_first = here[np.argsort(-parts[here, column], kind="stable")]
        for image in most_first.tolist():
            split = _shortest(missing[:, column], missing[:, -1])
            splits[image] = split
            missing[split] -= parts[image]
            images_left -= parts[image] > 0
    return splits


def _shortest(missing: Floats, missing_size: Floats) -> int:
    """The split that is shortest of a class; ties: of sizes, then the first one."""
    rounded = np.round(missing, 9)
    order = np.lexsort((-np.round(missing_size, 9), -rounded))
    return int(order[0])


def _evened(splits: Ints, parts: Floats, shares: Floats) -> Ints:
    """`(I,)` the splits, with images moved to those that are short of sizes, or empty.

    An image moves from the split that has most for its share to the one that has least, if that
    brings their sizes nearer to their shares; of such images, the one by which classes lose least.
    """
    splits = splits.copy()
    squares = (parts**2).sum(axis=1)
    has = np.stack([parts[splits == split].sum(axis=0) for split in range(len(shares))])
    missing = shares[:, None] - has
    for _ in range(len(splits)):
        pair = _uneven(splits, missing[:, -1] / shares)
        if pair is None:
            break
        full, short = pair
        gap = missing[short] - missing[full]
        movable = splits == full
        if (splits == short).any():
            movable &= parts[:, -1] < gap[-1]
        if not movable.any():
            break
        losses = squares - parts @ gap  # half of what the squared differences rise by
        image = int(np.argmin(np.where(movable, losses, np.inf)))
        splits[image] = short
        missing[full] += parts[image]
        missing[short] -= parts[image]
    return splits


def _uneven(splits: Ints, missing: Floats) -> tuple[int, int] | None:
    """The split that an image is to be taken from, and the one that is to get it; None if all are
    near their shares.

    Args:
        missing: `(S,)` of sizes, as a part of each split's share.
    """
    counts = np.bincount(splits, minlength=len(missing))
    full = int(np.argmin(np.where(counts > 1, missing, np.inf)))
    if counts[full] < 2:
        return None
    if not counts.all():
        return full, int(np.argmin(counts))
    if np.abs(missing).max() <= NEAR:
        return None
    return full, int(np.argmax(missing))


def missed(achieved: Floats, shares: Floats) -> bool:
    """Whether any split has less than half of its share, or more than one and a half.

    Args:
        achieved: `(S,)` what each split has of the whole.
    """
    return bool((np.abs(achieved - shares) > shares / 2 + 1e-9).any())
