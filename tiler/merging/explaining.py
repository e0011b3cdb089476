"""What becomes of every row of one image's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tiler.errors import TilerError, did_you_mean
from tiler.merging.planning import Preds, planned
from tiler.merging.report import OTHER_CLASS
from tiler.merging.work import MergedRows, Piece, stitched
from tiler.stitching import FATES


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one row of predictions.

    Attributes:
        tile, row: where it stands; rows count from 0, without blank lines.
        class_id, conf, box: None for a rejected row.
        fate: one of `stitching.FATES`, or rejected with the finding's code.
        into: the merged detection it is part of, or lost to; None for none.
        model: of an ensemble, whose row it is.
    """

    tile: str
    row: int
    class_id: int | None
    conf: float | None
    box: tuple[float, ...] | None
    fate: str
    into: int | None
    model: str = ""


def explain(
    preds: Preds,
    source: str,
    *,
    tiles: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    **options: Any,
) -> list[Fate]:
    """What becomes of every row of one image's predictions, ordered by merged detection, then by
    falling confidence.

    Args:
        source: the image's path as the manifest has it, or its name with or without suffix.

    Raises:
        TilerError: no such image, or what `merge` raises.
    """
    plan, _ = planned(preds, tiles, images, data, options)
    piece = _piece(source, plan.pieces)
    merge = stitched(plan.job, piece)
    models = _models(piece, plan.report.models)
    fates = _fates(merge, piece.frames.names, models)
    rows = merge.tile_detections
    unused = [(tile, row, f"rejected ({code})") for tile, row, code in rows.rejected]
    unused += [(tile, row, OTHER_CLASS) for tile, row in rows.left_out]
    for tile, row, fate in unused:
        name = piece.frames.names[tile]
        fates.append(Fate(name, row, None, None, None, fate, None, models[tile]))
    return sorted(fates, key=partial(_order, len(merge.result.instances)))


def _piece(source: str, pieces: Sequence[Piece]) -> Piece:
    """The image of this path or name.

    Raises:
        TilerError: none, or several.
    """
    wanted = [p for p in pieces if source in (p.key, p.label, p.name, Path(p.key).name)]
    if len(wanted) == 1:
        return wanted[0]
    if wanted:
        problem = f"{len(wanted)} images of this name"
    else:
        problem = f"no such image among {len(pieces)}"
    known = [piece.key for piece in pieces] + [piece.name for piece in pieces]
    hint = did_you_mean(source, known) or f", such as {known[0]}"
    raise TilerError(f"--explain {source}: {problem}{hint}")


def _models(piece: Piece, names: Sequence[str]) -> list[str]:
    """The name of the model of each tile with predictions; "" for the only one."""
    if piece.models is None:
        return [""] * len(piece.frames.names)
    return [names[piece.numbers[model]] for model in piece.models.model.tolist()]


def _fates(merge: MergedRows, names: Sequence[str], models: Sequence[str]) -> list[Fate]:
    """What became of the valid rows. `names`, `models`: of the tiles."""
    rows, result = merge.tile_detections.instances, merge.result
    fates = []
    for i, tile in enumerate(merge.tile_detections.tile.tolist()):
        into: int | None = int(result.into[i])
        if into == -1:
            into = None
        box = tuple(rows.boxes[i].tolist())
        fate = Fate(
            names[tile],
            int(rows.row[i]),
            int(rows.class_id[i]),
            float(rows.confidence[i]),
            box=box,
            fate=FATES[result.fate[i]],
            into=into,
            model=models[tile],
        )
        fates.append(fate)
    return fates


def _order(last: int, fate: Fate) -> tuple[int, float, str, int]:
    """By merged detection (`last` for rows of none), then the highest confidence, tile and row."""
    into = last if fate.into is None else fate.into
    return into, -(fate.conf or 0), fate.tile, fate.row
