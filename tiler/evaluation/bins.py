"""Size bins: ranges of area in px² of the full image, by the names of the protocols that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tiler.errors import TilerError

ENDLESS = 1e5  # px; COCO's ranges end at its square


@dataclass(frozen=True, slots=True)
class Bin:
    """Areas from `low` to `high` px², both ends included, as in COCO: 32 x 32 is small and medium.

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
    """Some bins and the protocol they come from.

    Attributes:
        max_dets: how many detections of a class in an image its protocol counts; None: all.
        thresholds: its IoU thresholds; None: .5 to .95.
    """

    name: str
    bins: tuple[Bin, ...]
    max_dets: int | None = None
    thresholds: tuple[float, ...] | None = None


ALL = Bin.of("all", 0, ENDLESS)
COCO = Bins(
    "coco", (Bin.of("small", 0, 32), Bin.of("medium", 32, 96), Bin.of("large", 96, ENDLESS))
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
    # SODA-D and SODA-A, as public copies of their evaluator have it
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
    try:
        sides = [float(side) for side in (given.split(",") if isinstance(given, str) else given)]
    except ValueError:
        sides = []
    if not sides or sides != sorted(set(sides)) or not 0 < sides[0] <= sides[-1] < ENDLESS:
        raise TilerError(
            f"--bins is one of {', '.join(PRESETS)}, or rising sides in px such as 16,32,96; got "
            f"{given!r}"
        )
    ends = [0.0, *sides, ENDLESS]
    made = [
        Bin.of(f"{low:g}-{high:g}" if high < ENDLESS else f"{low:g}+", low, high)
        for low, high in pairwise(ends)
    ]
    return Bins(",".join(f"{side:g}" for side in sides), tuple(made))
