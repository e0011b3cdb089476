"""What the detections of a model depend on, in a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError

if TYPE_CHECKING:
    from tiler.options.models import ModelOptions

PIECE = 2**20  # bytes read at once
LENGTH = 16  # bytes of a digest


def fingerprint(
    files: Sequence[Path], words: Iterable[str], options: ModelOptions, unused: Iterable[str] = ()
) -> str:
    """Of the bytes of files, of words, and of the options that are used.

    Raises:
        TilerError: a file cannot be read.

    >>> from tiler.options import ModelOptions
    >>> one, other = (fingerprint([], [], ModelOptions(nms_iou=iou)) for iou in (0.5, 0.7))
    >>> one == other
    False
    """
    content = options.plain()
    used = [f"{name}={content[name]}" for name in sorted(set(content) - set(unused))]
    text = "\n".join([_digest(files), *words, *used])
    return hashlib.blake2b(text.encode(), digest_size=LENGTH).hexdigest()


def _digest(paths: Sequence[Path]) -> str:
    total = hashlib.blake2b(digest_size=LENGTH)
    for path in paths:
        try:
            total.update(path.stat().st_size.to_bytes(8, "little"))
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    total.update(piece)
        except OSError as error:
            raise TilerError(f"{path}: cannot be read: {error.strerror}") from None
    return total.hexdigest()
