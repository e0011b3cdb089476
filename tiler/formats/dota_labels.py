"""DOTA's labelTxt: one file for each image, `x1 y1 x2 y2 x3 y3 x4 y4 class difficult` a line."""

from __future__ import annotations

import math

from tiler.findings import Finding, condensed
from tiler.formats import coco_values
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.text_files import lenient_text

HEADERS = ("imagesource", "gsd")


def is_dota(data: bytes) -> bool:
    """Whether the text is DOTA's: one of its two header lines, or eight numbers and a class.

    >>> is_dota(b"imagesource:GoogleEarth"), is_dota(b"0 .5 .5 .1 .1")
    (True, False)
    >>> is_dota(b"1 2 3 2 3 4 1 4 plane 0"), is_dota(b"0 .1 .1 .3 .1 .3 .3 .1 .3")
    (True, False)
    """
    for line in lenient_text(data[:4096]).splitlines():
        words = line.split()
        if not words:
            continue
        if words[0].split(":")[0].lower() in HEADERS:
            return True
        return len(words) in (9, 10) and _are_numbers(words[:8]) and not _are_numbers(words[8:9])
    return False


def _are_numbers(words: list[str]) -> bool:
    try:
        return all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def read(data: bytes, path: str) -> AnnotatedImage:
    """The objects of a labelTxt file, as outlines of four corners.

    Args:
        path: the name of the file in findings.

    >>> image = read(b"gsd:0.5\\n1 2 3 2 3 4 1 4 plane 1\\n", "a.txt")
    >>> image.annotations[0].segmentation, image.annotations[0].difficult
    ([[1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 1.0, 4.0]], True)
    """
    image = AnnotatedImage("", None, file=path)
    for number, line in enumerate(lenient_text(data).splitlines(), 1):
        words = line.split()
        if not words or words[0].split(":")[0].lower() in HEADERS:
            continue
        try:
            image.annotations.append(_object(words, number))
        except InvalidAnnotation as error:
            image.findings.append(Finding(path, error.code, error.message, number))
    image.findings[:] = condensed(image.findings)
    return image


def _object(words: list[str], line: int) -> Annotation:
    if len(words) not in (9, 10):
        message = f"expected 8 coordinates, a class and a difficulty, got {len(words)} values"
        raise InvalidAnnotation("L03", message)
    corners = coco_values.numbers(words[:8], "the corners").tolist()
    difficult = len(words) == 10 and coco_values.mark(words[9], "the difficulty")
    return Annotation(
        category_id=words[8],
        segmentation=[corners],
        index=line - 1,
        line=line,
        difficult=difficult,
        kind="object",
    )
