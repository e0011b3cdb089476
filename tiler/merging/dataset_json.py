"""dataset.json: the images and detections of a merge as a COCO dataset, beside predictions.json.

Ids of images and categories are those of predictions.json, so that tools which need both files
(pycocotools) read the pair, and tools which need one (supervision, FiftyOne) this one alone. The
annotations are the detections with their `score`. They come first, since images are merged one after
the other, and which classes there are may only be known at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tiler.formats import coco_writing

if TYPE_CHECKING:
    from tiler.merging.report import MergeReport
    from tiler.merging.work import MergeJob, Piece

NAME = "dataset.json"
HEAD = (
    b'{"info":{"description":"detections merged by tiler merge, no ground truth"},"licenses":[],\n'
    b'"annotations":['
)


def numbered(lines: bytes, first: int) -> bytes:
    r"""Annotations, one a line, with ids from `first` on.

    >>> numbered(b'{"score":0.5},\n{"score":0.25}', 7)
    b'{"id":7,"score":0.5},\n{"id":8,"score":0.25}'
    """
    texts = []
    for id, line in enumerate(lines.split(b"\n"), first):
        texts.append(b'{"id":%d,' % id + line[1:])
    return b"\n".join(texts)


def tail(job: MergeJob, pieces: Iterable[Piece], report: MergeReport) -> bytes:
    """The end of the JSON: all images, and the classes that are known or were detected."""
    images = []
    for piece in pieces:
        size = (piece.width, piece.height)
        images.append(coco_writing.image_line(piece.image_id, piece.key, size))
    names = job.names or ()
    classes = sorted({*range(len(names)), *report.counts.classes})
    class_names = [names[c] if c < len(names) else str(c) for c in classes]
    points = report.kpt_shape[0] if report.task == "pose" and report.kpt_shape else 0
    categories = coco_writing.category_list(class_names, _ids(job, classes), points)
    listed = b"\n" + b",\n".join(images) + b"\n"
    return b'],\n"images":[' + listed + b'],\n"categories":' + categories + b"}\n"


def _ids(job: MergeJob, classes: Sequence[int]) -> list[int]:
    """The category id of each class."""
    if job.categories is None:
        return [class_id + job.first_category for class_id in classes]
    return [job.categories[class_id] for class_id in classes]
