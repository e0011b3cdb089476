"""What becomes of every row of one image's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiler.errors import TilerError, did_you_mean
from tiler.merging.planning import planned
from tiler.merging.work import stitched
from tiler.stitching import FATES


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one row of predictions.

    Attributes:
        tile, row: where it stands; rows count from 0, blank lines do not.
        fate: one of `stitching.FATES`, or refused with the finding's code.
        into: the merged detection it is part of, or lost to; None for none.
    """

    tile: str
    row: int
    class_id: int | None
    conf: float | None
    box: tuple[float, ...] | None
    fate: str
    into: int | None


def explain(
    preds: str | Path,
    source: str,
    *,
    tiles: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    **options: Any,
) -> list[Fate]:
    """What becomes of every row of one image's predictions, by merged detection, then tile and row.

    Args:
        source: the image's path as the manifest has it, or its name with or without suffix.

    Raises:
        TilerError: no such image, or what `merge` raises.
    """
    plan, _ = planned(preds, tiles, images, data, options)
    wanted = [p for p in plan.pieces if source in (p.key, p.label, p.name, Path(p.key).name)]
    if len(wanted) != 1:
        found = (
            f"{len(wanted)} images of this name"
            if wanted
            else f"no such image among {len(plan.pieces)}"
        )
        known = [p.key for p in plan.pieces] + [p.name for p in plan.pieces]
        hint = did_you_mean(source, known) or f", such as {known[0]}"
        raise TilerError(f"--explain {source}: {found}{hint}")
    piece = wanted[0]
    read, result, _ = stitched(plan.job, piece)
    own, names = read.instances, piece.frames.names
    fates = [
        Fate(
            names[t],
            int(row),
            int(own.class_id[k]),
            float(own.conf[k]),  # type: ignore[index]
            tuple(float(v) for v in own.boxes[k]),
            FATES[result.fate[k]],
            int(result.into[k]) if result.into[k] >= 0 else None,
        )
        for k, (t, row) in enumerate(zip(read.tile, own.row, strict=True))
    ]
    fates += [
        Fate(names[t], row, None, None, None, f"refused ({code})", None)
        for t, row, code in read.rejected
    ]
    last = len(result.instances)
    return sorted(
        fates,
        key=lambda fate: (
            last if fate.into is None else fate.into,
            -(fate.conf or 0),
            fate.tile,
            fate.row,
        ),
    )
