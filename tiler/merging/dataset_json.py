"""dataset.json: the images and detections of a merge as a COCO dataset, beside predictions.json.

Ids of images and categories are those of predictions.json, so that tools which need both files
(pycocotools) read the pair, and tools which need one (supervision, FiftyOne) this one alone. The
annotations are the detections with their `score`. They come first, since images are merged one
after the other, and which classes there are may only be known at the end.
"""

from __future__ import annotations

from collections.abc import Iterable

DATASET = "dataset.json"
DATASET_HEAD = (
    b'{"info":{"description":"detections merged by tiler merge, no ground truth"},"licenses":[],\n'
    b'"annotations":['
)


def numbered_lines(lines: bytes, first: int) -> bytes:
    r"""Annotations, one a line, with ids from `first` on.

    >>> numbered_lines(b'{"score":0.5},\n{"score":0.25}', 7)
    b'{"id":7,"score":0.5},\n{"id":8,"score":0.25}'
    """
    texts = []
    for id, line in enumerate(lines.split(b"\n"), first):
        texts.append(b'{"id":%d,' % id + line[1:])
    return b"\n".join(texts)


def dataset_tail(images: Iterable[bytes], categories: bytes) -> bytes:
    """The end of the JSON.

    Args:
        images: a line for each, as `coco_writing.image_line` makes them.
        categories: their list, as text.
    """
    listed = b"\n" + b",\n".join(images) + b"\n"
    return b'],\n"images":[' + listed + b'],\n"categories":' + categories + b"}\n"
