"""What the tests of datasets share: running a command, and the objects that its tiles show."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

import tiler
from tests.conftest import picture
from tiler.errors import TilerError
from tiler.formats import manifest


@dataclass
class Ran:
    """How a command ended.

    Attributes:
        code: what the command line would exit with.
        said: its findings, or its error; not that val is missing (Y03), as in most of these sets.
        objects: of each image, (class, x0, y0, x1, y1) in its px of those that a tile shows whole.
        background: number of tiles without a label.
    """

    code: int
    said: str
    out: Path
    objects: dict = field(default_factory=dict)
    splits: dict = field(default_factory=dict)
    background: int = 0
    report: object = None


def split(data, out, **options):
    """`tiler split`, and what it made."""
    options = {"tile": 200} | options
    try:
        report = tiler.split(data, out=out, **options)
    except TilerError as error:
        return Ran(2, str(error), Path(out))
    said = "\n".join(str(finding) for finding in report.findings if finding.code != "Y03")
    counts = report.total.counts
    return Ran(
        report.exit_code(),
        said,
        Path(out),
        whole_objects(out),
        splits_of(out),
        counts.background,
        report,
    )


def from_arguments(arguments, out):
    """`tiler split` by the arguments of a command line; what is no option of ours fails."""
    command, data, *rest = arguments
    assert command == "split"
    options = {}
    words = iter(rest)
    for word in words:
        options[word.removeprefix("--").replace("-", "_")] = next(words)
    options.setdefault("out", out)
    return split(data, **options)


def check(data, **options):
    """`tiler check`: its exit code and what it said."""
    try:
        report = tiler.check(data, **options)
    except TilerError as error:
        return 2, str(error)
    return report.exit_code(), "\n".join(map(str, report.findings))


def names_of(out):
    file = Path(out) / "dataset.yaml"
    if not file.exists():
        return []
    names = yaml.safe_load(file.read_text())["names"]
    return list(names.values()) if isinstance(names, dict) else list(names)


def splits_of(out):
    """{split: [image, ...]} of the images that were cut."""
    splits = {}
    for entry in manifest.read_sources(Path(out) / "tiles.jsonl"):
        if entry.tiles:
            splits.setdefault(entry.split, []).append(entry.source)
    return splits


def whole_objects(out):
    """{image: [(class, x0, y0, x1, y1), ...]}, each object once, in px of its image."""
    names = names_of(out)
    found = {}
    for entry in manifest.read_sources(Path(out) / "tiles.jsonl"):
        objects = {}
        for tile in entry.tiles:
            file = Path(out) / "labels" / entry.split / f"{tile.name}.txt"
            lines = file.read_text().splitlines() if file.exists() else []
            for line, (row, visible) in zip(lines, tile.rows, strict=True):
                if visible > 0.999999:
                    objects[row] = _in_image(line, tile, names)
        if entry.tiles:
            found[entry.source] = sorted(objects.values())
    return found


def _in_image(line, tile, names):
    class_id, *values = line.split()
    numbers = list(map(float, values))
    if len(numbers) == 4:
        x, y, w, h = numbers
        numbers = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    xs = [tile.x + value * tile.w for value in numbers[0::2]]
    ys = [tile.y + value * tile.h for value in numbers[1::2]]
    box = (min(xs), min(ys), max(xs), max(ys))
    return (names[int(class_id)], *(round(value, 2) for value in box))


# Small datasets


def image(path, width=400, height=300, seed=0, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, seed).save(path, **save)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def coco(path, images, annotations, categories=None, **more):
    """A COCO JSON; an image may be its file name, an annotation `(image_id, bbox)`."""
    categories = categories or [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
    entries = []
    for number, given in enumerate(images, 1):
        if isinstance(given, str):
            given = {"id": number, "file_name": given, "width": 400, "height": 300}
        entries.append(given)
    rows = []
    for number, given in enumerate(annotations, 1):
        if isinstance(given, tuple):
            given = annotation(*given)
        rows.append({"id": number} | given)
    content = {"images": entries, "annotations": rows, "categories": categories, **more}
    return text(path, json.dumps(content))


def annotation(image_id, bbox, category=1, **more):
    given = {"image_id": image_id, "category_id": category, "bbox": bbox, "iscrowd": 0}
    return given | {"area": 1} | more


def voc(path, objects, name="", size=(400, 300), inner=""):
    """A Pascal VOC file of `(class, x0, y0, x1, y1)`."""
    body = f"<filename>{name}</filename>" if name else ""
    if size:
        body += f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    for kind, *box in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        sides = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        body += f"<object><name>{kind}</name>{inner}<bndbox>{sides}</bndbox></object>"
    return text(path, f"<annotation>{body}</annotation>")


def labelme(path, objects, name="", size=(400, 300)):
    """A labelme file of `(class, x0, y0, x1, y1)`."""
    shapes = []
    for kind, x0, y0, x1, y1 in objects:
        points = [[x0, y0], [x1, y1]]
        shapes.append({"label": kind, "points": points, "shape_type": "rectangle"})
    content = {"version": "5.0", "shapes": shapes, "imagePath": name}
    content |= {"imageWidth": size[0], "imageHeight": size[1]}
    return text(path, json.dumps(content))
