"""Two runs on the same images: which is better, and is that more than chance?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tiler.errors import TilerError
from tiler.evaluation.bins import ALL
from tiler.evaluation.bootstrap import Comparison, compare
from tiler.scoring.metrics import Metrics, finite


def compared(
    one: Metrics, other: Metrics, names: tuple[str, str] = ("A", "B")
) -> dict[str, Comparison]:
    """The AP of one run less that of the other, of all sizes and of each; paired by image, all
    detections counted.

    Raises:
        TilerError: they are of other images, or were scored without resampling.
    """
    if one.draws is None or other.draws is None:
        raise TilerError(
            "a comparison needs resampled images: --analysis full, and --replicates above 0"
        )
    if one.keys != other.keys:
        raise TilerError(f"{names[0]} and {names[1]} were scored on other images")
    comparisons = {}
    for size in one.draws.bins:
        comparison = compare(one.draws, other.draws, names, size.name)
        if size.name == ALL.name:
            comparisons["AP"] = comparison
        else:
            comparisons[f"AP_{size.name}"] = comparison
    return comparisons


def plain(comparisons: dict[str, Comparison]) -> Any:
    """What the JSON holds."""
    return finite({name: asdict(comparison) for name, comparison in comparisons.items()})
