"""Shards: tar files of tiles, as webdataset reads them.

The files of a tile stand one after the other and share their name up to the first dot: its key.
Nothing in a shard depends on when, where or by whom it was written.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.formats.manifest import TileEntry

NAME = re.compile(r"(.+)-\d{6,}\.tar")
IMAGES = "images"  # in place of a split, of images without labels
PARTS = {"labels": ".txt", "masks": ".mask.png"}  # the suffix after the key


def shard_name(split: str, number: int) -> str:
    """The file name of a shard.

    >>> shard_name("train", 12), shard_name("", 0)
    ('train-000012.tar', 'images-000000.tar')
    """
    return f"{split or IMAGES}-{number:06}.tar"


def split_of_shard(name: str) -> str | None:
    """The split in the name of a shard; None if it is no such name.

    >>> split_of_shard("train-000012.tar"), split_of_shard("train.tar")
    ('train', None)
    """
    found = NAME.fullmatch(name)
    return None if found is None else found[1]


def member(name: str, content: bytes) -> bytes:
    """A file in a tar: its header, its content, and zeros up to a whole block.

    >>> len(member("a__0_0_640_640.txt", b"0 0.5 0.5 0.1 0.1"))
    1024
    """
    info = tarfile.TarInfo(name)  # of no time and no user
    info.size = len(content)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def ending(size: int) -> bytes:
    """What ends a tar whose members take `size` bytes: two empty blocks, and a whole record."""
    blocks = 2 * tarfile.BLOCKSIZE
    return bytes(blocks + -(size + blocks) % tarfile.RECORDSIZE)


def described(tile: TileEntry, source: str, split: str) -> bytes:
    """The JSON of a tile: what the manifest says of it."""
    content: dict[str, Any] = {"source": source, "split": split, **msgspec.to_builtins(tile)}
    return msgspec.json.encode(content)


def label_texts(folder: Path, largest: int) -> dict[str, bytes]:
    """The label files in the shards of a folder, by the names of their tiles.

    Args:
        largest: bytes that a label file may have.

    Raises:
        TilerError: a shard cannot be read.
    """
    texts = {}
    for name in sorted(filter(split_of_shard, os.listdir(folder))):
        try:
            with tarfile.open(folder / name, "r:") as shard:
                for info in shard:
                    stem, suffix = os.path.splitext(info.name)
                    file = shard.extractfile(info) if suffix == PARTS["labels"] else None
                    if file is not None and info.size <= largest:
                        texts[stem] = file.read()
        except (OSError, tarfile.TarError) as error:
            raise TilerError(f"{folder / name}: not a tar that can be read ({error})") from None
    return texts
