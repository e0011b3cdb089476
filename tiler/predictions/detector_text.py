"""Text and XML of detectors: KITTI's files, what darknet prints, Pascal VOC with confidences.

KITTI: the readme of its object development kit (16 words, the last one the score). darknet: what
`detector test -ext_output` prints (README of AlexeyAB/darknet), in whole pixels and percents.
"""

from __future__ import annotations

import re

from tiler.findings import Finding
from tiler.formats import voc
from tiler.formats.text_files import lenient_text, without_bom
from tiler.predictions.detector_files import FileEntries
from tiler.predictions.detector_json import of_annotations
from tiler.predictions.detector_values import box, is_number, number
from tiler.predictions.entries import Entry

KITTI_WORDS = (15, 16)  # without or with the score
KITTI_BOX = slice(4, 8)
NO_OBJECT = "DontCare"  # KITTI's regions that are no objects

IMAGE = re.compile(r"(?:Enter Image Path:\s*)?(\S.*?): Predicted in [\d.]+")
PERCENT = re.compile(r"(\S.*): +(\d+)%")
SIDES = ("left_x", "top_y", "width", "height")
PLACE = re.compile(r"\(" + r"\s+".join(rf"{side}:\s*(\S{{1,40}}?)" for side in SIDES) + r"\s*\)")


def is_kitti(data: bytes) -> bool:
    """Whether the first line is KITTI's: a class name and 14 or 15 numbers."""
    words = _first_line(data).split()
    if len(words) not in KITTI_WORDS or is_number(words[0]):
        return False
    return all(map(is_number, words[1:]))


def is_class_list(data: bytes) -> bool:
    """Whether a text names classes, one a line, rather than objects.

    >>> is_class_list(b"car\\ntraffic light\\n"), is_class_list(b"0 .5 .5 .2 .1 .9\\n")
    (True, False)
    """
    for line in lenient_text(data).splitlines():
        numbers = sum(map(is_number, line.split()))
        if numbers > 1:  # a name may have one, or be one
            return False
    return True


def is_darknet(data: bytes) -> bool:
    """Whether it is what darknet prints: it names images with the time each one took."""
    return b": Predicted in " in data


def kitti(data: bytes, path: str) -> FileEntries:
    """One object a line; those without a score have no confidence."""
    found = FileEntries()
    for line, text in enumerate(lenient_text(data).splitlines(), 1):
        words = text.split()
        if not words or words[0] == NO_OBJECT:
            continue
        if len(words) not in KITTI_WORDS:
            message = f"expected KITTI's 15 words and a score, got {len(words)}"
            found.findings.append(Finding(path, "D03", message, line))
            continue
        entry = Entry(category_name=words[0], bbox=box(words[KITTI_BOX]))
        if len(words) == KITTI_WORDS[1]:
            entry.score = number(words[-1])
        found.entries.append(entry)
        found.lines.append(line)
    return found


def darknet(data: bytes, path: str) -> FileEntries:
    """The detections below the name of each image."""
    found = FileEntries(named_by="darknet's output")
    image = ""
    for line, text in enumerate(lenient_text(data).splitlines(), 1):
        named = IMAGE.match(text)
        if named:
            image = named[1]
            found.images.append(image)
        detection = PERCENT.match(text)
        if not image or not detection:
            continue
        place = PLACE.search(text, detection.end())
        if place is None:
            message = "no left_x, top_y, width, height: run darknet with -ext_output"
            found.findings.append(Finding(path, "D03", message, line))
            continue
        found.entries.append(
            Entry(
                file_name=image,
                category_name=detection[1],
                bbox=tuple(map(number, place.groups())),
                score=int(detection[2][:9]) / 100,
            )
        )
        found.lines.append(line)
    return found


def pascal_voc(data: bytes, path: str) -> FileEntries:
    """The objects of an XML with a `confidence` or `score` each."""
    return of_annotations(voc.read(without_bom(data), path), turned=b"<robndbox" in data)


def _first_line(data: bytes) -> str:
    """The first line that is not blank."""
    text = data.lstrip()
    return lenient_text(text[: text.find(b"\n") + 1 or len(text)][:2000])
