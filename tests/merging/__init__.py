"""What the tests of `merge` share: predictions made of a split's labels, and the truth to compare
with.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from tiler.formats import manifest, yolo
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings, rectangles


def predicted(tiles, out):
    """The labels of a split as predictions `<out>/<tile>.txt`; the confidence is the part of the
    object that its tile shows.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for source in manifest.read_sources(tiles / "tiles.jsonl"):
        for tile in source.tiles:
            rows = (tiles / "labels" / source.split / f"{tile.name}.txt").read_text().splitlines()
            text = "".join(
                f"{row} {max(part, 1e-6):.6f}\n"
                for row, (_, part) in zip(rows, tile.rows, strict=True)
            )
            if text:
                (out / f"{tile.name}.txt").write_text(text)
    return out


def truth(data, tiles):
    """{source: Instances} of the labels that a split was made of, read on a path of its own."""
    head = manifest.read_head(tiles / "tiles.jsonl")
    spec = yolo.Spec(head.task, 99, None if head.kpt_shape is None else tuple(head.kpt_shape))
    found = {}
    for source in manifest.read_sources(tiles / "tiles.jsonl"):
        label = (Path(data) / source.source.replace("images", "labels", 1)).with_suffix(".txt")
        text = label.read_bytes() if label.exists() else b""
        labels, _ = yolo.read(text, spec, source.width, source.height, "")
        if labels.rings is None:  # what reaches past its image is cut to it
            labels = replace(labels, boxes=labels.boxes.clip(0, [source.width, source.height] * 2))
        found[source.source] = labels
    return found


def numbers(path):
    """The rows of a text file."""
    return [[float(word) for word in line.split()] for line in Path(path).read_text().splitlines()]


def written(path, task, width, height, kpt=None):
    """Instances of a label file that `merge` wrote: parsed here and nowhere else."""
    rows = numbers(path)
    class_id, conf = (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[-1] for row in rows]),
    )
    if task in ("obb", "segment"):
        rings = Rings.of([[np.array(row[1:-1]).reshape(-1, 2) * [width, height]] for row in rows])
        return Instances(class_id, rings.bounds(), rings=rings, conf=conf, task=task)
    values = np.array([row[1:-1] for row in rows]).reshape(-1, 4 + (kpt[0] * 3 if kpt else 0))
    centre, half = values[:, :2] * [width, height], values[:, 2:4] * [width, height] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    if task == "detect":
        return Instances(class_id, boxes, conf=conf)
    keypoints = values[:, 4:].reshape(-1, kpt[0], 3) * [width, height, 1]
    return Instances(class_id, boxes, keypoints=keypoints, conf=conf, task="pose")


def alike(found, known):
    """`(found, known)` True where both are the same object: boxes to 1e-3 px, outlines to an IoU of
    0.999.

    Corners of an OBB that are no rectangle (clamped to their image) stand for the smallest one
    around them.
    """
    if known.rings is not None:
        if known.task == "obb":
            found, known = (
                replace(rows, rings=Rings.from_quads(rectangles(rows.rings.quads())))
                for rows in (found, known)
            )
        one, other = (
            shapely.make_valid(found.rings.geometry()),
            shapely.make_valid(known.rings.geometry()),
        )
        tree = shapely.STRtree(other)
        same = np.zeros((len(one), len(other)), bool)
        for i, j in tree.query(one).T:
            common = shapely.area(shapely.intersection(one[i], other[j], grid_size=1e-6))
            same[i, j] = common >= 0.999 * (one[i].area + other[j].area - common)
    else:
        same = (np.abs(found.boxes[:, None] - known.boxes) <= 1e-3).all(axis=-1)
    if known.keypoints is not None:
        same &= (np.abs(found.keypoints[:, None] - known.keypoints) <= 1e-3).all(axis=(-1, -2))
    return same & (found.class_id[:, None] == known.class_id)


def differences(out, tiles, data):
    """(missed, extra, all) objects of a merge's label files against the labels that the split was
    made of.
    """
    head = manifest.read_head(tiles / "tiles.jsonl")
    known = truth(data, tiles)
    missed, extra, count = [], [], 0
    for source in manifest.read_sources(tiles / "tiles.jsonl"):
        path = (out / "labels" / source.source).with_suffix(".txt")
        found = written(path, head.task, source.width, source.height, head.kpt_shape)
        same = alike(found, known[source.source])
        count += len(known[source.source])
        missed += [(source.source, int(i)) for i in np.flatnonzero(~same.any(axis=0))]
        extra += [(source.source, int(i)) for i in np.flatnonzero(~same.any(axis=1))]
        extra += [(source.source, "again")] * max(0, len(found) - len(known[source.source]))
    return missed, extra, count


def lines(path):
    """The records of a file of JSON lines, without its head."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()[1:]]


def copied(folder, to, change):
    """A copy of a folder of txt, each text changed by `change(name, text)`; None leaves the file
    out.
    """
    shutil.copytree(folder, to)
    for path in sorted(Path(to).rglob("*.txt")):
        text = change(path.stem, path.read_text())
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    return Path(to)
