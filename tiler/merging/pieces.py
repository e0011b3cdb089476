"""Images with what was predicted on their tiles, ready to be merged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.index import TiledImage
from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.merging.category_ids import Ids
from tiler.merging.joined import JoinedBatch
from tiler.merging.output import ids_of, labels_of
from tiler.merging.work import Piece
from tiler.predictions import Batch, Frames, Predictions
from tiler.stitching import Models

if TYPE_CHECKING:
    from tiler.types import Floats

WindowKey = tuple[float, ...]  # xyxy and scale
Parts = tuple[Frames, Frames, Frames]  # see `Vote.frames`


@dataclass(frozen=True, slots=True)
class Vote:
    """What one model predicted on an image.

    Attributes:
        number: of the model.
        name: of the model, as findings name it.
        weight: of the model.
        preds: where its predictions are.
        image: with the model's tiles.
        tiles: index of the predictions by tile.
        unread: tiles whose predictions cannot be read.
    """

    number: int
    name: str
    weight: float
    preds: str
    image: TiledImage
    tiles: dict[int, int]
    predictions: Predictions
    unread: set[str]

    def frames(self) -> Parts:
        """The tiles with predictions, those without, and those that cannot be read."""
        names = self.image.names
        others = sorted({*range(len(names))}.difference(self.tiles))
        silent = [tile for tile in others if names[tile] not in self.unread]
        lost = [tile for tile in others if names[tile] in self.unread]
        predicted = sorted(self.tiles)
        return (
            frames_of(self.image, predicted),
            frames_of(self.image, silent),
            frames_of(self.image, lost),
        )

    def batch(self) -> Batch:
        """The predictions, in the order of their tiles."""
        return self.predictions.batch([self.tiles[tile] for tile in sorted(self.tiles)])


def unread_in(predictions: Predictions) -> set[str]:
    """The tiles whose predictions cannot be read: it is not known what was detected there."""
    names = set()
    for finding in predictions.findings:
        if finding.code == "D01":
            names.add(os.path.splitext(os.path.basename(finding.path))[0])
    return names


def pieces_of(votes: Sequence[Sequence[Vote]], ids: Ids, by_names: bool) -> list[Piece]:
    """The images with what was predicted for each.

    Args:
        votes: of each image.
        by_names: tiles are known by the names of predictions only.
    """
    keys = [own[0].image.key for own in votes]
    names = zip(labels_of(keys), ids_of(keys), ids.images, strict=True)
    several = len({vote.number for own in votes for vote in own}) > 1
    grid = _Grids.of(votes) if several and by_names else None
    pieces = []
    for own, own_names in zip(votes, names, strict=True):
        if several:
            pieces.append(_joint_piece(own, own_names, grid))
        else:
            pieces.append(_piece(own[0], own_names))
    return pieces


def _piece(vote: Vote, names: tuple[str, str, int | str]) -> Piece:
    """An image with what was predicted on its tiles, and on all of it as one more tile.

    Args:
        names: label file, short name and image_id.
    """
    image = vote.image
    frames, silent, lost = vote.frames()
    return Piece(
        image.key,
        *names,
        image.width,
        image.height,
        frames=frames,
        silent=silent,
        unread=lost,
        batch=vote.batch(),
        predicted=bool(vote.tiles),
        some_blocks=image.some_blocks,
        geo=image.geo,
        splits=image.splits,
    )


# --- ensembles


@dataclass(frozen=True, slots=True)
class _Grids:
    """Where the tiles of each model begin and end, of images of one size: by these a model is
    taken to have looked at a tile of which it has no predictions, since no file is written for a
    tile without any.

    Attributes:
        columns, rows: model, size of the image, and begin and end of a column or row of tiles.
    """

    columns: set[tuple[float, ...]]
    rows: set[tuple[float, ...]]

    @classmethod
    def of(cls, votes: Iterable[Sequence[Vote]]) -> _Grids:
        grids = cls(set(), set())
        for own in votes:
            for vote in own:
                size = (vote.number, vote.image.width, vote.image.height)
                frames, _, _ = vote.frames()
                for x0, y0, x1, y1 in frames.rects.tolist():
                    grids.columns.add((*size, x0, x1))
                    grids.rows.add((*size, y0, y1))
        return grids

    def looked(self, vote: Vote, window: WindowKey) -> bool:
        """Whether a model that has predictions for an image looked at a window of it."""
        x0, y0, x1, y1, _ = window
        size = (vote.number, vote.image.width, vote.image.height)
        in_column = (*size, x0, x1) in self.columns
        return bool(vote.tiles) and in_column and (*size, y0, y1) in self.rows


def _joint_piece(
    votes: Sequence[Vote], names: tuple[str, str, int | str], grids: _Grids | None
) -> Piece:
    """An image with what several models predicted. A tile of two models is a frame of each."""
    image = votes[0].image
    _require_one_size(votes)
    parts = [vote.frames() for vote in votes]
    frames = joined([predicted for predicted, _, _ in parts])
    keys = _window_keys(frames)
    known = set(keys)
    silent = _unknown(joined([silent for _, silent, _ in parts]), known)
    known |= {*_window_keys(silent)}
    lost = _unknown(joined([lost for _, _, lost in parts]), known)
    batches = []
    for vote, (predicted, _, _) in zip(votes, parts, strict=True):
        batches.append((vote.name, vote.preds, vote.batch(), len(predicted.names)))
    return Piece(
        image.key,
        *names,
        image.width,
        image.height,
        frames=frames,
        silent=silent,
        unread=lost,
        batch=JoinedBatch(batches),
        predicted=any(vote.tiles for vote in votes),
        some_blocks=any(vote.image.some_blocks for vote in votes),
        geo=image.geo,
        splits=image.splits,
        models=_models(votes, parts, keys, grids),
        numbers=tuple(vote.number for vote in votes),
    )


def _models(
    votes: Sequence[Vote], parts: Sequence[Parts], keys: Sequence[WindowKey], grids: _Grids | None
) -> Models:
    """Which model each frame is of, and the weight of all models that looked at its window."""
    weights = dict.fromkeys(keys, 0.0)
    for vote, (predicted, without, _) in zip(votes, parts, strict=True):
        own = {*_window_keys(predicted), *_window_keys(without)}
        for key in weights:
            if key in own or (grids is not None and grids.looked(vote, key)):
                weights[key] += vote.weight
    places = {key: i for i, key in enumerate(weights)}
    counts = [len(predicted.names) for predicted, _, _ in parts]
    return Models(
        weight=np.array([vote.weight for vote in votes]),
        model=np.repeat(np.arange(len(votes)), counts),
        seen=np.array([weights[key] for key in keys], np.float64),
        window=np.array([places[key] for key in keys], np.int64),
    )


def _require_one_size(votes: Sequence[Vote]) -> None:
    """Raises:
    TilerError: the models' images of one name are of several sizes.
    """
    sizes = {(vote.image.width, vote.image.height) for vote in votes}
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height} px" for width, height in sorted(sizes))
        raise TilerError(f"{votes[0].image.key}: it has {shown} in the tilings of the models")


def _window_keys(frames: Frames) -> list[WindowKey]:
    """Windows with their scale, which tell a tile of one model from one of another."""
    columns = np.column_stack([frames.rects, frames.scale])
    return [*map(tuple, columns.tolist())]


def _unknown(frames: Frames, known: set[WindowKey]) -> Frames:
    """The frames whose windows are not known yet, each once."""
    seen = set(known)
    kept = []
    for i, key in enumerate(_window_keys(frames)):
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return frames.take(np.array(kept, np.int64))


# --- frames


def frames_of(image: TiledImage, tiles: list[int]) -> Frames:
    """Some of an image's tiles. WHOLE (-1) is the image itself, as a tile after the last."""
    whole = np.array([0, 0, image.width, image.height], np.float64)
    names = [*image.names, image.stem]
    index = np.array(tiles, np.int64)
    rects = np.concatenate([image.rects, whole[None]])[index]
    scale = np.append(image.scale, 1.0)[index]
    within = box.intersection(rects, whole)
    size = np.tile(whole[2:], (len(tiles), 1))
    source = np.zeros(len(tiles), np.int64)
    return Frames([names[tile] for tile in tiles], rects, scale, within, size, source)


def joined(frames: Sequence[Frames]) -> Frames:
    """All frames, in order; each part is of another image."""
    return Frames(
        [name for part in frames for name in part.names],
        _rows([part.rects for part in frames]),
        np.concatenate([part.scale for part in frames]),
        _rows([part.within for part in frames]),
        np.concatenate([part.image for part in frames]),
        np.repeat(np.arange(len(frames)), [len(part.names) for part in frames]),
    )


def _rows(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts).reshape(-1, 4)
