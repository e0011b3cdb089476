"""--layout tar: the tiles of a split in shards of about a gigabyte.

Workers pack the tiles of a source into a part; parts are appended to the shards in the order of
the sources. So the bytes do not depend on the workers. A run that resumes keeps the shards up to
the first source whose tiles are not in them as they should be, and goes on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from tiler.datasets.dataset import Source
from tiler.formats.shards import ending, shard_name, split_of_shard
from tiler.options import RunOptions
from tiler.run.folders import Folder
from tiler.run.staging import writing
from tiler.splitting.packing import NOTHING, part_name
from tiler.splitting.report import SplitOutcome
from tiler.splitting.work import key, outcomes
from tiler.tiling.job import SplitJob

LIMIT = 1_000_000_000  # bytes of a shard, unless a single tile has more
BLOCK = 1 << 20


def outcomes_in_shards(
    job: SplitJob,
    sources: Sequence[Source],
    run: RunOptions,
    earlier: dict[str, bytes],
    shards: Shards,
) -> Iterator[SplitOutcome]:
    """Cut each source, and put its tiles into the shards.

    Args:
        earlier: outcomes of an earlier run, by `key`.
    """
    resumable = _leading(sources, earlier)
    done = 0
    for outcome in outcomes(job, sources, run, resumable):
        if done < len(resumable):
            if not shards.hold(sources[done], outcome):
                break  # it is another one by now, and all that is behind it moves
        else:
            shards.add(sources[done], outcome)
        done += 1
        yield outcome
    left = sources[done:]
    for source, outcome in zip(left, outcomes(job, left, run, {}), strict=True):
        shards.add(source, outcome)
        yield outcome


def _leading(sources: Sequence[Source], earlier: dict[str, bytes]) -> dict[str, bytes]:
    """The outcomes of the first sources, up to one that has none."""
    result = {}
    for source in sources:
        name = key(source.split, source.key)
        if name not in earlier:
            break
        result[name] = earlier[name]
    return result


@dataclass(slots=True)
class _ShardRange:
    """Bytes of a shard, by its number."""

    shard: int
    start: int
    size: int


@dataclass(slots=True)
class _Series:
    """The shards of one split.

    Attributes:
        sizes: bytes of the tiles in each; the last one grows.
    """

    sizes: list[int] = field(default_factory=list)

    def place(self, tiles: Sequence[int]) -> list[_ShardRange]:
        """Where the next tiles go, by their bytes; a tile is whole in one shard."""
        pieces: list[_ShardRange] = []
        for size in tiles:
            if not self.sizes or self.sizes[-1] + size > LIMIT:
                self.sizes.append(0)
            shard = len(self.sizes) - 1
            if not pieces or pieces[-1].shard != shard:
                pieces.append(_ShardRange(shard, self.sizes[-1], 0))
            pieces[-1].size += size
            self.sizes[-1] += size
        return pieces

    def take_back(self, pieces: Sequence[_ShardRange]) -> None:
        """Undo the last `place`."""
        for piece in reversed(pieces):
            self.sizes[piece.shard] = piece.start
            if piece.start == 0:
                del self.sizes[piece.shard]


@dataclass(slots=True)
class Shards:
    """The shards of an output, to which sources are added in order.

    Attributes:
        tree: the folder that they are written to.
    """

    tree: Folder
    _series: dict[str, _Series] = field(default_factory=dict)
    _trimmed: bool = False

    def hold(self, source: Source, outcome: SplitOutcome) -> bool:
        """Whether the tiles of the next source are there, as an earlier run packed them."""
        packed = outcome.packed or NOTHING
        series = self._of(source.split)
        pieces = series.place(packed.sizes)
        if self._digest(source.split, pieces) == packed.digest:
            return True
        series.take_back(pieces)
        return False

    def _of(self, split: str) -> _Series:
        return self._series.setdefault(split, _Series())

    def _digest(self, split: str, pieces: Sequence[_ShardRange]) -> str:
        """Of what is in the shards there; of nothing where they cannot be read."""
        digest = hashlib.sha256()
        for piece in pieces:
            try:
                with self.tree.open(shard_name(split, piece.shard)) as file:
                    file.seek(piece.start)
                    for block in _blocks(file, piece.size):
                        digest.update(block)
            except OSError:
                return ""
        return digest.hexdigest()

    def add(self, source: Source, outcome: SplitOutcome) -> None:
        """Append the part of the next source."""
        if not self._trimmed:
            self._trim()
        if outcome.packed is None:
            return
        pieces = self._of(source.split).place(outcome.packed.sizes)
        name = part_name(source.split, source.stem)
        with writing():
            with self.tree.open(name) as part:
                for piece in pieces:
                    self._append(shard_name(source.split, piece.shard), piece, part)
            self.tree.remove(name)

    def _append(self, name: str, piece: _ShardRange, part: BinaryIO) -> None:
        opened = self.tree.create(name) if piece.start == 0 else self.tree.append(name)
        with opened as shard:
            for block in _blocks(part, piece.size):
                shard.write(block)

    def _trim(self) -> None:
        """Cut off what an earlier run wrote behind the tiles that are kept."""
        self._trimmed = True
        kept = dict(self._sizes())
        with writing():
            for name in self.tree.names():
                if name in kept:
                    with self.tree.append(name) as shard:
                        shard.truncate(kept[name])
                elif split_of_shard(name) is not None:
                    self.tree.remove(name)

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """The name of each shard, and the bytes of its tiles."""
        for split, series in self._series.items():
            for number, size in enumerate(series.sizes):
                yield shard_name(split, number), size

    def finish(self) -> dict[str, int]:
        """Complete all shards; the bytes of each by its name."""
        self._trim()
        sizes = {}
        with writing():
            for name, size in sorted(self._sizes()):
                end = ending(size)
                with self.tree.append(name) as shard:
                    shard.write(end)
                sizes[name] = size + len(end)
        return sizes


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The next bytes of a file, a few at a time; fewer at its end."""
    left = size
    while left:
        block = file.read(min(BLOCK, left))
        if not block:
            return
        yield block
        left -= len(block)
