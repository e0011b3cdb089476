"""Size bins: ranges of area in px² of the full image, by the names of their protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tiler.errors import TilerError

SMALL, MEDIUM = 32, 96  # px, sides of the squares up to which COCO calls objects small and medium
ENDLESS = 1e5  # px; COCO's ranges end at its square


@dataclass(frozen=True, slots=True)
class Bin:
    """Areas from `low` to `high` px², both ends included as in COCO: 32 x 32 px are small and
    medium.

    >>> Bin.of("small", 0, 32)
    Bin(name='small', low=0, high=1024)
    """

    name: str
    low: float
    high: float

    @classmethod
    def of(cls, name: str, low: float, high: float) -> Bin:
        """From sides of squares, px."""
        return cls(name, low**2, high**2)


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of a protocol.

    Attributes:
        max_dets: maximum detections of a class in an image; None: no limit.
        thresholds: IoU thresholds; None: .5 to .95.
    """

    name: str
    bins: tuple[Bin, ...]
    max_dets: int | None = None
    thresholds: tuple[float, ...] | None = None


ALL = Bin.of("all", 0, ENDLESS)
COCO = Bins(
    "coco",
    (
        Bin.of("small", 0, SMALL),
        Bin.of("medium", SMALL, MEDIUM),
        Bin.of("large", MEDIUM, ENDLESS),
    ),
)
PRESETS = {
    "coco": COCO,
    # jwwangchn/cocoapi-aitod, aitodpycocotools/cocoeval.py
    "aitod": Bins(
        "aitod",
        (
            Bin.of("verytiny", 0, 8),
            Bin.of("tiny", 8, 16),
            Bin.of("small", 16, 32),
            Bin.of("medium", 32, ENDLESS),
        ),
        1500,
    ),
    # ucas-vg/PointTinyBenchmark, evaluate_tiny.py
    "tinyperson": Bins(
        "tinyperson",
        (
            Bin.of("tiny", 1, 20),
            Bin.of("tiny1", 1, 8),
            Bin.of("tiny2", 8, 12),
            Bin.of("tiny3", 12, 20),
            Bin.of("small", 20, 32),
            Bin.of("reasonable", 32, ENDLESS),
        ),
        200,
        (0.25, 0.5, 0.75),
    ),
    # SODA-D and SODA-A, as in public copies of their evaluator
    "soda": Bins(
        "soda",
        (
            Bin.of("small", 0, 32),
            Bin.of("extremely small", 0, 12),
            Bin.of("relatively small", 12, 20),
            Bin.of("generally small", 20, 32),
            Bin("normal", 32**2, 40 * 50),
        ),
        20000,
    ),
}


def bins(given: str | Sequence[float]) -> Bins:
    """A preset by its name, or bins between sides in px, "16,32,96" or (16, 32, 96).

    Raises:
        TilerError: neither.

    >>> [b.name for b in bins("16,32").bins]
    ['0-16', '16-32', '32+']
    """
    if isinstance(given, str) and given in PRESETS:
        return PRESETS[given]
    sides = _sides(given)
    if not _are_valid(sides):
        names = ", ".join(PRESETS)
        expected = f"expected {names}, or increasing sides in px such as 16,32,96"
        raise TilerError(f"--bins: {expected}, got {given!r}")
    made = []
    for low, high in pairwise([0.0, *sides, ENDLESS]):
        name = f"{low:g}-{high:g}"
        if high == ENDLESS:
            name = f"{low:g}+"
        made.append(Bin.of(name, low, high))
    return Bins(",".join(f"{side:g}" for side in sides), tuple(made))


def _sides(given: str | Sequence[float]) -> list[float]:
    """The numbers given; none where one is not a number."""
    values = given.split(",") if isinstance(given, str) else given
    try:
        return [float(side) for side in values]
    except ValueError:
        return []


def _are_valid(sides: list[float]) -> bool:
    """Whether sides rise and lie within what has bins."""
    if not sides or sides != sorted(set(sides)):
        return False
    return sides[0] > 0 and sides[-1] < ENDLESS
