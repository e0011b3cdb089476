"""Pillow's limit of pixels, which holds for the whole process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

WHOLE = 178_956_970  # px of an image that is decoded whole, unless more are allowed: Pillow's limit


class _Limit:
    """Pillow's limit, raised while a thread needs it, then put back."""

    lock = threading.Lock()
    users = 0
    before: int | None = None


@contextmanager
def allowed(pixels: int) -> Iterator[None]:
    """A block in which Pillow accepts images and tiles of this number of pixels, whose header was
    checked before.
    """
    with _Limit.lock:
        if _Limit.users == 0:
            _Limit.before = Image.MAX_IMAGE_PIXELS
        _Limit.users += 1
        if Image.MAX_IMAGE_PIXELS is not None:
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, pixels)
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.users -= 1
            if _Limit.users == 0:
                Image.MAX_IMAGE_PIXELS = _Limit.before
