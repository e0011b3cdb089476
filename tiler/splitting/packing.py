"""--layout tar, in a worker: the files of a source's tiles become one part of a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from tiler.datasets.dataset import Source
from tiler.formats.manifest import TileEntry
from tiler.formats.shards import described, member, shard_name
from tiler.run.folders import Folder
from tiler.run.staging import writing


class PackedTiles(msgspec.Struct):
    """The tiles of a source as they stand in shards, one after the other.

    Attributes:
        sizes: bytes of each tile's files.
        digest: of all of them.
    """

    sizes: list[int]
    digest: str


NOTHING = PackedTiles([], hashlib.sha256().hexdigest())


def part_name(split: str, stem: str) -> str:
    """The file that holds the tiles of a source until they are in a shard."""
    return f"{shard_name(split, 0)}.{stem}.part"


def pack(
    tree: Folder, source: Source, tiles: Iterable[tuple[TileEntry, Mapping[str, str]]]
) -> PackedTiles:
    """Move the files of a source's tiles into one part.

    Args:
        tiles: of each tile its files, by their suffix in a shard.

    Raises:
        Unfinished: the disk is full.
    """
    digest = hashlib.sha256()
    sizes = []
    with writing(), tree.create(part_name(source.split, source.stem)) as part:
        for tile, files in tiles:
            members = {suffix: tree.read(path) for suffix, path in files.items()}
            members[".json"] = described(tile, source.key, source.split)
            packed = b"".join(
                member(f"{tile.name}{suffix}", content) for suffix, content in members.items()
            )
            part.write(packed)
            digest.update(packed)
            sizes.append(len(packed))
            for path in files.values():
                tree.remove(path)
    return PackedTiles(sizes, digest.hexdigest())
