"""Which images are shown, where there are more than asked for.

Images are taken in turn by these criteria:

- crowded: the most objects;
- small: the smallest objects, by the side under which half of them are;
- rare: the most classes that no image before it has;
- cut: of tiles, the most objects that the tile's edge cuts.

Each time, an image without objects comes last; then a split counts from which fewest were taken;
then an image of which fewest tiles were taken; then the criterion, then the name. So the choice
depends on neither order nor chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CRITERIA = ("crowded", "small", "rare", "cut")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may be shown.

    Attributes:
        number: in a list of all.
        origin: the image that a tile was cut from.
        side: px, under which half of the objects are.
        cut: objects that the tile's edge cuts.
    """

    number: int
    key: str
    split: str
    origin: str
    objects: int = 0
    side: float = 0.0
    classes: frozenset[int] = frozenset()
    cut: int = 0


def chosen(candidates: Sequence[Candidate], n: int) -> list[Candidate]:
    """At most `n` of them, in the order in which they are taken.

    >>> few = Candidate(0, "a", "val", "a", objects=2, side=5.0)
    >>> many = Candidate(1, "b", "val", "b", objects=9, side=50.0)
    >>> [candidate.key for candidate in chosen([few, many], 1)]
    ['b']
    """
    criteria: Sequence[str] = CRITERIA
    if not any(candidate.cut for candidate in candidates):
        criteria = CRITERIA[:-1]
    left = sorted(candidates, key=lambda candidate: (candidate.key, candidate.split))
    taken: list[Candidate] = []
    while left and len(taken) < n:
        order = _order(criteria[len(taken) % len(criteria)], taken)
        best = min(left, key=order)
        left.remove(best)
        taken.append(best)
    return taken


def _order(
    criterion: str, taken: Sequence[Candidate]
) -> Callable[[Candidate], tuple[bool, int, int, float, int]]:
    """The rank of a candidate after those that were taken; the lowest is next."""
    splits = Counter(candidate.split for candidate in taken)
    origins = Counter(candidate.origin for candidate in taken)
    shown = frozenset[int]().union(*(candidate.classes for candidate in taken))

    def value(candidate: Candidate) -> float:
        if criterion == "small":
            return candidate.side
        if criterion == "rare":
            return -float(len(candidate.classes - shown))
        if criterion == "cut":
            return -float(candidate.cut)
        return -float(candidate.objects)

    def order(candidate: Candidate) -> tuple[bool, int, int, float, int]:
        return (
            candidate.objects == 0,
            splits[candidate.split],
            origins[candidate.origin],
            value(candidate),
            -candidate.objects,
        )

    return order
